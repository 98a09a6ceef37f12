"""Recording a feed: one task reads it, one for each capture writes.

    feed --> reader --[frames in memory, bounded in bytes]--> writer, in a thread --> disk

When the memory is full the reader waits, and with it the worker's captures: their forward
buffers fill, and who is far too slow loses captures with `limit_forward_buffer_exceeded`, which
their terminals tell. Nothing is dropped here.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import inf
from pathlib import Path
from typing import Any, Final, TypeAlias

import attrs
import trio

from cfw.client import FeedOpening, FeedOutage, follow_feed
from cfw.record._capture import CaptureWriter, Written
from cfw.record._events import Listener
from cfw.record._names import DEFAULT_PATTERN, check_pattern, recording_name
from cfw.record._salvage import salvage, salvage_all
from cfw.record._writers import check_formats
from cfw.recording._layout import Format
from schemas import FeedAbort, FeedClose, FeedFrame, FeedOpened, Terminal

#: Bytes of frames that wait for the disk at most: 2 s of 40 rigs at 15 frames of 100 kB.
ROOM_BYTES: Final = 128 * 1024 * 1024
#: What a frame costs beside its bytes.
_FRAME_BYTES = 2_000
#: Threads that write at a time; a disk is not quicker for more.
THREADS: Final = 8

_Frame: TypeAlias = tuple[FeedFrame, bytes]


@attrs.frozen
class _End:
    """Of a capture: its terminal, or why there is none."""

    terminal: Terminal | None
    cut: str | None = None


@attrs.frozen(eq=False)
class _Running:
    opened: FeedOpened
    send: trio.MemorySendChannel[_Frame | _End]


class _Room:
    """Bytes that may wait for the disk."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.used = 0
        self._freed = trio.Event()

    def has(self, size: int) -> bool:
        """Whether there is room; one frame always finds some."""
        return self.used == 0 or self.used + size <= self._most

    async def wait(self, size: int) -> None:
        while not self.has(size):
            self._freed = trio.Event()
            await self._freed.wait()

    def give_back(self, size: int) -> None:
        self.used -= size
        self._freed.set()


