"""FastAPI on uvicorn, with pydantic models."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable

import uvicorn
from fastapi import FastAPI, WebSocket, WebSocketDisconnect

from cfw.bench.peers.asyncio_loop import consume
from cfw.bench.peers.asyncio_loop import run as run_loop
from cfw.bench.peers.checks import LIMITS, PATH, QUEUE_FRAMES, Capture, Consumer, Refused
from cfw.bench.peers.models import Close, FrameMeta, Open, parse


async def _read(ws: WebSocket, queue: asyncio.Queue[bytes | None]) -> Capture:
    opened = parse(await ws.receive_text())
    if not isinstance(opened, Open):
        raise Refused("protocol_violation: a capture begins with capture.open")
    taken = Capture(opened)
    while True:
        event = await ws.receive()
        data = event.get("bytes")
        if data is not None:
            taken.frame(data)
            await queue.put(data)
            continue
        if event["type"] == "websocket.disconnect":
            raise WebSocketDisconnect
        message = parse(event["text"])
        if isinstance(message, FrameMeta):
            taken.meta(message)
        elif isinstance(message, Close):
            taken.close(message)
            return taken
        else:
            raise Refused("protocol_violation: a second capture.open")


def _app(consumer: Consumer) -> FastAPI:
    app = FastAPI()

    @app.websocket(PATH)
    async def capture(ws: WebSocket) -> None:
        await ws.accept()
        queue: asyncio.Queue[bytes | None] = asyncio.Queue(QUEUE_FRAMES)
        task = asyncio.create_task(consume(queue, consumer))
        try:
            taken = await _read(ws, queue)
            await queue.put(None)
            await task
            await ws.close(1000, taken.receipt())
        except Refused as exc:
            await ws.close(1008, str(exc))
        except WebSocketDisconnect:
            pass
        finally:
            task.cancel()

    return app


def run(
    consumer: Consumer, announce: Callable[[int], None], tls: ssl.SSLContext | None
) -> None:
    """Serve for ever."""
    config = uvicorn.Config(
        _app(consumer),
        log_level="error",
        access_log=False,
        ws_max_size=LIMITS.max_frame_bytes,
        ws_per_message_deflate=False,
    )
    config.load()
    config.ssl = tls  # its own options take no context
    listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
    announce(listener.getsockname()[1])
    run_loop(uvicorn.Server(config).serve(sockets=[listener]))
