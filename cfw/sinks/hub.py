"""`hub:` - hands captures to subscribers in this process; it stores nothing.

    capture --> lossless: one queue, a window of LOSSLESS_ITEMS --> consumer
            `-> live: the newest frame of each capture          --> consumer

**lossless** promises every item in order from where the subscriber joined. An item that
finds the window full waits at the end of the queue, and its capture waits with it: this is
the back-pressure that fills the forward buffer. Items go to each subscriber as soon as it
has room, whatever the others do. A capture that is cancelled while it waits takes its frame
back from those that had no room; they hold a prefix of it, in order. A terminal is never
taken back: a subscriber that has not made room for it by the caller's deadline has broken
the arrangement, so it gets what is queued and then `SubscriberTooSlow`, and no capture waits
for it again. Nor does a `capture.opened` wait; a queue is therefore at most the window, one
waiting item for each capture, and one `capture.opened` for each.

**live** promises the newest frame and never makes a capture wait. What a subscriber has not
taken of a capture is at most its opened, one frame and its terminal, in that order. A capture
whose opened was taken gets its terminal told, always. Of those that began *and* ended while
the consumer was away, the newest LIVE_ENDED are kept; older ones are forgotten as a whole
(`forgotten` counts them), so a consumer never sees half a capture. Ended captures are told
first, so what a stalled consumer can hold is bounded by the captures that run at one time
plus LIVE_ENDED.

Without a subscriber frames are discarded.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from types import TracebackType
from typing import Literal, TypeAlias, get_args

import attrs
import trio

from cfw.plugins import redact_url
from cfw.state import Frame
from schemas import FeedOpened, Terminal

__all__ = [
    "LIVE_ENDED",
    "LOSSLESS_ITEMS",
    "FeedItem",
    "Hub",
    "Mode",
    "SubscriberTooSlow",
    "Subscription",
    "open_hub",
]

Mode: TypeAlias = Literal["lossless", "live"]
FeedItem: TypeAlias = FeedOpened | Frame | Terminal

#: Half a second of 15 frames a second: rides out a consumer's hiccup, and is at most
#: 2.4 MB of the largest frames.
LOSSLESS_ITEMS = 8
#: Captures of which a live subscriber saw nothing, kept for when it comes back.
LIVE_ENDED = 16


class SubscriberTooSlow(Exception):
    """A lossless subscriber did not make room for a terminal in time and was let go."""

    def __str__(self) -> str:
        return (
            "this subscriber was too slow for mode lossless and lost its place; "
            "read faster, or use mode live"
        )


class Subscription(ABC):
    """What one consumer gets, from `Hub.subscribe`; an async iterator for one task.

    Attributes:
        capture_id: the only capture it gets; None for all of them.
        delivered: frames the consumer has taken.
        dropped: frames of mode live that a newer one replaced or that were forgotten.
        forgotten: captures of mode live that were dropped as a whole.
    """

    def __init__(self, capture_id: str | None) -> None:
        self.capture_id = capture_id
        self.delivered = 0
        self.dropped = 0
        self.forgotten = 0
        self._wake: trio.Event | None = None
        # Set when nothing more will come: what to raise once all that is held was taken.
        self._end: type[Exception] | None = None

    def __aiter__(self) -> Subscription:
        return self

    async def __anext__(self) -> FeedItem:
        """The next item, waiting for one if need be; iteration ends when the hub closes.

        Raises:
            SubscriberTooSlow: mode lossless could no longer be kept up.
            trio.BusyResourceError: another task is waiting here.
            trio.ClosedResourceError: the context of the subscription has been left.

        Cancellation: safe at any point; no item is lost. With an item at hand it does not
        yield to other tasks: what is at hand is bounded, so one wake-up serves a burst.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        while not self._is_ready():
            if self._end is not None:
                raise self._end()
            if self._wake is not None:
                raise trio.BusyResourceError("another task is iterating this subscription")
            self._wake = trio.Event()
            try:
                await self._wake.wait()
            finally:
                self._wake = None
        item = self._take()
        if type(item) is Frame:
            self.delivered += 1
        return item

    def _notify(self) -> None:
        if self._wake is not None:
            self._wake.set()

    def _stop(self, end: type[Exception]) -> None:
        """Nothing more will come; what is held can still be taken."""
        if self._end is None:
            self._end = end
        self._notify()

    def _leave(self) -> None:
        """The consumer is gone; free what is held and whoever waits for it."""
        self._end = trio.ClosedResourceError
        self._notify()
        self._clear()

    @abstractmethod
    def _put(self, capture: _HubCapture, item: FeedItem) -> _Entry | None:
        """Take an item; returns its entry when there was no room in the window."""

    @abstractmethod
    def _forget(self, capture: _HubCapture) -> None:
        """The capture went away without a terminal."""

    @abstractmethod
    def _is_ready(self) -> bool: ...

    @abstractmethod
    def _take(self) -> FeedItem: ...

    @abstractmethod
    def _clear(self) -> None: ...


