"""Forty rigs on one page: what is shown, what is sent for it, and what can be done there."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import trio

from cfw.client import CaptureAborted
from cfw.sinks.hub import AskedSubscription
from tests.patience import PATIENCE_S
from tests.whole.browser.chromium import Page
from tests.whole.browser.fleet import ROOMY, fleet, picture, user
from tests.whole.browser.sight import borders, judge, prefer, resize, sticks_out
from tests.whole.browser.test_pages import admin, check_page
from tests.whole.browser.test_truth import until_text
from tests.whole.browser.visits import Visit
from tests.whole.smoke.worker import Worker

SHOWN = "[...document.querySelectorAll('#cards > .card:not([hidden])')]"
USERS = f"{SHOWN}.map(e => e.querySelector('h3').textContent)"


async def set_view(page: Page, field: str, value: str) -> None:
    """Choose as a person would."""
    await page.run(
        f"(field => {{ field.value = {json.dumps(value)};"
        "field.dispatchEvent(new Event('input', {bubbles: true})) })"
        f"(document.querySelector('#view-{field}'))"
    )


async def press(page: Page, key: str) -> None:
    """Press one key where the focus is."""
    for kind in ("keyDown", "keyUp"):
        await page.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, **CODES[key])


CODES: dict[str, dict[str, Any]] = {
    "ArrowRight": {"windowsVirtualKeyCode": 39},
    "ArrowLeft": {"windowsVirtualKeyCode": 37},
    "ArrowDown": {"windowsVirtualKeyCode": 40},
    "End": {"windowsVirtualKeyCode": 35},
    "Escape": {"windowsVirtualKeyCode": 27},
    "Enter": {"windowsVirtualKeyCode": 13, "text": "\r"},
}


async def test_only_what_is_in_view_of_forty_rigs_has_pictures(
    visit: Visit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody asks for the others, so they are not sent; and they are once they are seen."""
    asked: set[str] = set()
    own = AskedSubscription.ask

    def ask(self: AskedSubscription, capture_ids: Iterable[str], frames: int = 1) -> None:
        asked.update(capture_ids)
        own(self, capture_ids, frames)

    monkeypatch.setattr(AskedSubscription, "ask", ask)
    async with (
        visit(**ROOMY) as (worker, page),
        fleet(worker.addresses, 40, fps=1),
    ):
        await resize(page, 1280, 900)
        await page.goto(admin(worker.addresses))
        await page.until(f"{SHOWN}.length === 40")
        await set_view(page, "size", "320")
        await page.until("document.querySelector('.card canvas:not([hidden])')")
        in_view = (
            f"{SHOWN}.filter(e => e.getBoundingClientRect().top < innerHeight + 60)"
            ".map(e => e.dataset.captureId)"
        )
        seen = set(await page.run(in_view))
        assert 1 <= len(seen) <= 12
        assert asked <= seen
        pictured = f"{SHOWN}.filter(e => !e.querySelector('canvas').hidden).length"
        assert await page.run(pictured) <= len(seen)
        await page.run(f"{SHOWN}.at(-1).scrollIntoView()")
        await page.until(f"!{SHOWN}.at(-1).querySelector('canvas').hidden")
        await set_view(page, "size", "120")
        await page.run("document.querySelector('#cards').scrollIntoView()")
        # So small that all are in view, or nearly.
        await page.until(f"{pictured} > 30")
        check_page(page, worker.addresses)


#: Counts what is drawn, by capture; one of them gets no surface while `isFull`.
FULL = """
window.drawn = {}, window.refused = 0, window.isFull = true;
const canvas = HTMLCanvasElement.prototype, own = canvas.getContext;
canvas.getContext = function (...what) {
  const id = this.closest(".card")?.dataset.captureId;
  if (id === "cap-001" && isFull) return refused++, null;
  const surface = own.apply(this, what), draw = surface.drawImage;
  surface.drawImage = function (...what) {
    drawn[id] = (drawn[id] ?? 0) + 1;
    return draw.apply(this, what);
  };
  return surface;
};
"""


