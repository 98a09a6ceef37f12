"""What a supervisor hears from its worker: where it is reached, and that it still lives.

Both hold an end of a socket pair. The worker writes lines: one with its addresses when it is
ready, and an empty one every `BEAT_S` from its event loop, so that a loop which stands still is
silent. When the other end closes, the other side is gone.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from contextlib import suppress

import attrs
import structlog
import trio

from cfw.api import Addresses

#: From one sign of life to the next.
BEAT_S = 1.0
#: Far more than addresses need.
MAX_LINE_BYTES = 65_536

_log: structlog.stdlib.BoundLogger = structlog.get_logger("cfw.workers")


class NotALine(Exception):
    """What a worker wrote is none of these lines."""


class Lifeline:
    """The worker's end.

    Args:
        descriptor: of the socket; it is closed behind `hold`.
    """

    def __init__(self, descriptor: int) -> None:
        self._stream = stream_of(socket.socket(fileno=descriptor))
        self._sending = trio.Lock()

    async def hold(self, stop: Callable[[], object]) -> None:
        """Give signs of life until the supervisor is gone, and then stop.

        Args:
            stop: called once.
        """
        async with self._stream, trio.open_nursery() as nursery:
            nursery.start_soon(self._beat)
            try:
                while await self._stream.receive_some():
                    pass
            except trio.BrokenResourceError:
                pass
            nursery.cancel_scope.cancel()
        _log.error("worker.orphaned", detail="the supervisor is gone; shutting down")
        stop()

    async def tell_ready(self, addresses: Addresses) -> None:
        """Say where rigs and operators reach this worker."""
        await self._say(json.dumps(attrs.asdict(addresses)))

    async def _beat(self) -> None:
        while True:
            await self._say("")
            await trio.sleep(BEAT_S)

    async def _say(self, line: str) -> None:
        async with self._sending:
            # The supervisor may be gone, which `hold` notices.
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                await self._stream.send_all(f"{line}\n".encode())


class Hearing:
    """The supervisor's understanding of what comes in; foreign input like any other."""

    def __init__(self) -> None:
        self._line = b""

    def take(self, data: bytes) -> Addresses | None:
        """Read what has come; the addresses if they came with it.

        Raises:
            NotALine: something else came.
        """
        *lines, self._line = (self._line + data).split(b"\n")
        if len(self._line) > MAX_LINE_BYTES:
            raise NotALine
        told = [line for line in lines if line]
        if len(told) > 1:
            raise NotALine
        return _addresses(told[0]) if told else None


def stream_of(sock: socket.socket) -> trio.SocketStream:
    """One end of the pair."""
    sock.setblocking(False)
    return trio.SocketStream(trio.socket.from_stdlib_socket(sock))


def _addresses(line: bytes) -> Addresses:
    try:
        found = Addresses(**json.loads(line))
    except (ValueError, TypeError, RecursionError):
        raise NotALine from None
    if not isinstance(found.capture, str):
        raise NotALine
    if not all(isinstance(value, str | None) for value in attrs.astuple(found)):
        raise NotALine
    return found
