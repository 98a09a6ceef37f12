"""The order of batches: chosen by lists of small numbers, all of them if asked."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations
from math import factorial
from typing import Any

import pytest
import trio

from cfw.testing.sweep import (
    NondeterminismError,
    Pct,
    StaleToken,
    SweepFailure,
    UnsupportedTrio,
    World,
    _trio,
    pct,
    run_sweep,
)
from cfw.testing.sweep.facts import Scenario
from cfw.testing.sweep.schedule import (
    Picker,
    next_choices,
    parse_schedule,
    schedule_text,
)

#: A promise about chances takes hundreds of runs to see, and all of it is computed.
pytestmark = pytest.mark.timeout(300)


def starters(width: int, seen: list[tuple[int, ...]]) -> Scenario:
    """A scenario whose children start in one batch and note their order."""

    async def scenario(world: World) -> None:
        order = []

        async def child(number: int) -> None:
            order.append(number)

        async with trio.open_nursery() as nursery:
            world.expose("all", nursery.cancel_scope)
            for number in range(width):
                nursery.start_soon(child, number)
        seen.append(tuple(order))

    return scenario


def test_exhaustive_runs_every_order_once() -> None:
    """One batch of four tasks has 4! orders; each is run once."""
    seen: list[tuple[int, ...]] = []
    report = run_sweep(starters(4, seen), schedules=["exhaustive"])
    # The first order is run a second time, to see whether it takes the same steps.
    assert sorted([*permutations(range(4)), (0, 1, 2, 3)]) == sorted(seen)
    assert report.orders == report.runs - 1 == factorial(4)
    assert report.complete
    assert "24 orders" in report.row()


def test_exhaustive_with_faults_orders_what_comes_after_them() -> None:
    """Each fault is run under all orders before and after it, and none twice."""
    seen: list[tuple[Any, ...]] = []

    async def scenario(world: World) -> None:
        order = []

        class Steps(trio.abc.Instrument):
            def before_task_step(self, task: trio.lowlevel.Task) -> None:
                order.append(task.name)

        async def child() -> None:
            await trio.lowlevel.checkpoint()

        trio.lowlevel.add_instrument(Steps())
        async with trio.open_nursery() as nursery:
            world.expose("all", nursery.cancel_scope)
            nursery.start_soon(child, name="a")
            nursery.start_soon(child, name="b")
        world.check(lambda: seen.append((world.injections, *order)), "collect")

    report = run_sweep(scenario, at="all", schedules=["exhaustive"])
    free = [order for fired, *order in seen if not fired]
    assert len(free) - 1 == report.orders == 2 * 2
    assert len(set(seen)) == len(seen) - 1
    # A cancel before the children's first batch leaves both orders of it, and so on.
    first = {tuple(order) for fired, *order in seen if fired and fired[0].step == 1}
    assert {next(name for name in order if name in "ab") for order in first} == {"a", "b"}
    assert report.runs == len(seen)
    assert report.complete


def test_exhaustive_stops_at_its_bound_and_says_sampled() -> None:
    """More orders than `orders`, and the second dry run, are not run, and not claimed."""
    seen: list[tuple[int, ...]] = []
    report = run_sweep(starters(5, seen), schedules=["exhaustive"], orders=10)
    assert len(seen) == report.runs == 10 + 1
    assert not report.complete
    assert "bound of 10 orders" in report.row()
    for budget, why in ((4, "budget of 4"), (20, "bound of 10 orders")):
        plan = starters(5, [])
        report = run_sweep(plan, at="all", schedules=["exhaustive"], orders=10, budget=budget)
        assert f"sampled ({why})" in report.row()


def test_exhaustive_refuses_two_dry_runs_that_differ() -> None:
    """State that survives a run is found out as with every other schedule."""
    runs = []

    async def scenario(world: World) -> None:
        runs.append(world)
        for _ in runs:
            await trio.lowlevel.checkpoint()

    with pytest.raises(NondeterminismError, match="two dry runs"):
        run_sweep(scenario, schedules=["exhaustive"])


@pytest.mark.parametrize("bound", [6, 7, 20])
def test_exhaustive_counts_the_tree_that_broke_its_bound(bound: int) -> None:
    """Failures, properties and runs of the last tree are not dropped with what is not run."""
    reached = []

    async def scenario(world: World) -> None:
        await starters(3, [])(world)
        world.sometimes("fired", world.injected)
        world.check(lambda: reached.append(world.injected), "collect")

    async def failing(world: World) -> None:
        await scenario(world)
        world.check(lambda: not world.injected or 1 / 0, "no fault")

    report = run_sweep(scenario, at="all", schedules=["exhaustive"], orders=bound)
    assert not report.complete
    assert report.sometimes == {"fired": True}
    assert report.runs == len(reached)
    assert (report.ran > 1) == (bound == 20)
    with pytest.raises(SweepFailure) as caught:
        run_sweep(failing, at="all", schedules=["exhaustive"], orders=bound, stop_after=99)
    assert caught.value.invariant == "no fault"


def test_exhaustive_finds_the_one_bad_order_and_its_token_replays_it() -> None:
    """A failure of a single order is found, and its choices are in the token."""

    async def scenario(world: World) -> None:
        seen: list[tuple[int, ...]] = []
        await starters(4, seen)(world)
        world.check(lambda: seen != [(2, 0, 3, 1)] or 1 / 0, "not that order")

    with pytest.raises(SweepFailure) as caught:
        run_sweep(scenario, schedules=["exhaustive"])
    assert caught.value.failures[0].others == 0
    with pytest.raises(SweepFailure) as again:
        run_sweep(scenario, replay=caught.value.token)
    assert again.value.report.runs == 1
    assert again.value.invariant == "not that order"


def test_a_token_of_an_order_is_stale_when_the_batches_change() -> None:
    """Without a fault nothing else checks that it is still the same order."""
    width = 4

    async def scenario(world: World) -> None:
        seen: list[tuple[int, ...]] = []
        await starters(width, seen)(world)
        world.check(lambda: seen != [(2, 0, 3, 1)] or 1 / 0, "not that order")

    with pytest.raises(SweepFailure) as caught:
        run_sweep(scenario, schedules=["exhaustive"])
    for other in (3, 5):
        width = other
        with pytest.raises(StaleToken, match="batches have other sizes"):
            run_sweep(scenario, replay=caught.value.token)


def test_fifo_and_lifo_run_oldest_and_youngest_first() -> None:
    """The names mean the age of the tasks in a batch."""
    seen: list[tuple[int, ...]] = []
    run_sweep(starters(3, seen), schedules=["fifo", "lifo"])
    assert seen == [(0, 1, 2)] * 2 + [(2, 1, 0)] * 2


def test_seeds_differ_and_repeat() -> None:
    """A seed gives the same order again, and several seeds give several orders."""
    seen: list[tuple[int, ...]] = []
    run_sweep(starters(5, seen), schedules=list(range(6)))
    again: list[tuple[int, ...]] = []
    run_sweep(starters(5, again), schedules=list(range(6)))
    assert seen == again
    assert len(set(seen)) > 3


def test_choices_count_like_an_odometer() -> None:
    """All lists below the fixed part, in order, then the end."""
    choices: tuple[int, ...] | None = (0, 0)
    seen: list[tuple[int, ...]] = []
    while choices is not None:
        picker = Picker(choices)
        made = tuple(picker.pick(arity) for arity in (3, 2))
        seen.append(made)
        choices = next_choices(made, picker.arities, 0)
    assert seen == [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1)]
    assert next_choices((0, 1), [3, 2], 1) is None
    assert next_choices((0, 0), [3, 2], 1) == (0, 1)


@pytest.mark.parametrize("schedule", ["fifo", "lifo", 0, 17, (), (0,), (2, 0, 1)])
def test_schedules_survive_a_token(schedule: Any) -> None:
    """Text and back."""
    assert parse_schedule(schedule_text(schedule)) == schedule


def test_private_names_do_what_is_assumed() -> None:
    """The self-test of the one module that touches Trio's private names passes here."""
    _trio.check_trio()


