"""Trio itself: locks, limiters and channels are clean, whichever task is cancelled."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio

from cfw.testing.sweep import Report, World, grid, run_sweep
from tests.sweep_elsewhere import need

need("trio")

Shared = trio.Lock | trio.StrictFIFOLock | trio.Semaphore | trio.CapacityLimiter

SCHEDULES = ["fifo", "lifo", *range(4)]


async def shared(world: World, make: Callable[[], Shared]) -> None:
    """Three tasks want what there is one of."""
    thing = world.track("all is given back", make())

    async def use() -> None:
        async with thing:
            await trio.sleep(1)

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(use)


async def condition(world: World) -> None:
    """Two wait for a condition, and each is told once."""
    told = trio.Condition()

    async def wait() -> None:
        async with told:
            await told.wait()

    async def tell() -> None:
        for _ in range(2):
            await trio.sleep(1)
            async with told:
                told.notify()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        nursery.start_soon(wait)
        nursery.start_soon(tell)


async def channel(world: World, size: int) -> None:
    """Two send, and two receive."""
    send, receive = trio.open_memory_channel[int](size)
    sent: list[int] = []
    got: list[int] = []

    async def produce(number: int, into: trio.MemorySendChannel[int]) -> None:
        async with into:
            await into.send(number)
            sent.append(number)

    async def consume(out: trio.MemoryReceiveChannel[int]) -> None:
        async with out:
            async for number in out:
                got.append(number)
                await trio.sleep(1)

    def check_what_was_sent_was_received() -> None:
        assert set(sent) >= set(got)

    world.check(check_what_was_sent_was_received)
    async with trio.open_nursery() as nursery, send, receive:
        for number in range(2):
            nursery.start_soon(produce, number, send.clone())
            nursery.start_soon(consume, receive.clone())


def _sweep(scenario: Callable[..., object], **values: list[object]) -> Report:
    return run_sweep(
        scenario,  # type: ignore[arg-type]
        at=["tasks", "nurseries"],
        schedules=SCHEDULES,
        params=grid(**values),
    )


@pytest.mark.parametrize("kind", ["Lock", "StrictFIFOLock", "Semaphore", "CapacityLimiter"])
def test_what_is_shared_goes_on_to_the_next(kind: str) -> None:
    """Who gives up waiting holds nobody up, and who is cancelled gives back."""
    make = getattr(trio, kind)
    assert _sweep(shared, make=[make if kind.endswith("Lock") else lambda: make(1)]).complete


def test_a_condition_is_clean() -> None:
    """One who gives up waiting takes no notification with him."""
    assert _sweep(condition).complete


def test_channels_are_clean() -> None:
    """With a buffer and without one."""
    assert _sweep(channel, size=[0, 1]).complete
