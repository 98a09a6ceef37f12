"""**lossless**: every item in order, from where the subscriber joined.

An item that finds the window full waits at the end of the queue, and its capture waits with
it: this is the back-pressure that fills the forward buffer. Items go to each subscriber as
soon as it has room, whatever the others do. A capture that is cancelled while it waits takes
its frame back from those that had no room; they hold a prefix of it, in order. A terminal is
never taken back: a subscriber that has not made room for it by the caller's deadline has
broken the arrangement, so it gets what is queued and then `SubscriberTooSlow`, and no capture
waits for it again. Nor does a `capture.opened` wait; a queue is therefore at most the window,
one waiting item for each capture, and one `capture.opened` for each.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import attrs
import trio

from cfw.sinks.hub._subscription import FeedItem, SubscriberTooSlow, Subscription
from cfw.state import Frame
from schemas import FeedOpened, Terminal

#: Half a second of 15 frames a second: rides out a consumer's hiccup, and is at most
#: 2.4 MB of the largest frames.
LOSSLESS_ITEMS = 8


@attrs.define(eq=False)
class _Delivery:
    """A capture that waits until no subscriber is left without room for its item."""

    missing: int
    done: trio.Event = attrs.Factory(trio.Event)


@attrs.define(eq=False)
class _Entry:
    """An item in a queue, and who waits for it to come into the window; None for nobody."""

    item: FeedItem
    delivery: _Delivery | None = None

    def release(self) -> None:
        if self.delivery is not None:
            self.delivery.missing -= 1
            if not self.delivery.missing:
                self.delivery.done.set()
            self.delivery = None


class Lossless(Subscription):
    """Gets every item, in order."""

    def __init__(self, capture_id: str | None) -> None:
        super().__init__(capture_id)
        # The first LOSSLESS_ITEMS entries are the window; nobody waits for those.
        self._entries: deque[_Entry] = deque()

    def _put(self, item: FeedItem) -> _Entry | None:
        """Take an item; returns its entry when there was no room in the window."""
        entry = _Entry(item)
        self._entries.append(entry)
        self._notify()
        return entry if len(self._entries) > LOSSLESS_ITEMS else None

    def _has_room(self, items: int) -> bool:
        return len(self._entries) + items <= LOSSLESS_ITEMS

    def _retract(self, entry: _Entry) -> None:
        self._entries.remove(entry)

    def _let_go(self) -> None:
        """It has broken the arrangement; what is queued can still be taken."""
        self._stop(SubscriberTooSlow)
        for entry in self._entries:
            entry.release()

    def is_ready(self) -> bool:
        return bool(self._entries)

    def _take(self) -> FeedItem:
        item = self._entries.popleft().item
        if len(self._entries) >= LOSSLESS_ITEMS:
            self._entries[LOSSLESS_ITEMS - 1].release()
        return item

    def _clear(self) -> None:
        for entry in self._entries:
            entry.release()
        self._entries.clear()


class LosslessLane:
    """The subscribers that get every frame of one capture.

    Args:
        opened: what each of them gets first.
        let_go: is told of one that had no room for the terminal in time.

    Attributes:
        subscribers: those that are in it.
        is_torn: the wait for a frame was cancelled, so that some have it and some do not.
    """

    def __init__(self, opened: FeedOpened, let_go: Callable[[Lossless], object]) -> None:
        self.subscribers: list[Lossless] = []
        self.is_torn = False
        self._opened = opened
        self._let_go = let_go

    def join(self, subscriber: Lossless) -> None:
        """Let it have the capture from here on."""
        subscriber._put(self._opened)
        self.subscribers.append(subscriber)

    def leave(self, subscriber: Lossless) -> None:
        """Nothing more comes; what it holds it can still take."""
        if subscriber in self.subscribers:
            self.subscribers.remove(subscriber)

    def put(self, item: Frame | Terminal) -> list[tuple[Lossless, _Entry]]:
        """Queue it for all; answers who had no room."""
        waiting = []
        for subscriber in self.subscribers:
            entry = subscriber._put(item)
            if entry is not None:
                waiting.append((subscriber, entry))
        return waiting

    def has_room(self, items: int) -> bool:
        """Whether all of them can take so many at once, and none lacks one of before."""
        return not self.is_torn and all(one._has_room(items) for one in self.subscribers)

    async def wait(self, waiting: list[tuple[Lossless, _Entry]]) -> None:
        """Wait until those have room who had none for a frame.

        Cancellation: those who had room keep it, the others have a prefix without it.
        """
        self.is_torn = True
        await _wait(waiting, lambda subscriber, entry: subscriber._retract(entry))
        self.is_torn = False

    async def finish(self, terminal: Terminal) -> None:
        """Queue the terminal for all, and wait for those without room; the lane is empty then.

        Cancellation: those who still have no room are let go.
        """
        waiting = self.put(terminal)
        self.subscribers.clear()
        if waiting:
            await _wait(waiting, lambda subscriber, _: self._let_go(subscriber))


async def _wait(
    waiting: list[tuple[Lossless, _Entry]], give_up: Callable[[Lossless, _Entry], object]
) -> None:
    """Wait until all have room.

    Cancellation: gives up those who still have none.
    """
    delivery = _Delivery(missing=len(waiting))
    for _, entry in waiting:
        entry.delivery = delivery
    try:
        await delivery.done.wait()
    except BaseException:
        for subscriber, entry in waiting:
            if entry.delivery is not None:
                give_up(subscriber, entry)
        raise
