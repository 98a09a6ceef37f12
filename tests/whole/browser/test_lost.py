"""A film whose connection is lost goes on in another capture, and tells what that has cost."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from cfw.explanations import EXPLANATIONS
from cfw.testing.fakes import RecordingSink
from schemas import ErrorCode, FeedAbort
from tests.patience import until
from tests.whole.browser.cameras import bring_camera
from tests.whole.browser.chromium import Page
from tests.whole.browser.line import Line, line
from tests.whole.browser.test_capture import film, numbers, result, run, stop
from tests.whole.browser.test_pages import admin
from tests.whole.browser.visits import Visit
from tests.whole.smoke.worker import Worker

NO_CONNECTION = "Nothing can be sent to the worker now. Another capture is tried."
WAS_LOST = "nothing could be sent to the worker. The film went on in another capture."
NOW = "document.querySelector('#now').textContent"
SENT = "document.querySelector('#sent').textContent"


@asynccontextmanager
async def filming(
    visit: Visit, sink: RecordingSink, **settings: Any
) -> AsyncIterator[tuple[Line, Page]]:
    """A page that films over a line; no picture has been taken yet."""
    async with line() as wire:
        settings = {"server__public_url": wire.url, **settings}
        async with visit(sink=sink, **settings) as (worker, page):
            wire.lead(worker.addresses.capture)
            await bring_camera(page)
            await film(page, worker)
            yield wire, page


async def test_a_film_whose_connection_is_cut_goes_on_in_another_capture(visit: Visit) -> None:
    """What was filmed meanwhile is sent then; what has no receipt is told as that."""
    sink = RecordingSink()
    async with filming(visit, sink) as (wire, page):
        await page.run("fake.pictures(3, 70)")
        await page.until(f"{SENT}.startsWith('3 frames')")
        await until(lambda: len(sink.captures[0].frames) == 3)
        wire.cut()
        # Known before another picture is given to it.
        await page.until(f"{NOW} === {NO_CONNECTION!r}")
        await page.run("fake.pictures(3, 70)")
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
    async with filming(visit, sink) as (wire, page):
        await page.run("fake.pictures(2, 70).then(() => fake.hide(true))")
        # Behind its receipt.
        await until(lambda: bool(sink.captures[0].terminals) and not wire.carried)
        wire.cut()
        await page.run("fake.hide(false); fake.pictures(2, 70)")
        await page.until(f"{NOW} === {NO_CONNECTION!r}")
        wire.is_up = True
        await page.until(f"{SENT}.startsWith('4 frames')")
        kind, told, facts = await stop(page)
        assert numbers(sink) == [1, 2, 3, 4]
        assert (kind, facts["Frames"]) == ("warn", "4")
        assert "Filmed with an interruption" in told
        assert WAS_LOST in told


async def test_a_connection_that_does_not_come_back_is_what_a_film_ends_with(
    visit: Visit,
) -> None:
    """It is tried until somebody stops it; then the film is red, and says what is safe."""
    sink = RecordingSink()
    async with filming(visit, sink, limits__max_frames=2) as (wire, page):
        await page.run("fake.pictures(3, 70)")
        await until(lambda: len(sink.captures) == 2 and bool(sink.captures[1].frames))
        await until(lambda: wire.carried == 1)  # the first one has its receipt
        wire.cut()
        await page.until(f"{NOW} === {NO_CONNECTION!r}")
        await page.run("fake.pictures(2, 70)")
        kind, told, _ = await stop(page)
        assert kind == "bad"
        assert "The worker confirmed 2 of 3 frames." in told
        assert "2 pictures were skipped: nothing could be sent." in told


async def test_what_the_next_capture_would_meet_again_ends_a_film(visit: Visit) -> None:
    """A session that was closed is closed."""
    sink = RecordingSink()
    async with visit(sink=sink) as (worker, page):
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


#: A worker that does what a test says of each connection: `plan(number)` gives what it breaks
#: off with, and after how many frames; nothing for one that is well.
SCRIPTED = """
window.WebSocket = class {
  static OPEN = 1;
  static made = [];
  readyState = 0;
  bufferedAmount = 0;
  frames = 0;
  bytes = 0;
  constructor() {
    this.number = WebSocket.made.push(this);
    setTimeout(() => {
      const {refused} = plan(this.number) ?? {};
      this.readyState = refused ? 3 : 1;
      if (refused) this.onclose({code: 1006, reason: ""});
      else this.onopen();
    });
  }
  send(data) {
    if (this.readyState !== 1) return;
    const {code = null, after = 0} = plan(this.number) ?? {};
    if (typeof data !== "string") {
      this.frames += 1;
      this.bytes += data.size;
    } else {
      const {event} = JSON.parse(data);
      if (event === "capture.close" && (code === null || this.frames < after)) {
        this.end(1000, JSON.stringify({frames: this.frames, bytes: this.bytes}));
      }
    }
    if (code !== null && this.frames >= after) setTimeout(() => this.breakOff(code), 20);
  }
  breakOff(code) {
    if (this.readyState !== 1) return;
    const message = {event: "capture.abort", error_code: code, detail: "so it says"};
    if (code !== "connection_lost") this.onmessage({data: JSON.stringify(message)});
    this.end(code === "connection_lost" ? 1006 : 1011, "");
  }
  end(code, reason) {
    this.readyState = 3;
    setTimeout(() => this.onclose({code, reason}));
  }
  close() { if (this.readyState < 3) this.end(1006, ""); }
};
const limits = {max_duration_s: 300, max_frames: 40, max_total_bytes: 1e9, idle_s: 120,
  max_frame_bytes: 1e6, ...MORE};
