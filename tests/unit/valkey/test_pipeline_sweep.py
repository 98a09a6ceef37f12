"""Captures that share a connection, disturbed at every instant.

The pipeline is the real one; behind it is a node in memory. What can be fired: `one` (the first
capture is cancelled, with a command waiting, sent or answered), `cut` (the connection breaks),
`worker` (all of it ends).
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import trio
from coredis.exceptions import ConnectionError as ConnectionLost

from cfw.testing.sweep import World, grid, sweep
from cfw.testing.sweep.report import record
from cfw.valkey._pipeline import packed
from tests.sweep.mutants import hunt, summary
from tests.unit.valkey.fake_node import FakeNode, Words, echo
from tests.unit.valkey.mutants import OF_THE_PIPELINE

NAMES = ("one", "two", "three")
FRAMES = 2
#: Shorter than `GATHER_S`, so that turns have commands of several captures, and one who is
#: cancelled may be waiting for a turn.
APART_S, PACE_S = 0.002, 0.007
FAULTS = ["one", "cut", "worker"]
REACHED = ["all answered", "given up when sent", "given up before", "told of a cut"]


def says(words: Words) -> bytes:
    return b":1\r\n" if words[0] == b"WAIT" else echo(words)


async def sharing(world: World, *, replicas: int = 0, reach: Sequence[str] = REACHED) -> None:
    """Three captures, two commands each, and what has become of each of them."""
    node = FakeNode(says, delay_s=0.003, replicas=replicas)
    got: dict[str, list[bytes]] = {name: [] for name in NAMES}
    told: set[str] = set()
    fired: set[str] = set()  # of two faults the world names the first alone

    def cut() -> None:
        fired.add("cut")
        node.cut()

    async with node.pipeline() as pipeline:

        async def film(number: int, name: str) -> None:
            await trio.sleep(number * APART_S)
            for seq in range(FRAMES):
                words = packed(["DO", name, seq])
                try:
                    got[name].append(await pipeline.ask(words, may_wait=True))
                except ConnectionLost:
                    told.add(name)
                    return
                except trio.TooSlowError:
                    return
                await trio.sleep(PACE_S)

        async def film_one() -> None:
            with trio.CancelScope() as scope, world.expose("one", scope):
                await film(1, NAMES[0])
            if scope.cancel_called:
                fired.add("one")

        world.expose("cut", cut)
        with trio.CancelScope() as worker, world.expose("worker", worker):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(film_one)
                # One before it and one behind it in a turn.
                for number, name in zip((0, 2), NAMES[1:], strict=True):
                    nursery.start_soon(film, number, name)
        if worker.cancel_called:
            fired.add("worker")
        world.withdraw("cut")
        ran = {
            name: [words[2] for words in node.commands if words[1] == name.encode()]
            for name in NAMES
        }
        is_left = len(pipeline._waiting) + len(pipeline._sent)
        has_ended = pipeline.has_ended
    whole = [b"%d" % seq for seq in range(FRAMES)]

    def own_answers() -> None:
        for name, answers in got.items():
            assert answers == [b"%b %b" % (name.encode(), seq) for seq in whole][: len(answers)]

    def others_are_answered() -> None:
        for name in NAMES[1:]:
            if not fired & {"cut", "worker"}:
                assert len(got[name]) == FRAMES, (name, got)

    def told_or_answered() -> None:
        for name in NAMES[1:]:
            if "worker" not in fired:
                assert (len(got[name]) == FRAMES) != (name in told), (name, got, told)
        assert not told or has_ended

    def ran_once_and_in_order() -> None:
        for name, seqs in ran.items():
            assert seqs == whole[: len(seqs)], ran
            assert len(seqs) >= len(got[name]), (ran, got)

    def nothing_left() -> None:
        # What was sent for who has gone may be on its way yet.
        assert not is_left or fired & {"one", "worker"}

    for invariant in (
        own_answers,
        others_are_answered,
        told_or_answered,
        ran_once_and_in_order,
        nothing_left,
    ):
        world.check(invariant)
    mine = len(ran[NAMES[0]]), len(got[NAMES[0]])
    reached = {
        "all answered": all(len(answers) == FRAMES for answers in got.values()),
        "given up when sent": "one" in fired and mine[0] > mine[1],
        "given up before": "one" in fired and mine[0] == mine[1] < FRAMES,
        "told of a cut": bool(told),
    }
    for name in reach:
        world.sometimes(name, reached[name])


@sweep(at=FAULTS, schedules=["fifo"], sometimes=REACHED)
async def test_a_capture_that_is_cancelled_takes_nothing_from_the_others(world: World) -> None:
    """Each has its own answers, in order, or is told that there will be none."""
    await sharing(world)


async def planted_sharing(world: World) -> None:
    await sharing(world, reach=())


def test_planted_bugs_of_the_pipeline_are_found_and_only_under_a_fault() -> None:
    """A sweep that finds nothing must be one that can."""
    schedules = ("fifo", "lifo")
    hunts = {one.name: hunt(one, planted_sharing, schedules) for one in OF_THE_PIPELINE}
    record(summary("planted bugs of the pipeline", hunts.values(), schedules))
    assert not [name for name, (_, why) in hunts.items() if why], hunts


@pytest.mark.sweep
@sweep(at=FAULTS, params=grid(replicas=[0, 1]), schedules=["fifo", "lifo"], jobs=2)
async def test_the_pipeline_in_the_other_order(world: World, replicas: int) -> None:
    """The youngest task of a batch first; and with replicas, whose answer a turn waits for."""
    await sharing(world, replicas=replicas)


@pytest.mark.sweep
@sweep(
    schedules=["fifo"],
    pairs=[("one", "cut"), ("cut", "one"), ("one", "worker"), ("cut", "worker")],
    budget=1500,
    jobs=2,
)
async def test_two_faults_of_the_pipeline(world: World) -> None:
    """Cancelled, and then the connection breaks; the other way about."""
    await sharing(world)
