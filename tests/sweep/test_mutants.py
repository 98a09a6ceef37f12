"""The oracle is awake: each invariant finds a planted bug, which nothing but a fault shows."""

from __future__ import annotations

import functools

import pytest

from cfw.repository import ForwardBuffer
from cfw.state import Frame
from cfw.testing.sweep import Report, SweepFailure, World, grid, run_sweep
from cfw.testing.sweep.oracle import DEFAULT_INVARIANTS
from cfw.testing.sweep.report import record
from tests.sweep.mutants import MUTANTS, Mutant
from tests.sweep.oracle import INVARIANTS
from tests.sweep.scenario import connection


def sweep_of(mutant: Mutant, *, at: tuple[str, ...]) -> Report:
    """Sweep the scenario of a mutant, planted or not."""

    async def mutated(world: World, sink: str) -> None:
        await connection(world, sink=sink, **mutant.settings)

    return run_sweep(
        mutated,
        at=at,
        params=grid(sink=[mutant.sink]),
        schedules=["fifo"],
        stop_after=mutant.stop_after,
    )


@functools.cache
def hunt(name: str) -> tuple[Report, str]:
    """Plant a bug and sweep; what was covered, and why it was not found, if it was not."""
    (mutant,) = [one for one in MUTANTS if one.name == name]
    with pytest.MonkeyPatch.context() as patch:
        mutant.patch(patch)
        try:
            report = sweep_of(mutant, at=())
        except SweepFailure as failure:
            return failure.report, f"it fails without a fault:\n{failure}"
        try:
            report = sweep_of(mutant, at=mutant.at)
        except SweepFailure as failure:
            if mutant.invariant in failure.invariants:
                return failure.report, ""
            return failure.report, f"found, but not by {mutant.invariant}:\n{failure}"
        return report, f"nothing found it, in {report.row()}"


@pytest.mark.parametrize("name", [mutant.name for mutant in MUTANTS])
def test_a_planted_bug_passes_without_a_fault_and_is_found_by_the_sweep(name: str) -> None:
    """Each mutant is caught, by the name of the invariant it breaks."""
    _, escaped = hunt(name)
    assert not escaped, escaped


def test_no_planted_bug_escapes() -> None:
    """All of them in one row of the table."""
    hunts = {mutant.name: hunt(mutant.name) for mutant in MUTANTS}
    escaped = [name for name, (_, why) in hunts.items() if why]
    total = Report("planted bugs, by the invariant's name", schedules=("fifo",))
    total.mutants = (len(hunts) - len(escaped), len(hunts))
    total.sampled = "each until it is found"
    for report, _ in hunts.values():
        total.points += report.points
        total.ran += report.ran
        total.runs += report.runs
        total.seconds += report.seconds
    record(total)
    assert not escaped


def test_every_invariant_has_a_mutant() -> None:
    """An oracle that nothing ever trips may be asleep."""
    broken = {mutant.invariant for mutant in MUTANTS}
    assert broken == {*INVARIANTS, *DEFAULT_INVARIANTS}
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)


def test_the_run_without_a_fault_is_judged_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug that needs no fault does not get as far as the sweep."""
    original_put = ForwardBuffer.put

    def second_frame_lost(box: ForwardBuffer, frame: Frame) -> None:
        if frame.meta.seq != 2:
            original_put(box, frame)

    monkeypatch.setattr(ForwardBuffer, "put", second_frame_lost)

    async def mutated(world: World) -> None:
        await connection(world)

    with pytest.raises(SweepFailure) as caught:
        run_sweep(mutated, at=(), schedules=["fifo"])
    assert "left_alone_it_is_clean" in caught.value.invariants
