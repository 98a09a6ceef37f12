"""How the sink holds a capture, on the virtual clock."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock

from cfw.errors import ProtocolViolation
from cfw.sinks import BatchSink, LeasedSink
from cfw.sinks.valkey import ValkeySink
from cfw.state import Frame
from cfw.valkey import (
    LAST_ID,
    PARTITIONS,
    LeaseLost,
    Run,
    TailLost,
    ValkeyFailed,
    partition_of,
)
from schemas import (
    ErrorCode,
    FeedAbort,
    FeedClose,
    FeedOpened,
    Timestamp,
    parse_feed,
    restate,
    to_json,
)
from tests.factories import START_NS, make_close, make_meta, make_open
from tests.unit.valkey.fake_store import FakeStore, key_of

LEASE_S = 10.0


def opened(ns: int = START_NS) -> FeedOpened:
    return restate(make_open(), FeedOpened, timestamp_ingest=Timestamp.from_ns(ns))


def frame(seq: int) -> Frame:
    return Frame(make_meta(seq, 4), b"jpeg", START_NS)


def close(frames: int) -> FeedClose:
    return restate(
        make_close(),
        FeedClose,
        timestamp_ingest=Timestamp.from_ns(START_NS),
        frames_accepted=frames,
        bytes_accepted=4 * frames,
        frames_forwarded=frames,
        bytes_forwarded=4 * frames,
    )


@asynccontextmanager
async def serving() -> AsyncIterator[tuple[FakeStore, ValkeySink]]:
    store = FakeStore(lease_s=LEASE_S)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(store.serve)
        yield store, ValkeySink(store, LEASE_S)
        nursery.cancel_scope.cancel()


def terminals(store: FakeStore) -> list[ErrorCode | None]:
    """The error code of each stream's end; None for a clean one."""
    found = []
    for entries in store.streams.values():
        assert entries[-1][0] == LAST_ID
        found.append(getattr(parse_feed(entries[-1][1]), "error_code", None))
    return found


async def test_an_id_left_behind_is_sealed_and_given_to_the_next(
    autojump_clock: MockClock,
) -> None:
    """Refused while the lease lasts; after it, whoever opens does not wait for a look."""
    async with serving() as (store, sink):
        await store.begin(Run(capture_id="cap-1", opened_ns=1), to_json(opened()).encode())
        await trio.sleep(LEASE_S - 0.1)
        with pytest.raises(ProtocolViolation, match="active on another connection"):
            async with sink.capture(opened()):
                pass
        await trio.sleep(0.1)
        async with sink.capture(opened()) as taker:
            assert isinstance(taker, BatchSink)
            assert isinstance(taker, LeasedSink)
            await taker.send(frame(1))
            await taker.finish(close(1))
        assert terminals(store) == [ErrorCode.WORKER_LOST, None]
        for entries in store.streams.values():
            if getattr(ending := parse_feed(entries[-1][1]), "error_code", None):
                # The worker makes no ids of its own.
                assert ending.record_id == parse_feed(entries[0][1]).record_id


@pytest.mark.parametrize(("away_s", "is_held"), [(5, True), (9, True), (30, False)])
async def test_a_server_that_is_away_for_less_than_the_lease_costs_nothing(
    autojump_clock: MockClock, away_s: float, is_held: bool
) -> None:
    """Renewals fail meanwhile; only when the lease has run out for sure is the capture lost."""
    async with serving() as (store, sink), sink.capture(opened()) as taker:
        began = trio.current_time()
        store.away_until = began + away_s
        with trio.move_on_after(40) as scope:
            if is_held:
                await taker.watch()
            else:
                with pytest.raises(ValkeyFailed):
                    await taker.watch()
        assert scope.cancelled_caught == is_held
        if not is_held:
            assert LEASE_S <= trio.current_time() - began <= LEASE_S + LEASE_S / 4 + 0.1


