"""Receiving from a transport: as much as is there, until an instant, or until woken."""

import math
import os
import select
import threading
from typing import Final

import trio

from cfw.wire._pure import Bytes
from cfw.wire.readiness import Readiness

#: A rig that sends faster than it is read gets twice as much a read each time, up to this.
#: Measured over loopback TCP: 64 KiB costs 1.5 times the CPU of a frame of 30 kB and twice
#: that of one of 300 kB, 2 MiB is no better, and all of it fits the caches of a core.
MAX_READ_BYTES: Final = 1024 * 1024
MIN_READ_BYTES: Final = 64 * 1024
#: So many such rigs are read in one pass of the event loop: the frames of a pass are handed on
#: before they are out of the caches. Measured with 4 to 1 000 rigs; 2 and 8 are no better.
TURNS: Final = 4
#: In which all that wait for a turn have had one: so the last of a thousand waits no longer,
#: whatever the sink costs. What is read at once is as much as that allows: with 1 000 rigs a
#: frame of 30 kB costs 1.6 times as much in reads of 256 KiB as in reads of 1 MiB.
ROUND_S: Final = 1.0
#: Bytes a second that are taken in turns, until that was measured: 30 kB in 100 us.
FIRST_RATE: Final = 256 * 1024 * 1024
#: For how long that is measured: some hundred turns.
RATE_SAMPLE_S: Final = 0.1


class _Space(threading.local):
    # What is received is decoded before anybody else gets to receive: one space does for all
    # connections of a thread.
    def __init__(self) -> None:
        self.view = memoryview(bytearray(MAX_READ_BYTES))


_SPACE: Final = _Space()


