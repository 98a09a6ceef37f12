"""Consumers' side of a server in memory, with the one partition that sweeps need."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import attrs
import trio

from cfw.valkey import Entry, Given, GroupLost, News, Unreadable
from cfw.valkey._group import BATCH, BLOCK_S, FULL_S, GONE, KEPT, TAKEN_AWAY
from cfw.valkey._names import NOTHING_ID
from schemas import FeedOpened
from tests.unit.valkey.fake_server import FakeServer


@attrs.define
class Pending:
    """A capture that a consumer has, and since when it has not been heard of."""

    capture: Given
    consumer: str
    since: float


@attrs.define(kw_only=True)
class FakeIndex(FakeServer):
    """What is in the partition, and what its one group has had.

    Attributes:
        index: captures that have begun.
        streams: what is in them; one that has expired is not there.
        has_group: whether the group is.
        pending: what it was given and has not done with, by entry of the index.
        progress: how far it is in each stream.
    """

    index: list[Given] = attrs.Factory(list)
    streams: dict[str, list[Entry]] = attrs.Factory(dict)
    has_group: bool = False
    pending: dict[str, Pending] = attrs.Factory(dict)
    progress: dict[str, str] = attrs.Factory(dict)
    _begun: int = 0
    _given: int = 0
    _written: trio.Event = attrs.Factory(trio.Event)

    def begin(self, stream: str, opened: FeedOpened) -> None:
        """What a worker does at an open."""
        self._begun += 1
        self.index.append(Given(f"{self._begun}-0", stream))
        self.streams[stream] = []
        self.write(stream, Entry("0-1", opened))

    def write(self, stream: str, entry: Entry) -> None:
        """What a worker writes; nothing into a stream that is gone."""
        if stream in self.streams:
            self.streams[stream].append(entry)
        self._written.set()
        self._written = trio.Event()

    def flush(self) -> None:
        """Lose it all."""
        self.index.clear()
        self.streams.clear()
        self.pending.clear()
        self.progress.clear()
        self.has_group, self._given = False, 0

    def age(self) -> None:
        """Let every consumer have been silent for long."""
        for one in self.pending.values():
            one.since = float("-inf")

    async def wait_written(self) -> None:
        await self._written.wait()


@attrs.define
class FakeGroup:
    """What one consumer asks; see `Group`.

    Args:
        server: is asked.
        consumer: its name.
        claim_s: how long a silent consumer keeps what it has.
    """

    server: FakeIndex
    consumer: str
    claim_s: float
    unreadable: int = 0
    last_unreadable: Unreadable | None = None

    def _check(self) -> None:
        if not self.server.has_group:
            raise GroupLost("planted")

    def _own(self, captures: Sequence[Given]) -> list[Given]:
        for capture in captures:
            one = Pending(capture, self.consumer, trio.current_time())
            self.server.pending[capture.index_id] = one
        return [*captures]

    async def join(self, partition: int, *, after: str | None) -> tuple[str, bool]:
        server = self.server

        def effect() -> tuple[str, bool]:
            is_new, server.has_group = not server.has_group, True
            if is_new:
                server._given = 0 if after is None else len(server.index)
            return server.index[-1].index_id if server.index else NOTHING_ID, is_new

        found: tuple[str, bool] = await server.ask(effect)
        return found

    async def take(self, partition: int, most: int) -> list[Given] | None:
        server = self.server

        def effect() -> list[Given] | None:
            self._check()
            found = server.index[server._given : server._given + most]
            server._given += len(found)
            return self._own(found) or None

        found: list[Given] | None = await server.ask(effect)
        return found

    async def resume(self, partition: int, most: int) -> list[Given]:
        def effect() -> list[Given]:
            self._check()
            mine = [
                p.capture for p in self.server.pending.values() if p.consumer == self.consumer
            ]
            return mine[:most]

        found: list[Given] = await self.server.ask(effect)
        return found

    async def claim(self, partition: int, most: int) -> list[Given]:
        def effect() -> list[Given]:
            self._check()
            silent = trio.current_time() - self.claim_s
            old = [p.capture for p in self.server.pending.values() if p.since <= silent]
            return self._own(old[:most])

        found: list[Given] = await self.server.ask(effect)
        return found

    async def keep(self, partition: int, held: Sequence[Given]) -> list[int]:
        def state_of(capture: Given) -> int:
            one = self.server.pending.get(capture.index_id)
            if one is not None and one.consumer != self.consumer:
                return TAKEN_AWAY
            if capture.stream not in self.server.streams:
                self.server.pending.pop(capture.index_id, None)
                return GONE
            if one is None:
                return TAKEN_AWAY
            one.since = trio.current_time()
            return KEPT

        def effect() -> list[int]:
            self._check()
            return [state_of(capture) for capture in held]

        found: list[int] = await self.server.ask(effect)
        return found

    async def reached(self, partition: int, stream: str) -> tuple[str, FeedOpened | None]:
        def effect() -> tuple[str, FeedOpened | None]:
            first = next(iter(self.server.streams.get(stream, ())), None)
            opened = first.message if first is not None else None
            assert opened is None or isinstance(opened, FeedOpened)
            return self.server.progress.get(stream, NOTHING_ID), opened

        found: tuple[str, FeedOpened | None] = await self.server.ask(effect)
        return found

    async def read(self, partition: int, after: dict[str, str], seen: str | None) -> News:
        with trio.move_on_after(BLOCK_S if seen is not None else FULL_S):
            while True:
                news: News = await self.server.ask(partial(self._news, after, seen))
                if news.entries or news.index_id is not None:
                    return news
                await self.server.wait_written()
        return News(None, {})

    def _news(self, after: dict[str, str], seen: str | None) -> News:
        newest = self.server.index[-1].index_id if self.server.index else NOTHING_ID
        is_news = seen is not None and _order(newest) > _order(seen)
        entries = {
            stream: new
            for stream, reached in after.items()
            if (
                new := [
                    entry
                    for entry in self.server.streams.get(stream, ())
                    if _order(entry.entry_id) > _order(reached)
                ][:BATCH]
            )
        }
        return News(newest if is_news else None, entries)

    async def processed(self, partition: int, stream: str, entry_id: str) -> None:
        def effect() -> None:
            self.server.progress[stream] = entry_id

        await self.server.ask(effect)

    async def done(self, partition: int, capture: Given) -> None:
        def effect() -> None:
            self.server.pending.pop(capture.index_id, None)
            self.server.progress.pop(capture.stream, None)

        await self.server.ask(effect)


def _order(entry_id: str) -> tuple[int, ...]:
    return tuple(map(int, entry_id.split("-")))
