"""The ceiling: bare `recv` on Trio, which counts bytes and parses nothing."""

from __future__ import annotations

import json
from collections.abc import Callable

import trio
from websockets.utils import apply_mask

from cfw.cli.bench.peers.checks import Consumer
from cfw.cli.bench.rig import CLOSING_END, MASK

#: What the worker reads at once.
READ_BYTES = 192 * 1024
#: How the last message of a rig ends, masked, by where in the mask it begins.
_ENDS = tuple(apply_mask(CLOSING_END, MASK[turn:] + MASK[:turn]) for turn in range(4))


async def _handle(stream: trio.SocketStream) -> None:
    await stream.receive_some(65_536)
    await stream.send_all(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
    total, tail = 0, b""
    while data := await stream.receive_some(READ_BYTES):
        total += len(data)
        tail = (tail + data[-len(CLOSING_END) :])[-len(CLOSING_END) :]
        if tail in _ENDS:
            break
    # It knows no frames: the load takes the number that it has sent.
    receipt = json.dumps({"frames": None, "bytes": total}).encode()
    await stream.send_all(b"\x88" + bytes([2 + len(receipt)]) + b"\x03\xe8" + receipt)
    await stream.send_eof()
    while await stream.receive_some():
        pass


async def _serve(stream: trio.SocketStream) -> None:
    try:
        async with stream:
            await _handle(stream)
    except trio.BrokenResourceError:
        pass


async def _main(announce: Callable[[int], None]) -> None:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1", backlog=2048)
    announce(listeners[0].socket.getsockname()[1])
    await trio.serve_listeners(_serve, listeners)


def run(_: Consumer, announce: Callable[[int], None]) -> None:
    """Serve for ever."""
    trio.run(_main, announce)
