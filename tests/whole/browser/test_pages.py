"""The pages in headless Chromium: a fake camera, a real worker, and what people see."""

from __future__ import annotations

import subprocess
import sys
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import pytest
import trio

from cfw.api import Addresses
from cfw.client import Capture, open_capture
from cfw.explanations import EXPLANATIONS
from schemas import ErrorCode
from tests.factories import jpeg
from tests.patience import PATIENCE_S
from tests.whole.browser.chromium import Page, open_page
from tests.whole.browser.visits import Visit
from tests.whole.smoke.worker import running

PICTURE = ".card canvas"
#: Of the picture that a canvas has, width to height.
SHAPE = (
    "((at) => { const { width, height } = document.querySelector(at); return width / height })"
)
COMPLETE = {"Capture complete", "Film complete"}
BUSY = {
    "Filmed with pictures missing",
    "Filmed with a pause",
    "The camera was slower than asked",
}


def check_page(page: Page, addresses: Addresses) -> None:
    """Nothing was reported by the browser, and nothing asked for elsewhere."""
    assert page.problems == []
    own = {urlsplit(address).netloc for address in (addresses.admin, addresses.capture)}
    asked = [urlsplit(url.removeprefix("blob:")) for url in page.urls]
    assert {url.netloc for url in asked} <= own
    assert asked


def admin(addresses: Addresses, path: str = "/") -> str:
    assert addresses.admin is not None
    return addresses.admin + path


async def film(
    page: Page, addresses: Addresses, session: str = "s-1", length: str = "2"
) -> None:
    """Open the capture page, fill it in and press start."""
    await page.goto(admin(addresses, f"/capture#user=ada&session={session}"))
    await page.until("!document.querySelector('#go').disabled")
    await page.click("#turn-on")
    await page.until("document.querySelector('#preview').videoWidth > 0")
    await page.type("#duration", length)
    await page.click("#go")


async def result(page: Page) -> tuple[str, dict[str, str]]:
    """What the capture page says when it is over: its kind, and its facts by name.

    "good" and "warn" have a receipt for every frame. A film of these tests is amber for one
    reason alone: the machine was too busy for every picture, which is then said.
    """
    kind = await page.until(
        "(kind => ['good', 'warn', 'bad'].includes(kind) && kind)"
        "(document.querySelector('#result').dataset.kind)"
    )
    facts = await page.run(
        "Object.fromEntries([...document.querySelectorAll('#result dt')]"
        ".map(dt => [dt.textContent, dt.nextSibling.textContent]))"
    )
    title = await page.text("#result h2")
    titles = {"good": COMPLETE, "warn": BUSY}.get(kind, {title})
    assert title in titles, (kind, title)
    assert kind != "good" or "Skipped" not in facts
    return kind, facts


