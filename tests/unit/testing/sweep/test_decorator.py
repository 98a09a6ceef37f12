"""`@sweep` makes a synchronous test that pytest and pytest-trio take for what it is."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import pytest
import trio

from cfw.testing.sweep import (
    SweepFailure,
    SweepOptions,
    World,
    grid,
    options,
    report,
    run_sweep,
    sweep,
)
from cfw.testing.sweep.api import SweepTest


@pytest.fixture(autouse=True)
def own_session() -> Iterator[None]:
    """What these sweeps record is not for the table of this session."""
    yield
    report.drain()


@pytest.fixture
def swept() -> SweepTest:
    """A decorated scenario with a parameter, a fixture argument and a default."""

    @sweep(at="scope", schedules=["fifo"], params=grid(pace=[0, 1]))
    async def scenario(world: World, pace: float, fixture: list[str], more: int = 0) -> None:
        """Its docstring."""
        fixture.append(f"{pace}{more}")
        with trio.CancelScope() as scope:
            world.expose("scope", scope)
            await trio.sleep(pace)

    return scenario


def test_only_fixtures_are_left_in_the_signature(swept: SweepTest) -> None:
    """The world, parameters and defaults are the sweep's; nothing unwraps to async."""
    assert list(inspect.signature(swept).parameters) == ["fixture"]
    assert not inspect.iscoroutinefunction(swept)
    assert not inspect.iscoroutinefunction(inspect.unwrap(swept))
    assert inspect.iscoroutinefunction(swept.scenario)
    assert swept.__doc__ == "Its docstring."
    assert getattr(swept, "__name__", "") == "scenario"


def test_fixtures_and_parameters_arrive(swept: SweepTest) -> None:
    """Every run gets its parameter set and the fixture's value."""
    seen: list[str] = []
    swept(fixture=seen)
    assert set(seen) == {"00", "10"}
    (recorded,) = report.drain()
    assert recorded.scenario == "test_decorator.scenario"
    assert recorded.runs == len(seen)


def test_command_line_overrides(swept: SweepTest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Budget and jobs of the session win over the sweep's own."""
    monkeypatch.setattr(options, "current", options.Options(budget=2, jobs=2, test="a::b"))
    swept(fixture=[])
    (recorded,) = report.drain()
    assert recorded.ran == 2
    assert recorded.test == "a::b"


def test_failing_sweep_is_recorded_too() -> None:
    """The table shows what failed, with what had been covered."""

    @sweep()
    async def broken(world: World) -> None:
        raise OSError

    with pytest.raises(SweepFailure):
        broken()
    (recorded,) = report.drain()
    assert recorded.failures[0].invariant == "exception"


def test_scenario_can_be_swept_again_with_other_settings(swept: SweepTest) -> None:
    """`scenario` and `settings` let a mutant test reuse a sweep."""
    settings = SweepOptions(**swept.settings)
    settings["params"] = grid(pace=[1], fixture=[[]])
    assert run_sweep(swept.scenario, **settings).complete


@pytest.mark.parametrize("wrong", [lambda world: None, max])
def test_synchronous_scenarios_are_refused(wrong: Any) -> None:
    """A scenario must be an async function."""
    with pytest.raises(TypeError, match="async function"):
        sweep()(wrong)


def test_scenario_without_a_world_is_refused() -> None:
    """Its first argument is the world, whatever it is called."""

    async def nothing() -> None:
        raise AssertionError

    async def parameter(pace: float) -> None:
        raise AssertionError

    with pytest.raises(TypeError, match="first argument"):
        sweep()(nothing)
    with pytest.raises(TypeError, match="first argument"):
        sweep(params=grid(pace=[1]))(parameter)


def test_table_aligns_and_shortens_seeds() -> None:
    """Seeds in a row are written as a range; mutants are the caller's to fill in."""
    one = report.Report("one", schedules=("fifo", "s0", "s1", "s2", "s7"), mutants=(7, 7))
    two = report.Report("a longer name", schedules=("exhaustive",), orders=12)
    lines = report.table([one.cells(), two.cells()])
    assert "fifo s0-s2 s7" in lines[1]
    assert "7/7" in lines[1]
    assert "12 orders" in lines[2]
    column = lines[0].index("points")
    assert all(line[column - 1] == " " and line[column] != " " for line in lines)
