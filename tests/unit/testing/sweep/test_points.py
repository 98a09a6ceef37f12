"""Which points a sweep runs: numbers derived from what Trio does, never written down."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import trio
import trio.testing

from cfw.testing.sweep import NondeterminismError, Report, SweepFailure, World, grid, run_sweep


class StepCounter(trio.abc.Instrument):
    """Counts the steps of everything but Trio's own tasks, through public API only."""

    def __init__(self) -> None:
        self.steps = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        parent = task.parent_nursery
        self.steps += parent is not None and parent.parent_task.parent_nursery is not None


def steps_alone(fn: Any, *args: object) -> int:
    """How many steps an async function takes as a task of its own."""
    counter = StepCounter()

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fn, *args)

    async def outer() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(main)

    trio.run(outer, clock=trio.testing.MockClock(autojump_threshold=0), instruments=[counter])
    # `main` itself: one step into its nursery, one out of it.
    return counter.steps - 2


async def three_checkpoints(world: World) -> None:
    with trio.CancelScope() as scope:
        world.expose("scope", scope)
        for _ in range(3):
            await trio.lowlevel.checkpoint()


def test_single_task_has_two_instants_a_step() -> None:
    """One task: every batch has one step, so there is one instant before and one after."""
    steps = steps_alone(three_checkpoints, World())
    report = run_sweep(three_checkpoints, at="scope", schedules=["fifo"])
    assert report.steps == steps
    assert report.points + report.not_exposed == 2 * steps
    # Before the first step nothing is exposed; after the last one the scope is closed.
    assert report.not_exposed == 2
    assert report.runs == report.points + 2
    assert report.ran == report.points
    assert report.complete
    assert report.not_run == 0


def test_batch_of_several_has_one_instant_after_it() -> None:
    """Tasks that always run in one batch share the instant after it."""
    width = 3

    async def scenario(world: World) -> None:
        async with trio.open_nursery() as nursery:
            world.expose("all", nursery.cancel_scope)
            for _ in range(width):
                nursery.start_soon(trio.lowlevel.checkpoint)

    each = steps_alone(trio.lowlevel.checkpoint)
    report = run_sweep(scenario, at="all", schedules=["fifo"])
    root = 2
    assert report.steps == root + width * each
    # One after each step of the root alone, one after each batch of the children.
    assert report.points + report.not_exposed == report.steps + root + each


def test_every_point_fires_before_or_after_its_step() -> None:
    """Each run injects exactly once, at distinct instants, with the time it happened."""
    seen = []

    async def scenario(world: World) -> None:
        world.check(lambda: seen.append(world.injections), "collect")
        with trio.CancelScope() as scope:
            world.expose("scope", scope)
            await trio.sleep(2)

    report = run_sweep(scenario, at="scope", schedules=["fifo"])
    fired = [injections for injections in seen if injections]
    assert len(fired) == report.points
    assert len({(one.step, one.when) for (one,) in fired}) == report.points
    assert {one.time for (one,) in fired} == {0.0, 2.0}


def test_closed_and_withdrawn_names_are_counted_not_run() -> None:
    """An exited scope and a withdrawn action leave instants that are not exposed."""
    calls = []

    async def scenario(world: World) -> None:
        with trio.CancelScope() as scope:
            world.expose("scope", scope)
            await trio.lowlevel.checkpoint()
        with world.expose("action", lambda: calls.append(world.injections[0].step)):
            await trio.lowlevel.checkpoint()
        await trio.lowlevel.checkpoint()

    report = run_sweep(scenario, at=["scope", "action"], schedules=["fifo"])
    assert report.not_exposed > report.points > 0
    # After step 2 the action waits, before step 3 it is still there.
    assert len(calls) == 4 - 2
    assert len(set(calls)) == 2


def test_nurseries_are_found_without_being_exposed() -> None:
    """`at="nurseries"` cancels each open nursery of each task below the root."""
    names = set()

    async def child() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep, 1)
            nursery.start_soon(trio.sleep, 2)

    async def scenario(world: World) -> None:
        world.check(lambda: names.add(world.injected), "collect")
        async with trio.open_nursery() as outer:
            outer.start_soon(child)

    run_sweep(scenario, at="nurseries", schedules=["fifo"])
    assert names == {None, "nursery:scenario#1.0", "nursery:child#2.0"}


def test_a_name_never_exposed_fails() -> None:
    """A misspelt name must not pass for want of points."""

    async def scenario(world: World) -> None:
        world.expose("scope", trio.CancelScope())
        await trio.lowlevel.checkpoint()

    with pytest.raises(SweepFailure) as caught:
        run_sweep(scenario, at=["scope", "scoop"])
    assert caught.value.invariant == "exposed:scoop"
    assert caught.value.token == ""


