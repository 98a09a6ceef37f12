"""The ceiling: bare reads on Trio, which count bytes and parse nothing."""

from __future__ import annotations

import json
import os
import ssl
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeAlias

import trio
from websockets.utils import apply_mask

from cfw.bench.frames import CLOSING_END, MASK
from cfw.bench.peers.checks import Consumer
from cfw.wire.receiver import MAX_READ_BYTES

#: What the worker reads at once, and as it does: into one space for all connections.
_SPACE = memoryview(bytearray(MAX_READ_BYTES))
#: How the last message of a rig ends, masked, by where in the mask it begins.
_ENDS = tuple(apply_mask(CLOSING_END, MASK[turn:] + MASK[:turn]) for turn in range(4))


#: Bytes, to be used before the next checkpoint; empty at the end.
Read: TypeAlias = Callable[[Any], Awaitable[bytes | bytearray | memoryview]]


async def _read(stream: trio.SocketStream) -> memoryview:
    sock = stream.socket
    await trio.lowlevel.checkpoint()
    while True:
        try:
            return _SPACE[: os.readv(sock.fileno(), (_SPACE,))]
        except BlockingIOError:
            await trio.lowlevel.wait_readable(sock)


async def _handle(read: Read, stream: trio.abc.Stream) -> None:
    await stream.receive_some(65_536)
    await stream.send_all(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
    total, tail = 0, b""
    while data := await read(stream):
        total += len(data)
        tail = (tail + bytes(data[-len(CLOSING_END) :]))[-len(CLOSING_END) :]
        if tail in _ENDS:
            break
    # It knows no frames: the load takes the number that it has sent.
    receipt = json.dumps({"frames": None, "bytes": total}).encode()
    await stream.send_all(b"\x88" + bytes([2 + len(receipt)]) + b"\x03\xe8" + receipt)
    if isinstance(stream, trio.abc.HalfCloseableStream):
        await stream.send_eof()
    while await stream.receive_some():
        pass


async def _serve(read: Read, tls: ssl.SSLContext | None, accepted: trio.SocketStream) -> None:
    stream: trio.abc.Stream = accepted
    if tls is not None:
        stream = trio.SSLStream(accepted, tls, server_side=True, https_compatible=True)
    try:
        async with stream:
            await _handle(read, stream)
    except (trio.BrokenResourceError, OSError):
        pass


async def _main(
    read: Read, announce: Callable[[int], None], tls: ssl.SSLContext | None
) -> None:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1", backlog=2048)
    announce(listeners[0].socket.getsockname()[1])
    await trio.serve_listeners(partial(_serve, read, tls), listeners)


def serve(
    read: Read, announce: Callable[[int], None], tls: ssl.SSLContext | None = None
) -> None:
    """Serve for ever.

    Args:
        read: gives what has come on a stream.
        announce: called with the port.
        tls: None for none.
    """
    trio.run(_main, read, announce, tls)


def run(_: Consumer, announce: Callable[[int], None]) -> None:
    """Serve for ever."""
    serve(_read, announce)