async def test_the_camera_reaches_the_live_page(
    devtools: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Filming ends with 1000 and its receipt; meanwhile the live page shows it move."""
    async with (
        running(monkeypatch) as worker,
        open_page(devtools) as live,
        open_page(devtools) as camera,
    ):
        await live.goto(admin(worker.addresses))
        await live.until("!document.querySelector('#empty').hidden")
        assert "cfw send ws://" in await live.text("#send-line")
        await film(camera, worker.addresses, length="60")
        await live.until(f"!document.querySelector('{PICTURE}').hidden")
        await live.until(f"{SHAPE}({PICTURE!r}) === 640 / 480")
        first = await live.screenshot(PICTURE)
        # The fake camera draws the time and a turning wheel.
        await live.until(
            "Number(document.querySelector('[data-part=frames]').textContent) > 15"
        )
        assert await live.screenshot(PICTURE) != first
        assert await live.text("#running") == "1"
        assert await live.text(".card h3") == "ada"
        assert await live.run(f"document.querySelector('{PICTURE}').ariaLabel") == (
            "Live picture of ada, session s-1"
        )
        await camera.click("#go")
        kind, facts = await result(camera)
        assert kind in {"good", "warn"}
        assert int(facts["Frames"]) > 15
        await live.until("document.querySelector('#ended-rows tr')")
        assert await live.text("#ended-rows .badge") == "clean"
        assert await live.text("#ended-rows .frames") == facts["Frames"]
        assert await live.text("#ended-rows .id") == facts["Capture"]
        assert await live.text("#counts [name=clean] .n") == "1"
        state = "document.querySelector('.card [data-part=state]').textContent"
        await live.until(f"{state} === 'ended cleanly'")
        await live.until("document.querySelector('#announcement').textContent")
        assert await live.text("#announcement") == "1 capture ended; all cleanly."
        for page in (live, camera):
            check_page(page, worker.addresses)
            assert sum(url.startswith("ws") for url in page.urls) == 1


async def test_an_abort_is_told_in_plain_words(
    devtools: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wrong session: code, detail and remedy where it was filmed, code and why live."""
    async with (
        running(monkeypatch) as worker,
        open_page(devtools) as live,
        open_page(devtools) as camera,
    ):
        await live.goto(admin(worker.addresses))
        await film(camera, worker.addresses, session="wrong")
        kind, facts = await result(camera)
        detail = "the session is unknown or belongs to another user"
        assert (kind, facts) == ("bad", {"Code": "session_invalid", "Detail": detail})
        told = await camera.text("#result")
        known = EXPLANATIONS[ErrorCode.SESSION_INVALID]
        assert known.meaning.removesuffix(".") in told
        assert f"What to do: {known.rig}" in told
        assert f"Whoever runs the worker: {known.operator}" in told
        assert await camera.run("[sessionStorage.session, localStorage.length]") == ["wrong", 0]
        await live.until("document.querySelector('#ended-rows .badge')")
        assert await live.text("#ended-rows .badge") == "session_invalid"
        assert await live.text("#ended-rows .why") == detail
        assert await live.text("#counts [name=session_invalid] .n") == "1"
        check_page(live, worker.addresses)
        check_page(camera, worker.addresses)


async def test_without_the_texts_a_code_still_names_its_command(visit: Visit) -> None:
    """The texts cannot be fetched: the page works, and says where they are found."""
    async with visit() as (worker, page):
        no_texts = """const own = window.fetch;
            window.fetch = (path, ...rest) =>
                path === "/codes" ? Promise.reject(new TypeError()) : own(path, ...rest);"""
        await page.call("Page.addScriptToEvaluateOnNewDocument", source=no_texts)
        await film(page, worker.addresses, session="wrong")
        kind, facts = await result(page)
        assert (kind, facts["Code"]) == ("bad", "session_invalid")
        told = await page.text("#result")
        assert "What to do: the command cfw explain session_invalid says it." in told
        check_page(page, worker.addresses)


@pytest.mark.parametrize(
    ("public", "named"),
    [
        ("wss://cams.example.org", "cfw send wss://cams.example.org pattern: "),
        ("wss://cams.example.org/lab", "cfw send wss://cams.example.org/lab pattern: "),
    ],
)
async def test_behind_a_proxy_the_live_page_names_what_rigs_use(
    visit: Visit, public: str, named: str
) -> None:
    """The line to paste reaches the worker from outside."""
    async with visit(server__public_url=public) as (worker, page):
        await page.goto(admin(worker.addresses))
        await page.until("document.querySelector('#send-line').textContent")
        assert (await page.text("#send-line")).startswith(named)
        assert await page.text("#address") == "cams.example.org"


async def test_stopping_early_and_limits_of_the_form(visit: Visit) -> None:
    """Stop gives a receipt too; no size, rate or length beyond the limits can be chosen.

    A film may be longer than a capture; what fits one is what is offered.
    """
    limits: dict[str, Any] = {
        "limits__max_width": 320,
        "limits__max_fps": 5,
        "limits__max_duration_s": 60,
    }
    async with visit(**limits) as (worker, page):
        await film(page, worker.addresses, length="50")
        sizes = await page.run(
            "[...document.querySelectorAll('#size option')].map(o => o.value)"
        )
        assert sizes == ["320x240", "160x120"]
        assert await page.run("[fps.max, fps.value, duration.max]") == ["5", "5", "86400"]
        # Pressed where it is seen: on a busy machine more are sent until we hear of it.
        seen = await page.until(
            "(sent => sent >= 3 && (document.querySelector('#go').click(), sent))"
            "(parseInt(document.querySelector('#sent').textContent))"
        )
        kind, facts = await result(page)
        assert kind in {"good", "warn"}
        assert seen <= int(facts["Frames"]) <= seen + 2
        await page.type("#duration", "86401")
        await page.click("#go")
        assert await page.run("duration.validity.rangeOverflow")
        assert await page.text("#go") == "Start capture"
        check_page(page, worker.addresses)


async def test_the_live_page_comes_back_by_itself(
    devtools: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker goes away, which the page says; another takes its place, which it shows."""
    async with open_page(devtools) as page:
        async with running(monkeypatch) as worker:
            await page.goto(admin(worker.addresses))
            await page.until(
                "document.querySelector('#connection').textContent === 'Connected'"
            )
            addresses = (admin(worker.addresses), worker.addresses.capture)
            ports = [urlsplit(address).port for address in addresses]
            async with opened(worker.addresses) as capture:
                await capture.send_frame(jpeg())
                await page.until("document.querySelector('.card')")
        await page.until(
            "document.querySelector('#connection').textContent.startsWith('Reconnecting')"
        )
        # Until it asks again, it has only lost the pictures.
        await page.until(
            "document.querySelector('#connection-word').textContent"
            " === 'Connection lost; trying again.'"
        )
        again: dict[str, Any] = {"admin__port": ports[0], "server__port": ports[1]}
        async with running(monkeypatch, **again) as worker:
            await page.click("#retry")
            await page.until(
                "document.querySelector('#connection').textContent === 'Connected'"
            )
            async with opened(worker.addresses, "second") as capture:
                await capture.send_frame(jpeg())
                await page.until("document.querySelector('[data-capture-id=second]')")
                await page.until("document.querySelector('#running').textContent === '1'")


async def test_a_rig_cannot_write_into_the_page(visit: Visit) -> None:
    """What a rig calls itself is text, also if it looks like HTML."""
    user = "<img src=x onerror=alert(1)>"
    async with visit(sessions__url="allow:", sessions__static=[]) as (worker, page):
        await page.goto(admin(worker.addresses))
        async with opened(worker.addresses, user_id=user) as capture:
            await capture.send_frame(jpeg())
            await page.until("document.querySelector('.card h3')")
            assert await page.text(".card h3") == user
        await page.until("document.querySelector('#ended-rows .user')")
        assert await page.text("#ended-rows .user") == user
        check_page(page, worker.addresses)


async def test_the_pages_fit_a_phone(visit: Visit) -> None:
    """Nothing is wider than 320 pixels, in light and in dark."""
    async with visit() as (worker, page):
        await page.call(
            "Emulation.setDeviceMetricsOverride",
            width=320,
            height=640,
            deviceScaleFactor=1,
            mobile=True,
        )
        async with opened(worker.addresses) as capture:
            await capture.send_frame(jpeg())
            await page.goto(admin(worker.addresses))
            await page.until("document.querySelector('.card h3').textContent")
            assert await page.run("document.documentElement.scrollWidth") == 320
        await page.until("document.querySelector('#ended-rows tr')")
        assert await page.run("document.documentElement.scrollWidth") == 320
        grounds = []
        for scheme in ("light", "dark"):
            features = [{"name": "prefers-color-scheme", "value": scheme}]
            await page.call("Emulation.setEmulatedMedia", features=features)
            grounds.append(await page.run("getComputedStyle(document.body).backgroundColor"))
        assert len(set(grounds)) == 2
        await page.goto(admin(worker.addresses, "/capture"))
        await page.until("!document.querySelector('#go').disabled")
        assert await page.run("document.documentElement.scrollWidth") == 320


async def test_the_demo_shows_two_moving_cards(devtools: str) -> None:
    """Its first line is the address of the page; the page has two rigs of different shape."""
    command = ["-m", "cfw.cli", "demo", "--port", "0", "--admin-port", "0", "--seconds", "30"]
    async with trio.open_nursery() as nursery, open_page(devtools) as page:
        start = partial(trio.run_process, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        demo = await nursery.start(partial(start, [sys.executable, *command], check=False))
        with trio.fail_after(PATIENCE_S):
            said = b""
            while b"\n" not in said:
                said += await demo.stdout.receive_some()
        word, address = said.decode().splitlines()[0].split()
        assert word == "open"
        await page.goto(address)
        await page.until("document.querySelectorAll('.card canvas:not([hidden])').length === 2")
        shapes = await page.run(
            "[...document.querySelectorAll('[data-part=shape]')]"
            ".map(e => e.textContent.split(/\\D+/))"
        )
        assert sorted(shapes) == [["480", "270"], ["640", "480"]]
        assert page.problems == []
        nursery.cancel_scope.cancel()


def opened(
    addresses: Addresses,
    capture_id: str = "first",
    user_id: str = "ada",
    width: int = 640,
    height: int = 480,
) -> AbstractAsyncContextManager[Capture]:
    """A capture from Python, as a context."""
    return open_capture(
        addresses.capture,
        user_id=user_id,
        session_id="s-1",
        capture_id=capture_id,
        width=width,
        height=height,
        fps=5,
    )
