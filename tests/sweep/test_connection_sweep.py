"""cfw swept: one connection, cancelled and disturbed at every instant."""

from __future__ import annotations

import os

import pytest

from cfw.testing.sweep import World, grid, sweep
from cfw.testing.sweep.report import record
from tests.sweep.orders import every_order
from tests.sweep.scenario import BY_THE_SINK, FAULTS, SINKS, connection

REACHED = ["clean end", "aborted", "frames discarded"]
#: The first breaks something, the second falls into the middle of the clean-up.
PAIRS = [
    ("revoke", "server"),
    ("abort", "connection"),
    ("drain", "abort"),
    ("sink_stalls", "server"),
]
#: How many a one-frame capture has; another number means that the connection has changed.
ORDERS = 663_552


@sweep(at=["connection", "server"], params=grid(sink=["fast", "slow"]), sometimes=REACHED)
async def test_cancelled_at_every_instant(world: World, sink: str) -> None:
    """A cancelled connection keeps every promise, whoever cancels it and whenever."""
    await connection(world, sink=sink, reach=REACHED)


@sweep(at=["revoke", "eof", "abort"], params=grid(pace=[0.01, 0.04]))
async def test_disturbed_at_every_instant(world: World, pace: float) -> None:
    """A session revoked, a rig that vanishes, a server that stops: at any time."""
    await connection(world, sink="slow", pace=pace)


@sweep(
    at=[*BY_THE_SINK, "rig_deaf", "rig_mute"],
    schedules=["fifo"],
)
async def test_sink_and_rig_break_at_every_instant(world: World) -> None:
    """A sink that raises once, for ever, or never returns; a rig that reads no more, or
    sends no more and stays: from any instant on."""
    await connection(world, sink="slow")


@sweep(at=["connection", "sink_raises"], schedules=["fifo"])
async def test_a_sink_that_takes_some_frames_at_once(world: World) -> None:
    """Cancelled, or with a sink that raises: what is taken at once is a frame like others."""
    await connection(world, sink="prompt")


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
def test_every_order_of_a_one_frame_capture() -> None:
    """All tasks of a connection, wire included, from the handshake to the end. The rig has
    said everything before, so it has no task, and there is no fault: with one at each instant
    of each order there would be thousands of times as many."""

    async def one_frame(world: World) -> None:
        await connection(world, sink="slow", frames=1, close_behind=False, in_one_write=True)

    # Three choices are made in the handshake; the orders of all the rest are gone through.
    fixed = 0 if os.environ.get("CFW_SWEEP_ALL_ORDERS") else 3
    report = every_order(one_frame, name="one frame, in every order", fixed=fixed, jobs=2)
    record(report)
    assert report.orders * (8 if fixed else 1) == ORDERS


@pytest.mark.sweep
@sweep(at=FAULTS, schedules=["fifo", "lifo"], params=grid(sink=list(SINKS)), jobs=2)
async def test_everything_at_every_instant(world: World, sink: str) -> None:
    """All faults under every kind of sink, in several orders of the batches."""
    await connection(world, sink=sink)


@pytest.mark.sweep
@sweep(pairs=PAIRS, schedules=["fifo", "lifo"], jobs=2)
async def test_two_faults_of_the_router_alone(world: World) -> None:
    """A second fault at every instant after the first, and right behind it."""
    await connection(world, sink="slow", frames=1, is_bare=True)


@pytest.mark.sweep
@sweep(pairs=PAIRS, schedules=["fifo"], jobs=2)
async def test_two_faults(world: World) -> None:
    """The same through the wire, for the shortest capture that has a frame."""
    await connection(world, sink="slow", frames=1)
