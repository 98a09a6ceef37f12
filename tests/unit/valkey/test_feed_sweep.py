"""A consumer disturbed at every instant: what it is given, and what is left of it.

The feed is the real one; behind it is a fake server. What can be fired: `reader` (the wait for
the next message is cancelled, and begun again), `consumer` (all of it dies, and another one
follows), `away` (the server is out of reach for a while), `age` (the server takes every
consumer for silent), `flush` (it has lost its data).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import trio

import cfw.valkey._feed as module
from cfw.testing.sweep import World, grid, sweep
from cfw.testing.sweep.report import record
from cfw.valkey import LAST_ID, Entry, ValkeyFeed
from cfw.valkey._group import BLOCK_S
from schemas import FeedAbort, FeedClose, FeedFrame, parse_feed, restate
from tests.factories import make_close, make_meta
from tests.sweep.mutants import hunt, summary
from tests.unit.valkey.fake_group import FakeGroup, FakeIndex
from tests.unit.valkey.fake_store import opened_as
from tests.unit.valkey.mutants import OF_THE_FEED
from tests.unit.valkey.test_feed import COUNTS, INGEST, expected, name_of

CLAIM_S = 0.3
#: Between what a worker writes, so that a consumer says in between that it is alive.
PACE_S = 0.07
FRAMES = 1
#: When all that was written has been read, if nobody has to wait for a claim.
END_S = 0.7
IDS = ("cap-1", "cap-2")
#: The message whose reader takes so long that the consumer meanwhile says that it is alive.
SLOW, SLOW_S = "cap-1 1", 0.12

FAULTS = ["reader", "consumer", "away", "age", "flush"]
REACHED = ["read whole", "followed by another", "given twice", "cut"]


def jpeg(capture_id: str, seq: int) -> bytes:
    return f"{capture_id} {seq}".encode()


def entries(capture_id: str) -> list[Entry]:
    """What a worker writes behind the open."""
    written = []
    for seq in range(1, FRAMES + 1):
        data = jpeg(capture_id, seq)
        meta = make_meta(seq, len(data), capture_id=capture_id)
        written.append(Entry(f"{seq}-0", restate(meta, FeedFrame, **INGEST), data))
    counts = COUNTS | {"frames_forwarded": FRAMES}
    close = restate(make_close(capture_id=capture_id), FeedClose, **INGEST, **counts)
    return [*written, Entry(LAST_ID, close)]


async def write(server: FakeIndex) -> None:
    for capture_id in IDS:
        server.begin(capture_id, parse_feed(opened_as(capture_id)))  # type: ignore[arg-type]
        for entry in entries(capture_id):
            await trio.sleep(PACE_S)
            server.write(capture_id, entry)


async def consume(
    world: World,
    server: FakeIndex,
    name: str,
    got: list[Any],
    feeds: list[ValkeyFeed],
    end_s: float,
) -> None:
    """Read until a time; the reader may be cancelled and reads on."""
    feed = ValkeyFeed(FakeGroup(server, name, CLAIM_S), 2, CLAIM_S)
    feeds.append(feed)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(feed.run)
        with trio.move_on_at(end_s):
            while True:
                with trio.CancelScope() as scope, world.expose("reader", scope):
                    message, data = await feed.__anext__()
                    got.append(message)
                    if isinstance(message, FeedFrame):
                        assert data == jpeg(message.capture_id, message.seq)
                if got and name_of(got[-1]) == SLOW and not scope.cancelled_caught:
                    await trio.sleep(SLOW_S)
        nursery.cancel_scope.cancel()


async def disturbed(
    world: World, server: FakeIndex, follower: str, got: list[Any], feeds: list[ValkeyFeed]
) -> None:
    """Run the server, a worker and a consumer, and who follows it."""
    # A capture that was another's, or was given with an answer that got lost, is claimed later,
    # and looked at when the question that the server holds meanwhile has its answer.
    is_claimed = server.drops == "answers" or follower == "other"
    end_s = END_S + (1.5 * CLAIM_S + BLOCK_S if is_claimed else 0)
    async with trio.open_nursery() as outer:
        outer.start_soon(server.serve)
        outer.start_soon(write, server)
        with trio.CancelScope() as scope, world.expose("consumer", scope):
            await consume(world, server, "one", got, feeds, end_s)
        if scope.cancelled_caught:
            await consume(world, server, follower, got, feeds, 2 * end_s)
        outer.cancel_scope.cancel()


async def reading(
    world: World, *, follower: str, drops: str = "requests", reach: Sequence[str] = REACHED
) -> None:
    """Two captures, read by a consumer and, if it dies, by one that follows."""
    server = FakeIndex(connect_s=0.001, delay_s=0.001, drops=drops)
    server.has_group = True  # it has been there before
    got: list[Any] = []
    feeds: list[ValkeyFeed] = []

    def away() -> None:
        server.away_until = trio.current_time() + 0.02

    world.expose("away", away)
    world.expose("age", server.age)
    world.expose("flush", server.flush)
    with pytest.MonkeyPatch.context() as patch:
        # Sixteen times the tasks would show nothing more.
        patch.setattr(module, "PARTITIONS", 1)
        await disturbed(world, server, follower, got, feeds)
    fired = len(feeds) > 1
    for name in ("away", "age", "flush"):
        world.withdraw(name)
    names = {each: [name_of(m) for m in got if m.capture_id == each] for each in IDS}
    whole = {each: expected(each, FRAMES) for each in IDS}
    is_flushed = "flush" in (world.injected or "")

    def once(found: Sequence[str]) -> list[str]:
        return [one for one, last in zip(found, [None, *found], strict=False) if one != last]

    def each_once_and_in_order() -> None:
        for each in IDS:
            if not is_flushed:
                assert once(names[each]) == whole[each], names

    def repeated_only_behind_a_death() -> None:
        repeated = sum(len(found) - len(once(found)) for found in names.values())
        assert repeated <= fired, names

    def ended_once() -> None:
        for each in IDS:
            ends = [m for m in got if m.capture_id == each and not isinstance(m, FeedFrame)]
            ends = [m for m in ends if isinstance(m, FeedClose | FeedAbort)]
            if names[each] and not fired:
                assert len(ends) == 1, names
                assert got.index(ends[0]) == max(
                    n for n, m in enumerate(got) if m.capture_id == each
                )

    def nothing_left() -> None:
        assert not server.pending
        assert not server.progress or is_flushed

    def nothing_miscounted() -> None:
        for feed in feeds:
            assert (feed.missed, feed.taken_away, feed.unreadable) == (0, 0, 0)
            assert feed.data_losses <= is_flushed

    for invariant in (
        each_once_and_in_order,
        repeated_only_behind_a_death,
        ended_once,
        nothing_left,
        nothing_miscounted,
    ):
        world.check(invariant)
    reached = {
        "read whole": names == whole,
        "followed by another": fired and names == whole,
        "given twice": sum(map(len, names.values())) > 2 * (FRAMES + 2),
        "cut": any(isinstance(m, FeedAbort) for m in got),
    }
    for name in reach:
        world.sometimes(name, reached[name])


@sweep(at=FAULTS, params=grid(follower=["one"]), schedules=["fifo"], sometimes=REACHED)
async def test_a_consumer_is_given_each_message_once_and_all_are_done_with(
    world: World, follower: str
) -> None:
    """Cancelled, dead, cut off, taken for silent, or behind a server that lost its data."""
    await reading(world, follower=follower)


async def planted_reading(world: World) -> None:
    await reading(world, follower="one", reach=())


def test_planted_bugs_of_the_feed_are_found_and_only_under_a_fault() -> None:
    """A sweep that finds nothing must be one that can."""
    schedules = ("fifo", "lifo")
    hunts = {one.name: hunt(one, planted_reading, schedules) for one in OF_THE_FEED}
    record(summary("planted bugs of the feed", hunts.values(), schedules))
    assert not [name for name, (_, why) in hunts.items() if why], hunts


@pytest.mark.sweep
@sweep(
    at=FAULTS,
    params=grid(follower=["one", "other"], drops=["requests", "answers"]),
    schedules=["lifo"],
    jobs=2,
)
async def test_the_feed_in_the_other_order(world: World, follower: str, drops: str) -> None:
    """The youngest task of a batch first; another consumer follows, when it may claim."""
    await reading(world, follower=follower, drops=drops)


@pytest.mark.sweep
@sweep(
    schedules=["fifo"],
    pairs=[("away", "reader"), ("reader", "consumer"), ("age", "reader"), ("flush", "reader")],
    budget=1500,
    jobs=2,
)
async def test_two_faults_of_the_feed(world: World) -> None:
    """Cancelled while the server is away; dead right after that."""
    await reading(world, follower="one")
