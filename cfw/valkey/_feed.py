"""Reading captures from the server, as one of a group of consumers that share them.

The group is one of Redis streams, on the index of each partition: it gives each capture to one
consumer, which reads the capture's stream from the start, in order, to its terminal. How far it
has come is kept beside; a consumer that falls silent loses its captures to another, which goes
on from there.
"""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import attrs
import trio

from cfw.valkey import _scripts as scripts
from cfw.valkey._address import Address
from cfw.valkey._link import Argument, Link, ValkeyFailed, open_link
from cfw.valkey._names import LAST_ID, NOTHING_ID, PARTITIONS, Names
from schemas import CameraFeedWorkerFeed, FeedAbort, FeedClose, SchemaError, parse_feed

#: Entries of one stream that are fetched at once: at most 2.4 MB of the largest frames.
BATCH = 8
#: How long the server holds a question that has no answer yet.
BLOCK_S = 1.0
#: Looked at so often when a consumer follows as many captures as it may.
FULL_S = 0.05


@attrs.define(eq=False)
class _Held:
    """A capture that this consumer has been given.

    Args:
        names: of its partition.
        index_id: its entry in the index.
        stream: the key of its stream.
        reached: the id of the last entry fetched.
        is_read: its terminal has been fetched.
        is_lost: another consumer has it, or it has expired.
    """

    names: Names
    index_id: str
    stream: str
    reached: str
    is_read: bool = False
    is_lost: bool = False


@attrs.frozen
class _Item:
    held: _Held
    entry_id: str
    message: CameraFeedWorkerFeed
    jpeg: bytes | None
    missed: int


class ValkeyFeed:
    """The messages of the captures that this consumer is given; `open_valkey_feed` makes it.

        async for message, jpeg in feed: ...

    `jpeg` is the image of a `FeedFrame`, and None for every other message. Messages of one
    capture come in order; those of several captures mix. A message counts as processed when
    the next one is asked for. It never ends by itself. One task iterates.

    Attributes:
        missed: messages that were not there any more when their turn came: trimmed behind a
            reader slower than `maxlen`, or lost in a failover. `__anext__` adds them as it
            gives out the message behind the hole.
        expired: captures whose streams expired before they had been read to their end.
        taken_away: captures that another consumer of the group has claimed, because this
            one was silent for `claim_s`.
    """

    def __init__(
        self, link: Link, group: str, consumer: str, max_captures: int, claim_s: float
    ) -> None:
        self.missed = 0
        self.expired = 0
        self.taken_away = 0
        self._link = link
        self._group = group
        self._consumer = consumer
        self._room = max_captures
        self._claim_s = claim_s
        self._keep_ms = round(2000 * link.address.keep_s)
        self._names = [Names(link.address.prefix, number) for number in range(PARTITIONS)]
        self._held: list[dict[str, _Held]] = [{} for _ in range(PARTITIONS)]
        self._send, self._receive = trio.open_memory_channel[_Item](0)
        self._failure: ValkeyFailed | None = None
        self._current: _Item | None = None

    def __aiter__(self) -> ValkeyFeed:
        return self

    async def __anext__(self) -> tuple[CameraFeedWorkerFeed, bytes | None]:
        """Say that the last message was processed, and wait for the next one.

        Raises:
            ValkeyFailed: the server is out of reach or refused. What was not processed comes
                again, to this consumer or another of the group.

        Cancellation: safe; the next call goes on where this one was.
        """
        await self.processed()
        while True:
            try:
                item = await self._receive.receive()
            except trio.EndOfChannel:
                assert self._failure is not None
                raise self._failure from None
            if not item.held.is_lost:
                self._current = item
                self.missed += item.missed
                return item.message, item.jpeg

    async def processed(self) -> None:
        """Say that the last message was processed, without asking for the next one.

        Raises:
            ValkeyFailed: as for the iteration.

        Cancellation: it may come again.
        """
        if self._current is not None:
            await self._acknowledge(self._current)
            self._current = None

    async def _acknowledge(self, item: _Item) -> None:
        held, names = item.held, item.held.names
        progress = names.progress(self._group)
        if item.entry_id != LAST_ID:
            args: list[Argument] = [held.stream, item.entry_id, self._keep_ms]
            await self._link.script(scripts.PROCESSED, [progress], args)
            return
        done = [self._group, held.index_id, held.stream]
        await self._link.script(scripts.DONE, [names.index, progress], done)
        self._drop(held)

    def _drop(self, held: _Held) -> None:
        if self._held[held.names.partition].pop(held.index_id, None) is not None:
            self._room += 1

    # --- the tasks behind it ------------------------------------------------------------------

    async def run(self) -> None:
        """Fetch until cancelled, or until the server fails; then the iteration raises."""
        try:
            async with trio.open_nursery() as nursery:
                newest = [await self._join(names) for names in self._names]
                nursery.start_soon(self._keep_all)
                for names, seen in zip(self._names, newest, strict=True):
                    nursery.start_soon(self._fetch, names, seen)
        except* ValkeyFailed as group:
            failure: BaseException = group
            while isinstance(failure, BaseExceptionGroup):
                failure = failure.exceptions[0]
            assert isinstance(failure, ValkeyFailed)
            self._failure = failure
        finally:
            self._send.close()

    async def _join(self, names: Names) -> str:
        """Join the group of a partition; answers with the newest entry of its index."""
        newest: bytes = await self._link.script(scripts.JOIN, [names.index], [self._group])
        await self._take(scripts.RESUME, names, self._room)
        return newest.decode()

    async def _fetch(self, names: Names, seen: str) -> None:
        """Take captures of a partition, and read the streams of those that are held."""
        held, has_news = self._held[names.partition], True
        while True:
            while has_news and self._room > 0:
                has_news = await self._take(scripts.TAKE, names, 1)
            streams = {one.stream: one.reached for one in held.values() if not one.is_read}
            if self._room > 0:
                streams[names.index] = seen
            if not streams:
                await trio.sleep(FULL_S)
                continue
            found = await self._read(streams, BLOCK_S if self._room > 0 else FULL_S)
            if news := found.pop(names.index.encode(), ()):
                seen, has_news = news[-1].identifier.decode(), True
            by_stream = {one.stream.encode(): one for one in held.values()}
            for stream, entries in found.items():
                if stream in by_stream:
                    await self._hand_over(by_stream[stream], entries)

    async def _read(self, streams: dict[str, str], block_s: float) -> dict[bytes, Any]:
        ids: dict[str | bytes, str] = dict(streams.items())
        found = await self._link.ask_again(
            lambda: self._link.client.xread(ids, count=BATCH, block=round(1000 * block_s)),
            extra_s=block_s,
        )
        return dict(found or {})

    async def _hand_over(self, held: _Held, entries: Any) -> None:
        for entry in entries:
            entry_id = entry.identifier.decode()
            fields = entry.field_values
            try:
                message = parse_feed(fields[b"message"])
            except (KeyError, SchemaError) as exc:
                raise ValkeyFailed(
                    f"{held.stream} {entry_id} is no message of the feed"
                ) from exc
            missed = _missed(held.reached, entry_id, message)
            held.is_read = entry_id == LAST_ID
            held.reached = entry_id
            jpeg = fields.get(b"jpeg")
            await self._send.send(_Item(held, entry_id, message, jpeg, missed))

    async def _take(self, script: str, names: Names, most: int, *more: int) -> bool:
        """Ask for captures of a partition; whether there were any."""
        if most < 1:
            return False
        self._room -= most
        added = 0
        try:
            args: list[Argument] = [self._group, self._consumer, most, *more]
            for index_id, fields in await self._link.script(script, [names.index], args):
                known = dict(zip(fields[::2], fields[1::2], strict=True))
                stream = known[b"stream"].decode()
                if index_id.decode() not in self._held[names.partition]:
                    await self._hold(names, index_id.decode(), stream)
                    added += 1
        finally:
            self._room += most - added
        return added > 0

    async def _hold(self, names: Names, index_id: str, stream: str) -> None:
        progress = names.progress(self._group)
        reached = await self._link.script(scripts.REACHED, [progress], [stream])
        self._held[names.partition][index_id] = _Held(names, index_id, stream, reached.decode())

    async def _keep_all(self) -> None:
        """Say that this consumer is alive, and claim captures of those that are not."""
        while True:
            await trio.sleep(self._claim_s / 3)
            for names in self._names:
                await self._keep(names)
                idle_ms = round(1000 * self._claim_s)
                await self._take(scripts.CLAIM, names, self._room, idle_ms)

    async def _keep(self, names: Names) -> None:
        held = [*self._held[names.partition].values()]
        if not held:
            return
        keys = [names.index, *(one.stream for one in held)]
        args = [self._group, self._consumer, *(one.index_id for one in held)]
        states = await self._link.script(scripts.KEEP, keys, args)
        for one, state in zip(held, states, strict=True):
            if state == 1 or one.index_id not in self._held[names.partition]:
                continue
            one.is_lost = True
            self._drop(one)
            if state == -1:
                self.expired += 1
            else:
                self.taken_away += 1


