"""A film whose connection is lost goes on in another capture, and tells what that has cost."""

from __future__ import annotations

from typing import Any

import pytest

from cfw.testing.fakes import RecordingSink
from schemas import FeedAbort
from tests.patience import until
from tests.whole.browser.cameras import bring_camera
from tests.whole.browser.line import line
from tests.whole.browser.test_capture import PATIENT, film, numbers, result, run, stop
from tests.whole.browser.test_pages import admin
from tests.whole.browser.visits import Visit

NO_CONNECTION = "There is no connection to the worker. Another one is tried."
WAS_LOST = "there was no connection to the worker. The film went on in another capture."
NOW = "document.querySelector('#now').textContent"
SENT = "document.querySelector('#sent').textContent"


async def test_a_film_whose_connection_is_cut_goes_on_in_another_capture(visit: Visit) -> None:
    """What was filmed meanwhile is sent then; what has no receipt is told as that."""
    sink = RecordingSink()
    async with line() as wire, visit(sink=sink, server__public_url=wire.url, **PATIENT) as it:
        worker, page = it
        wire.lead(worker.addresses.capture)
        await bring_camera(page)
        await film(page, worker)
        await page.run("fake.pictures(3, 70)")
        await page.until(f"{SENT}.startsWith('3 frames')")
        await until(lambda: len(sink.captures[0].frames) == 3)
        wire.cut()
        await page.run("fake.pictures(3, 70)")
        await page.until(f"{NOW} === {NO_CONNECTION!r}")
        wire.is_up = True
        await page.until(f"{SENT}.startsWith('6 frames')")
        await page.until(f"{NOW} !== {NO_CONNECTION!r}")
        await page.run("fake.pictures(2, 70)")
        kind, told, facts = await stop(page)
        # None is lost or doubled; but of the first three the page cannot know it.
        assert numbers(sink) == [1, 2, 3, 4, 5, 6, 7, 8]
        assert isinstance(sink.captures[0].terminals[0], FeedAbort)
        first, second = (capture.opened.capture_id for capture in sink.captures)
        assert second.startswith(f"{first}.")
        assert (kind, facts["Frames"]) == ("bad", "5 of 8")
        assert "The worker confirmed 5 of 8 frames." in told
        assert "A capture that breaks off has no receipt." in told
        assert WAS_LOST in told
        assert "skipped" not in told


async def test_a_connection_that_is_lost_between_two_captures_makes_a_film_amber(
    visit: Visit,
) -> None:
    """All that was sent is confirmed."""
    sink = RecordingSink()
    async with line() as wire, visit(sink=sink, server__public_url=wire.url, **PATIENT) as it:
        worker, page = it
        wire.lead(worker.addresses.capture)
        await bring_camera(page)
        await film(page, worker)
        await page.run("fake.pictures(2, 70).then(() => fake.hide(true))")
        await until(lambda: bool(sink.captures[0].terminals))
        wire.cut()
        await page.run("fake.hide(false); fake.pictures(2, 70)")
        await page.until(f"{NOW} === {NO_CONNECTION!r}")
        wire.is_up = True
        await page.until(f"{SENT}.startsWith('4 frames')")
        kind, told, facts = await stop(page)
        assert numbers(sink) == [1, 2, 3, 4]
        assert (kind, facts["Frames"]) == ("warn", "4")
        assert "Filmed, with the connection lost meanwhile" in told
        assert WAS_LOST in told


async def test_a_connection_that_does_not_come_back_is_what_a_film_ends_with(
    visit: Visit,
) -> None:
    """It is tried until somebody stops it; then the film is red, and says what is safe."""
    sink = RecordingSink()
    limits: dict[str, Any] = {**PATIENT, "limits__max_frames": 2}
    async with line() as wire, visit(sink=sink, server__public_url=wire.url, **limits) as it:
        worker, page = it
        wire.lead(worker.addresses.capture)
        await bring_camera(page)
        await film(page, worker)
        await page.run("fake.pictures(3, 70)")
        await until(lambda: len(sink.captures) == 2 and bool(sink.captures[1].frames))
        await until(lambda: bool(sink.captures[0].terminals))
        wire.cut()
        await page.run("fake.pictures(2, 70)")
        await page.until(f"{NOW} === {NO_CONNECTION!r}")
        kind, told, _ = await stop(page)
        assert kind == "bad"
        assert "The worker confirmed 2 of 3 frames." in told
        assert "2 pictures were skipped: there was no connection." in told