window.offer = (count) => {
  for (let index = 0; index < count; index++) {
    film.offer({jpeg: new Blob(["0123456789"]), at: performance.now(), width: 16, height: 16});
  }
};
const options = {userId: "ada", sessionId: "s-1", fps: 15};
window.film = new made.Film("ws://127.0.0.1:9/", options, limits);
return film.begin({width: 16, height: 16}).then(() => 1);
"""
SENT_IN = "film.parts.map(({framesSent}) => framesSent)"


async def scripted(page: Page, worker: Worker, plan: str, more: str = "{}") -> None:
    """A film whose worker is a script; it has begun."""
    await page.goto(admin(worker.addresses, "/capture"))
    await page.until("!document.querySelector('#turn-on').disabled")
    await page.run(f"window.plan = (number) => ({plan}); 1")
    await run(page, "film.js", SCRIPTED.replace("...MORE", f"...{more}"))


async def test_what_waits_is_not_for_a_capture_that_is_refused(visit: Visit) -> None:
    """A worker without room says so behind the handshake: nothing was given to it by then."""
    plan = """number === 1 ? {code: "connection_lost", after: 3}
        : number < 5 ? {code: "server_at_capacity"} : null"""
    async with visit() as (worker, page):
        await scripted(page, worker, plan)
        await page.run("offer(3), 1")
        await page.until("film.isLost")
        await page.run("offer(20), 1")
        await page.until("!film.isLost && film.framesSent === 23")
        outcome = await page.run("film.finish()")
        assert outcome == {"notSent": 0, "failure": None}
        assert await page.run(SENT_IN) == [3, 20]
        assert await page.run("[film.lost.times, film.framesUnconfirmed]") == [1, 3]
        ids = await page.run("film.parts.map(({captureId}) => captureId.split('.')[1])")
        assert ids == [None, "5"]
        codes = await page.run("[...new Set(film.breaks.map(({code}) => code))]")
        assert codes == ["connection_lost", "server_at_capacity"]
        assert page.problems == []


@pytest.mark.parametrize(
    ("code", "sent"), [("session_closed", [3]), ("connection_lost", [3, 2])]
)
async def test_a_capture_that_is_ending_has_no_next_one_before_it_says_why(
    visit: Visit, code: str, sent: list[int]
) -> None:
    """A browser knows that a connection ends before it knows how."""
    async with visit() as (worker, page):
        await scripted(page, worker, "null")
        await page.run("offer(3), 1")
        await page.until("film.framesSent === 3")
        await page.run(
            "window.socket = WebSocket.made[0]; socket.readyState = 2; offer(2);"
            "setTimeout(() => { socket.readyState = 1; socket.breakOff("
            f"{code!r}) }}, 300); 1"
        )
        await page.until("film.parts[0].failure !== null")
        await page.until(f"String({SENT_IN}) === {','.join(map(str, sent))!r}")
        # One that should not be there would come about now.
        await page.run("new Promise((resolve) => setTimeout(resolve, 300))")
        assert await page.run("film.parts[0].failure.code") == code
        assert await page.run(SENT_IN) == sent
        assert await page.run("WebSocket.made.length") == len(sent)
        await page.run("film.finish()")


async def test_trouble_that_is_over_holds_the_next_capture_up_no_more(visit: Visit) -> None:
    """A film that goes on over a limit, long after it was lost for a while."""
    plan = """number === 1 ? {code: "connection_lost", after: 3}
        : number < 6 ? {refused: true} : null"""
    async with visit() as (worker, page):
        await scripted(page, worker, plan, "{max_frames: 10}")
        await page.run("offer(3), 1")
        await page.until("film.isLost")
        await page.run("offer(5), 1")
        await page.until("film.framesSent === 8")
        await page.until("film.parts.at(-1).isWell")
        await page.run(
            "window.waits = []; const set = window.setTimeout;"
            "window.setTimeout = (call, ms = 0) => { waits.push(ms); return set(call, ms) }; 1"
        )
        await page.run("offer(10), 1")
        await page.until("film.framesSent === 18")
        assert await page.run(SENT_IN) == [3, 10, 5]
        # Those of the back-off lie between; what closes or opens a capture has longer.
        assert [ms for ms in await page.run("waits") if 20 < ms <= 5_000] == []
        await page.run("film.finish()")


async def test_what_the_worker_broke_off_with_is_told(visit: Visit) -> None:
    """Also of a capture that was closing, while the next one ran already."""
    async with visit() as (worker, page):
        await scripted(page, worker, "null", "{max_frames: 10}")
        # The first one gets no receipt, but an error.
        await page.run(
            "WebSocket.made[0].end = (code) => setTimeout(() => {"
            "WebSocket.made[0].end = WebSocket.prototype.end;"
            "WebSocket.made[0].breakOff('forward_failed') }, 200); 1"
        )
        await page.run("offer(15), 1")
        await page.until("film.framesSent === 15")
        assert await page.run("film.finish()") == {"notSent": 0, "failure": None}
        body = """return made.resultText({
            framesSent: film.framesSent, receipt: film.receipt, parts: film.parts,
            end: "stopped", framesUnconfirmed: film.framesUnconfirmed, lost: film.lost,
            breaks: film.breaks,
            skipped: {page: 0, encoder: 0, line: 0, lost: 0, size: 0}, pauses: [],
            cameraFps: 15, fps: 15, filmedMs: 1000})"""
        told = await run(page, "film-words.js", body)
        assert told["kind"] == "bad"
        text = " ".join(told["lines"])
        assert "The worker confirmed 5 of 15 frames." in text
        assert EXPLANATIONS[ErrorCode.FORWARD_FAILED].meaning in text
        assert "The browser stopped this page" not in text
        assert page.problems == []


async def test_who_stops_a_film_while_it_is_lost_waits_for_no_connection(visit: Visit) -> None:
    """And none is opened for nothing."""
    plan = """number === 1 ? {code: "connection_lost", after: 3} : {refused: true}"""
    async with visit() as (worker, page):
        await scripted(page, worker, plan)
        await page.run("offer(3), 1")
        await page.until("film.isLost")
        await page.run("offer(2), 1")
        await page.until("WebSocket.made.length > 2")
        ended = "film.finish().then(({notSent, failure: {code}}) => [notSent, code])"
        outcome = await page.run(ended)
        assert outcome == [2, "unreachable"]
        tried = await page.run("window.plan = () => null; WebSocket.made.length")
        await page.run("new Promise((resolve) => setTimeout(resolve, 300))")
        assert await page.run("WebSocket.made.length") <= tried + 1
        assert await page.run(SENT_IN) == [3]


async def test_a_worker_that_wants_a_sign_in_takes_no_film_away(visit: Visit) -> None:
    """Other pages are loaded anew then, to ask for it; this one has a film to tell of."""
    async with visit() as (worker, page):
        await page.goto(admin(worker.addresses, "/capture"))
        await page.until("!document.querySelector('#turn-on').disabled")
        await page.run(
            "window.stays = true; window.fetch = async () => new Response('', {status: 401}); 1"
        )
        body = "return made.isRefused(URL, performance.now())"
        here = "`ws://${location.host}/`"
        assert await run(page, "retry.js", body.replace("URL", here)) is True
        assert await run(page, "retry.js", body.replace("URL", "'ws://127.0.0.1:9'")) is False
        assert await page.run("window.stays")


async def test_a_pause_of_the_page_is_no_time_without_a_connection(visit: Visit) -> None:
    """It is told as a pause already."""
    plan = """number === 1 ? {code: "connection_lost", after: 3} : null"""
    async with visit() as (worker, page):
        await scripted(page, worker, plan)
        await page.run("offer(3), 1")
        await page.until("film.isLost")
        before, since = await page.run(
            """(async () => {
              film.pause();
              const before = film.lost.ms;
              await new Promise((resolve) => setTimeout(resolve, 500));
              film.resume();
              const resumed = performance.now();
              offer(1);
              while (film.isLost) await new Promise((resolve) => setTimeout(resolve, 5));
              return [before, performance.now() - resumed];
            })()"""
        )
        assert await page.run("film.lost.times") == 1
        assert 0 < before <= await page.run("film.lost.ms") <= before + since
        await page.run("film.finish()")


@pytest.mark.parametrize("falls", [True, False])
async def test_a_network_that_is_slow_is_not_given_up(visit: Visit, falls: bool) -> None:
    """One that takes a little all the time is no network that is gone."""
    async with visit() as (worker, page):
        await scripted(page, worker, "null")
        ended = await run(
            page,
            "capture-client.js",
            """const full = 1_000_000;
            const options = {userId: "ada", sessionId: "s-1", width: 16, height: 16, fps: 15};
            return made.openCapture("ws://127.0.0.1:9/", options).then(async (capture) => {
              const socket = WebSocket.made.at(-1);
              const since = performance.now();
              const gone = () => (performance.now() - since) * 1000;
              Object.defineProperty(socket, "bufferedAmount",
                {get: () => FALLS ? Math.max(0, full - gone()) : full});
              return capture.sendFrame(new Blob(["jpeg"]), {stallMs: 200})
                .then(() => "sent", ({code}) => code);
            });""".replace("FALLS", str(falls).lower()),
        )
        assert ended == ("sent" if falls else "connection_lost")