@pytest.mark.parametrize(
    "misspelt",
    [{"at": ["one", "oen"]}, {"pairs": [("oen", "one")]}, {"pairs": [("one", "oen")]}],
    ids=str,
)
@pytest.mark.parametrize("budget", [None, 1, 4])
def test_no_budget_excuses_a_misspelt_name(misspelt: Any, budget: int | None) -> None:
    """Neither on its own nor in a pair; a small budget tries what it can first."""

    async def scenario(world: World) -> None:
        world.expose("one", lambda: None)
        for _ in range(5):
            await trio.lowlevel.checkpoint()

    with pytest.raises(SweepFailure) as caught:
        run_sweep(scenario, schedules=["fifo"], budget=budget, **misspelt)
    assert caught.value.invariants == ("exposed:oen",)
    is_cut = not caught.value.report.complete
    assert ("budget of" in caught.value.failures[0].message) == is_cut


@pytest.mark.parametrize("enters", ["never", "sometimes", "late"])
def test_a_scope_that_no_run_enters_fails(enters: str) -> None:
    """Cancelling it changes nothing, so all its points would pass whatever the code does."""

    async def scenario(world: World, wanted: bool) -> None:
        scope = trio.CancelScope()
        world.expose("scope", scope)
        await trio.lowlevel.checkpoint()
        if enters == "late" or (enters == "sometimes" and wanted):
            with scope:
                await trio.lowlevel.checkpoint()

    def sweep_it() -> Report:
        return run_sweep(scenario, at="scope", params=grid(wanted=[True, False]))

    if enters != "never":
        assert sweep_it().complete
        return
    with pytest.raises(SweepFailure, match="no run ever entered") as caught:
        sweep_it()
    assert caught.value.invariants == ("exposed:scope",)


def test_a_pair_that_never_comes_in_that_order_fails() -> None:
    """Each of the two is fired, but the second is over before the first begins."""

    async def scenario(world: World) -> None:
        with world.expose("early", lambda: None):
            await trio.lowlevel.checkpoint()
        await trio.lowlevel.checkpoint()
        with world.expose("late", lambda: None):
            for _ in range(5):
                await trio.lowlevel.checkpoint()

    names = ["early", "late"]
    run_sweep(scenario, at=names, pairs=[("early", "late")], schedules=["fifo"])
    with pytest.raises(SweepFailure, match="never exposed after 'late' fired") as caught:
        run_sweep(scenario, at=names, pairs=[("late", "early")], schedules=["fifo"])
    assert caught.value.invariants == ("exposed:early",)
    pairs = [("late", "early")]
    report = run_sweep(scenario, at=names, pairs=pairs, schedules=["fifo"], budget=3)
    assert "unknown whether 'early' comes after 'late'" in report.row()


def test_state_kept_between_runs_is_each_process_own() -> None:
    """What the page says of it: no step tells, so only the number of processes does."""
    # Where forking pays, which a slow machine may find, each point has a process of its own.
    runs = []

    async def scenario(world: World) -> None:
        runs.append(1)
        before = len(runs)
        world.expose("action", lambda: None)
        for _ in range(20):
            await trio.lowlevel.checkpoint()
        world.check(lambda: before < 40 or 1 / 0, "young")

    with pytest.raises(SweepFailure) as caught:
        run_sweep(scenario, at="action", schedules=["fifo"], jobs=1, fork=False)
    assert caught.value.invariant == "young"
    runs.clear()
    report = run_sweep(scenario, at="action", schedules=["fifo"], jobs=3, fork=False)
    assert report.complete


def test_pairs_run_every_second_instant() -> None:
    """The second fault comes at each instant after the first, and right after it."""
    seen = []

    async def scenario(world: World) -> None:
        world.check(lambda: seen.append(world.injections), "collect")
        world.expose("first", lambda: None)
        world.expose("second", lambda: None)
        await trio.lowlevel.checkpoint()
        await trio.lowlevel.checkpoint()

    report = run_sweep(scenario, pairs=[("first", "second")], schedules=["fifo"])
    single = report.points - len([one for one in seen if len(one) == 2])
    # Neither fault changes a step: from each of n instants, n - i are left for the second.
    assert report.points == single + single * (single + 1) // 2
    pairs = [one for one in seen if len(one) == 2]
    assert all(one.name == "first" and two.name == "second" for one, two in pairs)
    assert len(set(pairs)) == len(pairs)
    assert any((one.step, one.when) == (two.step, two.when) for one, two in pairs)
    assert report.complete


def test_budget_takes_spread_points_and_says_sampled() -> None:
    """A budget runs that many points, the same each time, over the whole length."""
    steps = []

    async def scenario(world: World) -> None:
        world.check(lambda: steps.append(world.injections), "collect")
        with trio.CancelScope() as scope:
            world.expose("scope", scope)
            for _ in range(40):
                await trio.lowlevel.checkpoint()

    first = run_sweep(scenario, at="scope", schedules=["fifo"], budget=10)
    chosen = [one[0].step for one in steps if one]
    steps.clear()
    run_sweep(scenario, at="scope", schedules=["fifo"], budget=10)
    assert [one[0].step for one in steps if one] == chosen
    assert first.ran == len(chosen) == 10
    assert not first.complete
    assert "sampled (budget of 10)" in first.row()
    assert first.not_run == first.points - 10
    gaps = [later - earlier for earlier, later in pairwise(chosen)]
    assert max(gaps) - min(gaps) <= 1


