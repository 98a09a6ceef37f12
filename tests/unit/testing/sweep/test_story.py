"""What a failure tells at a glance: traceback, output, places, the smallest point."""

from __future__ import annotations

import importlib
import logging
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import trio

from cfw.testing.sweep import SweepFailure, Token, World, run_sweep, shrink
from cfw.testing.sweep.page import page_of


def found(scenario: Any, **settings: Any) -> SweepFailure:
    with pytest.raises(SweepFailure) as caught:
        run_sweep(scenario, at="scope", **settings)
    return caught.value


def lookup() -> None:
    try:
        os.environ["NO_RIG"]
    except KeyError as exc:
        raise RuntimeError("NO_RIG") from exc


async def raises_in_cleanup(world: World) -> None:
    sys.stdout.write(f"begun {world.injected}\n")
    with trio.CancelScope() as scope:
        world.expose("scope", scope)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep, 1)
            try:
                await trio.sleep(1)
            except trio.Cancelled:
                sys.stdout.write(f"cut by {world.injected}\n")
                logging.getLogger("app").warning("cleaning up")
                lookup()


def test_the_traceback_comes_with_its_causes_also_on_replay() -> None:
    """Not the place alone: every frame of the program, the group and what led to it."""
    failure = found(raises_in_cleanup)
    again = found(raises_in_cleanup, replay=failure.token)
    for one in (failure, again):
        trace = one.failures[0].trace
        assert "KeyError: 'NO_RIG'" in trace
        assert "direct cause of the following" in trace
        assert "RuntimeError: NO_RIG" in trace
        assert "in raises_in_cleanup" in trace
        assert "sweep/run.py" not in trace
        assert trace.splitlines()[-1].strip(" |+-") in str(one)


def test_an_assert_is_one_root_whatever_it_shows() -> None:
    """The values in its text differ from cut to cut."""

    async def scenario(world: World) -> None:
        done: list[str] = []

        def all_or_none() -> None:
            assert len(done) in (0, 5), done

        world.check(all_or_none)
        with trio.CancelScope() as scope:
            world.expose("scope", scope)
            for number in range(5):
                await trio.lowlevel.checkpoint()
                done.append("x" * number)

    [failure] = found(scenario, stop_after=9).failures
    assert failure.others > 3


def test_a_failed_check_shows_its_traceback() -> None:
    """Where an invariant of the scenario's own failed."""

    async def scenario(world: World) -> None:
        world.check(lambda: lookup() if world.injected else None, "rig known")
        with trio.CancelScope() as scope:
            world.expose("scope", scope)
            await trio.sleep(1)

    failure = found(scenario).failures[0]
    assert "KeyError: 'NO_RIG'" in failure.trace
    assert "in lookup" in failure.trace


def test_only_the_failing_run_prints(capsys: pytest.CaptureFixture[str]) -> None:
    """What hundreds of runs print is not shown; what the failing one did is told with it."""
    failure = found(raises_in_cleanup)
    assert capsys.readouterr().out == ""
    output = failure.failures[0].output
    assert output.splitlines() == [
        "begun None",
        "cut by scope",
        "WARNING app: cleaning up",
    ]
    assert "  cut by scope" in str(failure)