class _Turns:
    """Lets a few of the rigs that flood be received from in one pass of the event loop.

    Else a thousand of them are received from before one forwarder has run: hundreds of
    megabytes of frames at one time, and half a second for everybody else.
    """

    def __init__(self) -> None:
        self._waiting = trio.lowlevel.ParkingLot()
        self._idle = trio.lowlevel.ParkingLot()
        self._rate = float(FIRST_RATE)
        self._begin_sample()
        trio.lowlevel.spawn_system_task(self._give)

    async def wait(self) -> int:
        """Wait for a turn; first come, first served. A checkpoint.

        Returns:
            How many bytes to receive in it, at most.
        """
        self._idle.unpark()
        await self._waiting.park()
        return max(MIN_READ_BYTES, int(self._rate * ROUND_S) // (1 + len(self._waiting)))

    def note(self, count: int) -> None:
        """So many bytes were received in a turn."""
        self._taken += count

    async def _give(self) -> None:
        while True:
            if not self._waiting:
                await self._idle.park()
                self._begin_sample()
            # Meanwhile the forwarders of the last turn hand its frames on.
            await trio.lowlevel.checkpoint()
            took_s = trio.current_time() - self._began
            if took_s >= RATE_SAMPLE_S:
                self._rate = self._taken / took_s
                self._begin_sample()
            self._waiting.unpark(count=TURNS)

    def _begin_sample(self) -> None:
        self._taken = 0
        self._began = trio.current_time()


_TURNS: Final = trio.lowlevel.RunVar[_Turns]("cfw.wire.receiver")


def _turns() -> _Turns:
    try:
        return _TURNS.get()
    except LookupError:
        turns = _Turns()
        _TURNS.set(turns)
        return turns


class Receiver:
    """The receiving half of a transport.

    Args:
        transport: a socket is read without a copy of Trio's in between; any other stream as
            it gives.

    Attributes:
        is_woken: `wake` was called, so no wait will begin.
        is_called: `look_up` was called, so none will begin until this is set back.
        held_s: for how many seconds it has waited for a turn; no time of its peer's.
    """

    def __init__(self, transport: trio.abc.Stream) -> None:
        self.is_woken = False
        self.is_called = False
        self.held_s = 0.0
        self._transport = transport
        self._socket: trio.socket.SocketType | None = None
        if isinstance(transport, trio.SocketStream) and hasattr(select, "epoll"):
            self._socket = transport.socket
            self._readiness = Readiness(transport.socket.fileno())
        self._space = _SPACE.view
        self._read_bytes = MIN_READ_BYTES
        self._waiting = trio.CancelScope()

    def wake(self) -> None:
        """End the wait that is going on, or the next one."""
        self.is_woken = True
        self._end_wait()

    def look_up(self) -> None:
        """End the wait that is going on, or the next one: its deadline is another now."""
        self.is_called = True
        self._end_wait()

    def release(self) -> None:
        """Forget the transport, which was closed or is about to be."""
        if self._socket is not None:
            self._readiness.release()

    def _end_wait(self) -> None:
        self._waiting.cancel()
        if self._socket is not None:
            self._readiness.wake()

    def wait(self, deadline: float) -> trio.CancelScope:
        """A scope for a wait that ends also at an instant of Trio's clock, or when woken."""
        # No generator around it: from Python 3.12 on one that ends an exception is left in a
        # cycle with it, for the garbage collector.
        self._waiting = trio.CancelScope(deadline=deadline)
        if self.is_woken or self.is_called:
            self._waiting.cancel()
        return self._waiting

    async def receive(self, deadline: float = math.inf) -> Bytes | None:
        """Wait for bytes and return them.

        Args:
            deadline: how long to wait, in seconds of Trio's clock.

        Returns:
            To be used before the next checkpoint, as their place is received into again;
            empty at the end. None when woken, or when the deadline has come, and no byte was
            there.

        Raises:
            trio.BrokenResourceError, OSError: the transport is broken.

        Cancellation: safe; at least one checkpoint, and none behind a byte that was received.
        """
        if (socket := self._socket) is None:
            return await self._receive_some(deadline)
        if self._read_bytes > MIN_READ_BYTES:
            data = await self._receive_in_turn(socket, deadline)
        elif self._readiness.may_read:
            await trio.lowlevel.checkpoint()
            data = self._receive_nowait(socket, MIN_READ_BYTES)
        else:
            data = None
        if data is not None:
            return data
        self._read_bytes = MIN_READ_BYTES  # it has sent no more than was read
        if self._is_disturbed():
            await trio.lowlevel.checkpoint()
        else:
            # In this function and no other: a frame that comes alone is received here.
            while True:
                await self._readiness.wait(deadline)
                if self.is_woken:
                    return None
                data = self._receive_nowait(socket, MIN_READ_BYTES)
                if data is not None:
                    return data
                if self.is_called or trio.current_time() >= deadline:
                    break
        # When the process was stopped until behind the deadline, one look is left.
        return None if self.is_woken else self._receive_nowait(socket, MIN_READ_BYTES)

    async def _receive_some(self, deadline: float) -> Bytes | None:
        """The same from a transport that is no socket."""
        data: Bytes | None = None
        with self.wait(deadline):
            data = await self._transport.receive_some(MIN_READ_BYTES)
        return data

    async def _receive_in_turn(
        self, socket: trio.socket.SocketType, deadline: float
    ) -> Bytes | None:
        """Receive what is there, when it is this one's turn; None if nothing is."""
        turns, size = _turns(), self._read_bytes
        # In a scope all the same: among a thousand, a turn takes long to come. What has come
        # by the deadline is received then: it is not the rig that is late.
        began = trio.current_time()
        with self.wait(deadline):
            size = min(size, await turns.wait())
        self.held_s += trio.current_time() - began
        data = self._receive_nowait(socket, size)
        if data is not None:
            turns.note(len(data))
        return data

    def _is_disturbed(self) -> bool:
        return self.is_woken or self.is_called

    def slow_down(self) -> None:
        """Receive little next time: what came takes long to decode."""
        self._read_bytes = MIN_READ_BYTES

    def _receive_nowait(self, socket: trio.socket.SocketType, size: int) -> memoryview | None:
        try:
            count = os.readv(socket.fileno(), (self._space[:size],))
        except BlockingIOError:
            self._readiness.note_empty()
            return None
        if count == size:
            self._read_bytes = max(self._read_bytes, min(2 * size, MAX_READ_BYTES))
        else:
            self._readiness.note_short()
        return self._space[:count]
