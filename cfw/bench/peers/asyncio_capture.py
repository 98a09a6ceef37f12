"""One capture on asyncio, for libraries whose connection gives message after message."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from cfw.bench.peers.asyncio_loop import consume
from cfw.bench.peers.checks import QUEUE_FRAMES, Capture, Consumer, Refused
from cfw.bench.peers.structs import Close, FrameMeta, parse, parse_open


async def capture(
    receive: Callable[[], Awaitable[object]], consumer: Consumer
) -> tuple[int, str]:
    """Take a capture message by message, and give the code and reason to close with."""
    queue: asyncio.Queue[bytes | None] = asyncio.Queue(QUEUE_FRAMES)
    task = asyncio.create_task(consume(queue, consumer))
    try:
        taken = await _read(receive, queue)
        await queue.put(None)
        await task
        return 1000, taken.receipt()
    except Refused as exc:
        return 1008, str(exc)
    finally:
        task.cancel()


async def _read(
    receive: Callable[[], Awaitable[object]], queue: asyncio.Queue[bytes | None]
) -> Capture:
    taken = Capture(parse_open(await receive()))
    while True:
        message = await receive()
        if isinstance(message, bytes):
            taken.frame(message)
            await queue.put(message)
            continue
        if not isinstance(message, str):
            raise Refused("protocol_violation: the rig went away")
        parsed = parse(message)
        if isinstance(parsed, FrameMeta):
            taken.meta(parsed)
        elif isinstance(parsed, Close):
            taken.close(parsed)
            return taken
        else:
            raise Refused("protocol_violation: a second capture.open")
