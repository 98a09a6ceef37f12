"""The end of a capture leaves nothing for the garbage collector, whose runs delay others."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Awaitable, Callable, Iterator

import pytest
from trio.testing import MockClock

from cfw.testing.fakes import RecordingSink
from tests.factories import close_fields
from tests.route.kit import Rig, bench


async def _close(rig: Rig) -> None:
    await rig.say(close_fields())


async def _break_the_order(rig: Rig) -> None:
    await rig.frame(7)


async def _send_no_json(rig: Rig) -> None:
    await rig.say("{")


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
@pytest.mark.parametrize("end", [_close, _break_the_order, _send_no_json, _leave, _stay_silent])
async def test_a_connection_is_freed_by_its_end(
    autojump_clock: MockClock, end: Callable[[Rig], Awaitable[None]]
) -> None:
    """No exception holds the frames that it went through, which hold the exception."""
    async with bench(RecordingSink()) as made:
        rig = await made.capture()
        await rig.frame(1)
        (connection,) = map(weakref.ref, made.router._connections)
        await end(rig)
        await made.router.wait_gone()
        assert connection() is None
