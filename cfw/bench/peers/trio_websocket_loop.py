"""A plain loop over `get_message()` of trio-websocket, with reads of 64 KiB."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from functools import partial

import trio
from trio_websocket import ConnectionClosed, WebSocketRequest, serve_websocket

from cfw.bench.peers.checks import LIMITS, Consumer
from cfw.bench.peers.trio_channel import capture


async def _handle(consumer: Consumer, request: WebSocketRequest) -> None:
    ws = await request.accept()
    try:
        code, reason = await capture(ws.get_message, consumer)
        with trio.move_on_after(2):
            await ws.aclose(code, reason)
    except* ConnectionClosed:
        pass


async def _main(
    consumer: Consumer, announce: Callable[[int], None], tls: ssl.SSLContext | None
) -> None:
    async with trio.open_nursery() as nursery:
        start = partial(
            serve_websocket,
            partial(_handle, consumer),
            "127.0.0.1",
            0,
            tls,
            receive_buffer_size=65_536,  # its default of 4 KiB is far slower
            max_message_size=LIMITS.max_frame_bytes,
        )
        announce((await nursery.start(start)).port)


def run(
    consumer: Consumer, announce: Callable[[int], None], tls: ssl.SSLContext | None
) -> None:
    """Serve for ever."""
    trio.run(_main, consumer, announce, tls)
