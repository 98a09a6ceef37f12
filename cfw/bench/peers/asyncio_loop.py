"""The fastest event loop of asyncio that is installed, and the consumer of a capture on it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from importlib import import_module
from typing import Any

from cfw.bench.peers.checks import Consumer


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run on uvloop if it is installed."""
    new_event_loop: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
    with contextlib.suppress(ImportError):
        new_event_loop = import_module("uvloop").new_event_loop
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(main)


async def consume(queue: asyncio.Queue[bytes | None], consumer: Consumer) -> None:
    """Hand frames on until None comes."""
    while (data := await queue.get()) is not None:
        consumer.take(data)