def _missed(reached: str, entry_id: str, message: CameraFeedWorkerFeed) -> int:
    """Messages between the entry that was fetched last and this one."""
    if isinstance(message, FeedClose | FeedAbort):
        place = message.frames_forwarded + 2
    else:
        place = _place(entry_id)
    # An abort may count fewer frames than there are.
    return max(0, place - _place(reached) - 1)


def _place(entry_id: str) -> int:
    """0 for before the stream, 1 for its `capture.opened`, n + 1 for frame n."""
    if entry_id == NOTHING_ID:
        return 0
    return int(entry_id.partition("-")[0]) + 1


@asynccontextmanager
async def open_valkey_feed(
    url: str,
    *,
    group: str,
    consumer: str | None = None,
    max_captures: int = 8,
    claim_s: float = 30,
) -> AsyncIterator[ValkeyFeed]:
    """Read captures from the server that a fleet of workers writes to.

    Args:
        url: `valkey://...`, the same as the workers' sink.
        group: consumers of one group share the captures; each group gets all of them. A new
            group begins with the captures that open from then on.
        consumer: its name in the group. With the name it had before, a consumer that was
            restarted goes on at once; two at a time must not share one. None for a new name,
            and then it goes on, or another does, after `claim_s`.
        max_captures: how many captures it follows at a time; others of the group, or it
            later, take what is above.
        claim_s: seconds after which the captures of a silent consumer are given to others;
            the same for the whole group.

    Raises:
        ValueError: the URL or a number is none.
        ValkeyFailed: the server is out of reach or refused.

    Cancellation: leaves at once. What was not processed comes again.
    """
    address = Address.parse(url)
    if max_captures < 1 or not 0.3 <= claim_s <= address.keep_s:
        raise ValueError("max_captures must be at least 1, claim_s from 0.3 to keep_s")
    if not group or consumer == "":
        raise ValueError("group and consumer must have a name")
    name = consumer or f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
    failure: BaseException | None = None
    async with open_link(address) as link, trio.open_nursery() as nursery:
        feed = ValkeyFeed(link, group, name, max_captures, claim_s)
        nursery.start_soon(feed.run)
        try:
            yield feed
        except BaseException as exc:  # raised below, without the groups of the nurseries
            failure = exc
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure
