"""The synchronous twin, in threads and processes, against scripted workers on loopback."""

# The block of `open_capture` is what is tested, so it stands by itself, whole.
# ruff: noqa: PT012, SIM117

from __future__ import annotations

import asyncio
import gc
import inspect
import re
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Required, TypeVar, get_origin, get_type_hints

import attrs
import numpy as np
import pytest
import trio
import trio.testing

import cfw.client.sync
from cfw.client import (
    Capture,
    CaptureOptions,
    ConnectionLost,
    ConnectionRefused,
    ConnectOptions,
    FeedOptions,
    Film,
    FilmOptions,
    LimitDurationExceeded,
    Receipt,
    SessionClosed,
    SyncCapture,
    SyncFilm,
    aio,
    open_capture,
    open_capture_sync,
    open_feed,
    open_feed_sync,
)
from cfw.client._film import FilmSettings
from cfw.client._options import CaptureSettings, ConnectSettings, FeedSettings
from schemas import CaptureClose, CaptureFrameMeta, CaptureOpen, ErrorCode, SchemaError
from tests.unit.client.fake_worker import (
    JPEG,
    FakeWorker,
    Script,
    listening_worker,
    options_of,
    run_script,
)

T = TypeVar("T")
BIG = bytes(900_000)
DETAIL = "the user's session has ended"
OPTIONS = {k: v for k, v in options_of(None).items() if k not in ("url", "stream")}


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "cfw-capture"]


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    """No thread runs on, and no socket is left to the garbage collector."""
    yield
    assert not threads()
    gc.collect()


async def in_thread(
    work: Callable[[Callable[..., SyncCapture]], T], script: Script
) -> tuple[T, FakeWorker]:
    """Do blocking work in a thread of Trio's while the script is run in the loop."""
    seen: list[FakeWorker] = []
    ended = trio.Event()

    async def serve(stream: trio.SocketStream) -> None:
        await run_script(stream, script, seen)
        ended.set()

    async with listening_worker(serve) as url:
        result = await trio.to_thread.run_sync(work, partial(open_capture_sync, url, **OPTIONS))
        with trio.fail_after(5):
            await ended.wait()
    return result, seen[0]


async def abort_at_first_frame(worker: FakeWorker) -> None:
    await worker.read_until(bytes)
    await worker.tell_abort(ErrorCode.SESSION_CLOSED, detail=DETAIL, seq=1)
    await worker.close(1008, f"session_closed: {DETAIL}")


# --- as the async one ---------------------------------------------------------------------


def test_the_same_arguments() -> None:
    """Names, types and attributes are those of the async one."""
    ours = dict(inspect.signature(open_capture_sync).parameters)
    theirs = dict(inspect.signature(open_capture).parameters)
    # A Trio stream belongs to a Trio loop, and the caller has none.
    assert theirs.pop("stream").default is None
    assert ours == theirs
    assert cfw.client.sync.open_capture is open_capture_sync
    assert (
        inspect.signature(SyncCapture.send_frame).parameters
        == inspect.signature(Capture.send_frame).parameters
    )


TYPED: dict[type, type] = {
    ConnectOptions: ConnectSettings,
    FeedOptions: FeedSettings,
    CaptureOptions: CaptureSettings,
    FilmOptions: FilmSettings,
}


@pytest.mark.parametrize("options", TYPED, ids=lambda options: options.__name__)
def test_the_options_are_what_is_opened_with(options: type) -> None:
    """Name by name the same types; what must be given is what has no default; all are told."""
    settings = TYPED[options]
    fields = attrs.fields_dict(settings)
    assert get_type_hints(options) == get_type_hints(settings)
    hints = get_type_hints(options, include_extras=True)
    required = {name for name, hint in hints.items() if get_origin(hint) is Required}
    assert required == {
        name for name, field in fields.items() if field.default is attrs.NOTHING
    }
    # Each tells its own, and says whose others it has; a typed dict knows no bases.
    bases = {TYPED[each]: each for each in TYPED}
    above = [bases[each] for each in settings.__mro__ if each in bases]
    if len(above) > 1:
        assert f"beside `{above[1].__name__}`" in " ".join(str(options.__doc__).split())
    told: dict[str, str] = {}
    for each in reversed(above):
        words = re.split(r"^        (\w+): ", str(each.__doc__), flags=re.MULTILINE)[1:]
        told |= dict(zip(words[::2], words[1::2], strict=True))
    assert [*told] == [*fields]
    for name, field in fields.items():
        if field.default not in (None, attrs.NOTHING):
            assert f"{field.default}" in told[name], f"{name}: its default is not told"


@pytest.mark.parametrize("open_one", [open_feed, open_feed_sync, aio.open_feed])
def test_a_slip_in_an_option_of_a_feed_is_told_at_the_call(
    open_one: Callable[..., object],
) -> None:
    """Before there is a thread or a connection: a name, a timeout."""
    with pytest.raises(TypeError, match="captrue_id"):
        open_one("http://127.0.0.1:1", captrue_id="c1")
    with pytest.raises(ValueError, match="connect_timeout must be"):
        open_one("http://127.0.0.1:1", connect_timeout=0)


def shown(kind: type) -> set[str]:
    """The properties of a class, each with a return type and words of its own."""
    found = inspect.getmembers(kind, lambda each: isinstance(each, property))
    names = {name for name, _ in found if not name.startswith("_")}
    assert all(each.__doc__ for name, each in found if name in names)
    assert all("return" in get_type_hints(each.fget) for name, each in found if name in names)
    return names


def test_each_form_shows_all_that_the_async_one_shows() -> None:
    """Every attribute of a capture and a film can be read in a script and under asyncio."""
    of_capture = set(re.findall(r"^        (\w+): ", str(Capture.__doc__), flags=re.MULTILINE))
    assert of_capture >= {"capture_id", "receipt", "limits", "offset"}
    assert shown(SyncCapture) == shown(aio.AioCapture) == of_capture
    of_film = shown(Film) | {"film_id", "start"}
    assert of_film >= {"parts", "receipt", "lost", "frames_sent", "bytes_sent"}
    assert shown(SyncFilm) == shown(aio.AioFilm) == of_film


@pytest.mark.parametrize("open_one", [open_capture, open_capture_sync])
def test_a_slip_in_an_option_is_told_at_the_call(open_one: Callable[..., object]) -> None:
    """Before there is a thread or a connection: its name, a missing one, a timeout."""
    given = {"user_id": "ada", "session_id": "s1", "width": 640, "height": 480, "fps": 15}
    with pytest.raises(TypeError, match="fsp"):
        open_one("ws://127.0.0.1:1", **given, fsp=15)
    with pytest.raises(TypeError, match="session_id"):
        open_one("ws://127.0.0.1:1", **{k: v for k, v in given.items() if k != "session_id"})
    with pytest.raises(ValueError, match="close_timeout must be"):
        open_one("ws://127.0.0.1:1", **given, close_timeout=0)


async def test_receipt() -> None:
    """The receipt is there when the block has ended, and not before."""

    def work(open_one: Callable[..., SyncCapture]) -> SyncCapture:
        with open_one(source="rig-7", annotation={"intent": "wave"}) as capture:
            for frame in (JPEG, bytearray(JPEG), memoryview(JPEG)):
                capture.send_frame(frame)
            assert (capture.frames_sent, capture.bytes_sent) == (3, 3 * len(JPEG))
            assert capture.receipt is None
        return capture

    capture, worker = await in_thread(work, FakeWorker.confirm)
    assert capture.receipt == Receipt(3, 3 * len(JPEG))
    assert (capture.frames_sent, capture.bytes_sent) == (3, 3 * len(JPEG))
    assert worker.frames == [JPEG] * 3
    opening = worker.messages[0]
    assert isinstance(opening, CaptureOpen)
    assert (opening.source, opening.capture_id) == ("rig-7", capture.capture_id)


async def test_event_times_and_arrays() -> None:
    """A time is kept to the letter; a picture in an array becomes a JPEG."""
    when = "2020-01-01T00:00:00.123456789012+02:00"

    def work(open_one: Callable[..., SyncCapture]) -> None:
        with open_one(timestamp_start="2020-01-01T00:00:00+02:00", color="bgr") as capture:
            with pytest.raises(ValueError, match="480 x 640"):
                capture.send_frame(np.zeros((640, 480, 3), np.uint8))
            capture.send_frame(np.zeros((480, 640, 3), np.uint8), when)

    _, worker = await in_thread(work, FakeWorker.confirm)
    meta, closing = worker.messages[1:]
    assert isinstance(meta, CaptureFrameMeta)
    assert isinstance(closing, CaptureClose)
    assert meta.timestamp_frame.text == closing.timestamp_end.text == when
    assert worker.frames[0].startswith(b"\xff\xd8\xff")


async def test_abort_in_the_middle() -> None:
    """It is raised as it is by the send that meets it, again, and where the block ends."""

    def work(open_one: Callable[..., SyncCapture]) -> list[BaseException]:
        caught: list[BaseException] = []
        try:
            with open_one() as capture:
                for _ in range(2):
                    with pytest.raises(SessionClosed) as info:
                        while True:
                            capture.send_frame(JPEG)
                    caught.append(info.value)
        except SessionClosed as exc:
            caught.append(exc)
        return caught

    caught, _ = await in_thread(work, abort_at_first_frame)
    assert len(caught) == 3
    assert len(set(map(id, caught))) == 1
    error = caught[0]
    assert isinstance(error, SessionClosed)
    assert (error.detail, error.seq, error.close_code) == (DETAIL, 1, 1008)


async def test_abort_while_waiting_for_the_receipt() -> None:
    """The block that ends normally ends with the abort, and with what it measured."""

    async def script(worker: FakeWorker) -> None:
        await worker.read_until(CaptureClose)
        await worker.tell_abort(ErrorCode.LIMIT_DURATION_EXCEEDED, observed=16, limit=15)
        await worker.close(1008, "limit_duration_exceeded: too long")

    def work(open_one: Callable[..., SyncCapture]) -> None:
        with pytest.raises(LimitDurationExceeded) as caught:
            with open_one() as capture:
                capture.send_frame(JPEG)
        assert (caught.value.observed, caught.value.limit) == (16, 15)
        assert capture.receipt is None

    await in_thread(work, script)


@pytest.mark.parametrize("error", [ValueError("mine"), KeyboardInterrupt(), SystemExit(3)])
async def test_exception_of_the_body_leaves_untouched(error: BaseException) -> None:
    """The very same object with nothing added; the worker sees no `capture.close`."""

    def work(open_one: Callable[..., SyncCapture]) -> None:
        with pytest.raises(type(error)) as caught:
            with open_one() as capture:
                capture.send_frame(JPEG)
                raise error
        assert caught.value is error
        assert (error.__context__, error.__cause__) == (None, None)
        assert not threads()
        assert capture.receipt is None

    _, worker = await in_thread(work, FakeWorker.read_to_end)
    assert worker.close_code == 1006
    assert not any(isinstance(m, CaptureClose) for m in worker.messages)


async def test_the_worker_goes_away() -> None:
    """A connection that is cut ends the capture with ConnectionLost."""

    async def cut(worker: FakeWorker) -> None:
        await worker.read_until(bytes)
        await worker.stream.aclose()

    def work(open_one: Callable[..., SyncCapture]) -> None:
        with pytest.raises(ConnectionLost, match="without a close frame"):
            with open_one() as capture:
                while True:
                    capture.send_frame(JPEG)

    await in_thread(work, cut)


async def test_no_receipt_in_time() -> None:
    """The deadline is the same as the async one's."""

    def work(open_one: Callable[..., SyncCapture]) -> float:
        start = time.monotonic()
        with pytest.raises(ConnectionLost, match=r"no receipt within 0\.1 s"):
            with open_one(close_timeout=0.1) as capture:
                capture.send_frame(JPEG)
        return time.monotonic() - start

    took, _ = await in_thread(work, FakeWorker.read_to_end)
    assert 0.1 <= took < 3


def test_no_answer_and_nobody_there() -> None:
    """What fails before the block is raised where it would begin, unwrapped."""

    async def get_url() -> str:
        async with listening_worker(trio.aclose_forcefully) as url:
            return url

    def refused(url: str, **options: Any) -> str:
        with pytest.raises(ConnectionRefused) as caught:
            with open_capture_sync(url, **OPTIONS | options):
                pytest.fail("there is no capture")
        return str(caught.value)

    assert "refused" in refused(trio.run(get_url))

    async def say_nothing(stream: trio.SocketStream) -> None:
        await trio.sleep_forever()

    async def serve() -> str:
        async with listening_worker(say_nothing) as url:
            return await trio.to_thread.run_sync(partial(refused, url, connect_timeout=0.1))

    assert "no answer within 0.1 s" in trio.run(serve)


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"url": "http://worker"}, ValueError, "not a WebSocket URL"),
        ({"close_timeout": 0}, ValueError, "close_timeout"),
        ({"quality": 0}, ValueError, "quality"),
        ({"user_id": ""}, SchemaError, "user_id"),
        ({"fps": 15.0}, SchemaError, "fps_target"),
    ],
)
def test_wrong_arguments(change: dict[str, Any], error: type[Exception], text: str) -> None:
    """They are refused where the block would begin."""
    with pytest.raises(error, match=text):
        with open_capture_sync(**{"url": "ws://worker"} | OPTIONS | change):
            pytest.fail("there is no capture")


