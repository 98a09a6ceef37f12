"""The oracle is awake: each invariant finds a planted bug, which nothing but a fault shows."""

from __future__ import annotations

import functools

import pytest

from cfw.testing.sweep import Report, SweepFailure, World, run_sweep
from cfw.testing.sweep.oracle import DEFAULT_INVARIANTS, LEFT_BEHIND
from cfw.testing.sweep.report import record
from tests.planted import Change, planted
from tests.sweep.mutants import BUFFER, MUTANTS, hunt, summary
from tests.sweep.oracle import INVARIANTS
from tests.sweep.scenario import connection


@functools.cache
def hunted(name: str) -> tuple[Report, str]:
    """Each is hunted once in a session."""
    (mutant,) = [one for one in MUTANTS if one.name == name]
    return hunt(mutant, connection)


@pytest.mark.parametrize("name", [mutant.name for mutant in MUTANTS])
def test_a_planted_bug_passes_without_a_fault_and_is_found_by_the_sweep(name: str) -> None:
    """Each mutant is caught, by the name of the invariant it breaks."""
    _, escaped = hunted(name)
    assert not escaped, escaped


def test_no_planted_bug_escapes() -> None:
    """All of them in one row of the table."""
    hunts = {mutant.name: hunted(mutant.name) for mutant in MUTANTS}
    record(summary("planted bugs, by the invariant's name", hunts.values()))
    assert not [name for name, (_, why) in hunts.items() if why]


def test_every_invariant_has_a_mutant() -> None:
    """An oracle that nothing ever trips may be asleep.

    What one task leaves behind for another is asked where tasks are cancelled alone; what is
    planted for that is in tests/unit/testing/sweep/test_alone.py.
    """
    broken = {mutant.invariant for mutant in MUTANTS}
    assert broken == {*INVARIANTS, *DEFAULT_INVARIANTS} - {LEFT_BEHIND}
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)


def test_the_run_without_a_fault_is_judged_too() -> None:
    """A bug that needs no fault does not get as far as the sweep."""
    second_frame_lost = Change(
        BUFFER,
        "self._put.send_nowait(frame)",
        """
        if frame.meta.seq == 2:
            return
        self._put.send_nowait(frame)
        """,
    )

    async def mutated(world: World) -> None:
        await connection(world)

    with planted(second_frame_lost), pytest.raises(SweepFailure) as caught:
        run_sweep(mutated, at=(), schedules=["fifo"])
    assert "left_alone_it_is_clean" in caught.value.invariants
