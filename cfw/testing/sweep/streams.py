"""A connection in memory that behaves as TCP does, for scenarios and for any other test.

Trio's own pairs do not: `memory_stream_pair` never lets a sender wait, and
`lockstep_stream_pair` lets it wait for every byte and is broken once a send was cancelled.
"""

from __future__ import annotations

import math
import operator
import sys

import trio
from trio.lowlevel import ParkingLot, checkpoint


class _Pipe:
    """One direction of a pair: bytes on their way."""

    def __init__(self, window_bytes: int) -> None:
        self.data = bytearray()
        self.window_bytes = window_bytes
        self.is_ended = False
        self.is_broken = False
        self.changed = ParkingLot()

    @property
    def room(self) -> int:
        return max(0, self.window_bytes - len(self.data))

    def set(self, *, is_ended: bool = False, is_broken: bool = False) -> None:
        self.is_ended = self.is_ended or is_ended
        self.is_broken = self.is_broken or is_broken
        self.changed.unpark_all()


class _Turn:
    """Lets one task at a time in."""

    is_taken = False

    def __enter__(self) -> None:
        if self.is_taken:
            raise trio.BusyResourceError("another task is using this stream")
        self.is_taken = True

    def __exit__(self, *_: object) -> None:
        self.is_taken = False


class MemoryStream(trio.abc.HalfCloseableStream):
    """One end of a connection in memory, from `stream_pair`; it behaves as TCP does.

    A sender waits while its window is full. What was sent before an end or a reset is read
    before it. Whoever is cancelled has sent some of the bytes, and may send more.

    Attributes:
        is_closed: this end was closed or reset by its owner.
    """

    def __init__(self, incoming: _Pipe, outgoing: _Pipe) -> None:
        self.is_closed = False
        self._in = incoming
        self._out = outgoing
        self._window_bytes = incoming.window_bytes
        self._sending, self._receiving = _Turn(), _Turn()
        self._at_once, self._every_s = sys.maxsize, 0.0
        self._ready_at = -math.inf

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send all bytes; waits while the window is full.

        Raises:
            trio.BrokenResourceError: the other end was closed, or either one reset.
            trio.ClosedResourceError: this end was closed, or its sending half ended.

        Cancellation: some of the bytes may have been sent.
        """
        with self._sending:
            await checkpoint()
            at = 0
            while self._check_sendable() and at < len(data):
                part = data[at : at + min(self._out.room, self._at_once)]
                if (early_s := self._ready_at - trio.current_time()) > 0:
                    await trio.sleep(early_s)
                elif part:
                    self._out.data += part
                    at += len(part)
                    self._out.changed.unpark_all()
                    if self._every_s:
                        self._ready_at = trio.current_time() + self._every_s
                else:
                    await self._out.changed.park()

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until there is room in the window."""
        with self._sending:
            await checkpoint()
            while self._check_sendable() and not self._out.room:
                await self._out.changed.park()

    async def send_eof(self) -> None:
        """End the sending half."""
        with self._sending:
            await checkpoint()
            self._check_open()
            self._out.set(is_ended=True)

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Receive what is there, at most `max_bytes` (None: all of it); empty at the end.

        Raises:
            trio.BrokenResourceError: the connection was reset.
            trio.ClosedResourceError: this end was closed.

        Cancellation: safe; no byte is lost.
        """
        if max_bytes is not None and operator.index(max_bytes) < 1:
            raise ValueError("max_bytes must be at least 1")
        with self._receiving:
            await checkpoint()
            while True:
                self._check_open()
                if self._in.data:
                    data = bytes(self._in.data[:max_bytes])
                    del self._in.data[: len(data)]
                    self._in.changed.unpark_all()
                    return data
                if self._in.is_broken:
                    raise trio.BrokenResourceError("the connection was reset")
                if self._in.is_ended:
                    return b""
                await self._in.changed.park()

    async def aclose(self) -> None:
        """Close this end; the other one reads what is on its way, then the end."""
        self.close()
        await checkpoint()

    def close(self) -> None:
        """Do as `aclose` does, from a place that cannot wait."""
        if not self.is_closed:
            self.is_closed = True
            self._out.set(is_ended=True)
            self._in.set(is_broken=True)

    def reset(self) -> None:
        """Close this end so that the other one finds the connection broken."""
        if not self.is_closed:
            self.is_closed = True
            self._out.set(is_broken=True)
            self._in.set(is_broken=True)

    def stop_reading(self) -> None:
        """Give the other end no room any more: whatever it sends next has to wait."""
        self._in.window_bytes = 0

    def resume_reading(self) -> None:
        """Give the other end its window back."""
        self._in.window_bytes = self._window_bytes
        self._in.changed.unpark_all()

    def pace(self, bytes_at_once: int | None, every_s: float = 0.0) -> None:
        """Let this end send no faster from now on: some bytes, and a time until the next.

        Whatever is sent is so slow, whole or in parts, so a deadline of who reads it can be
        met and missed to the instant: n bytes are out `(ceil(n / bytes_at_once) - 1) * every_s`
        seconds behind the first of them. A send under way goes on at the new pace when its
        pause is over. Synchronous, so it can be exposed as a fault.

        Args:
            bytes_at_once: bytes that are sent together; None sends without a pause again.
            every_s: seconds from one such part to the next, virtual ones in a sweep.

        Raises:
            ValueError: fewer than 1 byte, or no time between them.
        """
        if bytes_at_once is None:
            self._at_once, self._every_s = sys.maxsize, 0.0
            return
        if bytes_at_once < 1 or not 0 < every_s < math.inf:
            raise ValueError(
                "a pace is at least 1 byte each time, and a time between: "
                f"{bytes_at_once} bytes every {every_s:g} s is none"
            )
        self._at_once, self._every_s = bytes_at_once, every_s

    def _check_open(self) -> None:
        if self.is_closed:
            raise trio.ClosedResourceError("this end was closed")

    def _check_sendable(self) -> bool:
        self._check_open()
        if self._out.is_broken:
            raise trio.BrokenResourceError("the other end is gone")
        if self._out.is_ended:
            raise trio.ClosedResourceError("this end has sent its end of file")
        return True


def stream_pair(window_bytes: int | None = 65_536) -> tuple[MemoryStream, MemoryStream]:
    """Make the two ends of a connection in memory.

    Args:
        window_bytes: bytes that may be on their way in each direction before a sender has to
            wait; None never lets one wait.
    """
    window = sys.maxsize if window_bytes is None else window_bytes
    there, back = _Pipe(window), _Pipe(window)
    return MemoryStream(back, there), MemoryStream(there, back)
