"""websockets on Trio."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from functools import partial

import trio
from websockets.exceptions import ConnectionClosed
from websockets.trio.server import ServerConnection, serve

from cfw.bench.peers.checks import LIMITS, Consumer
from cfw.bench.peers.trio_channel import capture


async def _handle(consumer: Consumer, ws: ServerConnection) -> None:
    try:
        code, reason = await capture(ws.recv, consumer)
        await ws.aclose(code, reason)
    except* ConnectionClosed:
        pass


async def _main(
    consumer: Consumer, announce: Callable[[int], None], tls: ssl.SSLContext | None
) -> None:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1", backlog=2048)
    announce(listeners[0].socket.getsockname()[1])
    await serve(
        partial(_handle, consumer),
        listeners=listeners,
        ssl=tls,
        compression=None,
        max_size=LIMITS.max_frame_bytes,
        close_timeout=2,
    )


def run(
    consumer: Consumer, announce: Callable[[int], None], tls: ssl.SSLContext | None
) -> None:
    """Serve for ever."""
    trio.run(_main, consumer, announce, tls)
