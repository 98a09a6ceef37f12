"""The admin listener swept: whatever becomes of a reader, captures and other readers go on."""

from __future__ import annotations

import pytest

from cfw.testing.sweep import World, grid, sweep
from cfw.testing.sweep.report import record
from tests.sweep.admin import FAULTS, INVARIANTS, REACHED, SAID, reading
from tests.sweep.mutants import hunt, summary
from tests.sweep.other_mutants import OF_THE_ADMIN


@sweep(at=FAULTS, params=grid(reads=list(SAID)), schedules=["lifo"], budget=120)
async def test_a_reader_cut_anywhere_harms_nobody_else(world: World, reads: str) -> None:
    """Requests, pictures and feeds; some of the instants, the youngest task first."""
    await reading(world, reads=reads)


@pytest.mark.sweep
@sweep(
    at=FAULTS,
    params=grid(reads=list(SAID)),
    schedules=["fifo"],
    sometimes=REACHED,
    jobs=2,
    fork=False,
)
async def test_every_instant_of_a_reader(world: World, reads: str) -> None:
    """All of them."""
    await reading(world, reads=reads, reach=REACHED)


@pytest.mark.sweep
def test_planted_bugs_of_the_admin_listener_are_found_and_only_under_a_fault() -> None:
    """A sweep that finds nothing must be one that can; each invariant finds one."""
    hunts = {one.name: hunt(one, reading) for one in OF_THE_ADMIN}
    record(summary("planted bugs of the admin listener", hunts.values()))
    assert not [why for _, why in hunts.values() if why], hunts
    assert {mutant.invariant for mutant in OF_THE_ADMIN} == {*INVARIANTS}
