"""websockets on asyncio."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from functools import partial

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from cfw.bench.peers.asyncio_capture import capture
from cfw.bench.peers.asyncio_loop import run as run_loop
from cfw.bench.peers.checks import LIMITS, Consumer


async def _handle(consumer: Consumer, ws: ServerConnection) -> None:
    try:
        code, reason = await capture(ws.recv, consumer)
        await ws.close(code, reason)
    except ConnectionClosed:
        pass


async def _main(
    consumer: Consumer, announce: Callable[[int], None], tls: ssl.SSLContext | None
) -> None:
    async with serve(
        partial(_handle, consumer),
        "127.0.0.1",
        0,
        ssl=tls,
        compression=None,
        max_size=LIMITS.max_frame_bytes,
        close_timeout=2,
        backlog=2048,
    ) as server:
        announce(next(iter(server.sockets)).getsockname()[1])
        await asyncio.get_running_loop().create_future()


def run(
    consumer: Consumer, announce: Callable[[int], None], tls: ssl.SSLContext | None
) -> None:
    """Serve for ever."""
    run_loop(_main(consumer, announce, tls))