async def test_a_picture_that_cannot_be_drawn_keeps_no_other_from_it(visit: Visit) -> None:
    """As where a browser has no memory for another canvas; and each is tried again."""
    async with (
        visit(**ROOMY) as (worker, page),
        fleet(worker.addresses, 3, fps=5),
    ):
        await page.call("Page.addScriptToEvaluateOnNewDocument", source=FULL)
        await page.goto(admin(worker.addresses))
        await page.until("drawn['cap-000'] > 5 && drawn['cap-002'] > 5 && refused > 5")
        await page.run("isFull = false")
        await page.until("drawn['cap-001'] > 2")


async def test_the_grid_is_sorted_filtered_and_sized_as_one_likes(visit: Visit) -> None:
    """By user or session, what is in trouble first; and it is so again the next time."""
    async with (
        visit(**ROOMY) as (worker, page),
        fleet(worker.addresses, 8, fps=2),
    ):
        await resize(page, 1280, 900)
        await page.goto(admin(worker.addresses))
        await page.until(f"{SHOWN}.length === 8")
        await set_view(page, "order", "user")
        await page.until(f"{USERS}.join() === {json.dumps(','.join(map(user, range(8))))}")
        await set_view(page, "order", "session")
        by_room = [0, 4, 1, 5, 2, 6, 3, 7]
        await page.until(f"{USERS}.join() === {json.dumps(','.join(map(user, by_room)))}")
        await set_view(page, "words", "room-3 user")
        assert sorted(await page.run(USERS)) == [user(3), user(7)]
        assert (await page.text("#view-pace")).startswith("2 of 8 shown. ")
        await set_view(page, "words", "nobody")
        assert await page.run(f"{SHOWN}.length") == 0
        await page.click("#view-reset")
        assert await page.run(f"{SHOWN}.length") == 8
        grid = "getComputedStyle(document.querySelector('#cards'))"
        columns = f"{grid}.gridTemplateColumns.split(' ').length"
        wide = await page.run(columns)
        await set_view(page, "size", "160")
        assert await page.run(columns) > wide
        await page.call("Page.reload")
        await page.until(f"{SHOWN}.length === 8")
        assert await page.run("document.querySelector('#view-size').value") == "160"
        assert await page.run("document.querySelector('#view-order').value") == "session"
        # One stops sending: it comes first where trouble does, and is found by it.
        await set_view(page, "order", "trouble")
        async with fleet(worker.addresses, 1, fps=0.001, first=9):
            quiet = json.dumps(user(9))
            await page.until(f"{USERS}[0] === {quiet}")
            await set_view(page, "state", "trouble")
            await page.until(f"{USERS}.includes({quiet})")
            name = f'.card[aria-label="{user(9)}, session room-1"]'
            assert await page.text(f"{name} .trouble")
        check_page(page, worker.addresses)


async def test_one_tile_fills_the_window_and_keys_go_from_one_to_the_next(visit: Visit) -> None:
    """Arrows in the grid and in the large view; Escape puts tile and focus back."""
    async with (
        visit(**ROOMY) as (worker, page),
        fleet(worker.addresses, 6, fps=2),
    ):
        await resize(page, 1280, 900)
        await page.goto(admin(worker.addresses))
        await page.until(f"{SHOWN}.length === 6")
        await set_view(page, "order", "user")
        await page.until(f"{USERS}[5] === {json.dumps(user(5))}")
        focused = "document.activeElement.closest('.card')?.querySelector('h3').textContent"
        await page.run(f"{SHOWN}[0].querySelector('[data-act=open]').focus()")
        await press(page, "ArrowRight")
        assert await page.run(focused) == user(1)
        await press(page, "End")
        assert await page.run(focused) == user(5)
        await press(page, "ArrowLeft")
        await press(page, "Enter")
        await until_text(page, "#viewer-title", f"{user(4)}, session room-0")
        await page.until("document.querySelector('#viewer .card canvas').clientHeight > 500")
        await page.until("!document.querySelector('#viewer .card canvas').hidden")
        # As large as it came, though it was decoded no larger than its tile before.
        await page.until("document.querySelector('#viewer .card canvas').width === 320")
        await press(page, "ArrowRight")
        await until_text(page, "#viewer-title", f"{user(5)}, session room-1")
        await press(page, "ArrowRight")
        await until_text(page, "#viewer-title", f"{user(0)}, session room-0")
        assert await page.run(USERS) == [user(number) for number in range(1, 6)]
        await press(page, "Escape")
        await page.until("!document.querySelector('#viewer').open")
        await page.until(f"{focused} === {json.dumps(user(0))}")
        assert await page.run(USERS) == [user(number) for number in range(6)]
        check_page(page, worker.addresses)


