"""The forwarding boundary: the bounded buffer of one capture and the task that empties it.

Frames live in memory only, from the moment the core accepts them until the sink has taken
them. Nothing is written to disk.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import trio

from cfw.errors import ForwardFailed, LimitForwardBufferExceeded
from cfw.limits import Limits
from cfw.sinks import BatchSink, CaptureSink, PromptSink
from cfw.state import Frame
from schemas import CaptureFrameMeta

#: How long the reader waits for room before it calls the buffer full. Many frames in one read
#: only mean that the forwarder has had no turn; meanwhile TCP holds the rig back. A sink that
#: takes 20 frames a second is never too slow for a rig that sends at most 15.
GRACE_S = 0.05
#: The wait is cut into so many: an event loop that stood still for long, on a machine that is
#: busy elsewhere, uses up one of them and not the turns of the forwarder.
_SLICES = 5
#: A buffer is filling when it is fuller than this.
FILLING_RATIO = 0.75


def _ignore(*_: object) -> None: ...


def _not_taken(frames: Sequence[Frame]) -> ForwardFailed:
    seq = frames[0].meta.seq
    return ForwardFailed(f"the sink did not take frame {seq}", seq=seq)


class ForwardBuffer:
    """Frames accepted and not yet taken by the sink, bounded in number and in bytes.

    The frame that is being sent counts until the sink has taken it.

    What a read has brought goes to the sink at once where the sink can take it so, and else
    through a channel, in which each frame has a place of its own. Lists of frames in one place
    would spare 2 % of the CPU of a frame of 1 kB that comes among many.

    Args:
        limits: `max_forward_buffer_frames` and `max_forward_buffer_bytes` bound it.
    """

    def __init__(self, limits: Limits) -> None:
        self._max_frames = limits.max_forward_buffer_frames
        self._max_bytes = limits.max_forward_buffer_bytes
        self._high_frames = FILLING_RATIO * self._max_frames
        self._high_bytes = FILLING_RATIO * self._max_bytes
        self._put, self._take = trio.open_memory_channel[Frame](self._max_frames)
        # Accepted, and not in the channel yet.
        self._fresh: list[Frame] = []
        # There while the sink can take frames without a turn of the forwarder.
        self._send_nowait: Callable[[Sequence[Frame]], bool] | None = None
        self._flushed = trio.Event()
        # Set when the sink takes something; there only while somebody waits for room.
        self._released: trio.Event | None = None
        #: Frames and bytes in the buffer now.
        self.frames = 0
        self.bytes = 0
        #: Frames and bytes that have entered it.
        self.frames_accepted = 0
        self.bytes_accepted = 0
        #: Frames and bytes that the sink has taken.
        self.frames_forwarded = 0
        self.bytes_forwarded = 0
        #: The most frames and bytes there were in it at once.
        self.peak_frames = 0
        self.peak_bytes = 0
        #: Called with the frames that the sink has taken just now; must not raise.
        self.on_taken: Callable[[Sequence[Frame]], object] = _ignore
        #: Called when a frame makes it fuller than `FILLING_RATIO`; once, until set again.
        self.on_filling: Callable[[], object] = _ignore

    @property
    def fill_ratio(self) -> float:
        """How full it is, in frames or in bytes, whichever is more; 1 is full."""
        return max(self.frames / self._max_frames, self.bytes / self._max_bytes)

    @property
    def peak_ratio(self) -> float:
        """How full it has been."""
        return max(self.peak_frames / self._max_frames, self.peak_bytes / self._max_bytes)

    def has_room(self, size: int) -> bool:
        """Whether a frame of so many bytes may enter."""
        return self.frames < self._max_frames and self.bytes + size <= self._max_bytes

    def put(self, frame: Frame) -> None:
        """Accept a frame that there is room for; `hand_on` lets it go to the sink.

        Raises:
            trio.WouldBlock: as many as are promised are in it.
        """
        if self.frames >= self._max_frames:
            raise trio.WouldBlock
        self._fresh.append(frame)
        size = frame.meta.byte_length  # the core has held the bytes against it
        self.frames += 1
        self.bytes += size
        self.frames_accepted += 1
        self.bytes_accepted += size
        if self.frames > self.peak_frames:
            self.peak_frames = self.frames
        if self.bytes > self.peak_bytes:
            self.peak_bytes = self.bytes
        if self.frames > self._high_frames or self.bytes > self._high_bytes:
            # Put aside first: who is told may set it again at once.
            notify, self.on_filling = self.on_filling, _ignore
            notify()

    def hand_on(self) -> None:
        """Let the sink have what was put; called behind the frames of each read.

        At once, if the sink can take it so and nothing else is on its way; else the forwarder
        is woken.

        Raises:
            ForwardFailed: the sink raised; the cause is chained.
        """
        fresh = self._fresh
        if not fresh:
            return
        self._fresh = []
        if self._send_nowait is not None and len(fresh) == self.frames:
            try:
                is_taken = self._send_nowait(fresh)
            except Exception as exc:
                raise _not_taken(fresh) from exc
            if is_taken:
                self._release(fresh)
                return
        for frame in fresh:
            self._put.send_nowait(frame)

    async def wait_for_room(self, meta: CaptureFrameMeta) -> None:
        """Wait, for at most `GRACE_S`, until there is room for the frame announced.

        Raises:
            LimitForwardBufferExceeded: the sink has not made room by then.
            ForwardFailed: as for `hand_on`.
        """
        self.hand_on()
        for _ in range(_SLICES):
            with trio.move_on_after(GRACE_S / _SLICES):
                # Again, for what the sink has taken may be smaller than this frame.
                while not self.has_room(meta.byte_length):
                    self._released = trio.Event()
                    await self._released.wait()
                return
        if self.frames >= self._max_frames:
            raise LimitForwardBufferExceeded(
                f"{self.frames} frames wait for the sink (max_forward_buffer_frames); "
                "the sink is too slow",
                seq=meta.seq,
                observed=self.frames + 1,
                limit=self._max_frames,
            )
        raise LimitForwardBufferExceeded(
            f"{self.bytes} bytes wait for the sink (max_forward_buffer_bytes); "
            "the sink is too slow",
            seq=meta.seq,
            observed=self.bytes + meta.byte_length,
            limit=self._max_bytes,
        )

    def close(self) -> None:
        """Say that no more frames will come; `forward` then ends with the last one."""
        self._put.close()

    async def wait_flushed(self) -> None:
        """Wait until the buffer is closed and the sink has taken every frame."""
        await self._flushed.wait()

    async def forward(self, sink: CaptureSink) -> None:
        """Hand frames to the sink, in order, until the buffer is closed and empty.

        Raises:
            ForwardFailed: the sink raised; the cause is chained.

        Cancellation: the frames being sent count as not forwarded.
        """
        self._send_nowait = sink.send_nowait if isinstance(sink, PromptSink) else None
        try:
            await self._forward(sink)
        finally:
            self._send_nowait = None
        self._flushed.set()

    async def _forward(self, sink: CaptureSink) -> None:
        send_many = sink.send_many if isinstance(sink, BatchSink) else None
        take = self._take.receive_nowait
        while (first := await self._next()) is not None:
            frames = [first]
            if send_many is not None:
                frames += [take() for _ in range(self.frames - len(self._fresh) - 1)]
            try:
                if send_many is None:
                    await sink.send(first)
                else:
                    await send_many(frames)
            except Exception as exc:
                raise _not_taken(frames) from exc
            self._release(frames)
            del first, frames  # else they would be held until the next ones come

    def discard(self) -> None:
        """Drop what the sink has not taken, and release its bytes."""
        self._put.close()
        self._take.close()
        self._fresh.clear()
        self.frames = self.bytes = 0
        self.on_filling = _ignore

    async def _next(self) -> Frame | None:
        """The next frame; None behind the last one."""
        # All that is counted and was handed on is there, for none is being sent. It is taken
        # without a checkpoint: one wake-up serves all the frames of a read.
        if self.frames > len(self._fresh):
            return self._take.receive_nowait()
        try:
            return await self._take.receive()
        except trio.EndOfChannel:
            return None

    def _release(self, frames: Sequence[Frame]) -> None:
        size = 0
        for frame in frames:
            size += frame.meta.byte_length
        self.frames -= len(frames)
        self.bytes -= size
        self.frames_forwarded += len(frames)
        self.bytes_forwarded += size
        if self._released is not None:
            self._released.set()
            self._released = None
        self.on_taken(frames)
