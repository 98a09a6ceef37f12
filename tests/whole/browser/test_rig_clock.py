"""How the live page tells of a rig's clock."""

from __future__ import annotations

import json
import time
from types import SimpleNamespace

import pytest
import trio
import trio.lowlevel

from tests.factories import jpeg
from tests.whole.browser.test_pages import admin, check_page, opened
from tests.whole.browser.visits import Visit

CARD = ".card [data-part=clock]"

#: The two figures, what they are in words, and the advice if any.
WORDS = [
    (None, None, "\u2013", None),
    (-1.2, 0.4, "within ±1.2 ms", None),
    (0.2, 4.9, "0.2 to 4.9 ms ahead", None),
    (-40.4, None, "at most 40 ms behind", None),
    (999.9, None, "at least 1.0 s ahead", None),
    (1_000, 1_000.2, "1.0 s ahead", None),
    (1_000.1, 1_020, "1.0 s ahead", "set it by NTP"),
    (-2_500, -1_000, "1.0 to 2.5 s behind", None),
    (-2_500, -1_000.1, "1.0 to 2.5 s behind", "set it by NTP"),
    (3_200, 4_900, "3.2 to 4.9 s ahead", "set it by NTP"),
    (-500, 1_020, "within ±1.0 s", None),
    (7_200_000, 7_200_020, "2.0 h ahead", "check it and its time zone"),
    (-5_400_500, -5_399_500, "90.0 min behind", "check it and its time zone"),
    (-1.78e12, -1.78e12, "20,602 days behind", "check it and its time zone"),
]


async def test_an_offset_in_words(visit: Visit) -> None:
    """Ahead, behind or neither; advice only for a clock that is surely more than 1 s off."""
    told = [
        {"clock_offset_min_ms": least, "clock_offset_max_ms": most}
        for least, most, _, _ in WORDS
    ]
    async with visit() as (worker, page):
        await page.goto(admin(worker.addresses))
        script = 'import("/static/rig-clock.js").then(({rigClock}) => %s.map(rigClock))'
        said = await page.run(script % json.dumps([*told, {}]))
    expected = [(text, advice) for *_, text, advice in WORDS]
    assert [(each["text"], each["advice"]) for each in said] == [*expected, ("\u2013", None)]


async def test_a_wrong_clock_is_seen_on_card_and_in_the_list(
    visit: Visit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rig two hours behind is warned of while it sends and afterwards; a right one is not."""
    behind = SimpleNamespace(
        time_ns=lambda: time.time_ns() - 7_200 * 10**9, monotonic_ns=time.monotonic_ns
    )
    async with visit() as (worker, page):
        await page.goto(admin(worker.addresses))
        async with opened(worker.addresses) as capture, trio.open_nursery() as nursery:
            is_seen = trio.Event()

            async def film() -> None:
                # On a busy machine each of a few may have waited longer than a pong took.
                while not is_seen.is_set():
                    await capture.send_frame(jpeg())
                    await trio.sleep(0.2)

            nursery.start_soon(film)
            await page.until(f"document.querySelector('{CARD}')?.textContent.includes('±')")
            assert "NTP" not in await page.text(CARD)
            is_seen.set()
        await page.until("document.querySelector('#ended-rows .who')")
        assert await page.run("document.querySelector('#ended-rows .off')") is None
        with monkeypatch.context() as wrong:
            wrong.setattr("cfw.client._clock.time", behind)
            async with opened(worker.addresses, "second") as capture:
                await capture.send_frame(jpeg())
                await page.until(
                    f"document.querySelector('[data-capture-id=second] {CARD[6:]}.off')"
                )
                await trio.lowlevel.checkpoint()
        await page.until("document.querySelector('#ended-rows .off')")
        words = "2.0 h behind: check it and its time zone"
        assert await page.text("#ended-rows .off") == f"clock {words}"
        ended = "[data-capture-id=second][data-state=clean] [data-part=offset]"
        assert (await page.until(f"document.querySelector('{ended}')?.textContent")) == words
        check_page(page, worker.addresses)