# --- lossless -------------------------------------------------------------------------------


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


class _Lossless(Subscription):
    def __init__(self, capture_id: str | None) -> None:
        super().__init__(capture_id)
        # The first LOSSLESS_ITEMS entries are the window; nobody waits for those.
        self._entries: deque[_Entry] = deque()

    def _put(self, capture: _HubCapture, item: FeedItem) -> _Entry | None:
        entry = _Entry(item)
        self._entries.append(entry)
        self._notify()
        return entry if len(self._entries) > LOSSLESS_ITEMS else None

    def _forget(self, capture: _HubCapture) -> None:
        pass

    def _retract(self, entry: _Entry) -> None:
        self._entries.remove(entry)

    def _is_ready(self) -> bool:
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


# --- live -----------------------------------------------------------------------------------


@attrs.define(eq=False)
class _Slot:
    """What the consumer has not taken of one capture; it is taken in this order."""

    opened: FeedOpened | None
    frame: Frame | None = None
    terminal: Terminal | None = None

    def take(self) -> FeedItem | None:
        item: FeedItem | None
        if self.opened is not None:
            item, self.opened = self.opened, None
        elif self.frame is not None:
            item, self.frame = self.frame, None
        else:
            item, self.terminal = self.terminal, None
        return item

    def is_empty(self) -> bool:
        return self.opened is None and self.frame is None and self.terminal is None


class _Live(Subscription):
    def __init__(self, capture_id: str | None) -> None:
        super().__init__(capture_id)
        self._running: dict[_HubCapture, _Slot] = {}
        # Ordered sets of slots that are not empty.
        self._fresh: dict[_Slot, None] = {}
        self._ended: dict[_Slot, None] = {}

    def _put(self, capture: _HubCapture, item: FeedItem) -> None:
        if isinstance(item, FeedOpened):
            slot = self._running[capture] = _Slot(item)
            self._fresh[slot] = None
        elif isinstance(item, Frame):
            slot = self._running[capture]
            if slot.frame is not None:
                self.dropped += 1
            slot.frame = item
            self._fresh[slot] = None
        else:
            slot = self._running.pop(capture)
            slot.terminal = item
            self._end_slot(slot)
        self._notify()

    def _forget(self, capture: _HubCapture) -> None:
        slot = self._running.pop(capture, None)
        if slot is not None and not slot.is_empty():
            self._end_slot(slot)

    def _end_slot(self, slot: _Slot) -> None:
        self._fresh.pop(slot, None)
        self._ended[slot] = None
        untold = [ended for ended in self._ended if ended.opened is not None]
        if len(untold) > LIVE_ENDED:
            del self._ended[untold[0]]
            self.forgotten += 1
            self.dropped += untold[0].frame is not None

    def _is_ready(self) -> bool:
        return bool(self._ended or self._fresh)

    def _take(self) -> FeedItem:
        # One ended capture to its end, then the next; running ones take turns.
        slots = self._ended or self._fresh
        slot = next(iter(slots))
        item = slot.take()
        assert item is not None, "a slot is listed only while it holds something"
        if slot.is_empty():
            del slots[slot]
        elif slots is self._fresh:
            del slots[slot]
            slots[slot] = None
        return item

    def _clear(self) -> None:
        self._running.clear()
        self._fresh.clear()
        self._ended.clear()


# --- the hub --------------------------------------------------------------------------------


