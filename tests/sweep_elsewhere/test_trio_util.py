"""trio-util: waiting for values is clean, whoever gives up waiting."""

from __future__ import annotations

from functools import partial

import trio

from cfw.testing.sweep import World, sweep
from tests.sweep_elsewhere import need

need("trio-util")
import trio_util


@sweep(at=["tasks", "nurseries"], schedules=["fifo", "lifo", *range(4)])
async def test_values_reach_everybody_who_still_waits(world: World) -> None:
    """One who waits for a value, one for any transition, one for a value that is held."""
    value = trio_util.AsyncValue(0)
    seen: dict[str, object] = {}

    async def wait_value() -> None:
        seen["value"] = await value.wait_value(2)

    async def wait_transition() -> None:
        seen["transition"] = await value.wait_transition()

    async def wait_held() -> None:
        seen["held"] = await value.wait_value(3, held_for=1)

    def check_only_who_was_cancelled_missed_it() -> None:
        assert len(seen) >= (3 if world.injected is None else 2), seen

    async with trio.open_nursery() as nursery:
        for wait in (wait_value, wait_transition, wait_held):
            nursery.start_soon(wait)
        for number in (1, 2, 3):
            await trio.sleep(1)
            value.value = number
    if not (world.injected or "").startswith("nursery"):
        world.check(check_only_who_was_cancelled_missed_it)


@sweep(at=["tasks", "nurseries"], schedules=["fifo", "lifo"])
async def test_the_first_of_two_ends_the_other(world: World) -> None:
    """`wait_any` leaves no task behind."""
    async with trio.open_nursery() as nursery:
        one, two = partial(trio.sleep, 1), partial(trio.sleep, 2)
        nursery.start_soon(trio_util.wait_any, one, trio.sleep_forever)
        nursery.start_soon(trio_util.wait_all, one, two)
