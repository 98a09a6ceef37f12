"""`capture-client.js` by itself, in a page that imports it."""

from __future__ import annotations

from typing import Any

from cfw.testing.fakes import RecordingSink
from schemas import FeedClose
from tests.whole.browser.chromium import Page
from tests.whole.browser.visits import Visit
from tests.whole.smoke.worker import Worker

OPTIONS = "{userId: 'ada', sessionId: 's-1', width: 640, height: 480, fps: 15}"


async def film(page: Page, worker: Worker, body: str, options: str = "") -> Any:
    """Run JavaScript with `capture` open and `jpeg` at hand; an error becomes its fields."""
    await page.goto(f"{worker.addresses.admin}/capture")
    await page.until("document.querySelector('#go')")
    return await page.run(
        f"""(async () => {{
            const {{ openCapture }} = await import("/static/capture-client.js");
            const canvas = new OffscreenCanvas(640, 480);
            canvas.getContext("2d").fillRect(9, 9, 99, 99);
            const jpeg = await canvas.convertToBlob({{type: "image/jpeg"}});
            try {{
                const capture = await openCapture(
                    "{worker.addresses.capture}", {{...{OPTIONS}, {options}}});
                {body}
            }} catch (error) {{
                return {{...error, name: error.name, message: error.message}};
            }}
        }})()"""
    )


async def test_frames_arrive_as_they_were_sent(visit: Visit) -> None:
    """Counts, fields and event times of the rig, the given one to the letter."""
    sink = RecordingSink()
    async with visit(sink=sink) as (worker, page):
        given = await film(
            page,
            worker,
            """const given = capture.now();
            await capture.sendFrame(jpeg, {timestamp: given});
            await capture.sendFrame(jpeg);
            const receipt = await capture.close();
            return {given, ...receipt, size: jpeg.size, id: capture.captureId};""",
            "source: 'lab', annotation: {intent: 'wave'}",
        )
        assert (given["frames"], given["bytes"]) == (2, 2 * given["size"])
    capture = sink.only
    assert capture.opened.capture_id == given["id"]
    assert capture.opened.source == "lab"
    assert capture.opened.annotation is not None
    assert capture.opened.annotation.intent == "wave"
    times = [frame.feed_message().timestamp_frame for frame in capture.frames]
    assert times[0].text == given["given"]
    assert all(len(time.text) == len("2026-05-04T10:20:30.123456Z") for time in times)
    (terminal,) = capture.terminals
    assert isinstance(terminal, FeedClose)
    ends = [capture.opened.timestamp_start, *times, terminal.timestamp_end]
    assert ends == sorted(ends, key=lambda time: time.ns)
    # Both clocks are this machine's.
    assert abs(ends[0].ns - capture.opened.timestamp_ingest.ns) < 5e9


async def test_an_abort_is_an_error_with_the_words_of_the_worker(visit: Visit) -> None:
    """Code, detail, seq, observed and limit; the same from `ended`, `sendFrame` and `close`."""
    async with visit() as (worker, page):
        error = await film(
            page,
            worker,
            """const told = await capture.ended.catch((error) => error);
            const again = await capture.sendFrame(jpeg).catch((error) => error);
            if (told !== again) throw new Error("two errors");
            await capture.close();""",
            "fps: 99",
        )
        assert error == {
            "name": "CaptureError",
            "code": "limit_fps_exceeded",
            "detail": "fps_target may be at most 15 (max_fps), not 99",
            "seq": None,
            "observed": 99,
            "limit": 15,
            "message": "limit_fps_exceeded: fps_target may be at most 15 (max_fps), not 99",
        }
        error = await film(
            page, worker, "await capture.sendFrame(new Blob(['no'])); await capture.close();"
        )
        assert (error["code"], error["seq"]) == ("protocol_violation", 1)
        assert page.problems == []


async def test_a_slow_line_makes_the_rig_wait(visit: Visit) -> None:
    """`sendFrame` does not resolve while more than `maxWaitingBytes` wait to be sent."""
    async with visit() as (worker, page):
        told = await film(
            page,
            worker,
            """let waiting = 5_000;
            const get = () => waiting;
            Object.defineProperty(WebSocket.prototype, "bufferedAmount", {get});
            let isSent = false;
            const sending = capture.sendFrame(jpeg).then(() => (isSent = true));
            await new Promise((resolve) => setTimeout(resolve, 100));
            const wasSent = isSent;
            waiting = 1_000;
            await sending;
            return {wasSent, ...await capture.close()};""",
            "maxWaitingBytes: 1_000",
        )
        assert (told["wasSent"], told["frames"]) == (False, 1)


async def test_a_worker_that_goes_away_is_a_lost_connection_or_says_so(visit: Visit) -> None:
    """A shutdown has its code, and a capture that is closed is not used again."""
    async with visit() as (worker, page):
        error = await film(
            page, worker, "await capture.close(); await capture.sendFrame(jpeg);"
        )
        assert (error["name"], error["message"]) == (
            "InvalidStateError",
            "the capture was closed",
        )
        await film(page, worker, "await capture.sendFrame(jpeg); window.left = capture.ended;")
        worker.shutdown.request()
        worker.shutdown.request()
        code = await page.run("left.catch((error) => error.code)")
        assert code == "server_shutdown"