@pytest.mark.parametrize("name", ["_r", "_ALLOW_DETERMINISTIC_SCHEDULING"])
def test_a_trio_without_the_names_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """A Trio that renamed one says which, and in which module to look."""
    monkeypatch.delattr(f"trio._core._run.{name}")
    with pytest.raises(UnsupportedTrio, match=name) as caught:
        _trio.check_trio()
    assert trio.__version__ in str(caught.value)
    assert "_trio.py" in str(caught.value)


def test_a_trio_that_ignores_the_names_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names that are there and have no effect are found out by running."""
    # Importing Hypothesis sets the flag for good.
    monkeypatch.setattr("trio._core._run._ALLOW_DETERMINISTIC_SCHEDULING", False)
    monkeypatch.setattr(_trio, "_FLAG", "__doc__")
    with pytest.raises(UnsupportedTrio):
        _trio.check_trio()


async def always_first(world: World) -> None:
    """Wrong if one task is before the other in each of twelve batches."""
    first = 0
    turns: list[str] = []

    async def go(name: str) -> None:
        nonlocal first
        for _ in range(12):
            turns.append(name)
            if len(turns) % 2 == 0:
                first += turns[-2:] == ["b", "a"]
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(go, "a")
        nursery.start_soon(go, "b")
    world.check(lambda: first < 12, "not always")


async def turned_once(world: World) -> None:
    """Wrong if the order of two tasks turns between the fourth batch and the fifth."""
    turns: list[str] = []

    async def go(name: str) -> None:
        for _ in range(8):
            turns.append(name)
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(go, "a")
        nursery.start_soon(go, "b")
    pairs = ["".join(turns[at : at + 2]) for at in range(0, 16, 2)]
    world.check(lambda: pairs != ["ab"] * 4 + ["ba"] * 4, "turned")


def times_found(scenario: Any, schedules: Sequence[str | int | Pct]) -> int:
    """With how many of the schedules the bug comes about, which needs no fault."""
    found = 0
    for schedule in schedules:
        try:
            run_sweep(scenario, schedules=[schedule], budget=1)
        except SweepFailure:
            found += 1
    return found


def test_priorities_keep_their_promise_where_shuffles_have_no_chance() -> None:
    """A bug of depth d comes with a chance of at least 1 / (n * k ** (d - 1))."""
    seeds = range(30)
    assert times_found(always_first, seeds) == 0
    # Depth 1, n = 3 tasks: a third at least, and in fact a half.
    assert times_found(always_first, pct(1, seeds)) >= 30 // 3
    # Depth 2, k = 19 steps: one of 57 at least; the seeds are fixed, so is the number.
    report = run_sweep(turned_once, schedules=["fifo"])
    seeds = range(4 * 3 * report.steps)
    assert times_found(turned_once, pct(2, seeds)) >= 4
    assert times_found(turned_once, pct(1, range(30))) == 0


def test_a_failure_under_priorities_is_replayed() -> None:
    """Also when the smallest order in which it fails is another one."""
    with pytest.raises(SweepFailure) as caught:
        run_sweep(always_first, schedules=pct(1, range(9)))
    token = caught.value.token
    with pytest.raises(SweepFailure) as again:
        run_sweep(always_first, replay=token)
    assert again.value.invariant == "not always"
    assert caught.value.report.schedules[:2] == ("p1.0", "p1.1")
    assert parse_schedule(schedule_text(Pct(2, 7, 80))) == Pct(2, 7, 80)


def test_priorities_have_a_depth() -> None:
    """A bug that needs no order at all is found by any."""
    with pytest.raises(ValueError, match="at least 1"):
        pct(0, [1])
