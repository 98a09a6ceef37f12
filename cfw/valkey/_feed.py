"""Reading captures from the server, as one of a group of consumers that share them.

The group is one of Redis streams, on the index of each partition: it gives each capture to one
consumer, which reads the capture's stream from the start, in order, to its terminal. How far it
has come is kept beside; a consumer that falls silent loses its captures to another, which goes
on from there.
"""

from __future__ import annotations

import math
import os
import secrets
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import TypeVar

import attrs
import trio

from cfw.tasks.nurseries import first_leaf, open_plain_nursery
from cfw.valkey._aborts import abort_of
from cfw.valkey._address import Address
from cfw.valkey._group import FULL_S, GONE, KEPT, Entry, Given, Group, ScriptGroup
from cfw.valkey._link import GroupLost, ValkeyFailed, ValkeyRefused, open_link
from cfw.valkey._names import LAST_ID, NOTHING_ID, PARTITIONS
from cfw.valkey._replies import Unreadable
from schemas import (
    CameraFeedWorkerFeed,
    ErrorCode,
    FeedAbort,
    FeedClose,
    FeedFrame,
    FeedOpened,
)

_T = TypeVar("_T")
#: From one question that nobody answered to the next, at first and at most.
PAUSE_S, LONGEST_PAUSE_S = 0.1, 1.0


@attrs.define(eq=False)
class _Held:
    """A capture that this consumer has been given.

    Args:
        partition: where it is.
        capture: its entry in the index, and its stream.
        reached: the id of the last entry fetched.
        opened: how it opened; None when that is not known.
        frames: frames fetched.
        bytes: bytes of those.
        is_read: its terminal has been fetched.
        is_done: the server has been told, or is being told, that it was processed.
        is_lost: another consumer has it, or the server has lost it.
    """

    partition: int
    capture: Given
    reached: str
    opened: FeedOpened | None
    frames: int = 0
    bytes: int = 0
    is_read: bool = False
    is_done: bool = False
    is_lost: bool = False

    def cut(self, why: str) -> FeedAbort | None:
        """The end that a reader is told who will not see that of the worker."""
        if self.opened is None:
            return None
        code = ErrorCode.FORWARD_FAILED
        return abort_of(self.opened, code, why, frames=self.frames, bytes=self.bytes)


@attrs.frozen
class _Item:
    """What the reader is given next.

    Args:
        held: the capture.
        entry_id: the entry to note as processed; None for none.
        message: what is given out; None when it only has to be noted.
        jpeg: the image of a frame.
        missed: messages that should have come before it.
    """

    held: _Held
    entry_id: str | None
    message: CameraFeedWorkerFeed | None
    jpeg: bytes | None = None
    missed: int = 0


@attrs.define
class _Place:
    """How far a partition's index is known.

    Args:
        seen: its newest entry that has been seen.
        has_news: whether there may be captures that nobody has taken.
    """

    seen: str = NOTHING_ID
    has_news: bool = True


