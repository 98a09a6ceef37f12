"""The same for scripts without Trio: OpenCV, picamera, a loop of one's own.

    with open_capture(url, user_id="ada", session_id="s1",
                      width=640, height=480, fps=15) as capture:
        capture.send_frame(jpeg)
    print(capture.receipt.frames)

A capture, a film or a feed lives in a Trio loop in a thread of its own, from the `with` to its
end; `cfw.client.aio` is the same for asyncio:

    caller's thread                            thread "cfw-capture"
    __enter__, waits until it is open    -->   async with open_capture(...)
    send_frame, waits                    -->       await capture.send_frame(...)
    __exit__, waits until it has ended   -->   the block is left, or cancelled
"""

from __future__ import annotations

import atexit
import sys
import threading
import weakref
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, suppress
from datetime import datetime
from functools import partial
from types import TracebackType
from typing import Any, Generic, Self, TypeAlias, TypeVar, Unpack

import trio

from cfw.client._capture import Capture, run_capture
from cfw.client._encode import Frame
from cfw.client._end import Receipt
from cfw.client._feed import Feed, run_feed
from cfw.client._film import Film, FilmOptions, FilmPart, FilmSettings, run_film
from cfw.client._options import CaptureOptions, CaptureSettings, FeedOptions, FeedSettings
from cfw.client._start import FilmStart
from schemas import CameraFeedWorkerFeed

__all__ = ["SyncCapture", "SyncFeed", "SyncFilm", "film", "open_capture", "open_feed"]

T = TypeVar("T")
_R = TypeVar("_R")

#: A cancelled capture closes its socket at once; this is for a thread that a bug holds.
_STOP_S = 5

#: Makes the block that lives in the thread.
Open: TypeAlias = Callable[[], AbstractAsyncContextManager[T]]


class Background(Generic[T]):
    """The thread in which one block lives, and what the caller's thread tells it.

    Attributes:
        value: what the block gives: a capture, a film, a feed; None before it is open.
        failure: what ended it; whoever raises it takes it out.
        token: of the thread's Trio loop; None before there is one.
    """

    def __init__(self, open_one: Open[T]) -> None:
        self.value: T | None = None
        self.failure: BaseException | None = None
        self.token: trio.lowlevel.TrioToken | None = None
        self.opened = threading.Event()  # or never will be
        self.ended = threading.Event()
        self._open_one = open_one
        self._is_cancelled = False
        self._scope = trio.CancelScope()
        self._left = trio.Event()
        # A daemon: a capture that nobody closes must not hold up the interpreter's end.
        self._thread = threading.Thread(target=self._run, name="cfw-capture", daemon=True)

    def start(self) -> None:
        """Open the capture, and wait until that is done or has failed."""
        try:
            self._thread.start()
        except Exception:
            self.ended.set()  # there is no thread to be had
            raise
        self.opened.wait()

    def leave(self) -> None:
        """Leave the block of the capture, and wait for the receipt or what comes instead."""
        self._tell(self._left.set)
        self.ended.wait()
        self._thread.join()

    def cancel(self) -> None:
        """Have the thread end at once; any thread may call it, at any time, again and again."""
        # Set before the token is read, as `_main` reads in the other order: one sees it.
        self._is_cancelled = True
        self._tell(self._scope.cancel)

    def stop(self) -> None:
        """Cancel and wait until nothing is left."""
        # While the interpreter ends no other thread runs: one may hold a lock for ever.
        if sys.is_finalizing():
            return
        self.cancel()
        self.ended.wait(_STOP_S)
        if self._thread.is_alive():
            self._thread.join(_STOP_S)

    def _tell(self, what: Callable[[], object]) -> None:
        if self.token is not None:
            with suppress(trio.RunFinishedError):
                self.token.run_sync_soon(what)

    def _run(self) -> None:
        _running.add(self)
        try:
            trio.run(self._main)
        except BaseException as exc:
            self.failure = exc
        finally:
            _running.discard(self)
            self.opened.set()
            self.ended.set()

    async def _main(self) -> None:
        self.token = trio.lowlevel.current_trio_token()
        if self._is_cancelled:
            return
        with self._scope:
            async with self._open_one() as self.value:
                self.opened.set()
                await self._left.wait()


