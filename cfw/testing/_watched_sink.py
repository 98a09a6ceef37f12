"""A sink around any sink: what the worker gave it, and what either of the two did wrong."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import asynccontextmanager, contextmanager

import attrs
import trio

from cfw.routes.registry import CaptureStatus, Registry
from cfw.sinks import CaptureSink, Sink
from cfw.state import Frame
from cfw.testing.fakes import Recorded, RecordingSink
from schemas import ErrorCode, FeedAbort, FeedOpened, Terminal

_SINKS_FAULT = (ErrorCode.FORWARD_FAILED, ErrorCode.LIMIT_FORWARD_BUFFER_EXCEEDED)


@attrs.frozen
class Problem:
    """Something the sink did wrong.

    Args:
        capture_id: in which capture.
        text: what, where and when.
        cause: what it raised; None when it raised nothing.
    """

    capture_id: str
    text: str
    cause: Exception | None = None


class WatchedSink:
    """Passes a sink's captures on, without a checkpoint of its own.

    Args:
        sink: the sink to watch.
        registry: to compare what the worker counts with what it has handed over.
        patience_s: a call cut off after this many seconds is one that did not return.

    Attributes:
        captures: what the worker gave the sink.
        problems: what the sink did wrong. A recording fake does what it was told to, so
            nothing it does is a problem.
        worker_problems: what the worker did wrong.
    """

    def __init__(self, sink: Sink, registry: Registry, patience_s: float) -> None:
        self.captures: list[Recorded] = []
        self.problems: list[Problem] = []
        self.worker_problems: list[str] = []
        self._sink = sink
        self._registry = registry
        self._patience_s = patience_s

    @asynccontextmanager
    async def capture(self, opened: FeedOpened) -> AsyncIterator[CaptureSink]:
        """Watch one capture."""
        name = opened.capture_id
        seen: Recorded | None = None
        with self._judging(name, "capture") as judged:
            async with self._sink.capture(opened) as taker:
                seen = Recorded(opened)
                self.captures.append(seen)
                judged.done()
                try:
                    yield _WatchedCapture(self, taker, seen)
                finally:
                    judged.begin("leaving its capture")
        seen.left_at = trio.current_time()

    def check(self) -> None:
        """What the worker promises every sink.

        Raises:
            AssertionError: it has not kept to it.
        """
        if self.worker_problems:
            raise AssertionError("; ".join(self.worker_problems))
        for seen in self.captures:
            seen.check_one_terminal()
            seen.check_order()
            seen.check_accounting()

    @contextmanager
    def _judging(self, name: str, what: str) -> Iterator[_Judged]:
        judged = _Judged(what)
        try:
            yield judged
        except trio.Cancelled:
            waited_s = trio.current_time() - judged.since
            if judged.is_running and waited_s >= self._patience_s:
                self._blame(name, f"did not return from {judged.what} within {waited_s:g} s")
            raise
        except Exception as exc:
            # What `finish` raised comes by again on its way out.
            if judged.is_running and all(exc is not known.cause for known in self.problems):
                self._blame(name, f"raised {exc!r} in {judged.what}", exc)
            raise

    def _blame(self, name: str, problem: str, cause: Exception | None = None) -> None:
        if isinstance(self._sink, RecordingSink):
            return
        kind, now = type(self._sink).__name__, trio.current_time()
        text = f"the sink {kind} {problem}, capture {name}, at {now:g} s"
        self.problems.append(Problem(name, text, cause))

    def _status(self, seen: Recorded) -> CaptureStatus | None:
        name = seen.opened.capture_id
        found = [status for status in self._registry.statuses() if status.capture_id == name]
        if not found:
            self.worker_problems.append(f"capture {name} is running and not in the registry")
        return found[0] if found else None

    async def _send(self, taker: CaptureSink, seen: Recorded, frame: Frame) -> None:
        seen.offer()
        status, taken = self._status(seen), len(seen.frames)
        if status is not None and status.frames != taken + status.buffer_frames:
            self.worker_problems.append(
                f"capture {status.capture_id}: {status.frames} frames accepted are not "
                f"{taken} forwarded and {status.buffer_frames} in the buffer"
            )
        await self._call(seen, f"send of frame {frame.meta.seq}", taker.send(frame))
        seen.take(frame)

    async def _finish(self, taker: CaptureSink, seen: Recorded, terminal: Terminal) -> None:
        seen.end(terminal)
        status = self._status(seen)
        if status is not None and (status.buffer_frames or status.buffer_bytes):
            self.worker_problems.append(
                f"capture {status.capture_id} ended with {status.buffer_bytes} bytes buffered"
            )
        told = (terminal.frames_accepted, terminal.bytes_accepted)
        if status is not None and told != (status.frames, status.bytes):
            self.worker_problems.append(
                f"capture {status.capture_id} is told {told} frames and bytes accepted, of "
                f"{(status.frames, status.bytes)}"
            )
        name = seen.opened.capture_id
        # Where a call was at fault it is known by now, and says more.
        is_blamed = any(known.capture_id == name for known in self.problems)
        aborted = terminal if isinstance(terminal, FeedAbort) else None
        if aborted and aborted.error_code in _SINKS_FAULT and not is_blamed:
            self._blame(name, f"was too slow ({aborted.detail})")
        await self._call(seen, "finish", taker.finish(terminal))

    async def _call(self, seen: Recorded, what: str, call: Awaitable[None]) -> None:
        with self._judging(seen.opened.capture_id, what):
            await call


@attrs.define
class _WatchedCapture:
    _watched: WatchedSink
    _taker: CaptureSink
    _seen: Recorded

    async def send(self, frame: Frame) -> None:
        await self._watched._send(self._taker, self._seen, frame)

    async def finish(self, terminal: Terminal) -> None:
        await self._watched._finish(self._taker, self._seen, terminal)


class _Judged:
    """A stretch of time in which the sink is running."""

    def __init__(self, what: str) -> None:
        self.begin(what)

    def begin(self, what: str) -> None:
        self.what, self.is_running, self.since = what, True, trio.current_time()

    def done(self) -> None:
        self.is_running = False