@pytest.mark.parametrize("last", ["begin", "renew", "append"])
async def test_a_lease_counts_from_when_it_was_asked_for(
    autojump_clock: MockClock, last: str
) -> None:
    """Not from the answer, which may have been seconds on its way: by then another worker may
    own the capture. Whatever it was that put its end off the last time."""
    slow_s = LEASE_S / 5
    store = FakeStore(lease_s=LEASE_S, delay_s=slow_s)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(store.serve)
        asked_at = trio.current_time()
        async with ValkeySink(store, LEASE_S).capture(opened()) as taker:
            if last == "append":
                asked_at = trio.current_time()
                await taker.send(frame(1))
            if last == "renew":
                with trio.move_on_after(LEASE_S / 4 + 2 * slow_s + 0.1):
                    asked_at = trio.current_time() + LEASE_S / 4
                    await taker.watch()
            store.away_until = trio.current_time() + 10 * LEASE_S
            with pytest.raises(ValkeyFailed):
                await taker.watch()
            # The first renewal that fails once it has run out.
            gave_up_after_s = trio.current_time() - asked_at
            assert LEASE_S <= gave_up_after_s <= LEASE_S + LEASE_S / 4 + 2 * slow_s
            nursery.cancel_scope.cancel()


async def test_a_capture_whose_frames_come_asks_for_no_renewal(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each frame renews the lease; when they stop, the first renewal comes a quarter later."""
    async with serving() as (_, sink), sink.capture(opened()) as taker:
        renewals: list[float] = []
        renew = FakeStore.renew

        async def noted(store: FakeStore, run: Run) -> None:
            renewals.append(trio.current_time())
            await renew(store, run)

        monkeypatch.setattr(FakeStore, "renew", noted)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(taker.watch)
            for seq in range(1, 21):
                asked_at = trio.current_time()
                await taker.send(frame(seq))
                await trio.sleep(LEASE_S / 5)
            assert renewals == []
            await trio.sleep(LEASE_S / 4)
            assert renewals == [pytest.approx(asked_at + LEASE_S / 4)]
            nursery.cancel_scope.cancel()


async def test_a_lease_of_another_ends_the_watch(autojump_clock: MockClock) -> None:
    """At the next renewal, a quarter of the lease's time later at most."""
    async with serving() as (store, sink), sink.capture(opened()) as taker:
        store.leases["cap-1"].owner = "somebody else"
        with pytest.raises(LeaseLost), trio.fail_after(LEASE_S / 4 + 0.1):
            await taker.watch()


async def test_a_close_behind_a_hole_becomes_an_abort(autojump_clock: MockClock) -> None:
    """The stream says forward_failed, and the rig gets no receipt."""
    async with serving() as (store, sink), sink.capture(opened()) as taker:
        await taker.send_many([frame(1), frame(2)])
        del next(iter(store.streams.values()))[-1]
        store.leases["cap-1"].last = 1
        with pytest.raises(TailLost):
            await taker.finish(close(2))
        assert terminals(store) == [ErrorCode.FORWARD_FAILED]
        (entries,) = store.streams.values()
        ending = parse_feed(entries[-1][1])
        assert isinstance(ending, FeedAbort)
        assert (ending.frames_forwarded, len(entries)) == (2, 3)


async def test_a_capture_that_cannot_be_read_does_not_stop_the_look(
    autojump_clock: MockClock,
) -> None:
    """The others of its partition get their terminal."""
    other = next(
        name
        for name in (f"c-{number}" for number in range(1000))
        if partition_of(name) == partition_of("cap-1")
    )
    async with serving() as (store, sink):
        await store.begin(Run(capture_id="cap-1", opened_ns=1), b"not a message")
        await store.begin(
            Run(capture_id=other, opened_ns=1),
            to_json(
                restate(
                    make_open(capture_id=other),
                    FeedOpened,
                    timestamp_ingest=Timestamp.from_ns(START_NS),
                )
            ).encode(),
        )
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sink.keep_looking)
            await trio.sleep(2 * LEASE_S)
            nursery.cancel_scope.cancel()
        assert (store.unreadable, store.leases) == (1, {})
        (_, message, _) = store.streams[key_of(Run(capture_id=other, opened_ns=1))][-1]
        assert getattr(parse_feed(message), "error_code", None) is ErrorCode.WORKER_LOST


async def test_a_partition_out_of_reach_does_not_stop_the_look_at_others(
    autojump_clock: MockClock,
) -> None:
    """A node of a cluster is down: what was left behind on the others is ended all the same."""
    async with serving() as (store, sink):
        await store.begin(Run(capture_id="cap-1", opened_ns=1), to_json(opened()).encode())
        store.unreachable.update(set(range(PARTITIONS)) - {partition_of("cap-1")})
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sink.keep_looking)
            await trio.sleep(2 * LEASE_S)
            nursery.cancel_scope.cancel()
        assert terminals(store) == [ErrorCode.WORKER_LOST]
