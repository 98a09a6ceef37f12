"""Receiving from a transport: as much as is there, until an instant, or until woken."""

import math
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import trio

from ._pure import Bytes

# A rig that sends faster than it is read gets twice as much a read each time, up to this.
# Measured over loopback TCP: 64 KiB costs 1.5 times the CPU of a frame of 30 kB and twice
# that of one of 300 kB, 2 MiB is no better, and all of it fits the caches of a core.
MAX_READ_BYTES: Final = 1024 * 1024
MIN_READ_BYTES: Final = 64 * 1024


class _Space(threading.local):
    # What is received is decoded before anybody else gets to receive: one space does for all
    # connections of a thread.
    def __init__(self) -> None:
        self.view = memoryview(bytearray(MAX_READ_BYTES))


_SPACE: Final = _Space()


class Receiver:
    """The receiving half of a transport.

    Args:
        transport: a socket is read without a copy of Trio's in between; any other stream as
            it gives.

    Attributes:
        is_woken: no wait will begin, and the last one has ended early, because its deadline
            had come or `wake` was called.
    """

    def __init__(self, transport: trio.abc.Stream) -> None:
        self.is_woken = False
        self._transport = transport
        self._socket: trio.socket.SocketType | None = None
        if isinstance(transport, trio.SocketStream) and hasattr(os, "readv"):
            self._socket = transport.socket
        self._space = _SPACE.view
        self._read_bytes = MIN_READ_BYTES
        self._waiting = trio.CancelScope()

    def wake(self) -> None:
        """End the wait that is going on, or the next one."""
        self.is_woken = True
        self._waiting.cancel()

    @contextmanager
    def wait(self, deadline: float) -> Iterator[None]:
        """What is waited for inside ends also at an instant of Trio's clock, or when woken."""
        with trio.CancelScope(deadline=deadline) as self._waiting:
            if self.is_woken:
                self._waiting.cancel()
            yield
        if self._waiting.cancelled_caught:
            self.is_woken = True

    async def receive(self, deadline: float = math.inf) -> Bytes | None:
        """Wait for bytes and return them.

        Args:
            deadline: how long to wait, in seconds of Trio's clock.

        Returns:
            To be used before the next checkpoint, as their place is received into again;
            empty at the end. None when woken, or when the deadline has come.

        Raises:
            trio.BrokenResourceError, OSError: the transport is broken.

        Cancellation: safe; at least one checkpoint, and none behind a byte that was received.
        """
        data: Bytes | None = None
        if self._socket is None:
            with self.wait(deadline):
                data = await self._transport.receive_some(MIN_READ_BYTES)
            return data
        # Mostly, a rig that sends at full speed has sent more by now: no scope is needed, and
        # each costs as much as a small message.
        await trio.lowlevel.checkpoint()
        data = self._receive_nowait(self._socket)
        if data is None:
            with self.wait(deadline):
                while data is None:
                    await trio.lowlevel.wait_readable(self._socket)
                    data = self._receive_nowait(self._socket)
        return data

    def slow_down(self) -> None:
        """Receive little next time: what came takes long to decode."""
        self._read_bytes = MIN_READ_BYTES

    def _receive_nowait(self, socket: trio.socket.SocketType) -> memoryview | None:
        size = self._read_bytes
        try:
            count = os.readv(socket.fileno(), (self._space[:size],))
        except BlockingIOError:
            return None
        if count == size:
            self._read_bytes = min(2 * size, MAX_READ_BYTES)
        return self._space[:count]
