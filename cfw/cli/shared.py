"""The feed of a fleet on a Valkey server, as commands read it."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import click
import trio

from cfw.client import ConnectionLost
from cfw.plugins import OutOfReach
from cfw.printable import printable
from cfw.record import Listener, Written
from cfw.tasks.nurseries import open_plain_nursery

#: What a shared feed counts, in words.
LOSSES: Final = {
    "missed": "messages were no longer on the server: this reader is slower than maxlen allows",
    "data_losses": "times the server had lost its data: reading went on with what was there",
    "expired": "captures were gone from the server before they were read to their end",
    "taken_away": "captures were given to another of the group: this reader was silent",
}
#: How many captures a recorder follows at a time; what waits for the disk has another bound.
MOST_CAPTURES: Final = 1_000
#: For the server to hear what has been kept, when a recorder ends.
_LAST_WORDS_S: Final = 3.0


def is_shared_feed(url: str) -> bool:
    """Whether a URL is that of a Valkey server and not of a worker."""
    return url.lower().startswith(("valkey:", "valkeys:"))


class ToldFeed:
    """The messages of a shared feed; says on standard error what could not be read."""

    def __init__(self, feed: Any) -> None:
        self._feed = feed
        self._told: dict[str, int] = {}

    def __aiter__(self) -> ToldFeed:
        return self

    async def __anext__(self) -> Any:
        found = await self._feed.__anext__()
        self.tell()
        return found

    def tell(self) -> None:
        """Say it once."""
        for name, words in LOSSES.items():
            count = getattr(self._feed, name)
            if more := count - self._told.get(name, 0):
                click.echo(f"{more} {words}", err=True)
            self._told[name] = count
        if (count := self._feed.unreadable) != self._told.get("unreadable", 0):
            more, self._told["unreadable"] = count - self._told.get("unreadable", 0), count
            words = "things on the server could not be read and were left out, the last: "
            click.echo(printable(f"{more} {words}{self._feed.last_unreadable}"), err=True)


class Keeper(Listener):
    """Tells a shared feed which captures are on the disk; a recorder tells it.

    Until then a capture is not done with: whatever becomes of this process, it comes again from
    its beginning, here or at another recorder of the group.
    """

    def __init__(self) -> None:
        self._kept: deque[str] = deque()
        self._has_news = trio.Event()

    def ended(self, written: Written) -> None:
        """See `Listener`."""
        if written.manifest.terminal is not None:
            self._kept.append(written.manifest.opened.capture_id)
            self._has_news.set()

    @asynccontextmanager
    async def keeping(self, opening: Any) -> AsyncIterator[ToldFeed]:
        """A shared feed for a recorder: what it loses is a lost connection.

        Raises:
            ConnectionLost: the server was out of reach, or refused.

        Cancellation: what has been kept is still told, for 3 s at most.
        """
        scope = trio.CancelScope()

        async def run(task_status: trio.TaskStatus[Any]) -> None:
            with scope:
                async with opening() as feed:
                    task_status.started(feed)
                    # A start that is being cancelled does not take the task over.
                    await trio.lowlevel.checkpoint_if_cancelled()
                    # Whoever stops the recorder stops its reader; the connection lives on for
                    # the last words, and is ended below in any case.
                    scope.shield = True
                    await self._tell(feed)

        try:
            async with open_plain_nursery() as nursery:
                told = ToldFeed(feed := await nursery.start(run))
                try:
                    yield told
                finally:
                    told.tell()
                    with trio.move_on_after(_LAST_WORDS_S, shield=True):
                        await self._tell_all(feed)
                    scope.cancel()
        except OutOfReach as exc:
            raise ConnectionLost(f"{exc}") from exc

    async def _tell(self, feed: Any) -> None:
        while True:
            await self._has_news.wait()
            self._has_news = trio.Event()
            await self._tell_all(feed)

    async def _tell_all(self, feed: Any) -> None:
        # Left in the queue until the server has it: told twice it does no harm.
        while self._kept:
            capture_id = self._kept[0]
            await feed.kept(capture_id)
            if self._kept and self._kept[0] == capture_id:
                self._kept.popleft()