class Recorder:
    """Records the captures of a feed into a folder.

    Args:
        folder: of all recordings; it is made if it is not there.
        formats: of each recording, at least one.
        pattern: how recordings are named; see `check_pattern`.
        listener: told what happens.
        captures: records so many and ends; None for all, without an end.
        room_bytes: of frames that wait for the disk at most.

    Raises:
        ValueError: the pattern or the formats are none.
        FormatMissing: a library for a format is not installed.

    Attributes:
        whole: recordings that are whole.
        cut: recordings that are finished and lack something.
        failed: recordings that could not be written.
    """

    def __init__(
        self,
        folder: Path,
        *,
        formats: tuple[Format, ...] = ("jpeg",),
        pattern: str = DEFAULT_PATTERN,
        listener: Listener | None = None,
        captures: int | None = None,
        room_bytes: int = ROOM_BYTES,
    ) -> None:
        check_pattern(pattern)
        check_formats(formats)
        if not formats:
            raise ValueError("a recording needs a format")
        self.whole = self.cut = self.failed = 0
        self._folder = folder
        self._formats = tuple(dict.fromkeys(formats))
        self._pattern = pattern
        self._listener = listener or Listener()
        self._captures = captures
        self._room = _Room(room_bytes)
        self._limiter = trio.CapacityLimiter(THREADS)
        self._running: dict[str, _Running] = {}
        self._begun = 0
        self._reading = trio.CancelScope()

    async def run(
        self, opening: FeedOpening, *, reading: trio.CancelScope, is_patient: bool = False
    ) -> None:
        """Record until there are captures enough, or `reading` is cancelled.

        Either way the recordings that run are closed, so that all of them are on the disk when
        it returns.

        Args:
            opening: makes the feed, anew each time that it is lost.
            reading: cancelled to stop.
            is_patient: wait for a worker that cannot be reached from the start, too.

        Raises:
            AccessDenied: the worker wants another token.
            ConnectionLost: it could not be reached from the start.
            OSError: the folder cannot be made or read.

        Cancellation: leaves at once. What is unfinished stays a `.part`, which the next run
        closes.
        """
        await self._in_thread(self._prepare)
        self._reading = reading
        failure: Exception | None = None
        async with trio.open_nursery() as nursery:
            with reading:
                try:
                    await self._follow(opening, nursery, is_patient)
                except Exception as exc:
                    failure = exc  # raised when what is here has been closed
            why = "the recorder was stopped" if failure is None else f"{failure}"
            self._end_all(why)
        if failure is not None:
            raise failure

    # --- the feed -----------------------------------------------------------------------------

    async def _follow(
        self, opening: FeedOpening, nursery: trio.Nursery, is_patient: bool
    ) -> None:
        async def read(feed: Any) -> bool:
            async for message, jpeg in feed:
                await self._take(message, jpeg, nursery)
            return False

        def lost(outage: FeedOutage) -> None:
            self._listener.lost(outage)
            self._end_all(f"the feed was lost: {outage.reason}")

        await follow_feed(
            opening,
            read,
            on_open=self._listener.connected,
            on_loss=lost,
            is_patient=is_patient,
        )

    async def _take(self, message: Any, jpeg: bytes | None, nursery: trio.Nursery) -> None:
        capture_id = message.capture_id
        if isinstance(message, FeedOpened):
            self._end(capture_id, _End(None, "another capture of this id has opened"))
            if self._begun == self._captures:
                return
            self._begun += 1
            send, receive = trio.open_memory_channel[_Frame | _End](inf)
            self._running[capture_id] = _Running(message, send)
            self._listener.began(message)
            nursery.start_soon(self._write, message, receive)
        elif capture_id not in self._running:
            if self._captures is None:
                self._listener.stray(capture_id)
        elif isinstance(message, FeedFrame):
            assert jpeg is not None
            await self._wait_for_room(len(jpeg) + _FRAME_BYTES)
            self._listener.frame(len(jpeg))
            self._running[capture_id].send.send_nowait((message, jpeg))
        elif isinstance(message, FeedClose | FeedAbort):
            self._end(capture_id, _End(message))

    async def _wait_for_room(self, size: int) -> None:
        if not self._room.has(size):
            began = trio.current_time()
            await self._room.wait(size)
            self._listener.slow(trio.current_time() - began)
        self._room.used += size
        self._listener.waiting(self._room.used)

    def _end(self, capture_id: str, end: _End) -> None:
        running = self._running.pop(capture_id, None)
        if running is not None:
            running.send.send_nowait(end)

    def _end_all(self, why: str) -> None:
        for capture_id in [*self._running]:
            self._end(capture_id, _End(None, why))

    # --- the disk -----------------------------------------------------------------------------

    def _prepare(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        for salvaged in salvage_all(self._folder):
            if salvaged.written is not None:
                self._listener.ended(salvaged.written)
            elif salvaged.problem is not None:
                self._listener.failed("", salvaged.part, salvaged.problem)

    async def _write(
        self, opened: FeedOpened, receive: trio.MemoryReceiveChannel[_Frame | _End]
    ) -> None:
        """Write one capture to its end; whatever fails, fails it alone."""
        batch = _Batch(receive, self._room, self._listener)
        writer: CaptureWriter | None = None
        try:
            name = recording_name(self._pattern, opened)
            make = partial(CaptureWriter, self._folder, name, opened, self._formats)
            writer = await self._in_thread(make)
            while batch.end is None:
                await batch.fill()
                await self._in_thread(partial(writer.add_all, batch.frames))
                batch.done()
            finish = partial(writer.finish, batch.end.terminal, batch.end.cut)
            self._tell(await self._in_thread(finish))
        except Exception as exc:
            await self._give_up(opened, writer, exc)
            while batch.end is None:
                batch.done()
                await batch.fill()
        batch.done()
        self._count()

    async def _give_up(
        self, opened: FeedOpened, writer: CaptureWriter | None, problem: Exception
    ) -> None:
        reason = f"{type(problem).__name__}: {problem}"
        part = None
        if writer is not None:
            await self._in_thread(writer.abandon)
            part = writer.part
            salvaged = await self._in_thread(
                partial(salvage, part, f"writing failed: {reason}")
            )
            if salvaged.written is not None:
                self._tell(salvaged.written)
                return
        self.failed += 1
        self._listener.failed(opened.capture_id, part, reason)

    def _tell(self, written: Written) -> None:
        if written.manifest.state == "whole":
            self.whole += 1
        else:
            self.cut += 1
        self._listener.ended(written)

    def _count(self) -> None:
        if self.whole + self.cut + self.failed == self._captures:
            self._reading.cancel()

    async def _in_thread(self, work: Callable[[], Any]) -> Any:
        # A disk may hold a thread for ever: whoever is in a hurry leaves it behind.
        return await trio.to_thread.run_sync(
            work, abandon_on_cancel=True, limiter=self._limiter
        )


class _Batch:
    """What has come of one capture since it was last written."""

    def __init__(
        self,
        receive: trio.MemoryReceiveChannel[_Frame | _End],
        room: _Room,
        listener: Listener,
    ) -> None:
        self._receive = receive
        self._room = room
        self._listener = listener
        self.frames: list[_Frame] = []
        self.end: _End | None = None

    async def fill(self) -> None:
        """Wait for something, and take all that is there."""
        self._put(await self._receive.receive())
        while self.end is None:
            try:
                self._put(self._receive.receive_nowait())
            except trio.WouldBlock:
                return

    def _put(self, item: _Frame | _End) -> None:
        if isinstance(item, _End):
            self.end = item
        else:
            self.frames.append(item)

    def done(self) -> None:
        """Its frames wait no more."""
        size = sum(len(jpeg) + _FRAME_BYTES for _, jpeg in self.frames)
        self.frames = []
        self._room.give_back(size)
        self._listener.waiting(self._room.used)