@pytest.mark.parametrize("pairs", [[], [("scope", "nurseries")]])
def test_two_processes_report_what_one_does(pairs: list[tuple[str, str]]) -> None:
    """The report depends on the work, not on who did it or when."""

    async def scenario(world: World, delay: float) -> None:
        with trio.CancelScope() as scope:
            world.expose("scope", scope)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.sleep, delay)
                nursery.start_soon(trio.sleep, 1)
        world.sometimes("cut", scope.cancelled_caught)

    def row(jobs: int) -> Report:
        report = run_sweep(
            scenario, at="scope", pairs=pairs, params=grid(delay=[0, 1, 2]), jobs=jobs
        )
        report.seconds = 0
        return report

    assert row(2) == row(1)


@pytest.mark.parametrize("jobs", [1, 2])
def test_runs_that_end_before_a_check_is_registered_are_counted(jobs: int) -> None:
    """What a run never came to register was not asked of it, and the report says how often."""

    async def scenario(world: World, wanted: bool) -> None:
        world.check(lambda: None, "asked of all")
        with trio.CancelScope() as scope:
            world.expose("scope", scope)
            for _ in range(10):
                await trio.lowlevel.checkpoint()
        if scope.cancelled_caught:
            return
        world.track("never closed", object(), state=lambda _: True)
        if wanted:
            world.check(lambda: None, "of one parameter set")

    def swept(**options: Any) -> Report:
        return run_sweep(scenario, params=grid(wanted=[True, False]), **options)

    report = swept(at="scope", jobs=jobs)
    # Each cut ends the scenario early, but for the one before its last step.
    assert report.not_asked["never closed"] > 30
    assert report.not_asked["of one parameter set"] == report.not_asked["never closed"] / 2
    assert "asked of all" not in report.not_asked
    assert f"not asked: never closed {report.not_asked['never closed']}x" in report.row()
    assert (
        swept(at="scope", schedules=["exhaustive"]).not_asked.keys() == report.not_asked.keys()
    )
    assert not swept().not_asked


def test_a_sweep_that_fires_nothing_has_no_points() -> None:
    """It says so, instead of a number that looks as if something had been left out."""

    async def scenario(world: World) -> None:
        await trio.lowlevel.checkpoint()

    report = run_sweep(scenario, schedules=["exhaustive"])
    assert "points no faults" in report.row()


def test_two_processes_find_the_same_failures() -> None:
    """Failures, tokens and counts are the same with two processes, and come in order."""

    async def scenario(world: World) -> None:
        with trio.CancelScope() as scope:
            world.expose("scope", scope)
            for _ in range(30):
                await trio.lowlevel.checkpoint()
        world.check(lambda: not scope.cancelled_caught or 1 / 0, "never cut")

    def failures(jobs: int) -> tuple[object, ...]:
        with pytest.raises(SweepFailure) as caught:
            run_sweep(scenario, at="scope", jobs=jobs, stop_after=2)
        report = caught.value.report
        return caught.value.failures, report.runs, report.ran, report.points

    assert failures(2) == failures(1)


def test_uncontrolled_nondeterminism_is_refused() -> None:
    """State kept between runs makes the dry runs differ; the message says where."""
    runs = []

    async def scenario(world: World) -> None:
        runs.append(1)
        for _ in range(len(runs)):
            await trio.lowlevel.checkpoint()

    with pytest.raises(NondeterminismError) as caught:
        run_sweep(scenario)
    assert "two dry runs" in str(caught.value)
    assert "They part after step 2" in str(caught.value)
    assert "test_points.py" in str(caught.value)


def test_nondeterminism_after_the_dry_runs_is_refused() -> None:
    """A run that leaves its dry run's steps stops the sweep, and fires nothing else."""
    runs = []

    async def scenario(world: World) -> None:
        runs.append(1)
        with trio.CancelScope() as scope:
            world.expose("scope", scope)
            if len(runs) > 4:
                await trio.sleep(1)
            await trio.lowlevel.checkpoint()
            await trio.lowlevel.checkpoint()

    with pytest.raises(NondeterminismError, match="left the steps of its dry run"):
        run_sweep(scenario, at="scope", schedules=["fifo"])


def test_grid_is_every_combination() -> None:
    """`grid` lists all combinations, the last name varying fastest."""
    assert grid(a=[1, 2], b="xy") == [
        {"a": 1, "b": "x"},
        {"a": 1, "b": "y"},
        {"a": 2, "b": "x"},
        {"a": 2, "b": "y"},
    ]
    assert grid() == [{}]


@pytest.mark.parametrize(
    "wrong",
    [
        {"schedules": []},
        {"schedules": ["random"]},
        {"params": []},
        {"stop_after": 0},
        {"budget": 0},
        {"jobs": 0},
        {"heal": 0},
        {"without": ["finish"]},
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong: Any) -> None:
    """Each is a ValueError before anything runs."""
    with pytest.raises(ValueError, match=r"."):
        run_sweep(three_checkpoints, **wrong)
