"""How long a consumer is waited for, and how long it waits, on the virtual clock."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from coredis.exceptions import RedisError
from trio.testing import MockClock

import cfw.valkey._feed as module
from cfw.valkey import ValkeyFailed, ValkeyFeed
from cfw.valkey._link import _WholePool
from schemas import parse_feed
from tests.unit.valkey.fake_group import FakeGroup, FakeIndex
from tests.unit.valkey.fake_store import opened_as
from tests.unit.valkey.test_feed import expected, name_of
from tests.unit.valkey.test_feed_sweep import FRAMES, entries


@asynccontextmanager
async def feeds_of(*names: str) -> AsyncIterator[tuple[FakeIndex, list[ValkeyFeed]]]:
    """Consumers of one group with the default claim_s, and one whole capture."""
    server = FakeIndex(has_group=True)
    server.begin("cap-1", parse_feed(opened_as("cap-1")))  # type: ignore[arg-type]
    for entry in entries("cap-1"):
        server.write("cap-1", entry)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.serve)
        feeds = []
        for name in names:
            feeds.append(ValkeyFeed(FakeGroup(server, name, 30), 8, 30))
            nursery.start_soon(feeds[-1].run)
            await trio.sleep(2)
        yield server, feeds
        nursery.cancel_scope.cancel()


async def named(feed: ValkeyFeed, count: int) -> list[str]:
    """So many messages in short; the last one is not processed."""
    return [name_of((await feed.__anext__())[0]) for _ in range(count)]


async def test_a_consumer_that_is_only_slow_keeps_its_captures(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says that it is alive also while a message is being processed, however long."""
    monkeypatch.setattr(module, "PARTITIONS", 1)
    async with feeds_of("slow", "other") as (_, (slow, other)):
        got = await named(slow, 1)
        with trio.move_on_after(300) as scope:
            await other.__anext__()
        assert scope.cancelled_caught
        assert got + await named(slow, FRAMES + 1) == expected("cap-1", FRAMES)
        assert slow.taken_away == 0


@pytest.mark.parametrize(("away_s", "is_borne"), [(25, True), (40, False)])
async def test_a_consumer_waits_claim_s_for_a_server_that_is_away(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, away_s: float, is_borne: bool
) -> None:
    """What it was told meanwhile it tells the server later; after that it says who is away."""
    monkeypatch.setattr(module, "PARTITIONS", 1)
    async with feeds_of("one") as (server, (feed,)):
        got = await named(feed, 1)
        server.away_until = trio.current_time() + away_s
        if not is_borne:
            with pytest.raises(ValkeyFailed, match="planted"):
                await feed.__anext__()
            return
        assert got + await named(feed, FRAMES + 1) == expected("cap-1", FRAMES)
        await feed.processed()
        assert not server.pending


class StuckPool:
    """A pool whose own times do not hold: it never gives a connection."""

    timeout = 2.0

    async def get_connection(self) -> None:
        await trio.sleep_forever()


class WholePool(_WholePool, StuckPool):
    """What the shield is around."""

    def _places_of(self, connection: object) -> list[None]:
        return []


async def test_a_pool_that_is_stuck_is_waited_for_in_bounds(autojump_clock: MockClock) -> None:
    """Twice its own time, by whoever asks and by whoever has given up."""
    with pytest.raises(RedisError, match="no connection within 4 s"):
        await WholePool().get_connection()
    assert trio.current_time() == 4
    with trio.move_on_after(1) as scope:
        await WholePool().get_connection()
    assert scope.cancelled_caught
    assert trio.current_time() == 8