class ValkeyFeed:
    """The messages of the captures that this consumer is given; `open_valkey_feed` makes it.

        async for message, jpeg in feed: ...

    `jpeg` is the image of a `FeedFrame`, and None for every other message. Messages of one
    capture come in order; those of several captures mix. A message counts as processed when
    the next one is asked for. It never ends by itself. One task iterates.

    A capture whose rest the server does not have any more ends with a `FeedAbort` that the feed
    makes: `forward_failed`, with the frames that this reader was given.

    With `keeps` nothing counts as processed until `kept` says that a whole capture is: one
    that was not comes again from its beginning. Then a capture that another consumer has
    claimed ends with such a `FeedAbort`, too.

    Attributes:
        missed: messages that were not there any more when their turn came: trimmed behind a
            reader slower than `maxlen`, or lost in a failover. `__anext__` adds them as it
            gives out the message behind the hole.
        expired: captures whose streams were gone before they had been read to their end.
        taken_away: captures that another consumer of the group has claimed, because this
            one was silent for `claim_s`.
        data_losses: times that the server had lost its data, the group with them. It was
            joined again from the beginning of what was there.
    """

    def __init__(
        self, group: Group, max_captures: int, claim_s: float, *, keeps: bool = False
    ) -> None:
        self.missed = 0
        self.expired = 0
        self.taken_away = 0
        self.data_losses = 0
        self._group = group
        self._room = max_captures
        self._claim_s = claim_s
        self._keeps = keeps
        self._read: dict[str, _Item] = {}
        self._places = [_Place() for _ in range(PARTITIONS)]
        self._held: list[dict[str, _Held]] = [{} for _ in range(PARTITIONS)]
        self._send, self._receive = trio.open_memory_channel[_Item](0)
        self._failure: ValkeyFailed | None = None
        self._current: _Item | None = None
        self._joining = trio.Lock()

    @property
    def unreadable(self) -> int:
        """What was found on the server that no worker can have written; it is left out."""
        return self._group.unreadable

    @property
    def last_unreadable(self) -> Unreadable | None:
        """The last of it: which key, and what is wrong there."""
        return self._group.last_unreadable

    def __aiter__(self) -> ValkeyFeed:
        return self

    async def __anext__(self) -> tuple[CameraFeedWorkerFeed, bytes | None]:
        """Say that the last message was processed, and wait for the next one.

        Raises:
            ValkeyFailed: the server was out of reach for `claim_s`, or refused. What was not
                processed comes again, to this consumer or another of the group.

        Cancellation: safe; the next call goes on where this one was.
        """
        while True:
            if not self._keeps:
                await self.processed()
            try:
                item = await self._receive.receive()
            except trio.EndOfChannel:
                assert self._failure is not None
                raise self._failure from None
            if item.held.is_lost and item.entry_id is not None:
                continue
            self._current = item
            self.missed += item.missed
            if self._keeps and item.entry_id == LAST_ID:
                self._note_read(item)
            if item.message is not None:
                return item.message, item.jpeg

    def _note_read(self, item: _Item) -> None:
        if item.held.opened is not None:
            self._read[item.held.opened.capture_id] = item

    async def kept(self, capture_id: str) -> None:
        """Say that a capture that was read to its end is kept, and need not come again.

        Args:
            capture_id: which one; one that was not read to its end is left as it is.

        Raises:
            ValkeyFailed: as for the iteration.

        Cancellation: it may come again.
        """
        if (item := self._read.get(capture_id)) is not None:
            await self._acknowledge(item)
            self._read.pop(capture_id, None)

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
        held = item.held
        if item.entry_id is None or held.is_lost:
            return
        if item.entry_id == LAST_ID:
            held.is_done = True  # the answer may be long in coming
            await self._asked(partial(self._group.done, held.partition, held.capture))
            self._drop(held)
            return
        noted = partial(self._group.processed, held.partition, held.capture.stream)
        await self._asked(partial(noted, item.entry_id))

    def _drop(self, held: _Held) -> None:
        if self._held[held.partition].pop(held.capture.index_id, None) is not None:
            self._room += 1

    # --- the tasks behind it ------------------------------------------------------------------

    async def run(self) -> None:
        """Fetch until cancelled, or until the server fails; then the iteration raises."""
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                for partition in range(PARTITIONS):
                    await self._join(partition)
                nursery.start_soon(self._keep_all)
                for partition in range(PARTITIONS):
                    nursery.start_soon(self._fetch, partition)
        except* ValkeyFailed as group:
            failure = first_leaf(group)
            assert isinstance(failure, ValkeyFailed)
            self._failure = failure
        finally:
            self._send.close()

    async def _asked(self, ask: Callable[[], Awaitable[_T]]) -> _T:
        """The answer of a server that may be away for a while.

        Raises:
            ValkeyFailed: it was out of reach for `claim_s`, or refused.
        """
        give_up_at, pause_s = math.inf, PAUSE_S
        while True:
            try:
                return await ask()
            except ValkeyRefused:
                raise
            except ValkeyFailed:
                now = trio.current_time()
                give_up_at = min(give_up_at, now + self._claim_s)
                if now + pause_s > give_up_at:
                    raise
            await trio.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    async def _asked_the_group(self, ask: Callable[[], Awaitable[_T]]) -> _T:
        """The same, of a server that may have lost the group."""
        while True:
            try:
                return await self._asked(ask)
            except GroupLost:
                await self._join_again()

    async def _join(self, partition: int) -> None:
        """Join the group, and go on with what a consumer of this name had."""
        join = partial(self._group.join, partition, after="$")
        self._places[partition].seen, _ = await self._asked(join)
        await self._ask_for(partition, self._room, self._group.resume)

    async def _join_again(self) -> None:
        """Make the group anew wherever it is gone, and give up what went with it."""
        async with self._joining:
            renewed = []
            for partition in range(PARTITIONS):
                join = partial(self._group.join, partition, after=None)
                if (await self._asked(join))[1]:
                    renewed.append(partition)
                    self._places[partition] = _Place()
            if renewed:
                self.data_losses += 1
        for partition in renewed:
            await self._keep(partition)

    async def _fetch(self, partition: int) -> None:
        """Take captures of a partition, and read the streams of those that are held."""
        held = self._held[partition]
        while True:
            await self._take(partition)
            streams = {
                one.capture.stream: one.reached for one in held.values() if not one.is_read
            }
            seen = self._places[partition].seen if self._room > 0 else None
            if not streams and seen is None:
                await trio.sleep(FULL_S)
                continue
            news = await self._asked(partial(self._group.read, partition, streams, seen))
            if news.index_id is not None:
                self._places[partition] = _Place(news.index_id)
            by_stream = {one.capture.stream: one for one in held.values()}
            for stream, entries in news.entries.items():
                if stream in by_stream:
                    await self._hand_over(by_stream[stream], entries)

    async def _take(self, partition: int) -> None:
        """Take captures as long as there are any, and room for them."""
        while self._places[partition].has_news and self._room > 0:
            place = self._places[partition]
            if await self._ask_for(partition, 1, self._group.take) is None:
                place.has_news = False

    async def _hand_over(self, held: _Held, entries: list[Entry]) -> None:
        for entry in entries:
            if held.is_lost:
                return
            if (item := self._item(held, entry)) is not None:
                await self._send.send(item)

    def _item(self, held: _Held, entry: Entry) -> _Item | None:
        """What the reader is given of an entry; None for one that is left out."""
        message, before = entry.message, held.reached
        held.reached = entry.entry_id
        held.is_read = entry.entry_id == LAST_ID
        if message is None:
            if not held.is_read:
                return None
            end = held.cut("the end of this capture cannot be read")
            return _Item(held, entry.entry_id, end)
        if isinstance(message, FeedOpened):
            held.opened = message
        if isinstance(message, FeedFrame):
            held.frames += 1
            held.bytes += message.byte_length
        missed = _missed(before, entry.entry_id, message)
        return _Item(held, entry.entry_id, message, entry.jpeg, missed)

    async def _ask_for(
        self,
        partition: int,
        most: int,
        ask: Callable[[int, int], Awaitable[list[Given] | None]],
    ) -> list[Given] | None:
        """Ask for captures of a partition, at most so many, and hold them."""
        if most < 1:
            return None
        self._room -= most
        added = 0
        try:
            given = await self._asked_the_group(partial(ask, partition, most))
            for capture in given or ():
                # What is claimed again goes on; begun anew, it would be given out twice.
                if capture.index_id not in self._held[partition]:
                    await self._hold(partition, capture)
                    added += 1
        finally:
            self._room += most - added
        return given

    async def _hold(self, partition: int, capture: Given) -> None:
        reached, opened = await self._asked(
            partial(self._group.reached, partition, capture.stream)
        )
        self._held[partition][capture.index_id] = _Held(partition, capture, reached, opened)

    async def _keep_all(self) -> None:
        """Say that this consumer is alive, and claim captures of those that are not."""
        while True:
            await trio.sleep(self._claim_s / 3)
            for partition in range(PARTITIONS):
                await self._keep(partition)
                await self._ask_for(partition, self._room, self._group.claim)

    async def _keep(self, partition: int) -> None:
        held = [*self._held[partition].values()]
        if not held:
            return
        captures = [one.capture for one in held]
        states = await self._asked_the_group(partial(self._group.keep, partition, captures))
        for one, state in zip(held, states, strict=True):
            is_held = self._held[partition].get(one.capture.index_id) is one
            # One that has been read to its end waits for its reader, or for the last answer.
            if state == KEPT or not is_held or one.is_done or (state == GONE and one.is_read):
                continue
            one.is_lost = True
            self._drop(one)
            if state == GONE:
                self.expired += 1
                self._tell(one.cut("the server does not have the rest of this capture"), one)
            else:
                self.taken_away += 1
                if self._keeps:
                    self._tell(one.cut("another of the group has this capture now"), one)

    def _tell(self, end: FeedAbort | None, held: _Held) -> None:
        if end is not None:
            self._nursery.start_soon(self._send.send, _Item(held, None, end))


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
    keeps: bool = False,
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
            the same for the whole group. For so long it also waits for a server that is out
            of reach.
        keeps: a capture counts as processed when `ValkeyFeed.kept` says so, and otherwise
            comes again from its beginning; for readers that keep captures whole.

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
    async with open_link(address) as link, open_plain_nursery() as nursery:
        asked = ScriptGroup(link, group, name, claim_s)
        feed = ValkeyFeed(asked, max_captures, claim_s, keeps=keeps)
        nursery.start_soon(feed.run)
        yield feed
