"""The lease and the stream of a capture, disturbed at every instant.

Router, buffer, core and sink are the real ones; behind them is a fake server, which carries out
what it was asked for also when who asked was cancelled. What can be fired: `connection` and
`server` (scopes), `revoke`, `abort`, `away` (the server is out of reach for a while), `stall`
(the worker is taken for dead: its lease has run out, and another worker looks).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import suppress

import pytest
import structlog
import trio

from cfw.routes import Router
from cfw.routes.registry import Registry
from cfw.sessions import SessionStatus
from cfw.sinks.valkey import ValkeySink
from cfw.testing.bytecuts import stream_pair
from cfw.testing.fakes import ScriptedAuthority
from cfw.testing.sweep import World, grid, sweep
from cfw.testing.sweep.report import record
from cfw.valkey import LAST_ID, ValkeyFailed, partition_of
from schemas import ErrorCode, FeedAbort, FeedClose, FeedFrame, FeedOpened, parse_feed
from tests.factories import START_NS
from tests.sweep.mutants import hunt, summary
from tests.sweep.oracle import LIMITS, TIMES
from tests.sweep.peers import PICTURES, BareSocket, Rig, WatchedStream, told_by
from tests.sweep.scenario import quiet, replaced
from tests.unit.valkey.fake_store import FakeStore
from tests.unit.valkey.mutants import OF_THE_LEASE

#: Short, so that a renewal falls into a capture.
LEASE_S = 0.04
FRAMES = 2
PACE_S = 0.006
PARTITION = partition_of("cap-1")


@pytest.fixture(autouse=True)
def no_logs() -> Iterator[None]:
    """Hundreds of connections would log hundreds of lines."""
    before = structlog.get_config()
    quiet()
    yield
    structlog.configure(**before)


class PacedSocket(BareSocket):
    """A rig that takes its time between its messages, so that others may act in between."""

    async def receive_batch(self, *, until: float = math.inf) -> list[str | bytes]:
        with trio.move_on_at(until) as self._waiting:
            await trio.sleep(PACE_S)
            return await super().receive_batch(until=until)
        return []

    def interrupt(self) -> None:
        self._waiting.cancel()


FAULTS = ["connection", "server", "revoke", "abort", "stall", "away"]
REACHED = ["receipt", "worker lost", "aborted by its own worker"]


async def capture(
    world: World,
    *,
    drops: str = "requests",
    delay_s: float = 0.002,
    reach: Sequence[str] = REACHED,
) -> None:
    """One capture on one of two workers, and what is in its stream when all is over."""
    store = FakeStore(lease_s=LEASE_S, delay_s=delay_s, drops=drops)
    sink, other = ValkeySink(store, LEASE_S), ValkeySink(store, LEASE_S)
    authority, registry = ScriptedAuthority(), Registry(LIMITS)
    router = Router(
        limits=LIMITS,
        times=TIMES,
        sink=sink,
        authority=authority,
        registry=registry,
        wall_clock=lambda: START_NS + round(trio.current_time() * 1e9),
    )
    ours, theirs = stream_pair()
    rig = Rig(theirs, (), 0)

    async with trio.open_nursery() as outer:
        outer.start_soon(store.serve)

        async def look() -> None:
            with suppress(ValkeyFailed):
                await other.seal_lost(PARTITION)

        def stall() -> None:
            for lease in store.leases.values():
                lease.deadline = trio.current_time()
            outer.start_soon(look)

        def away() -> None:
            store.away_until = trio.current_time() + 0.01

        def revoke() -> None:
            authority.flip(SessionStatus.CLOSED)

        world.expose("revoke", revoke)
        world.expose("abort", router.abort_all)
        world.expose("stall", stall)
        world.expose("away", away)
        bare = PacedSocket(FRAMES, WatchedStream(ours), rig)
        with (
            replaced(accept=bare.accept),
            trio.CancelScope() as server,
            world.expose("server", server),
            trio.CancelScope() as scope,
            world.expose("connection", scope),
        ):
            await router.handle(WatchedStream(ours))
        for name in ("revoke", "abort", "stall", "away"):
            world.withdraw(name)
        # Whatever happened, a lease that is left runs out, and a worker that lives looks.
        await trio.sleep(2 * LEASE_S)
        await other.seal_lost(PARTITION)
        outer.cancel_scope.cancel()

    told, _ = told_by(bytes(rig.heard))

    def sealed_once() -> None:
        for entries in store.streams.values():
            assert [entry_id for entry_id, *_ in entries].count(LAST_ID) == 1, entries
            assert entries[-1][0] == LAST_ID
        assert not store.leases

    def whole_prefix() -> None:
        for entries in store.streams.values():
            (_, opened, _), *frames, _ = entries
            assert isinstance(parse_feed(opened), FeedOpened)
            for seq, (entry_id, text, jpeg) in enumerate(frames, 1):
                message = parse_feed(text)
                assert isinstance(message, FeedFrame)
                assert (entry_id, message.seq) == (f"{seq}-0", seq)
                assert jpeg == PICTURES[seq - 1]

    def terminal_is_true() -> None:
        for entries in store.streams.values():
            terminal = parse_feed(entries[-1][1])
            assert isinstance(terminal, FeedClose | FeedAbort)
            written = len(entries) - 2
            if isinstance(terminal, FeedAbort):  # no worker makes ids
                assert terminal.record_id == parse_feed(entries[0][1]).record_id
            if isinstance(terminal, FeedClose):
                assert terminal.frames_forwarded == written == FRAMES
            elif terminal.error_code is ErrorCode.WORKER_LOST:
                assert terminal.frames_forwarded == written
            else:
                assert terminal.frames_forwarded <= written <= terminal.frames_accepted

    def receipt_is_true() -> None:
        if told is not None and told.code == 1000:
            (entries,) = store.streams.values()
            assert isinstance(parse_feed(entries[-1][1]), FeedClose), entries
            assert told.receipt["frames"] == FRAMES

    def nothing_left() -> None:
        assert len(registry) == 0
        assert not router._connections

    def left_alone_it_is_clean() -> None:
        if world.injected is None:
            assert told is not None
            assert told.receipt["frames"] == FRAMES

    for invariant in (
        sealed_once,
        whole_prefix,
        terminal_is_true,
        receipt_is_true,
        nothing_left,
        left_alone_it_is_clean,
    ):
        world.check(invariant)
    ends = [parse_feed(entries[-1][1]) for entries in store.streams.values()]
    codes = {end.error_code for end in ends if isinstance(end, FeedAbort)}
    reached = {
        "receipt": told is not None and told.code == 1000,
        "worker lost": ErrorCode.WORKER_LOST in codes,
        "aborted by its own worker": bool(codes - {ErrorCode.WORKER_LOST}),
    }
    for name in reach:
        world.sometimes(name, reached[name])


@sweep(
    at=FAULTS,
    params=grid(drops=["requests", "answers"]),
    schedules=["fifo"],
    sometimes=REACHED,
)
async def test_one_terminal_and_a_true_prefix_whatever_happens(
    world: World, drops: str
) -> None:
    """Cancelled, revoked, cut off from the server or taken for dead, at every instant."""
    await capture(world, drops=drops)


async def planted_capture(world: World, drops: str) -> None:
    await capture(world, drops=drops, reach=())


def test_planted_bugs_are_found_by_their_invariants_and_only_under_a_fault() -> None:
    """A sweep that finds nothing must be one that can."""
    schedules = ("fifo", "lifo")
    hunts = {one.name: hunt(one, planted_capture, schedules) for one in OF_THE_LEASE}
    record(summary("planted bugs of the lease", hunts.values(), schedules))
    assert not [name for name, (_, why) in hunts.items() if why], hunts
    # What is left is asked of the run without a fault alone.
    assert {one.invariant for one in OF_THE_LEASE} == {
        *("sealed_once", "whole_prefix", "terminal_is_true", "receipt_is_true", "nothing_left")
    }


@pytest.mark.sweep
@sweep(at=FAULTS, params=grid(drops=["requests", "answers"]), schedules=["lifo"], jobs=2)
async def test_the_same_in_the_other_order(world: World, drops: str) -> None:
    """The youngest task of a batch first."""
    await capture(world, drops=drops)


@pytest.mark.sweep
@sweep(
    schedules=["fifo"],
    pairs=[("away", "connection"), ("stall", "server"), ("stall", "abort"), ("away", "stall")],
    budget=1500,
    jobs=2,
)
async def test_two_faults(world: World) -> None:
    """The server away and the worker cancelled; taken for dead while it ends."""
    await capture(world)