async def test_what_the_next_capture_would_meet_again_ends_a_film(visit: Visit) -> None:
    """A session that was closed is closed."""
    sink = RecordingSink()
    async with visit(sink=sink, **PATIENT) as (worker, page):
        await bring_camera(page)
        await film(page, worker)
        await page.run("fake.pictures(2, 70)")
        await until(lambda: len(sink.captures[0].frames) == 2)
        name = sink.captures[0].opened.capture_id
        status = await page.run(
            f"fetch('/captures/{name}', {{method: 'DELETE'}}).then(({{status}}) => status)"
        )
        assert status == 204
        kind, told, _ = await result(page)
        assert kind == "bad"
        assert "An operator ended this capture" in told
        assert len(sink.captures) == 1


async def test_a_network_that_takes_nothing_is_given_up(visit: Visit) -> None:
    """A browser would wait for minutes; the worker has ended the capture long before."""
    sink = RecordingSink()
    settings: dict[str, Any] = {
        "limits__max_frames": 10_000,
        "limits__max_total_bytes": 10**9,
        "times__idle_s": 120,
        "limits__max_duration_s": 300,
    }
    async with line() as wire, visit(sink=sink, server__public_url=wire.url, **settings) as it:
        worker, page = it
        wire.lead(worker.addresses.capture)
        await page.goto(admin(worker.addresses, "/capture"))
        size = {"width": 16, "height": 16}
        await run(
            page,
            "film.js",
            f"""const picture = new OffscreenCanvas(16, 16);
            picture.getContext("2d").fillRect(0, 0, 9, 9);
            return picture.convertToBlob({{type: "image/jpeg"}}).then(async (blob) => {{
              const bytes = new Uint8Array(await blob.arrayBuffer());
              // As many bytes as a frame may have: filled up behind the picture's beginning.
              const filler = new Uint8Array(65_500);
              [filler[0], filler[1], filler[2], filler[3]] = [0xff, 0xfe, 0xff, 0xda];
              const parts = [bytes.slice(0, 2), filler, filler, filler, bytes.slice(2)];
              window.jpeg = new Blob(parts, {{type: "image/jpeg"}});
              const info = await (await fetch("/info")).json();
              const limits = {{...info.limits, idle_s: 2}};
              window.film = new made.Film(
                info.capture_url, {{userId: "ada", sessionId: "s-1", fps: 15}}, limits);
              await film.begin({size});
              window.offered = 0;
              window.feed = setInterval(() => {{
                if (film.isCongested) return;
                film.offer({{jpeg, at: performance.now(), ...{size}}});
                offered++;
              }}, 5);
            }});""",
        )
        await until(lambda: bool(sink.captures) and len(sink.captures[0].frames) > 2)
        wire.stall()
        # Its next connection stands still, too.
        await page.until("film.isLost")
        wire.cut(is_up=True)
        wire.runs.set()
        await page.until("film.parts.length >= 2 && !film.isLost")
        await until(lambda: len(sink.captures) >= 2 and len(sink.captures[-1].frames) > 2)
        await page.run("clearInterval(feed)")
        outcome = await page.run("film.finish()")
        assert outcome == {"notSent": 0, "failure": None}
        arrived, confirmed, unconfirmed, offered = await page.run(
            "[film.framesSent, film.receipt.frames, film.framesUnconfirmed, offered]"
        )
        assert arrived == offered == confirmed + unconfirmed
        assert confirmed == len(sink.captures[-1].frames)
        assert await page.run("film.lost.times") == 1


REFUSED = """window.fetch = async () => Response.json(
  {refused: [{is_yours: true, ago_s: 0, status: STATUS, detail: ""}]});"""


@pytest.mark.parametrize(
    ("status", "is_refused"), [(401, True), (403, True), (404, True), (503, False)]
)
async def test_a_worker_that_lets_nobody_in_is_not_asked_again(
    visit: Visit, status: int, is_refused: bool
) -> None:
    """One that has no room, or stops, is."""
    async with visit() as (worker, page):
        await page.goto(admin(worker.addresses, "/capture"))
        await page.until("!document.querySelector('#turn-on').disabled")
        await page.run(REFUSED.replace("STATUS", str(status)) + "1")
        body = "return made.isRefused('ws://127.0.0.1:9', performance.now())"
        assert await run(page, "retry.js", body) == is_refused
