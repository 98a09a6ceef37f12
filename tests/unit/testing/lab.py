"""What the tests of the kit share: a lab's own sink, and a short capture."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from cfw.state import Frame
from cfw.testing.rigs import Ending, Worker
from schemas import FeedOpened, Terminal


class LabSink:
    """A sink that takes everything; the tests plant bugs in it."""

    captures = 0

    @asynccontextmanager
    async def capture(self, opened: FeedOpened) -> AsyncIterator[LabSink]:
        self.captures += 1
        yield self

    async def send(self, frame: Frame) -> None:
        await trio.sleep(0.01)

    async def finish(self, terminal: Terminal) -> None:
        await trio.sleep(0.01)


async def send_three(worker: Worker) -> Ending:
    """Send three frames by hand and read the ending."""
    async with worker.connect() as rig:
        await rig.open()
        for _ in range(3):
            await rig.frame()
        await rig.close()
        return await rig.ending()
