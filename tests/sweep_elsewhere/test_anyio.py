"""AnyIO 4.3: an item is lost that is sent to a task which is being cancelled (anyio#728)."""

from __future__ import annotations

import pytest
import trio

from cfw.testing.sweep import SweepFailure, World, run_sweep
from tests.sweep_elsewhere import check_found, need

need("anyio")
import anyio


async def one_item(world: World) -> None:
    """One task waits for an item, and another sends it."""
    send, receive = anyio.create_memory_object_stream[str](1)
    got: list[str] = []

    def check_no_item_is_lost() -> None:
        assert len(got) + len(left) == 1

    async def consume() -> None:
        with trio.CancelScope() as scope, world.expose("consumer", scope):
            got.append(await receive.receive())

    left: list[str] = []
    world.check(check_no_item_is_lost)
    async with send, receive:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(consume)
            await anyio.sleep(1)
            send.send_nowait("item")
        left += [receive.receive_nowait() for _ in range(not got)]


async def limited(world: World) -> None:
    """Three tasks share a limiter of two."""
    limiter = anyio.CapacityLimiter(2)

    async def work() -> None:
        async with limiter:
            await anyio.sleep(1)

    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(work)
    assert limiter.borrowed_tokens == 0


def test_an_item_for_a_task_that_is_being_cancelled_is_lost() -> None:
    """It waits already, its cancellation is under way, and the item is given to it."""
    with pytest.raises(SweepFailure) as caught:
        run_sweep(one_item, at="consumer", allow=[anyio.WouldBlock])
    check_found(caught.value, "check_no_item_is_lost", "consume#2", "Event.wait (Event.wait)")


def test_a_limiter_is_clean() -> None:
    """Whichever task is cancelled, its token is given back and the others go on."""
    assert run_sweep(limited, at=["tasks", "nurseries"]).complete