class _HubCapture:
    """One capture on its way through the hub: its `CaptureSink` and the context of it."""

    def __init__(self, hub: Hub, opened: FeedOpened) -> None:
        self._hub = hub
        self.opened = opened
        self.subscriptions: list[Subscription] = []
        self._is_torn = False

    async def __aenter__(self) -> _HubCapture:
        self._hub._begin(self)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._hub._end(self)
        for subscription in self.subscriptions:
            subscription._forget(self)
        self.subscriptions.clear()

    async def send(self, frame: Frame) -> None:
        """Hand the frame to every subscriber; waits for the lossless ones.

        Raises:
            RuntimeError: an earlier `send` was cancelled, so that some subscribers have its
                frame and some do not; only `finish` can follow.

        Cancellation: a checkpoint only while it waits. Those who had room keep the frame,
        the others have a prefix without it.
        """
        if self._is_torn:
            raise RuntimeError("a send of this capture was cancelled; only finish may follow")
        if not self.subscriptions:
            return
        waiting = self._put(frame)
        if not waiting:
            return
        self._is_torn = True
        try:
            await self._wait(waiting)
        except BaseException:
            for subscription, entry in waiting:
                if entry.delivery is not None:
                    subscription._retract(entry)
            raise
        self._is_torn = False

    async def finish(self, terminal: Terminal) -> None:
        """Hand the terminal to every subscriber; waits for the lossless ones.

        Cancellation: a checkpoint only while it waits. A subscriber that has no room by then
        is let go: it can still take what is queued, and then gets SubscriberTooSlow.
        """
        # Whoever joins from here on must not be told of a capture it will not see end.
        self._hub._end(self)
        waiting = self._put(terminal)
        self.subscriptions.clear()
        if not waiting:
            return
        try:
            await self._wait(waiting)
        except BaseException:
            for subscription, entry in waiting:
                if entry.delivery is not None:
                    self._hub._let_go(subscription)
            raise

    def _put(self, item: Frame | Terminal) -> list[tuple[_Lossless, _Entry]]:
        waiting = []
        for subscription in self.subscriptions:
            entry = subscription._put(self, item)
            if entry is not None:
                assert isinstance(subscription, _Lossless)
                waiting.append((subscription, entry))
        return waiting

    @staticmethod
    async def _wait(waiting: list[tuple[_Lossless, _Entry]]) -> None:
        delivery = _Delivery(missing=len(waiting))
        for _, entry in waiting:
            entry.delivery = delivery
        await delivery.done.wait()


class Hub:
    """A sink that hands captures to whoever has subscribed at that time.

    With no subscriber a frame costs one look at an empty list.
    """

    def __init__(self) -> None:
        self._captures: dict[_HubCapture, None] = {}
        self._subscriptions: dict[Subscription, None] = {}
        self._is_closed = False

    @property
    def subscribers(self) -> int:
        """How many subscribers there are."""
        return len(self._subscriptions)

    def capture(self, opened: FeedOpened) -> _HubCapture:
        """A context for one capture; see `cfw.sinks.Sink`.

        Cancellation: entering and leaving never wait.
        """
        return _HubCapture(self, opened)

    @contextmanager
    def subscribe(
        self, *, capture_id: str | None = None, mode: Mode = "lossless"
    ) -> Iterator[Subscription]:
        """Get captures for as long as the context lasts, those already running included.

        A running capture begins with its `capture.opened` and goes on with its next frame.
        The end of a capture does not end the subscription, for its id may come again.
        Leaving the context frees at once every capture that waits for this subscriber.

        Args:
            capture_id: the only capture to get; None for all.
            mode: `lossless` for every frame, at the price that captures wait; `live` for
                the newest frame of each capture.

        Raises:
            ValueError: no such mode.
        """
        if mode not in get_args(Mode):
            raise ValueError(f"mode must be one of {', '.join(get_args(Mode))}; not {mode!r}")
        subscription = _Live(capture_id) if mode == "live" else _Lossless(capture_id)
        if self._is_closed:
            subscription._stop(StopAsyncIteration)
        else:
            self._subscriptions[subscription] = None
            for capture in self._captures:
                self._join(capture, subscription)
        try:
            yield subscription
        finally:
            self._drop(subscription)
            subscription._leave()

    def close(self) -> None:
        """End every subscription once it has been read to its end, and take no new one.

        Captures can still come; they are discarded.
        """
        self._is_closed = True
        for subscription in [*self._subscriptions]:
            self._drop(subscription)
            subscription._stop(StopAsyncIteration)

    def _begin(self, capture: _HubCapture) -> None:
        self._captures[capture] = None
        for subscription in self._subscriptions:
            self._join(capture, subscription)

    def _end(self, capture: _HubCapture) -> None:
        self._captures.pop(capture, None)

    @staticmethod
    def _join(capture: _HubCapture, subscription: Subscription) -> None:
        if subscription.capture_id in (None, capture.opened.capture_id):
            subscription._put(capture, capture.opened)
            capture.subscriptions.append(subscription)

    def _let_go(self, subscription: _Lossless) -> None:
        self._drop(subscription)
        subscription._stop(SubscriberTooSlow)
        for entry in subscription._entries:
            entry.release()

    def _drop(self, subscription: Subscription) -> None:
        self._subscriptions.pop(subscription, None)
        for capture in self._captures:
            if subscription in capture.subscriptions:
                capture.subscriptions.remove(subscription)


def open_hub(url: str) -> AbstractAsyncContextManager[Hub]:
    """The sink of `hub:`; it closes when the context is left.

    Raises:
        ValueError: something follows the scheme.
    """
    if url.lower() != "hub:":
        raise ValueError(
            f"the hub sink takes no options; write 'hub:' instead of {redact_url(url)!r}"
        )
    return _open()


@asynccontextmanager
async def _open() -> AsyncIterator[Hub]:
    hub = Hub()
    try:
        yield hub
    finally:
        hub.close()