_running: set[Background[Any]] = set()


@atexit.register
def _stop_all() -> None:
    """End what nobody has left, while its thread can still run."""
    for background in tuple(_running):
        background.stop()


class _Blocking(Generic[T]):
    """A block for a `with` statement, used once."""

    _name, _twin = "capture", "open_capture"

    def __init__(self, open_one: Open[T]) -> None:
        self._background = Background(open_one)
        self._is_entered = self._is_closed = False
        # Ctrl-C may come between the `with` and the first line of `__exit__`; then this
        # ends the thread, as it does for a capture that is entered by hand and forgotten.
        weakref.finalize(self, self._background.cancel).atexit = False

    def __enter__(self) -> Self:
        if trio.lowlevel.in_trio_run():
            raise RuntimeError(
                f"this would block Trio's loop: use cfw.client.{self._twin} here"
            )
        if self._is_entered:
            raise RuntimeError(f"this {self._name} has been used; open another one")
        self._is_entered = True
        try:
            self._background.start()
            self._raise_failure()
        except BaseException:
            self._is_closed = True
            self._background.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._is_closed = True
        try:
            if kind is None:
                self._background.leave()
                self._raise_failure()
        finally:
            self._background.stop()

    def _call(self, work: Callable[..., Awaitable[_R]], *args: Any) -> _R:
        """Have the loop do something, and wait for it."""
        if self._is_closed:
            raise self._closed()
        try:
            return trio.from_thread.run(work, *args, trio_token=self._background.token)
        except (trio.RunFinishedError, trio.Cancelled):
            # Another thread left the block meanwhile.
            raise self._closed() from None

    def _closed(self) -> trio.ClosedResourceError:
        return trio.ClosedResourceError(f"the {self._name} has been closed")

    @property
    def _value(self) -> T:
        if self._background.value is None:
            raise RuntimeError(f"the {self._name} is not open; use it in a with statement")
        return self._background.value

    def _raise_failure(self) -> None:
        failure, self._background.failure = self._background.failure, None
        if failure is not None:
            try:
                raise failure
            finally:
                del failure  # its traceback holds this frame


class SyncCapture(_Blocking[Capture]):
    """A capture for a `with` statement; `open_capture` makes it, and it is used once."""

    def send_frame(self, frame: Frame, timestamp: datetime | str | None = None) -> None:
        """Send one frame, and wait until the connection has taken it.

        Several threads may call it; the frames go in the order of the calls.

        Args:
            frame: one JPEG image as bytes; or a picture as a uint8 array, height x width x 3
                or height x width (grey), of the size declared.
            timestamp: when the frame was taken. Text is forwarded as it is, a `datetime` in
                ISO 8601 (a naive one is read as UTC); None means now.

        Raises:
            SchemaError: the timestamp is none, or there are no bytes; nothing was sent.
            ValueError: the array is no such picture; nothing was sent.
            ImportError: an array needs an encoder and none is installed; nothing was sent.
            CaptureAborted: the worker ended the capture, now or since the last call.
            ConnectionLost: the connection is gone.
            trio.ClosedResourceError: the block of `open_capture` has been left.

        Interruption: Ctrl-C leaves at once (on Windows when the frame is out); the frame goes
        out whole if the block is not left.
        """
        self._call(self._value.send_frame, frame, timestamp)

    @property
    def capture_id(self) -> str:
        """The capture's name at the worker and in the feed."""
        return self._value.capture_id

    @property
    def frames_sent(self) -> int:
        """Frames given to `send_frame` and not refused by it."""
        return self._value.frames_sent

    @property
    def bytes_sent(self) -> int:
        """Of those frames together."""
        return self._value.bytes_sent

    @property
    def receipt(self) -> Receipt | None:
        """What the worker confirmed; None until the block has ended without an exception."""
        return self._value.receipt