# --- threads ------------------------------------------------------------------------------


async def test_misuse() -> None:
    """A capture that is not open, not open any more, or used twice says so."""

    def work(open_one: Callable[..., SyncCapture]) -> None:
        unused = open_one()
        with pytest.raises(RuntimeError, match="with statement"):
            unused.send_frame(JPEG)
        with unused as capture:
            with pytest.raises(RuntimeError, match="has been used"):
                capture.__enter__()
            capture.send_frame(JPEG)
        with pytest.raises(trio.ClosedResourceError):
            capture.send_frame(JPEG)
        assert capture.receipt == Receipt(1, len(JPEG))
        with pytest.raises(RuntimeError, match="has been used"):
            capture.__enter__()

    await in_thread(work, FakeWorker.confirm)


async def test_not_in_a_trio_loop() -> None:
    """It would hold up the loop, so it says what to use there."""
    with pytest.raises(RuntimeError, match=r"use cfw\.client\.open_capture here"):
        with open_capture_sync("ws://worker", **OPTIONS):
            pytest.fail("there is no capture")


async def test_in_a_thread_of_asyncio() -> None:
    """Any thread will do; an asyncio program gives it one."""

    def work(open_one: Callable[..., SyncCapture]) -> Receipt | None:
        def film() -> Receipt | None:
            with open_one() as capture:
                capture.send_frame(JPEG)
            return capture.receipt

        return asyncio.run(asyncio.to_thread(film))

    taken, _ = await in_thread(work, FakeWorker.confirm)
    assert taken == Receipt(1, len(JPEG))


async def test_frames_of_several_threads_are_not_mixed() -> None:
    """Metadata and bytes stay together whoever sends."""
    images = [JPEG + bytes(n) for n in range(20)]

    def work(open_one: Callable[..., SyncCapture]) -> None:
        with open_one() as capture:
            senders = [
                threading.Thread(
                    target=lambda part: [*map(capture.send_frame, part)], args=(p,)
                )
                for p in (images[::2], images[1::2])
            ]
            for sender in senders:
                sender.start()
            for sender in senders:
                sender.join()

    _, worker = await in_thread(work, FakeWorker.confirm)
    metas = [m for m in worker.messages if isinstance(m, CaptureFrameMeta)]
    assert [m.byte_length for m in metas] == [len(frame) for frame in worker.frames]
    assert sorted(worker.frames) == sorted(images)


async def deaf(worker: FakeWorker) -> None:
    """Take one frame, and nothing more for a while."""
    await worker.read_until(bytes)
    await trio.sleep(1)
    await worker.read_to_end()


async def test_left_by_another_thread() -> None:
    """A send that waits while another thread leaves the block finds the capture closed."""

    def work(open_one: Callable[..., SyncCapture]) -> None:
        ended: list[BaseException] = []

        def fill() -> None:
            try:
                while True:
                    capture.send_frame(BIG)
            except BaseException as exc:
                ended.append(exc)

        sender = threading.Thread(target=fill)
        with pytest.raises(KeyError):
            with open_one() as capture:
                sender.start()
                while capture.frames_sent < 2:
                    time.sleep(0.01)
                time.sleep(0.3)
                raise KeyError
        sender.join(5)
        assert [type(exc) for exc in ended] == [trio.ClosedResourceError]

    await in_thread(work, deaf)


async def test_a_capture_that_is_forgotten() -> None:
    """One that nobody refers to any more ends by itself."""

    def work(open_one: Callable[..., SyncCapture]) -> None:
        open_one().__enter__().send_frame(JPEG)
        gc.collect()
        for thread in threads():
            thread.join(5)
        assert not threads()

    _, worker = await in_thread(work, FakeWorker.read_to_end)
    assert worker.close_code == 1006