def test_an_editor_opens_every_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Also of what is installed elsewhere, and if the scenario went to another directory."""
    before = Path.cwd()
    folder = tmp_path / "site-packages"
    folder.mkdir()
    lines = ("import trio", "async def sleep():", "    await trio.sleep(1)")
    (folder / "_util.py").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(folder)
    installed = importlib.import_module("_util")

    async def scenario(world: World) -> None:
        os.chdir(tmp_path)
        with trio.CancelScope() as scope:
            world.expose("scope", scope)
            await installed.sleep()
        os.chdir(before)
        world.check(lambda: not scope.cancelled_caught or 1 / 0, "never cut")

    text = str(found(scenario))
    os.chdir(before)
    places = set(re.findall(r"([^\s\"]+\.py)(?:\"|:\d+)", text))
    assert any("site-packages" in place for place in places), places
    assert all(Path(place).is_file() for place in places), places


@pytest.mark.parametrize("jobs", [1, 2])
def test_the_smallest_point_of_a_bug_is_shown(jobs: int) -> None:
    """Fewest faults, then the earliest parameters, schedule and instant."""

    async def scenario(world: World, rounds: int) -> None:
        with trio.CancelScope() as scope:
            world.expose("scope", scope)
            for number in range(rounds):
                world._sometimes["late"] = number > 2
                await trio.lowlevel.checkpoint()
        world.check(lambda: not (scope.cancelled_caught and number > 2) or 1 / 0, "early")

    failure = found(
        scenario, params=[{"rounds": 2}, {"rounds": 6}, {"rounds": 5}], jobs=jobs
    ).failures[0]
    point = Token.parse(failure.token).point
    assert point == failure.point
    assert (point.params, point.schedule) == (1, "fifo")
    [fault] = point.faults
    assert (fault.step, fault.when) == (4, "a")


def checkpoints(number: int, bad: Any) -> Any:
    """A scenario of so many checkpoints; `bad` says of which the cut is a failure."""

    async def scenario(world: World) -> None:
        done = 0
        world.check(lambda: not (scope.cancelled_caught and bad(done)), "fine there")
        with trio.CancelScope() as scope:
            world.expose("scope", scope)
            for _ in range(number):
                await trio.lowlevel.checkpoint()
                done += 1

    return scenario


def test_a_sample_is_made_smaller_by_points_it_left_out() -> None:
    """What the budget skipped is tried, from the smallest on, and the failure says so."""
    scenario = checkpoints(40, lambda done: done >= 3)
    smallest = found(scenario, schedules=["fifo"]).failures[0]
    sampled = found(scenario, schedules=["fifo"], budget=4).failures[0]
    assert sampled.point == smallest.point
    assert sampled.smallest == smallest.smallest
    assert "no smaller point of this sweep fails in this way" in str(sampled)


def test_what_was_not_tried_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """The runs for one failure are bounded."""
    monkeypatch.setattr(shrink, "RUNS", 5)
    scenario = checkpoints(40, lambda done: done > 20)
    failure = found(scenario, schedules=["fifo"], budget=4).failures[0]
    assert re.search(r"smallest so far: \d+ smaller points were not tried", str(failure))


def test_an_order_is_reduced_to_the_choices_it_takes() -> None:
    """A bug that a seed finds is shown with as few choices other than the oldest first."""

    async def scenario(world: World) -> None:
        seen: list[int] = []

        async def step(number: int) -> None:
            for _ in range(6):
                await trio.lowlevel.checkpoint()
                seen.append(number)

        world.check(lambda: seen[:2] != [1, 0], "the first comes first")
        async with trio.open_nursery() as nursery:
            for number in range(4):
                nursery.start_soon(step, number)

    with pytest.raises(SweepFailure) as caught:
        run_sweep(scenario, schedules=list(range(40)))
    [failure] = caught.value.failures
    assert failure.point is not None
    schedule = failure.point.schedule
    assert isinstance(schedule, tuple)
    assert sum(map(bool, schedule)) == 1
    assert re.search(r"oldest task first but for 1 of \d+ choices", str(failure))
    with pytest.raises(SweepFailure, match="the first comes first"):
        run_sweep(scenario, replay=failure.token, schedules=list(range(40)))


def test_the_page_shows_lanes_and_the_cut() -> None:
    """One file, with every task, the place of the cut, and nothing from elsewhere."""
    failure = found(raises_in_cleanup)
    page = page_of(failure.failures[0], "test_it.py::test_<x>", failure.command)
    assert "test_it.py::test_&lt;x&gt;" in page
    assert "<th>raises_in_cleanup#1<th>sleep#2" in page
    assert re.search(r'class="cut"><td colspan=4>✂ scope fired (before|after) step \d', page)
    assert "RuntimeError: NO_RIG" in page
    assert "cut by scope" in page
    assert not re.search(r"https?:|<script|<link|src=", page)


def test_a_long_run_makes_no_endless_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left out is said."""
    monkeypatch.setattr(shrink, "RUNS", 1)
    scenario = checkpoints(1000, lambda done: done > 500)
    failure = found(scenario, schedules=["fifo"], budget=3)
    page = page_of(failure.failures[0], "test", "{token}")
    assert page.count("<tr>") < 500
    assert "steps before these are left out" in page
