"""One capture on Trio, for libraries whose connection gives message after message."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from cfw.bench.peers.checks import QUEUE_FRAMES, Capture, Consumer, Refused
from cfw.bench.peers.structs import Close, FrameMeta, parse, parse_open


async def capture(
    receive: Callable[[], Awaitable[str | bytes]], consumer: Consumer
) -> tuple[int, str]:
    """Take a capture message by message, and give the code and reason to close with."""
    put, take = trio.open_memory_channel[bytes](QUEUE_FRAMES)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_consume, take, consumer)
        with put:
            try:
                ending = 1000, (await _read(receive, put)).receipt()
            except Refused as exc:
                nursery.cancel_scope.cancel()
                ending = 1008, str(exc)
    return ending


async def _read(
    receive: Callable[[], Awaitable[str | bytes]], put: trio.MemorySendChannel[bytes]
) -> Capture:
    taken = Capture(parse_open(await receive()))
    while True:
        message = await receive()
        if isinstance(message, bytes):
            taken.frame(message)
            try:
                put.send_nowait(message)
            except trio.WouldBlock:
                await put.send(message)
            continue
        parsed = parse(message)
        if isinstance(parsed, FrameMeta):
            taken.meta(parsed)
        elif isinstance(parsed, Close):
            taken.close(parsed)
            return taken
        else:
            raise Refused("protocol_violation: a second capture.open")


async def _consume(take: trio.MemoryReceiveChannel[bytes], consumer: Consumer) -> None:
    async for data in take:
        consumer.take(data)
