"""The page that films sends what the camera delivers, and says what it did not."""

from __future__ import annotations

import io
from itertools import pairwise
from typing import Any

import pytest
import trio
from PIL import Image

from cfw.testing.fakes import RecordingSink
from schemas import FeedClose
from tests.patience import until
from tests.whole.browser.cameras import bring_camera
from tests.whole.browser.chromium import Page
from tests.whole.browser.test_pages import admin
from tests.whole.browser.visits import Visit
from tests.whole.smoke.worker import Worker

#: No test waits for it, and a busy machine is not one that stands still.


async def ready(page: Page, worker: Worker, seconds: float = 200, fps: int = 15) -> None:
    """The capture page with its camera on, filled in."""
    await page.goto(admin(worker.addresses, "/capture#user=ada&session=s-1"))
    await page.until("!document.querySelector('#turn-on').disabled")
    await page.click("#turn-on")
    await page.until("document.querySelector('#off').hidden")
    await page.until("document.querySelector('#preview').videoWidth > 0")
    await page.type("#duration", str(seconds))
    await page.type("#fps", str(fps))


async def film(page: Page, worker: Worker, **wanted: Any) -> None:
    """That, and filming; no picture has been taken yet."""
    await ready(page, worker, **wanted)
    await page.click("#go")
    await page.until("document.querySelector('#left').textContent.endsWith('left')")


async def begin(page: Page) -> None:
    """Press the button once more; the page sees each picture from then on."""
    await page.run(
        "document.querySelector('#result').dataset.kind = 'none';"
        "document.querySelector('#sent').textContent = ''"
    )
    await page.click("#go")
    await page.until("document.querySelector('#sent').textContent")


async def result(page: Page) -> tuple[str, str, dict[str, str]]:
    """How it ended: the kind, all that is said, and the facts by name."""
    kind = await page.until(
        "(kind => ['good', 'warn', 'bad'].includes(kind) && kind)"
        "(document.querySelector('#result').dataset.kind)"
    )
    facts = await page.run(
        "Object.fromEntries([...document.querySelectorAll('#result dt')]"
        ".map(dt => [dt.textContent, dt.nextSibling.textContent]))"
    )
    return kind, await page.text("#result"), facts


async def stop(page: Page) -> tuple[str, str, dict[str, str]]:
    """Press the button."""
    await page.click("#go")
    return await result(page)


async def told_less(page: Page, **limits: Any) -> None:
    """Have the page keep to smaller limits than the worker's, which is then in no hurry."""
    source = f"""const ask = window.fetch;
        window.fetch = async (path, ...rest) => {{
            const answer = await ask(path, ...rest);
            if (path !== "/info") return answer;
            const info = await answer.json();
            Object.assign(info.limits, {limits});
            return Response.json(info);
        }};"""
    await page.call("Page.addScriptToEvaluateOnNewDocument", source=source)


def times(sink: RecordingSink) -> list[int]:
    """When the frames were taken, of all captures one after the other."""
    return [
        frame.meta.timestamp_frame.ns for capture in sink.captures for frame in capture.frames
    ]


def numbers(sink: RecordingSink) -> list[int]:
    """Which pictures of `fake` arrived, in order."""
    return [number_of(frame.data) for capture in sink.captures for frame in capture.frames]


