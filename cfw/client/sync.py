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

import weakref
from collections.abc import Awaitable, Callable
from datetime import datetime
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

import trio

from cfw.client._block import Block, CaptureBlock, FilmBlock, Open
from cfw.client._capture import Capture, run_capture
from cfw.client._encode import Frame
from cfw.client._feed import Feed, run_feed
from cfw.client._film import Film, FilmOptions, FilmSettings, run_film
from cfw.client._options import CaptureOptions, CaptureSettings, FeedOptions, FeedSettings
from schemas import CameraFeedWorkerFeed

__all__ = ["SyncCapture", "SyncFeed", "SyncFilm", "film", "open_capture", "open_feed"]

_T = TypeVar("_T")
_R = TypeVar("_R")


class _Blocking(Block[_T]):
    """For a `with` statement, used once."""

    _statement = "a with statement"

    def __init__(self, open_one: Open[_T]) -> None:
        super().__init__(open_one)
        # Ctrl-C may come between the `with` and the first line of `__exit__`; then this
        # ends the thread, as it does for a capture that is entered by hand and forgotten.
        weakref.finalize(self, self._background.cancel).atexit = False

    def __enter__(self) -> Self:
        if trio.lowlevel.in_trio_run():
            raise RuntimeError(
                f"this would block Trio's loop: use cfw.client.{self._opener} here"
            )
        self._enter()
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


class SyncCapture(_Blocking[Capture], CaptureBlock):
    """A capture for a `with` statement; `open_capture` makes it, and it is used once."""

    def send_frame(self, frame: Frame, timestamp: datetime | str | None = None) -> None:
        """Send one frame, and wait until the connection has taken it.

        Several threads may call it; see `cfw.client.Capture.send_frame` for the rest.

        Interruption: Ctrl-C leaves at once (on Windows when the frame is out); the frame goes
        out whole if the block is not left.
        """
        self._call(self._value.send_frame, frame, timestamp)


class SyncFilm(_Blocking[Film], FilmBlock):
    """A film for a `with` statement; `film` makes it, and it is used once."""

    def send_frame(self, frame: Frame, timestamp: datetime | str | None = None) -> None:
        """Send one frame, and wait until the connection has taken it.

        Several threads may call it; see `cfw.client.Film.send_frame` for the rest.

        Interruption: Ctrl-C leaves at once (on Windows when the frame is out).
        """
        self._call(self._value.send_frame, frame, timestamp)


class SyncFeed(_Blocking[Feed]):
    """A feed for a `with` statement and a `for` loop; `open_feed` makes it.

    for message, jpeg in feed: ...

    See `cfw.client.Feed`.
    """

    _name, _opener = "feed", "open_feed"

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
