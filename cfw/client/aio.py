"""The same for asyncio: notebooks, web programs.

    from cfw.client import aio

    async with aio.open_feed("http://127.0.0.1:8766") as feed:
        async for message, jpeg in feed:
            ...

Each block lives in a Trio loop in a thread of its own, as in `cfw.client.sync`, and the asyncio
loop goes on meanwhile. Trio's guest mode would do without the thread, but a thread has room for
one Trio loop only, which a notebook or a web server may have already.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import datetime
from functools import partial
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, Unpack

import trio

from cfw.client._block import Block, CaptureBlock, FilmBlock, Open
from cfw.client._capture import Capture, run_capture
from cfw.client._encode import Frame
from cfw.client._feed import Feed, run_feed
from cfw.client._film import Film, FilmOptions, FilmSettings, run_film
from cfw.client._options import CaptureOptions, CaptureSettings, FeedOptions, FeedSettings
from schemas import CameraFeedWorkerFeed

__all__ = ["AioCapture", "AioFeed", "AioFilm", "film", "open_capture", "open_feed"]

_T = TypeVar("_T")
_R = TypeVar("_R")


class _Call(Generic[_R]):
    """Something that the Trio loop does for a task of asyncio."""

    def __init__(
        self, token: trio.lowlevel.TrioToken, work: Callable[[], Awaitable[_R]]
    ) -> None:
        self._token = token
        self._work = work
        self._scope = trio.CancelScope()
        self._loop = asyncio.get_running_loop()
        self._done: asyncio.Future[_R | None] = self._loop.create_future()
        self.is_cancelled = False

    async def result(self) -> _R | None:
        """What came of it; None when it was cancelled before anything did.

        Cancellation: is passed on, and what came of it all the same is returned; then
        `is_cancelled` is set.

        Raises:
            trio.RunFinishedError: the loop has ended.
        """
        self._token.run_sync_soon(self._start)
        while True:
            try:
                return await asyncio.shield(self._done)
            except asyncio.CancelledError:
                self.is_cancelled = True
                with suppress(trio.RunFinishedError):
                    self._token.run_sync_soon(self._scope.cancel)

    def _start(self) -> None:
        try:
            trio.lowlevel.spawn_system_task(self._run)
        except RuntimeError:  # the loop takes no task any more
            self._tell(None, trio.RunFinishedError("the loop is ending"))

    async def _run(self) -> None:
        result: _R | None = None
        failure: BaseException | None = None
        try:
            with self._scope:
                result = await self._work()
        except trio.Cancelled:
            failure = trio.RunFinishedError("the loop is ending")
            raise
        except BaseException as exc:
            failure = exc
        finally:
            self._tell(result, failure)

    def _tell(self, result: _R | None, failure: BaseException | None) -> None:
        with suppress(RuntimeError):  # the loop of asyncio has been closed
            self._loop.call_soon_threadsafe(self._settle, result, failure)

    def _settle(self, result: _R | None, failure: BaseException | None) -> None:
        if failure is None:
            self._done.set_result(result)
        elif isinstance(failure, StopAsyncIteration):
            self._done.set_exception(_Ended())
        else:
            self._done.set_exception(failure)


class _Ended(Exception):
    """An iteration has ended; a future takes no StopAsyncIteration."""


class _Awaited(Block[_T]):
    """For an `async with` statement of asyncio, used once."""

    _statement = "an async with statement"

    async def __aenter__(self) -> Self:
        self._enter()
        try:
            await self._in_thread(self._background.start)
            self._raise_failure()
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._is_closed = True
        try:
            if kind is None:
                await self._in_thread(self._background.leave)
                self._raise_failure()
        finally:
            await self._stop()

    async def _stop(self) -> None:
        self._is_closed = True
        await self._in_thread(self._background.stop)

    async def _in_thread(self, work: Callable[[], object]) -> None:
        """Wait in a thread; a cancellation ends the block, and is raised when it has ended."""
        waiting = asyncio.ensure_future(asyncio.to_thread(work))
        cancelled: asyncio.CancelledError | None = None
        while not waiting.done():
            try:
                await asyncio.shield(waiting)
            except asyncio.CancelledError as exc:
                cancelled = exc
                self._background.cancel()
            except BaseException:
                break
        if cancelled is not None:
            waiting.exception()
            raise cancelled
        waiting.result()

    async def _call(self, work: Callable[..., Awaitable[_R]], *args: Any) -> tuple[_R, bool]:
        """Have the loop do something; its result, and whether this task is to be cancelled."""
        token = self._background.token
        if self._is_closed or token is None:
            raise self._closed()
        call = _Call(token, partial(work, *args))
        try:
            result = await call.result()
        except Exception as exc:
            if call.is_cancelled:
                raise asyncio.CancelledError from None
            if isinstance(exc, trio.RunFinishedError):
                raise self._closed() from None
            raise
        if call.is_cancelled and result is None:
            raise asyncio.CancelledError
        return result, call.is_cancelled  # type: ignore[return-value]


class AioCapture(_Awaited[Capture], CaptureBlock):
    """A capture; `open_capture` makes it. See `cfw.client.Capture`."""

    async def send_frame(self, frame: Frame, timestamp: datetime | str | None = None) -> None:
        """Send one frame, and wait until the connection has taken it.

        See `cfw.client.Capture.send_frame`.

        Cancellation: safe. A frame that waits is then not sent; one that is on its way goes out
        whole.
        """
        await self._call(self._value.send_frame, frame, timestamp)


class AioFilm(_Awaited[Film], FilmBlock):
    """A film; `film` makes it. See `cfw.client.Film`."""

    async def send_frame(self, frame: Frame, timestamp: datetime | str | None = None) -> None:
        """Send one frame, and wait until the connection has taken it.

        See `cfw.client.Film.send_frame`.

        Cancellation: safe. A frame that waits is then not sent; one that is on its way goes out
        whole.
        """
        await self._call(self._value.send_frame, frame, timestamp)


class AioFeed(_Awaited[Feed]):
    """A feed; `open_feed` makes it. See `cfw.client.Feed`."""

    _name, _opener = "feed", "open_feed"

    def __init__(self, open_one: Open[Feed]) -> None:
        super().__init__(open_one)
        self._left: tuple[CameraFeedWorkerFeed, bytes | None] | None = None

    def __aiter__(self) -> AioFeed:
        return self

    async def __anext__(self) -> tuple[CameraFeedWorkerFeed, bytes | None]:
        """Wait for the next message; see `cfw.client.Feed`.

        Cancellation: safe; a cancelled step loses no message.
        """
        if self._left is not None:
            found, self._left = self._left, None
            return found
        try:
            found, is_cancelled = await self._call(self._value.__anext__)
        except _Ended:
            raise StopAsyncIteration from None
        if is_cancelled:
            self._left = found
            raise asyncio.CancelledError
        return found


def open_capture(url: str, **options: Unpack[CaptureOptions]) -> AioCapture:
    """Connect to a worker, send one capture, and wait for its receipt.

        async with aio.open_capture("ws://127.0.0.1:8765", user_id="ada", session_id="s1",
                                    width=640, height=480, fps=15) as capture:
            await capture.send_frame(jpeg)
        print(capture.receipt)

    What it is told, raises and does is that of `cfw.client.open_capture`.

    Args:
        url: `ws://` or `wss://`; without a path, the worker's own is used.
        options: see `cfw.client.CaptureOptions`.

    Cancellation: the socket is closed, without `capture.close`; then it is raised, and the
    thread has ended.
    """
    return AioCapture(partial(run_capture, url, CaptureSettings(**options)))


def film(url: str, **options: Unpack[FilmOptions]) -> AioFilm:
    """Connect to a worker and send a film, in as many captures as it takes.

    What it is told, raises and does is that of `cfw.client.film`.

    Args:
        url: as there.
        options: see `cfw.client.FilmOptions`.

    Cancellation: as for `open_capture`.
    """
    return AioFilm(partial(run_film, url, FilmSettings(**options)))


def open_feed(url: str, **options: Unpack[FeedOptions]) -> AioFeed:
    """Subscribe to the captures of a worker.

    What it is told, raises and does is that of `cfw.client.open_feed`.

    Args:
        url: as there.
        options: see `cfw.client.FeedOptions`.

    Cancellation: the socket is closed; then it is raised, and the thread has ended.
    """
    return AioFeed(partial(run_feed, url, FeedSettings(**options)))