async def test_a_capture_is_ended_from_its_tile_and_asked_twice(visit: Visit) -> None:
    """Whoever thinks better of it has ended nothing."""
    async with (
        visit(**ROOMY) as (worker, page),
        trio.open_nursery() as nursery,
    ):
        ended = trio.Event()
        nursery.start_soon(_film_until_ended, worker, ended)
        await page.goto(admin(worker.addresses))
        await page.until(f"{SHOWN}.length === 1")
        await page.click(".card [data-act=end]")
        assert await page.text("#sure-who") == f"{user(0)}, session room-0"
        assert await page.run("document.activeElement.id") == "sure-keep"
        await press(page, "Escape")
        await page.until("!document.querySelector('#sure').open")
        assert not ended.is_set()
        assert await page.run("document.querySelector('.card').dataset.state") == "active"
        await page.click(".card [data-act=end]")
        await page.click("#sure-end")
        await until_text(page, ".card [data-part=state]", "ended by operator")
        await page.until("!document.querySelector('#sure').open")
        with trio.fail_after(PATIENCE_S):
            await ended.wait()
        assert await page.run("document.querySelector('.card [data-act=end]').hidden")


DELETED = """(answer => {
  const own = window.fetch;
  window.fetch = (path, how) => how?.method === "DELETE" ? answer() : own(path, how);
})"""
UNHEARD = "() => Promise.reject(new DOMException('signal timed out', 'TimeoutError'))"
ENDING = "async () => Response.json({status: 'ending'}, {status: 202})"
TOO_LATE = "async () => Response.json({error: 'too late'}, {status: 409})"


@pytest.mark.parametrize(
    ("answer", "place", "words"),
    [
        (
            UNHEARD,
            "#sure-problem",
            "The worker was asked to end it, and has not said that it has.",
        ),
        (
            ENDING,
            "#running-title ~ .said",
            f"The capture of {user(0)}, session room-0 is ending.",
        ),
        (TOO_LATE, "#sure-problem", "It was not ended: too late."),
    ],
    ids=["unheard", "ending", "too late"],
)
async def test_an_end_that_is_not_told_at_once_is_told_as_what_it_is(
    visit: Visit, answer: str, place: str, words: str
) -> None:
    """A sink may take long for its last frames; and who is not heard may ask again."""
    async with visit(**ROOMY) as (worker, page), fleet(worker.addresses, 1, fps=2):
        await page.goto(admin(worker.addresses))
        await page.until(f"{SHOWN}.length === 1")
        await page.run(f"{DELETED}({answer})")
        await page.click(".card [data-act=end]")
        await page.click("#sure-end")
        await until_text(page, place, words)
        assert await page.run("!sure.open || !document.querySelector('#sure-end').disabled")


async def _film_until_ended(worker: Worker, ended: trio.Event) -> None:
    try:
        async with fleet(worker.addresses, 1, fps=5):
            await trio.sleep_forever()
    except* CaptureAborted:
        ended.set()


#: What would be saved, instead of a dialog of the browser.
NOTE_SAVED = """
  const own = URL.createObjectURL;
  let made = null;
  URL.createObjectURL = (blob) => own.call(URL, (made = blob));
  HTMLAnchorElement.prototype.click = function () {
    window.saved = {name: this.download, blob: made};
  }
"""


