"""What one consumer of a group asks of the server.

The group is one of Redis streams, on the index of each partition. How far its consumers have
come in each capture's stream is kept beside.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import attrs

from cfw.valkey import _scripts as scripts
from cfw.valkey._aside import Partitions
from cfw.valkey._link import Link
from cfw.valkey._names import NOTHING_ID, PARTITIONS, Names
from cfw.valkey._pipeline import Argument
from cfw.valkey._replies import (
    Unreadable,
    message_of,
    opened_of,
    progress_of,
    stream_of,
)
from schemas import CameraFeedWorkerFeed, FeedOpened

#: Entries of one stream that are fetched at once: at most 2.4 MB of the largest frames.
BATCH = 8
#: How long the server holds a question that has no answer yet.
BLOCK_S = 1.0
#: The same when a consumer follows as many captures as it may, and so looks for no new ones.
FULL_S = 0.05
#: What `keep` answers for a capture.
KEPT, TAKEN_AWAY, GONE = 1, 0, -1


@attrs.frozen
class Given:
    """A capture that the group has given to this consumer.

    Args:
        index_id: its entry in the index.
        stream: the key of its stream.
    """

    index_id: str
    stream: str


@attrs.frozen
class Entry:
    """An entry of a capture's stream.

    Args:
        entry_id: its id.
        message: what it says; None when that cannot be read.
        jpeg: the image of a frame; None for any other message.
    """

    entry_id: str
    message: CameraFeedWorkerFeed | None
    jpeg: bytes | None = None


@attrs.frozen
class News:
    """What has come behind some places.

    Args:
        index_id: the newest entry of the index; None when there is no new one.
        entries: those of streams, by their key.
    """

    index_id: str | None
    entries: dict[str, list[Entry]]


class Group(Protocol):
    """What the feed needs of a server. All of it may raise ValkeyFailed.

    What was asked for may have been done also when nobody heard the answer.

    Attributes:
        unreadable: what it has found there that no worker can have written.
        last_unreadable: the last of it.
    """

    @property
    def unreadable(self) -> int: ...

    @property
    def last_unreadable(self) -> Unreadable | None: ...

    async def join(self, partition: int, *, after: str | None) -> tuple[str, bool]:
        """See that the group is there; the last id of the index, and whether it is a new one.

        Args:
            partition: where.
            after: the id behind which a new group begins; None for all that is there now.
        """

    async def take(self, partition: int, most: int) -> list[Given] | None:
        """Captures that nobody of the group has had; None when there are no more.

        Raises:
            GroupLost: it is not there any more.
        """

    async def resume(self, partition: int, most: int) -> list[Given]:
        """Captures that a consumer of this name had.

        Raises:
            GroupLost: it is not there any more.
        """

    async def claim(self, partition: int, most: int) -> list[Given]:
        """Captures of consumers that have been silent for `claim_s`.

        Raises:
            GroupLost: it is not there any more.
        """

    async def keep(self, partition: int, held: Sequence[Given]) -> list[int]:
        """Say that this consumer is alive; `KEPT`, `TAKEN_AWAY` or `GONE` for each capture.

        Raises:
            GroupLost: it is not there any more.
        """

    async def reached(self, partition: int, stream: str) -> tuple[str, FeedOpened | None]:
        """The id of the last entry processed, and how the capture opened, if that is there."""

    async def read(self, partition: int, after: dict[str, str], seen: str | None) -> News:
        """Wait for `BLOCK_S` at most for what comes.

        Args:
            partition: where.
            after: the id behind which each stream is read.
            seen: the same of the index; None for no look at that.
        """

    async def processed(self, partition: int, stream: str, entry_id: str) -> None:
        """Note how far the group is in a stream."""

    async def done(self, partition: int, capture: Given) -> None:
        """Note that the group has had all of a capture, or is not to have it."""


class ScriptGroup:
    """The group on a server or cluster, through its scripts.

    Args:
        link: an open connection.
        group: its name.
        consumer: the name of this consumer in it.
        claim_s: seconds after which a consumer counts as silent.
    """

    def __init__(self, link: Link, group: str, consumer: str, claim_s: float) -> None:
        self._link = link
        self._partitions = Partitions(link, self._remember)
        self._group = group
        self._consumer = consumer
        self._claim_ms = round(1000 * claim_s)
        self._keep_ms = round(2000 * link.address.keep_s)
        self._names = [Names(link.address.prefix, number) for number in range(PARTITIONS)]
        self.last_unreadable: Unreadable | None = None

    @property
    def unreadable(self) -> int:
        """See `Group`."""
        return self._partitions.unreadable

    def _remember(self, odd: Unreadable) -> None:
        self.last_unreadable = odd

    async def join(self, partition: int, *, after: str | None) -> tuple[str, bool]:
        """See `Group`."""
        index = self._names[partition].index
        args = [self._group, NOTHING_ID if after is None else after]
        newest, is_new = await self._partitions.run(scripts.JOIN, [index], args)
        return newest.decode(), bool(is_new)

    async def take(self, partition: int, most: int) -> list[Given] | None:
        """See `Group`."""
        found = await self._ask_for(scripts.TAKE, partition, most)
        return await self._given(partition, found) if found else None

    async def resume(self, partition: int, most: int) -> list[Given]:
        """See `Group`."""
        return await self._given(
            partition, await self._ask_for(scripts.RESUME, partition, most)
        )

    async def claim(self, partition: int, most: int) -> list[Given]:
        """See `Group`."""
        found = await self._ask_for(scripts.CLAIM, partition, most, self._claim_ms)
        return await self._given(partition, found)

    async def _ask_for(self, script: str, partition: int, *numbers: int) -> Any:
        args: list[Argument] = [self._group, self._consumer, *numbers]
        return await self._partitions.run(script, [self._names[partition].index], args)

    async def _given(self, partition: int, found: Any) -> list[Given]:
        """What entries of the index lead to; those that lead nowhere are done with."""
        names, given = self._names[partition], []
        for entry_id, fields in found:
            index_id = entry_id.decode()
            try:
                stream = stream_of(names, index_id, _pairs(fields))
            except Unreadable as odd:
                self._partitions.note(odd)
                await self.done(partition, Given(index_id, ""))
            else:
                given.append(Given(index_id, stream))
        return given

    async def keep(self, partition: int, held: Sequence[Given]) -> list[int]:
        """See `Group`."""
        keys = [self._names[partition].index, *(one.stream for one in held)]
        args = [self._group, self._consumer, *(one.index_id for one in held)]
        states: list[int] = await self._partitions.run(scripts.KEEP, keys, args)
        return states

    async def reached(self, partition: int, stream: str) -> tuple[str, FeedOpened | None]:
        """See `Group`."""
        progress = self._names[partition].progress(self._group)
        value, first = await self._partitions.run(scripts.REACHED, [progress, stream], [])
        opened = None
        if first is not None:
            opened = opened_of(stream, first[0].decode(), _pairs(first[1]))
        try:
            return progress_of(progress, stream, value), opened
        except Unreadable as odd:
            self._partitions.note(odd)
            return NOTHING_ID, opened

    async def read(self, partition: int, after: dict[str, str], seen: str | None) -> News:
        """See `Group`."""
        index = self._names[partition].index
        places: dict[str | bytes, str] = dict(after.items())
        if seen is not None:
            places[index] = seen
        block_s = BLOCK_S if seen is not None else FULL_S

        async def ask() -> Any:
            return await self._link.ask_again(
                lambda: self._link.client.xread(
                    places, count=BATCH, block=round(1000 * block_s)
                ),
                extra_s=block_s,
            )

        keys = [str(key) for key in places]
        found: dict[bytes, Any] = await self._partitions.over(keys, ask) or {}
        news = found.pop(index.encode(), ())
        return News(
            news[-1].identifier.decode() if news else None,
            {key.decode(): self._entries(key.decode(), new) for key, new in found.items()},
        )

    def _entries(self, stream: str, found: Any) -> list[Entry]:
        entries = []
        for entry in found:
            entry_id = entry.identifier.decode()
            try:
                message, jpeg = message_of(stream, entry_id, entry.field_values)
            except Unreadable as odd:
                self._partitions.note(odd)
                entries.append(Entry(entry_id, None))
            else:
                entries.append(Entry(entry_id, message, jpeg))
        return entries

    async def processed(self, partition: int, stream: str, entry_id: str) -> None:
        """See `Group`."""
        progress = self._names[partition].progress(self._group)
        args: list[Argument] = [stream, entry_id, self._keep_ms]
        await self._partitions.run(scripts.PROCESSED, [progress], args)

    async def done(self, partition: int, capture: Given) -> None:
        """See `Group`."""
        names = self._names[partition]
        keys = [names.index, names.progress(self._group)]
        args = [self._group, capture.index_id, capture.stream]
        await self._partitions.run(scripts.DONE, keys, args)


def _pairs(fields: Sequence[bytes]) -> dict[bytes, bytes]:
    """Fields as a script answers with them: names and values in turn."""
    return dict(zip(fields[::2], fields[1::2], strict=True))