def number_of(jpeg: bytes | bytearray | memoryview) -> int:
    picture = Image.open(io.BytesIO(jpeg)).convert("L")
    wide, high = picture.width / 4, picture.height / 4
    middles = [(int((bit % 4 + 0.5) * wide), int((bit // 4 + 0.5) * high)) for bit in range(16)]
    lit = [int(picture.getpixel(at) > 128) for at in middles]  # type: ignore[operator]
    return sum(value << bit for bit, value in enumerate(lit))


async def run(page: Page, module: str, body: str) -> Any:
    """JavaScript with the exports of one of the page's modules at hand."""
    return await page.run(f"import('/static/{module}').then(({{...made}}) => {{ {body} }})")


async def test_a_picture_is_a_frame_and_no_new_picture_is_none(visit: Visit) -> None:
    """Each once, in order; while the camera stands still nothing is sent, and that is said."""
    sink = RecordingSink()
    async with visit(sink=sink) as (worker, page):
        await bring_camera(page)
        await film(page, worker)
        await page.run("fake.pictures(10, 70)")
        await page.until("document.querySelector('#now').textContent")
        assert "No new picture comes from the camera." in await page.text("#now")
        assert await page.text("#sent") != ""
        await page.run("fake.pictures(5, 70)")
        await page.until("document.querySelector('#now').textContent === ''")
        kind, told, facts = await stop(page)
        assert numbers(sink) == list(range(1, 16))
        assert facts["Frames"] == "15"
        assert kind == "warn"
        assert "Filmed with a pause" in told
        assert "the camera gave no new picture" in told
        assert times(sink) == sorted(set(times(sink)))
        assert page.problems == []


async def test_only_a_film_that_misses_nothing_is_green(visit: Visit) -> None:
    """Every picture of the camera arrived, and the worker confirmed every one."""
    sink = RecordingSink()
    async with visit(sink=sink) as (worker, page):
        await bring_camera(page)
        await ready(page, worker, fps=1)
        # Within the page, so that it is no pause when the machine is busy.
        await page.run(
            """document.querySelector("#go").click();
            const timer = setInterval(() => {
              if (!document.querySelector("#left").textContent.endsWith("left")) return;
              clearInterval(timer);
              fake.pictures(1_000, 100);
            }, 5);"""
        )
        await page.until("parseInt(document.querySelector('#sent').textContent) >= 3")
        kind, told, facts = await stop(page)
        assert (kind, "Capture complete" in told) == ("good", True)
        found = numbers(sink)
        assert found == sorted(set(found))
        assert int(facts["Frames"]) == len(found) >= 3
        (terminal,) = sink.only.terminals
        assert isinstance(terminal, FeedClose)
        assert facts["Capture"] == sink.only.opened.capture_id


async def test_a_camera_that_is_pulled_out_ends_the_film(visit: Visit) -> None:
    """What it gave is confirmed; the result is amber, says why, and the camera is off."""
    sink = RecordingSink()
    async with visit(sink=sink) as (worker, page):
        await bring_camera(page)
        await film(page, worker)
        await page.run("fake.pictures(6, 70).then(() => fake.pullOut())")
        kind, told, facts = await result(page)
        assert (kind, facts["Frames"]) == ("warn", "6")
        assert "The camera went away" in told
        assert "The camera was pulled out, or taken from this page" in told
        assert numbers(sink) == [1, 2, 3, 4, 5, 6]
        assert isinstance(sink.only.terminals[0], FeedClose)
        assert await page.run("document.querySelector('#off').hidden") is False
        # The next one that is plugged in films.
        await page.click("#go")
        await page.until("document.querySelector('#left').textContent.endsWith('left')")
        await page.run("fake.picture()")
        _, _, facts = await stop(page)
        assert facts["Frames"] == "1"
        assert page.problems == []


@pytest.mark.parametrize(
    ("happens", "deadline_ms", "words"),
    [
        ("mute(true)", 300, "No picture came from the camera."),
        ("pullOut()", 10_000, "The camera was pulled out, or taken from this page"),
    ],
)
async def test_a_camera_without_a_first_picture_is_told_and_given_back(
    visit: Visit, happens: str, deadline_ms: int, words: str
) -> None:
    """At once when it ends, else after ten seconds; then every button opens one again."""
    async with visit() as (worker, page):
        await bring_camera(page)
        # Not for the camera that is well, whose first picture may take its time.
        hurried = f"""const later = setTimeout;
            const hurry = (ms) => ms === 10_000 && fake.isDark ? {deadline_ms} : ms;
            window.setTimeout = (act, ms) => later(act, hurry(ms));"""
        await page.call("Page.addScriptToEvaluateOnNewDocument", source=hurried)
        await page.goto(admin(worker.addresses, "/capture#user=ada&session=s-1"))
        await page.until("!document.querySelector('#turn-on').disabled")
        for button in ("#turn-on", "#go"):
            await page.run("fake.isDark = true; fake.opened.length = 0")
            await page.run("document.querySelector('#result').dataset.kind = 'none'")
            await page.click(button)
            await page.until("fake.opened.length === 1")
            await page.run(f"fake.{happens}")
            kind, told, _ = await result(page)
            assert kind == "bad"
            assert words in told
            assert await page.run("fake.track.readyState") == "ended"
            assert await page.run("document.querySelector('#off').hidden") is False
        await page.run("fake.isDark = false")
        await page.click("#turn-on")
        await page.until("document.querySelector('#off').hidden")
        await page.click("#go")
        await page.until("document.querySelector('#left').textContent.endsWith('left')")
        assert await page.run("fake.opened.length") == 2
        await page.run("fake.picture()")
        _, _, facts = await stop(page)
        assert facts["Frames"] == "1"
        assert page.problems == []


async def test_a_muted_camera_is_told_as_that(visit: Visit) -> None:
    """While it is, and in the result; the film goes on when it gives pictures again."""
    sink = RecordingSink()
    async with visit(sink=sink) as (worker, page):
        await bring_camera(page)
        await film(page, worker)
        await page.run("fake.pictures(3, 70).then(() => fake.mute(true))")
        await page.until("document.querySelector('#now').textContent")
        assert "keeps the camera's pictures" in await page.text("#now")
        await page.run("new Promise((resolve) => setTimeout(resolve, 300))")
        await page.run("fake.mute(false); fake.pictures(3, 70)")
        kind, told, _ = await stop(page)
        assert kind == "warn"
        assert "the system, or another program, kept the camera's pictures" in told
        assert numbers(sink) == [1, 2, 3, 4, 5, 6]


async def test_a_camera_that_is_silent_for_long_ends_the_capture_in_time(visit: Visit) -> None:
    """Before the worker loses its patience; the film goes on in the next one."""
    sink = RecordingSink()
    async with visit(sink=sink) as (worker, page):
        await bring_camera(page)
        await told_less(page, idle_s=1)
        await film(page, worker)
        await page.run("fake.pictures(3, 70)")
        await until(lambda: bool(sink.captures[0].terminals))
        assert await page.text("#go") == "Stop"
        await page.run("fake.pictures(3, 70)")
        kind, told, facts = await stop(page)
        assert (kind, facts["Frames"]) == ("warn", "6")
        assert "in 2 captures" in told
        assert [len(capture.frames) for capture in sink.captures] == [3, 3]
        assert numbers(sink) == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(
    ("away", "back"),
    [
        ("fake.hide(true)", "fake.hide(false)"),
        (
            "document.dispatchEvent(new Event('freeze'))",
            "document.dispatchEvent(new Event('resume'))",
        ),
    ],
    ids=["hidden", "frozen"],
)
async def test_a_page_that_is_not_seen_ends_the_capture_at_once(
    visit: Visit, away: str, back: str
) -> None:
    """It may be stopped any moment. Seen again, it goes on in the next capture, and says so."""
    sink = RecordingSink()
    async with visit(sink=sink) as (worker, page):
        await bring_camera(page)
        await film(page, worker)
        await page.run(f"fake.pictures(3, 70).then(() => {away})")
        await until(lambda: bool(sink.captures[0].terminals))
        assert isinstance(sink.captures[0].terminals[0], FeedClose)
        await page.run(f"{back}; fake.pictures(3, 70)")
        kind, told, facts = await stop(page)
        assert (kind, facts["Frames"]) == ("warn", "6")
        assert "this page was not in front" in told
        # One that was being encoded begins the next capture.
        assert numbers(sink) == [1, 2, 3, 4, 5, 6]
        assert len(sink.captures) == 2
        assert page.problems == []


async def test_a_page_that_the_browser_stops_has_ended_its_capture(visit: Visit) -> None:
    """Stopped in earnest, as phones do it; nobody has to wait for the worker's patience."""
    sink = RecordingSink()
    async with visit(sink=sink) as (worker, page):
        await bring_camera(page)
        await film(page, worker)
        await page.run("fake.pictures(3, 70)")
        await page.until("document.querySelector('#sent').textContent.startsWith('3 frames')")
        await page.call("Page.setWebLifecycleState", state="frozen")
        await until(lambda: bool(sink.captures[0].terminals))
        assert isinstance(sink.captures[0].terminals[0], FeedClose)
        await page.call("Page.setWebLifecycleState", state="active")
        kind, told, facts = await stop(page)
        # Its connection was cut, so that it may have missed the receipt.
        assert (kind, facts["Frames"]) in {("warn", "3"), ("bad", "0 of 3")}
        assert ("The browser stopped this page" in told) == (kind == "bad")
        assert "this page was not in front" in told


async def test_a_page_that_is_left_has_ended_its_capture(visit: Visit) -> None:
    """Consumers see the end of a film, not a rig that vanished."""
    sink = RecordingSink()
    async with visit(sink=sink) as (worker, page):
        await bring_camera(page)
        await film(page, worker)
        await page.run("fake.pictures(3, 70)")
        await page.until("document.querySelector('#sent').textContent.startsWith('3 frames')")
        await page.goto("about:blank")
        await until(lambda: bool(sink.only.terminals))
        assert isinstance(sink.only.terminals[0], FeedClose)
        assert len(sink.only.frames) == 3


async def test_a_device_that_slept_says_so(visit: Visit) -> None:
    """By the clock on the wall; the next capture has the time after the sleep."""
    sink = RecordingSink()
    async with visit(sink=sink) as (worker, page):
        await bring_camera(page)
        await film(page, worker)
        await page.run("fake.pictures(3, 70)")
        await page.run("(own => Date.now = () => own() + 60_000)(Date.now)")
        await until(lambda: bool(sink.captures[0].terminals))
        await page.run("fake.pictures(3, 70)")
        kind, told, facts = await stop(page)
        assert (kind, facts["Frames"]) == ("warn", "6")
        assert "this device was asleep" in told
        assert times(sink)[3] - times(sink)[2] > 50e9


async def test_a_page_that_was_blocked_is_not_told_as_a_device_that_slept(
    visit: Visit,
) -> None:
    """Both clocks went on: it stood still, for whatever reason; pictures of before arrived."""
    sink = RecordingSink()
    async with visit(sink=sink) as (worker, page):
        await bring_camera(page)
        await film(page, worker)
        await page.run("fake.pictures(3, 70)")
        await page.run(
            "(until => { while (performance.now() < until); })(performance.now() + 4_000)"
        )
        await page.until("document.querySelector('#now').textContent.includes('stood still')")
        await page.run("fake.pictures(3, 70)")
        kind, told, facts = await stop(page)
        assert (kind, facts["Frames"]) == ("warn", "6")
        assert "this page stood still: this device slept, or was busy" in told
        assert "asleep" not in told
        assert numbers(sink) == [1, 2, 3, 4, 5, 6]


STALLED = {
    "encoder": (
        "Worker.prototype.postMessage = () => {}",
        "skipped: this device makes JPEGs more slowly than the camera pictures.",
    ),
    "line": (
        "Object.defineProperty(WebSocket.prototype, 'bufferedAmount', {get: () => 1e9})",
        "skipped: the network was slower than the camera.",
    ),
}


@pytest.mark.parametrize("where", sorted(STALLED))
async def test_what_is_too_slow_skips_pictures_and_says_how_many(
    visit: Visit, where: str
) -> None:
    """An encoder or a line that stands still: amber, with the number of each."""
    stall, words = STALLED[where]
    sink = RecordingSink()
    async with visit(sink=sink) as (worker, page):
        await bring_camera(page)
        await film(page, worker)
        await page.run("fake.pictures(3, 70)")
        await page.until("document.querySelector('#sent').textContent.startsWith('3 frames')")
        await page.run(f"{stall}; fake.pictures(8, 70)")
        await page.until("document.querySelector('#sent').textContent.includes('skipped')")
        kind, told, facts = await stop(page)
        assert kind == "warn"
        assert words in told
        assert int(facts["Frames"]) + int(facts["Skipped"]) == 11
        found = numbers(sink)
        assert found == sorted(set(found))
        assert len(found) == int(facts["Frames"])


async def test_pictures_that_the_page_came_too_late_for_are_counted(visit: Visit) -> None:
    """By the browser's own number of those that it has shown."""
    sink = RecordingSink()
    async with visit(sink=sink) as (worker, page):
        await bring_camera(page)
        await film(page, worker)
        await page.run("fake.pictures(3, 70)")
        await page.run("fake.unseen = 4; fake.pictures(3, 70)")
        kind, told, facts = await stop(page)
        assert (kind, facts["Frames"], facts["Skipped"]) == ("warn", "6", "4")
        assert "4 pictures were missed: this device was busy with something else." in told


async def test_frames_that_are_too_large_for_the_worker_are_told_as_that(visit: Visit) -> None:
    """In no quality small enough: nothing was filmed, and nothing is green."""
    limits: dict[str, Any] = {"limits__max_frame_bytes": 700}
    async with visit(**limits) as (worker, page):
        await bring_camera(page)
        await film(page, worker)
        await page.run("fake.pictures(3, 70)")
        kind, told, _ = await stop(page)
        assert kind == "bad"
        assert "Nothing was filmed" in told
        assert "3 pictures were skipped: they had more bytes than the worker takes" in told
        made = """const canvas = new OffscreenCanvas(64, 64), pen = canvas.getContext("2d");
            for (let x = 0; x < 64; x++) for (let y = 0; y < 64; y++) {
              pen.fillStyle = `rgb(${x * y % 251}, ${x * 7 % 255}, ${y * 31 % 255})`;
              pen.fillRect(x, y, 1, 1);
            }
            const maker = new made.JpegMaker(), size = {width: 64, height: 64};
            const make = maxBytes =>
              maker.make(canvas.transferToImageBitmap(), {...size, maxBytes});
            return make(1e6).then(jpeg => jpeg.size);"""
        best = await run(page, "jpeg-maker.js", made)
        less = await run(page, "jpeg-maker.js", made.replace("make(1e6)", f"make({best - 1})"))
        # One that is too large by a byte is made again, not skipped.
        assert less < best


async def test_a_film_goes_on_in_the_next_capture(visit: Visit) -> None:
    """Over a limit of frames: none is lost or doubled, and the receipts add up."""
    sink = RecordingSink()
    limits: dict[str, Any] = {"limits__max_frames": 10}
    async with visit(sink=sink, **limits) as (worker, page):
        await bring_camera(page)
        await film(page, worker)
        await page.run("fake.pictures(25, 40)")
        await page.until("document.querySelector('#sent').textContent.startsWith('25 frames')")
        assert ", capture 3" in await page.text("#sent")
        _, told, facts = await stop(page)
        assert facts["Frames"] == "25"
        assert "The worker took 25 frames, " in told
        assert ", in 3 captures, and passed on every one." in told
        assert numbers(sink) == list(range(1, 26))
        assert [len(capture.frames) for capture in sink.captures] == [10, 10, 5]
        names = [capture.opened.capture_id for capture in sink.captures]
        assert facts["Captures"] == ", ".join(names)
        assert names[1:] == [f"{names[0]}.2", f"{names[0]}.3"]
        assert times(sink) == sorted(set(times(sink)))
        for capture in sink.captures[1:]:
            first, last = capture.frames[0].meta, capture.frames[-1].meta
            (terminal,) = capture.terminals
            assert isinstance(terminal, FeedClose)
            assert capture.opened.timestamp_start == first.timestamp_frame
            assert terminal.timestamp_end == last.timestamp_frame
        sink.check()
        assert page.problems == []


async def test_a_film_longer_than_a_capture_goes_on_in_the_next(visit: Visit) -> None:
    """Each is closed before its time is over."""
    sink = RecordingSink()
    async with visit(sink=sink) as (worker, page):
        await bring_camera(page)
        await told_less(page, max_duration_s=2)
        await film(page, worker)
        assert "up to 2 s" in await page.text("#limits")
        assert "up to 1 s" in await page.text("#duration-limit")
        await page.run("fake.pictures(30, 80)")
        _, _, facts = await stop(page)
        assert facts["Frames"] == "30"
        assert numbers(sink) == list(range(1, 31))
        assert len(sink.captures) >= 3
        for capture in sink.captures:
            taken = [frame.meta.timestamp_frame.ns for frame in capture.frames]
            assert taken[-1] - taken[0] <= 2e9


async def test_a_camera_that_is_turned_goes_on_in_a_capture_of_that_shape(visit: Visit) -> None:
    """All of its picture, within what the worker takes, declared as it is."""
    sink = RecordingSink()
    async with visit(sink=sink) as (worker, page):
        await bring_camera(page)
        await film(page, worker)
        await page.run("fake.pictures(3, 70)")
        turn = "[fake.canvas.width, fake.canvas.height] = [480, 640]"
        await page.run(f"{turn}; fake.pictures(3, 70)")
        await page.until(
            "document.querySelector('#delivers').textContent.includes('sent as 360 \u00d7 480')"
        )
        _, _, facts = await stop(page)
        assert facts["Frames"] == "6"
        assert numbers(sink) == [1, 2, 3, 4, 5, 6]
        shapes = [(each.opened.width, each.opened.height) for each in sink.captures]
        assert shapes == [(640, 480), (360, 480)]


async def test_the_page_asks_for_the_camera_at_the_back_and_offers_what_it_can_do(
    visit: Visit,
) -> None:
    """Sizes of both the camera and the worker; its light; and the limits, beforehand."""
    limits: dict[str, Any] = {
        "limits__max_width": 1920,
        "limits__max_height": 1080,
        "limits__max_pixels": 1920 * 1080,
    }
    async with visit(**limits) as (worker, page):
        most = {"width": {"max": 800}, "height": {"max": 600}}
        await bring_camera(page, **most, torch=1)
        await page.goto(admin(worker.addresses, "/capture#user=ada&session=s-1"))
        await page.until("document.querySelector('#limits').textContent")
        told = await page.text("#limits")
        assert "225 frames and 50.0 MB; pictures up to 1920 \u00d7 1080" in told
        sizes = "[...document.querySelectorAll('#size option')].map(o => o.value)"
        assert (await page.run(sizes))[0] == "1920x1080"
        await ready(page, worker)
        assert (await page.run(sizes))[0] == "640x480"
        (asked,) = await page.run("fake.opened")
        assert asked["facingMode"] == {"ideal": "environment"}
        await page.run("fake.track.applyConstraints = async wanted => { fake.asked = wanted }")
        await page.click("#torch")
        await page.until("document.querySelector('#torch').ariaPressed === 'true'")
        assert await page.run("fake.asked") == {"advanced": [{"torch": True}]}
        await page.click("#torch")
        await page.until("document.querySelector('#torch').ariaPressed === 'false'")
        assert await page.run("fake.asked") == {"advanced": [{"torch": False}]}


async def test_a_film_begins_once_and_with_the_camera_that_was_chosen_last(
    visit: Visit,
) -> None:
    """Though the button is pressed twice, and a field changed while a camera is opened."""
    slow = """const list = MediaDevices.prototype.enumerateDevices;
        const released = new Promise((resolve) => (window.release = resolve));
        MediaDevices.prototype.enumerateDevices = async function () {
          await released;
          return list.call(this);
        };"""
    sink = RecordingSink()
    async with visit(sink=sink) as (worker, page):
        await bring_camera(page)
        await page.call("Page.addScriptToEvaluateOnNewDocument", source=slow)
        await ready(page, worker)
        await page.click("#go")
        await page.click("#go")
        await page.run("document.querySelector('#fps').dispatchEvent(new Event('change'))")
        await page.run("release()")
        await page.until("document.querySelector('#left').textContent.endsWith('left')")
        assert await page.run("fake.opened.length") == 2
        await page.run("fake.pictures(3, 70)")
        _, _, facts = await stop(page)
        assert facts["Frames"] == "3"
        assert len(sink.only.frames) == 3


async def test_the_screen_is_kept_on_while_it_films(visit: Visit) -> None:
    """Asked for again when the page is seen again, and given back; without, that is said."""
    locks = """window.locks = {asked: 0, released: 0};
        WakeLock.prototype.request = async () => {
          locks.asked += 1;
          if (locks.isRefused) throw new DOMException("", "NotAllowedError");
          return {release: async () => { locks.released += 1 }};
        };"""
    async with visit() as (worker, page):
        await bring_camera(page)
        await page.call("Page.addScriptToEvaluateOnNewDocument", source=locks)
        await film(page, worker)
        assert await page.run("[locks.asked, locks.released]") == [1, 0]
        await page.run("fake.picture().then(() => fake.hide(true))")
        await page.run("fake.hide(false); fake.picture()")
        await page.until("locks.asked === 2")
        await stop(page)
        await page.until("locks.released > 0")
        await page.run("locks.isRefused = true; document.querySelector('#go').click()")
        await page.until("document.querySelector('#now').textContent")
        assert "cannot keep the screen on" in await page.text("#now")


LESS = {
    "video_frame": "delete window.VideoFrame;",
    "video_frame_of_cameras": (
        "window.VideoFrame = class { constructor() { throw new DOMException() } };"
    ),
    "worker": "delete window.Worker;",
    "module_workers": "window.Worker = class { constructor() { throw new TypeError() } };",
    "offscreen_canvas": "delete window.OffscreenCanvas;",
    "broken_worker": (
        "const make = trustedTypes.createPolicy('test', {createScriptURL: text => text});"
        "const Own = Worker; window.Worker = function () {"
        "  return new Own(make.createScriptURL('/static/none.js'), {type: 'module'}) };"
    ),
}


@pytest.mark.parametrize("lacking", sorted(LESS))
async def test_a_browser_that_can_do_less_films_as_well(visit: Visit, lacking: str) -> None:
    """No frames of WebCodecs, no workers, no canvas for them; a worker that does not load."""
    sink = RecordingSink()
    async with visit(sink=sink) as (worker, page):
        await bring_camera(page)
        await page.call("Page.addScriptToEvaluateOnNewDocument", source=LESS[lacking])
        await film(page, worker)
        await page.run("fake.pictures(5, 70)")
        _, _, facts = await stop(page)
        found = numbers(sink)
        assert found == sorted(set(found))
        assert len(found) == int(facts["Frames"]) >= 1
        # A page that encodes by itself may be too slow, which is told.
        assert len(found) + int(facts.get("Skipped", 0)) == 5


async def test_a_browser_without_the_callback_notices_that_no_new_picture_came(
    visit: Visit,
) -> None:
    """By what it counts as shown: as many frames as pictures, then none, which is said."""
    sink = RecordingSink()
    async with visit(sink=sink) as (worker, page):
        await bring_camera(page)
        source = "delete HTMLVideoElement.prototype.requestVideoFrameCallback;"
        await page.call("Page.addScriptToEvaluateOnNewDocument", source=source)
        await film(page, worker)
        for number in range(1, 5):
            await page.run("fake.number += 1; fake.paint()")
            sent = f"document.querySelector('#sent').textContent.startsWith('{number} frame')"
            await page.until(sent)
            await trio.sleep(0.1)  # two within a frame of the film would be one
        await page.until(
            "document.querySelector('#now').textContent.includes('No new picture')"
        )
        kind, _, facts = await stop(page)
        assert (kind, facts["Frames"]) == ("warn", "4")
        assert numbers(sink) == [1, 2, 3, 4]


async def test_a_picture_that_is_counted_before_it_is_there_is_waited_for(visit: Visit) -> None:
    """The one before is not sent in its place; where all are called the same, not for ever."""
    async with visit() as (worker, page):
        await page.goto(admin(worker.addresses, "/capture"))
        seen = await run(
            page,
            "pictures.js",
            """let [count, name, open] = [1, 1, 0];
            window.VideoFrame = class {
              timestamp = name;
              constructor() { open++ }
              close() { open-- }
            };
            const frames = async (many) => {
              while (many--) await new Promise(requestAnimationFrame);
            };
            const video = {getVideoPlaybackQuality: () => ({totalVideoFrames: count})};
            const told = [];
            const tell = ({grab}) => told.push(grab().timestamp);
            const pictures = new made.Pictures(video, tell);
            return (async () => {
              await frames(3);
              count = 2;
              await frames(3);
              const early = [...told];
              name = 2;
              await frames(3);
              count = 3;
              await frames(60);
              pictures.stop();
              return {early, told, open};
            })();""",
        )
        assert seen == {"early": [], "told": [2, 2], "open": 2}


async def test_which_pictures_are_frames_is_a_matter_of_their_times(visit: Visit) -> None:
    """Every other of twice as many, told or seen; all of a camera that jitters at the rate."""
    async with visit() as (worker, page):
        await page.goto(admin(worker.addresses, "/capture"))

        async def taken(told: str, period: str) -> list[int]:
            found: list[int] = await run(
                page,
                "thinner.js",
                f"""const thinner = new made.Thinner({told}, 15);
                const periods = [...Array(90).keys()].map(index => ({period})(index));
                return periods.flatMap((at, index) => thinner.takes(at) ? [index] : []);""",
            )
            return found

        assert await taken("30", "index => index * 1000 / 30") == list(range(0, 90, 2))
        assert await taken("15", "index => index * 1000 / 15 + index % 3 * 20") == [*range(90)]
        # One that does not say how many is seen to have too many after two seconds.
        seen = await taken("undefined", "index => index * 1000 / 30")
        assert seen[:61] == [*range(61)]
        assert {later - sooner for sooner, later in pairwise(seen[62:])} == {2}


async def test_a_camera_slower_than_asked_is_told_and_not_made_up_for(visit: Visit) -> None:
    """Different pictures all of them, fewer than asked, in amber."""
    sink = RecordingSink()
    async with visit(sink=sink) as (worker, page):
        await bring_camera(page)
        await film(page, worker)
        await page.run("fake.pictures(14, 150)")
        kind, told, facts = await stop(page)
        assert (kind, facts["Frames"]) == ("warn", "14")
        # On a busy machine it is so slow that it rather pauses.
        asked = "pictures a second came from the camera; 15 were asked for."
        assert asked in told or "the camera gave no new picture" in told
        assert numbers(sink) == list(range(1, 15))


async def test_a_camera_of_the_browser_is_filmed_whole(visit: Visit) -> None:
    """At least 95 % of its pictures, or as many said to be missing; none twice."""
    sink = RecordingSink()
    async with visit(sink=sink) as (worker, page):
        keep = """const own = MediaDevices.prototype.getUserMedia;
            MediaDevices.prototype.getUserMedia = async function (wanted) {
              const stream = await own.call(this, wanted);
              [window.track] = stream.getVideoTracks();
              return stream;
            };"""
        await page.call("Page.addScriptToEvaluateOnNewDocument", source=keep)
        await film(page, worker)
        delivered = await page.run("track.stats.deliveredFrames")
        await page.until("parseInt(document.querySelector('#sent').textContent) >= 45")
        delivered = await page.run("track.stats.deliveredFrames") - delivered
        kind, told, facts = await stop(page)
        frames, skipped = int(facts["Frames"]), int(facts.get("Skipped", 0))
        # On a machine that is too busy it says so instead.
        assert frames + skipped >= 0.95 * delivered or "15 were asked for" in told
        assert (kind == "good") <= (skipped == 0)
        pictures = [frame.data for frame in sink.only.frames]
        assert len(set(pictures)) == len(pictures) == frames
        assert page.problems == []
