"""aioresult: clean. Whoever is cancelled, who waits for a result has it or is told why not."""

from __future__ import annotations

import trio

from cfw.testing.sweep import World, sweep
from tests.sweep_elsewhere import need

need("aioresult")
import aioresult


@sweep(at=["tasks", "nurseries"], schedules=["fifo", "lifo", *range(4)])
async def test_who_waits_for_a_result_is_always_told(world: World) -> None:
    """Two tasks whose results are captured, and three that wait for them."""
    told: list[bool] = []

    async def work(seconds: float) -> float:
        await trio.sleep(seconds)
        return seconds

    async def wait(result: aioresult.ResultBase[float]) -> None:
        await result.wait_done()
        told.append(result.is_done())

    def check_who_was_told_was_told_right() -> None:
        assert all(told)
        assert world.injected or len(told) == 3

    world.check(check_who_was_told_was_told_right)
    async with trio.open_nursery() as nursery:
        results = [aioresult.ResultCapture(work, seconds) for seconds in (1, 2)]
        for result in (*results, results[0]):
            nursery.start_soon(wait, result)
        async with trio.open_nursery() as workers:
            for result in results:
                workers.start_soon(result.run)
        # A result that was cancelled is one, too.
        assert world.injected or [result.result() for result in results] == [1, 2]
