"""What is done with is let go of at once, without the help of the garbage collector."""

from __future__ import annotations

import gc
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import cast

import pytest
from trio.testing import MockClock, wait_all_tasks_blocked

from cfw.limits import Limits
from cfw.state import Frame
from cfw.testing.fakes import RecordingSink
from schemas import FeedOpened, Terminal
from tests.factories import close_fields
from tests.raw import encode
from tests.unit.routes.kit import Rig, bench


async def _close(rig: Rig) -> None:
    await rig.say(close_fields())


async def _break_the_order(rig: Rig) -> None:
    await rig.frame(7)


async def _send_no_json(rig: Rig) -> None:
    await rig.say("{")


async def _send_too_much(rig: Rig) -> None:
    await rig.say(bytes(Limits().max_frame_bytes + 1))


async def _send_half_of_a_message(rig: Rig) -> None:
    await rig.send(encode(bytes(100))[:50])


async def _leave(rig: Rig) -> None:
    await rig.peer.stream.aclose()


async def _stay_silent(_: Rig) -> None: ...


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("has_capture", [True, False])
@pytest.mark.parametrize(
    "end",
    [
        *(_close, _break_the_order, _send_no_json, _send_too_much, _send_half_of_a_message),
        *(_leave, _stay_silent),
    ],
)
async def test_a_connection_is_freed_by_its_end(
    autojump_clock: MockClock, end: Callable[[Rig], Awaitable[None]], has_capture: bool
) -> None:
    """No exception holds the frames that it went through, which hold the exception."""
    async with bench(RecordingSink()) as made:
        rig = await made.connect()
        if has_capture:
            await rig.open()
            await rig.frame(1)
        await wait_all_tasks_blocked()
        (connection,) = map(weakref.ref, made.router._connections)
        await end(rig)
        await made.router.wait_gone()
        assert connection() is None


class Forgetful:
    """A sink that takes frames one by one, and only knows whether anybody still has them."""

    def __init__(self) -> None:
        self.taken: list[weakref.ref[Frame]] = []

    @asynccontextmanager
    async def capture(self, opened: FeedOpened) -> AsyncIterator[Forgetful]:
        yield self

    async def send(self, frame: Frame) -> None:
        self.taken.append(weakref.ref(frame))

    async def finish(self, terminal: Terminal) -> None: ...

    def check(self) -> None:
        """It has recorded nothing that could be wrong."""


class ForgetfulOfMany(Forgetful):
    """The same, by the batch."""

    async def send_many(self, frames: Sequence[Frame]) -> None:
        self.taken += map(weakref.ref, frames)


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("make", [Forgetful, ForgetfulOfMany])
async def test_a_connection_that_waits_holds_no_frame(
    autojump_clock: MockClock, make: type[Forgetful]
) -> None:
    """What the sink has taken is gone when nothing more comes, and before the connection is."""
    sink = make()
    async with bench(cast("RecordingSink", sink)) as made:
        rig = await made.capture()
        for seq in (1, 2, 3):
            await rig.frame(seq)
        await wait_all_tasks_blocked()
        assert len(sink.taken) == 3
        assert [frame() for frame in sink.taken] == [None] * 3
        await rig.frame(4)
        await rig.say(close_fields())
        await wait_all_tasks_blocked()
        assert [frame() for frame in sink.taken] == [None] * 4
