"""A kernel with sockets and edge-triggered events, in memory: what a sweep can cut.

It tells of bytes as little as epoll(7) allows: once when they come, never again.
"""

from __future__ import annotations

import select
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from unittest import mock

import attrs
import trio


@attrs.frozen
class _Socket:
    number: int

    def fileno(self) -> int:
        return self.number


class Kernel:
    """Sockets by their numbers."""

    def __init__(self) -> None:
        self._bytes: dict[int, bytearray] = {}
        self._ended: set[int] = set()
        self._watched: set[int] = set()
        self._events: dict[int, int] = {}
        self._spoke = trio.lowlevel.ParkingLot()

    def socket(self) -> trio.SocketStream:
        """The stream of a new socket."""
        number = 100 + len(self._bytes)
        self._bytes[number] = bytearray()
        stream = object.__new__(trio.SocketStream)
        stream.socket = _Socket(number)  # type: ignore[assignment]
        return stream

    def come(self, stream: trio.SocketStream, data: bytes, *, ended: bool = False) -> None:
        """Bytes come from the peer, and the end of them when it is told so."""
        number = stream.socket.fileno()
        self._bytes[number] += data
        if ended:
            self._ended.add(number)
        if number in self._watched:
            self._speak(number)

    # What the worker asks of it.

    def readv(self, number: int, spaces: Sequence[memoryview]) -> int:
        have = self._bytes[number]
        if not have and number not in self._ended:
            raise BlockingIOError
        taken = bytes(have[: len(spaces[0])])
        spaces[0][: len(taken)] = taken
        del have[: len(taken)]
        return len(taken)

    def register(self, number: int, events: int) -> None:
        assert events == select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLET
        self._watched.add(number)
        if self._bytes[number] or number in self._ended:
            self._speak(number)

    def unregister(self, number: int) -> None:
        self._watched.remove(number)
        self._events.pop(number, None)

    def poll(self, timeout: float, most: int) -> list[tuple[int, int]]:
        assert timeout == 0
        told = list(self._events.items())[:most]
        for number, _ in told:
            del self._events[number]
        return told

    def fileno(self) -> int:
        return 0

    def __enter__(self) -> Kernel:
        return self

    def __exit__(self, *_: object) -> None: ...

    async def wait_readable(self, _: int) -> None:
        await trio.lowlevel.checkpoint()
        while not self._events:
            await self._spoke.park()

    def _speak(self, number: int) -> None:
        ended = select.EPOLLRDHUP if number in self._ended else 0
        self._events[number] = select.EPOLLIN | ended
        self._spoke.unpark_all()

    @contextmanager
    def used(self, *, arms_once: bool) -> Iterator[None]:
        """Let the worker have this one instead of the machine's.

        Args:
            arms_once: let a pass of Trio's be enough to be asked for events; else somebody has
                to wait for each.
        """
        with (
            mock.patch("cfw.wire.readiness.armed", return_value=nullcontext(arms_once)),
            mock.patch("select.epoll", return_value=self),
            mock.patch("os.readv", self.readv),
            mock.patch("trio.lowlevel.wait_readable", self.wait_readable),
        ):
            yield
