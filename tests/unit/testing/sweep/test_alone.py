"""One task cancelled alone: what its wait leaves behind for others is found, and no more."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from typing import Any

import pytest
import trio

from cfw.testing.sweep import SweepFailure, World, run_sweep

Gate = Callable[[], Any]


class Turnstile:
    """A lock with a queue in which one that is cancelled stays, or does not.

    Args:
        leaves: whether it stays.
    """

    def __init__(self, leaves: bool) -> None:
        self._leaves = leaves
        self._queue: list[trio.Event] = []
        self._taken = False

    async def acquire(self) -> None:
        await trio.lowlevel.checkpoint_if_cancelled()
        if not self._taken and not self._queue:
            self._taken = True
            await trio.lowlevel.cancel_shielded_checkpoint()
            return
        turn = trio.Event()
        self._queue.append(turn)
        try:
            await turn.wait()
        except trio.Cancelled:
            if not self._leaves:
                self._queue.remove(turn)
                self._wake()
            raise
        self._queue.remove(turn)
        self._taken = True

    def release(self) -> None:
        self._taken = False
        self._wake()

    def _wake(self) -> None:
        if self._queue and not self._taken:
            self._queue[0].set()


async def _hold(lock: Turnstile, seconds: float) -> None:
    await lock.acquire()
    try:
        await trio.sleep(seconds)
    finally:
        lock.release()


async def _three(world: World, leaves: bool) -> None:
    lock = Turnstile(leaves)
    async with trio.open_nursery() as nursery:
        for number in range(3):
            nursery.start_soon(_hold, lock, 1, name=f"holder{number}")


def test_a_cancelled_wait_that_holds_up_another_task_is_found() -> None:
    """In the queue of a lock; the replay fails in the same way, also from other processes."""
    params = [{"leaves": True}]
    with pytest.raises(SweepFailure) as caught:
        run_sweep(_three, at="tasks", params=params)
    [failure] = caught.value.failures
    assert failure.invariant == "left-behind"
    assert re.search(
        r"'task:holder1#3' was cancelled while it waited at \S+test_alone.py:\d+ "
        r"Turnstile.acquire \(Event.wait\), and that left something behind: "
        r"holder2#4 still waits at \S+ Turnstile.acquire",
        failure.message,
    )
    assert "did not fail in the same way" not in str(failure)
    with pytest.raises(SweepFailure, match="left-behind"):
        run_sweep(_three, at="tasks", params=params, replay=failure.token)
    with pytest.raises(SweepFailure) as again:
        run_sweep(_three, at="tasks", params=params, jobs=2)
    assert again.value.failures[0].token == failure.token
    assert run_sweep(_three, at="tasks", params=params, without=["left-behind"]).complete


def test_a_cancelled_wait_that_leaves_nothing_is_no_finding() -> None:
    """Each task is cancelled alone at each instant, in several orders."""
    schedules = ["fifo", "lifo", *range(4)]
    report = run_sweep(_three, at="tasks", params=[{"leaves": False}], schedules=schedules)
    assert report.complete
    assert report.points > 100


def test_who_waits_for_what_the_cancelled_task_was_to_bring_is_no_finding() -> None:
    """Not though it waits for ever; the rest is told to stop then, and has to."""
    stopped: list[str] = []

    async def consumer(receive: trio.MemoryReceiveChannel[int]) -> None:
        try:
            for _ in range(3):
                await receive.receive()
        except trio.Cancelled:
            stopped.append("consumer")
            raise

    async def scenario(world: World) -> None:
        # Both ends stay open: nobody is told that the other one is gone.
        send, receive = trio.open_memory_channel[int](0)
        with send, receive:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(consumer, receive)
                for number in range(3):
                    nursery.start_soon(send.send, number)

    assert run_sweep(scenario, at="tasks", fork=False).complete
    assert stopped


def test_who_does_not_stop_either_is_not_finished() -> None:
    """Told to, after it waited for a task that was cancelled."""

    async def scenario(world: World) -> None:
        done = trio.Event()

        async def bring() -> None:
            await trio.sleep(1)
            done.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(bring)
            with trio.CancelScope(shield=True):
                await done.wait()

    with pytest.raises(SweepFailure, match="was cancelled as well") as caught:
        run_sweep(scenario, at="tasks")
    assert caught.value.failures[0].invariant == "finished"


def test_only_the_task_is_cancelled_and_its_cancellation_has_to_reach_its_end() -> None:
    """One that swallows it, and goes on, is found as for any scope."""
    over: list[str] = []

    async def stubborn() -> None:
        with contextlib.suppress(trio.Cancelled):
            await trio.sleep(1)
        over.append("stubborn")

    async def other() -> None:
        await trio.sleep(2)
        over.append("other")

    async def scenario(world: World) -> None:
        over.clear()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stubborn)
            nursery.start_soon(other)
        if (world.injected or "").startswith("task:stubborn"):
            assert "other" in over

    with pytest.raises(SweepFailure) as caught:
        run_sweep(scenario, at="tasks")
    [failure] = caught.value.failures
    assert failure.invariant == "cancelled-swallowed"
    assert "stubborn" in failure.message


def test_steps_and_tokens_are_those_of_a_sweep_without_it() -> None:
    """The scope around each task shows in no step, no place and no name."""

    async def scenario(world: World) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep, 1)
            await trio.sleep(1)
        if world.injected == "fail":
            raise OSError("planted")

    async def exposed(world: World) -> None:
        world.expose("fail", lambda: None)
        await scenario(world)

    tokens: list[str] = []
    for at in (["fail"], ["fail", "tasks"]):
        with pytest.raises(SweepFailure, match="planted") as caught:
            run_sweep(exposed, at=at)
        tokens.append(caught.value.failures[0].token.partition("@")[2].partition(":")[2])
    assert tokens[0] == tokens[1]