class SyncFilm(_Blocking[Film]):
    """A film for a `with` statement; `film` makes it, and it is used once."""

    _name, _twin = "film", "film"

    def send_frame(self, frame: Frame, timestamp: datetime | str | None = None) -> None:
        """Send one frame, and wait until the connection has taken it.

        Several threads may call it; see `cfw.client.Film.send_frame` for the rest.

        Interruption: Ctrl-C leaves at once (on Windows when the frame is out).
        """
        self._call(self._value.send_frame, frame, timestamp)

    @property
    def parts(self) -> tuple[FilmPart, ...]:
        """The captures so far, in order."""
        return self._value.parts

    @property
    def frames_sent(self) -> int:
        """Frames given to `send_frame` that a capture has taken."""
        return self._value.frames_sent

    @property
    def bytes_sent(self) -> int:
        """Of those frames together."""
        return self._value.bytes_sent

    @property
    def receipt(self) -> Receipt:
        """What the worker has confirmed so far, of all captures together."""
        return self._value.receipt

    @property
    def lost(self) -> tuple[FilmPart, ...]:
        """The captures that came to no receipt."""
        return self._value.lost

    @property
    def start(self) -> FilmStart | None:
        """Of a film that was to start at an instant; None for any other."""
        return self._value.start


class SyncFeed(_Blocking[Feed]):
    """A feed for a `with` statement and a `for` loop; `open_feed` makes it.

    for message, jpeg in feed: ...

    See `cfw.client.Feed`.
    """

    _name, _twin = "feed", "open_feed"

    def __iter__(self) -> SyncFeed:
        return self

    def __next__(self) -> tuple[CameraFeedWorkerFeed, bytes | None]:
        """Wait for the next message.

        Raises:
            ConnectionLost: the connection ended otherwise than by the worker, or what came is
                no feed.
            trio.ClosedResourceError: the block of `open_feed` has been left.

        Interruption: Ctrl-C leaves at once; the feed is of no use then.
        """
        try:
            return self._call(self._value.__anext__)
        except StopAsyncIteration:
            raise StopIteration from None


def open_capture(url: str, **options: Unpack[CaptureOptions]) -> SyncCapture:
    """Connect to a worker, send one capture, and wait for its receipt.

        with open_capture("ws://127.0.0.1:8765", user_id="ada", session_id="s1",
                          width=640, height=480, fps=15, color="bgr") as capture:
            while ...:
                ok, picture = camera.read()
                capture.send_frame(picture)
        print(capture.receipt)

    What it is told, raises and does is that of `cfw.client.open_capture`, but that everything
    blocks the thread that calls it, which may be any but that of a Trio loop. An asyncio
    program has `cfw.client.aio`.

    Args:
        url: `ws://` or `wss://`; without a path, the worker's own is used.
        options: see `cfw.client.CaptureOptions`.

    Raises, where the block begins or ends:
        RuntimeError: the calling thread runs a Trio loop.
        Exception: each that `cfw.client.open_capture` raises; a TypeError at the call.

    Interruption: Ctrl-C leaves at once; the socket is closed, without `capture.close`, and
    the thread has ended.
    """
    return SyncCapture(partial(run_capture, url, CaptureSettings(**options)))


def film(url: str, **options: Unpack[FilmOptions]) -> SyncFilm:
    """Connect to a worker and send a film, in as many captures as it takes.

        with film_sync("ws://127.0.0.1:8765", split=True, retry_s=600, user_id="ada",
                       session_id="s1", width=640, height=480, fps=15, color="bgr") as sent:
            while ...:
                ok, picture = camera.read()
                sent.send_frame(picture)

    What it is told, raises and does is that of `cfw.client.film`, but that everything blocks
    the thread that calls it, which may be any but that of a Trio loop.

    Args:
        url: as there.
        options: see `cfw.client.FilmOptions`.

    Interruption: as for `open_capture`.
    """
    return SyncFilm(partial(run_film, url, FilmSettings(**options)))


def open_feed(url: str, **options: Unpack[FeedOptions]) -> SyncFeed:
    """Subscribe to the captures of a worker.

        with open_feed_sync("http://127.0.0.1:8766") as feed:
            for message, jpeg in feed:
                ...

    What it is told, raises and does is that of `cfw.client.open_feed`, but that everything
    blocks the thread that calls it, which may be any but that of a Trio loop.

    Args:
        url: as there.
        options: see `cfw.client.FeedOptions`.

    Interruption: Ctrl-C leaves at once; the socket is closed.
    """
    return SyncFeed(partial(run_feed, url, FeedSettings(**options)))
