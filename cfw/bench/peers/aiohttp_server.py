"""aiohttp, whose parser of WebSocket frames is compiled."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable

from aiohttp import web

from cfw.bench.peers.asyncio_capture import capture
from cfw.bench.peers.asyncio_loop import run as run_loop
from cfw.bench.peers.checks import LIMITS, PATH, Consumer


async def _main(
    consumer: Consumer, announce: Callable[[int], None], tls: ssl.SSLContext | None
) -> None:
    async def handle(request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse(
            compress=False, max_msg_size=LIMITS.max_frame_bytes, timeout=2.0
        )
        await ws.prepare(request)

        async def receive() -> object:
            return (await ws.receive()).data

        code, reason = await capture(receive, consumer)
        await ws.close(code=code, message=reason.encode())
        return ws

    app = web.Application()
    app.router.add_get(PATH, handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=2048, ssl_context=tls).start()
    announce(runner.addresses[0][1])
    await asyncio.get_running_loop().create_future()


def run(
    consumer: Consumer, announce: Callable[[int], None], tls: ssl.SSLContext | None
) -> None:
    """Serve for ever."""
    run_loop(_main(consumer, announce, tls))
