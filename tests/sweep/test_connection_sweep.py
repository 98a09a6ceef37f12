"""cfw swept: one connection, cancelled and disturbed at every instant."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import structlog

from cfw.testing.sweep import SweepFailure, World, grid, run_sweep, sweep
from cfw.testing.sweep.report import record
from tests.sweep.mutants import MUTANTS, Mutant
from tests.sweep.scenario import SINKS, connection, quiet

REACHED = ["clean end", "aborted", "frames discarded"]
PAIRS = [("revoke", "server"), ("abort", "connection"), ("drain", "abort")]
EVERYTHING = ["connection", "server", "revoke", "eof", "reset", "drain", "abort"]


@pytest.fixture(autouse=True)
def no_logs() -> Iterator[None]:
    """Thousands of connections would log thousands of lines."""
    before = structlog.get_config()
    quiet()
    yield
    structlog.configure(**before)


@sweep(at=["connection", "server"], params=grid(sink=["fast", "slow"]), sometimes=REACHED)
async def test_cancelled_at_every_instant(world: World, sink: str) -> None:
    """A cancelled connection keeps every promise, whoever cancels it and whenever."""
    await connection(world, sink=sink, reach=REACHED)


@sweep(at=["revoke", "eof", "abort"], params=grid(pace=[0.01, 0.04]))
async def test_disturbed_at_every_instant(world: World, pace: float) -> None:
    """A session revoked, a rig that vanishes, a server that stops: at any time."""
    await connection(world, sink="slow", pace=pace)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_planted_bug_is_found(mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each mutant is caught, by the name of the invariant it breaks."""

    async def mutated(world: World, sink: str) -> None:
        await connection(world, sink=sink, **mutant.settings)

    mutant.patch(monkeypatch)
    with pytest.raises(SweepFailure) as caught:
        run_sweep(mutated, at=mutant.at, params=grid(sink=mutant.sinks), schedules=["fifo"])
    assert mutant.invariant in caught.value.invariants, str(caught.value)
    report = caught.value.report
    report.scenario, report.mutants, report.failures = f"mutant: {mutant.name}", (1, 1), ()
    report.sampled = f"stopped, found by {mutant.invariant}"
    record(report)


def test_every_invariant_has_a_mutant() -> None:
    """An oracle that nothing ever trips may be asleep."""
    named = {"one_terminal", "accounting", "order", "nothing_buffered", "registry_empty"}
    named |= {"told_once", "receipt_is_true", "revoked_is_over", "finished", "stream_closed"}
    named |= {
        "rig_is_told",
        "sink_and_rig_agree",
        "left_alone_it_is_clean",
        "cancelled-swallowed",
    }
    assert named <= {mutant.invariant for mutant in MUTANTS}


@sweep(
    at=["connection"],
    schedules=["exhaustive"],
    params=grid(sink=["fast", "slow", "opens slowly", "raises for ever"]),
)
async def test_every_order_of_the_router_alone(world: World, sink: str) -> None:
    """One frame, the router's own tasks in every order Trio may run them in, cancelled in
    each; without wire and rig, whose tasks would make too many orders to go through."""
    await connection(world, sink=sink, frames=1, is_bare=True, pace=0)


@pytest.mark.sweep
@sweep(at=EVERYTHING, schedules=["fifo", "lifo", 0], params=grid(sink=list(SINKS)), jobs=2)
async def test_everything_at_every_instant(world: World, sink: str) -> None:
    """All faults under every kind of sink, in several orders of the batches."""
    await connection(world, sink=sink)


@pytest.mark.sweep
@sweep(pairs=PAIRS, schedules=["fifo", "lifo"], jobs=2)
async def test_two_faults_of_the_router_alone(world: World) -> None:
    """A second fault at every instant after the first, and right behind it."""
    await connection(world, sink="slow", frames=1, is_bare=True)


@pytest.mark.sweep
@sweep(pairs=PAIRS, schedules=["fifo"], budget=4000, jobs=2)
async def test_two_faults(world: World) -> None:
    """The same through the wire; more than is run each time, so it says sampled."""
    await connection(world, sink="slow", frames=1)