async def test_ids_are_copied_and_a_picture_is_saved(visit: Visit) -> None:
    """The ids as text; the picture as the rig sent it, byte for byte."""
    async with (
        visit(**ROOMY) as (worker, page),
        fleet(worker.addresses, 1, fps=2),
    ):
        await page.goto(admin(worker.addresses))
        await page.until("document.querySelector('.card canvas:not([hidden])')")
        await page.run(
            "navigator.clipboard.writeText = async (text) => { window.copied = text; }"
        )
        await page.click(".card [data-act=copy]")
        assert (await page.until("window.copied")).splitlines() == [
            f"user_id {user(0)}",
            "session_id room-0",
            "capture_id cap-000",
        ]
        await until_text(page, "#running-title ~ .said", "The ids are copied.")
        await page.run(f"{NOTE_SAVED}; 1")
        await page.click(".card [data-act=save]")
        name, data = await page.run(
            "window.saved.blob.arrayBuffer().then(b => "
            "[window.saved.name, btoa(String.fromCharCode(...new Uint8Array(b)))])"
        )
        assert re.fullmatch(rf"{user(0)}_room-0_cap-000_[0-9]+\.jpg", name)
        assert base64.b64decode(data) in [picture(0, seq) for seq in range(20)]
        await until_text(page, "#running-title ~ .said", "The picture is saved.")


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_the_grid_is_for_everybody(visit: Visit, scheme: str) -> None:
    """Axe finds nothing, dialogs included; borders have 3:1; nothing sticks out at 320 px."""
    async with (
        visit(**ROOMY) as (worker, page),
        fleet(worker.addresses, 5, fps=2),
    ):
        await prefer(page, scheme)
        await page.goto(admin(worker.addresses))
        # In each: axe takes the dark ground of one without for that of what it covers.
        await page.until(f"{SHOWN}.length === 5")
        await page.until("!document.querySelector('.card canvas[hidden]')")
        assert await judge(page) == []
        edges = await borders(page, "button, input, select, .card, .tile")
        assert len(edges) > 5
        assert {name: ratio for name, ratio in edges.items() if ratio < 3} == {}
        await page.click(".card [data-act=open]")
        assert await judge(page) == []
        await page.click("#viewer [data-act=end]")
        assert await judge(page) == []
        await page.click("#sure-keep")
        await resize(page, 320, 640, mobile=True)
        assert await sticks_out(page) == []
        await page.click("#viewer-close")
        assert await sticks_out(page) == []
        # Text of twice the size, on the same narrow screen.
        await page.run("document.documentElement.style.fontSize = '200%'")
        assert await sticks_out(page) == []
        await set_view(page, "size", "720")
        assert await sticks_out(page) == []


async def test_nothing_is_lost_with_colours_of_ones_own(visit: Visit) -> None:
    """Meters and dots are colour alone elsewhere; there they are one of the colours."""
    async with (
        visit(**ROOMY) as (worker, page),
        fleet(worker.addresses, 1, fps=2),
    ):
        await prefer(page, "dark", "active")
        await page.goto(admin(worker.addresses))
        await page.until("document.querySelector('.card .meter')")
        style = "getComputedStyle(document.querySelector('{}')).{}"
        assert await page.run(style.format(".card .meter", "borderTopWidth")) == "1px"
        ground = await page.run(style.format("body", "backgroundColor"))
        for part in (".card .level", ".card .dot", ".connection .dot"):
            assert await page.run(style.format(part, "backgroundColor")) != ground


async def test_a_rig_that_does_not_come_is_shown_as_missing(
    visit: Visit, tmp_path: Path
) -> None:
    """By its name, among the others, until it films; then its tile has that name."""
    rigs = tmp_path / "rigs.toml"
    rigs.write_text(f'"left door" = "{user(0)}"\ndesk = "nobody:s-1"')
    settings = ROOMY | {"rigs__file": str(rigs), "rigs__missing_after_s": 0.01}
    async with visit(**settings) as (worker, page):
        await page.goto(admin(worker.addresses))
        names = f"{SHOWN}.map(e => e.getAttribute('aria-label')).sort().join('; ')"
        await page.until(f"{names} === 'desk, missing; left door, missing'")
        assert await page.text("#missing-count") == "2 missing"
        assert (await page.text(".missing [data-part=why]")).startswith("Missing for ")
        assert await judge(page) == []
        async with fleet(worker.addresses, 1, fps=5):
            film = f"left door: {user(0)}, session room-0"
            await page.until(f"{names} === 'desk, missing; {film}'")
            assert await page.text(".card:not(.missing) .called") == "left door"
            await set_view(page, "state", "missing")
            assert await page.run(names) == "desk, missing"
            await set_view(page, "state", "all")
            await set_view(page, "words", "door")
            assert await page.run(names) == film
        check_page(page, worker.addresses)
