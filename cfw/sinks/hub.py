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

**live** promises the newest frame and never makes a capture wait. The capture keeps that
frame once for all of them, so it costs nothing for one who has not taken the frame before it.
What a subscriber has not taken of a capture is at most its opened, one frame and its
terminal, in that order. A capture whose opened was taken gets its terminal told, always. Of
those that began *and* ended while the consumer was away, the newest LIVE_ENDED are kept;
older ones are forgotten as a whole (`forgotten` counts them), so a consumer never sees half a
capture. Ended captures are told first, so what a stalled consumer can hold is bounded by the
captures that run at one time plus LIVE_ENDED.

Without a subscriber frames are discarded.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import AsyncIterator, Iterator, Sequence
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
        forgotten: captures of mode live that were dropped as a whole.
    """

    def __init__(self, capture_id: str | None) -> None:
        self.capture_id = capture_id
        self.delivered = 0
        self.forgotten = 0
        self._wake: trio.Event | None = None
        # Set when nothing more will come: what to raise once all that is held was taken.
        self._end: type[Exception] | None = None

    @property
    def dropped(self) -> int:
        """Frames of mode live that a newer one replaced or that were forgotten."""
        return 0

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
    def _join(self, capture: _HubCapture) -> None:
        """Get a capture from here on, beginning with its opened."""

    @abstractmethod
    def _detach(self, capture: _HubCapture) -> None:
        """Nothing more comes of this capture; what is held of it can still be taken."""

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

    def _join(self, capture: _HubCapture) -> None:
        self._put(capture.opened)
        capture.lossless.append(self)

    def _detach(self, capture: _HubCapture) -> None:
        if self in capture.lossless:
            capture.lossless.remove(self)

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
    """What the consumer has not taken of one capture; it is taken in this order.

    Attributes:
        subscription: whose it is.
        capture: where the newest frame is looked up; None when no more will come.
        seen: frames of the capture that were taken, replaced, or there before.
        frame: the last frame, once no more will come.
    """

    subscription: _Live
    capture: _HubCapture | None
    opened: FeedOpened | None
    seen: int
    dropped: int = 0
    frame: Frame | None = None
    terminal: Terminal | None = None

    def take(self) -> FeedItem | None:
        item: FeedItem | None
        if self.opened is not None:
            item, self.opened = self.opened, None
        elif self.capture is not None:
            item = self._newest(self.capture)
        elif self.frame is not None:
            item, self.frame = self.frame, None
        else:
            item, self.terminal = self.terminal, None
        return item

    def settle(self) -> None:
        """Keep what the capture holds for it, and look no more there."""
        if self.capture is not None:
            self.frame = self._newest(self.capture)
            self.capture = None

    def _newest(self, capture: _HubCapture) -> Frame | None:
        unseen, self.seen = capture.frames - self.seen, capture.frames
        self.dropped += max(unseen - 1, 0)
        return capture.newest if unseen else None

    def is_empty(self) -> bool:
        if self.capture is not None and self.capture.frames > self.seen:
            return False
        return self.opened is None and self.frame is None and self.terminal is None


class _Live(Subscription):
    def __init__(self, capture_id: str | None) -> None:
        super().__init__(capture_id)
        self._dropped = 0
        self._running: dict[_HubCapture, _Slot] = {}
        # Ordered sets of slots that are not empty.
        self._fresh: dict[_Slot, None] = {}
        self._ended: dict[_Slot, None] = {}

    @property
    def dropped(self) -> int:
        running = self._running.items()
        waiting = sum(max(capture.frames - slot.seen - 1, 0) for capture, slot in running)
        return self._dropped + sum(slot.dropped for _, slot in running) + waiting

    def _join(self, capture: _HubCapture) -> None:
        slot = _Slot(self, capture, capture.opened, capture.frames)
        self._running[capture] = capture.live[self] = slot
        self._refresh(slot)

    def _refresh(self, slot: _Slot) -> None:
        """There is something to take again."""
        self._fresh[slot] = None
        self._notify()

    def _finish(self, capture: _HubCapture, terminal: Terminal) -> None:
        slot = self._close_slot(capture)
        slot.terminal = terminal
        self._end_slot(slot)
        self._notify()

    def _detach(self, capture: _HubCapture) -> None:
        if capture in self._running:
            slot = self._close_slot(capture)
            if not slot.is_empty():
                self._end_slot(slot)

    def _close_slot(self, capture: _HubCapture) -> _Slot:
        del capture.live[self]
        slot = self._running.pop(capture)
        capture.up_to_date.pop(slot, None)
        slot.settle()
        if not capture.live:
            capture.newest = None
        self._dropped += slot.dropped
        return slot

    def _end_slot(self, slot: _Slot) -> None:
        self._fresh.pop(slot, None)
        self._ended[slot] = None
        untold = [ended for ended in self._ended if ended.opened is not None]
        if len(untold) > LIVE_ENDED:
            del self._ended[untold[0]]
            self.forgotten += 1
            self._dropped += untold[0].frame is not None

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
            if slot.capture is not None:
                slot.capture.up_to_date[slot] = None
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
    """One capture on its way through the hub: its `CaptureSink` and the context of it.

    Attributes:
        lossless: who gets every frame.
        live: what each of the others has not taken yet.
        up_to_date: the slots of those that have taken the newest frame.
        frames: how many there were.
        newest: the last of them.
    """

    def __init__(self, hub: Hub, opened: FeedOpened) -> None:
        self._hub = hub
        self.opened = opened
        self.lossless: list[_Lossless] = []
        self.live: dict[_Live, _Slot] = {}
        self.up_to_date: dict[_Slot, None] = {}
        self.frames = 0
        self.newest: Frame | None = None
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
        for viewer in [*self.live]:
            viewer._detach(self)
        self.lossless.clear()

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
        self._show(frame)
        if not self.lossless:
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

    def send_nowait(self, frames: Sequence[Frame]) -> bool:
        """Hand frames to every subscriber, or to none where a lossless one has no room."""
        if self._is_torn or not all(one._has_room(len(frames)) for one in self.lossless):
            return False
        for frame in frames:
            self._show(frame)
            self._put(frame)
        return True

    def _show(self, frame: Frame) -> None:
        """Have the live ones take the newest frame, whenever they take anything."""
        if self.live:
            self.frames += 1
            self.newest = frame
            for slot in self.up_to_date:
                slot.subscription._refresh(slot)
            self.up_to_date.clear()

    async def finish(self, terminal: Terminal) -> None:
        """Hand the terminal to every subscriber; waits for the lossless ones.

        Cancellation: a checkpoint only while it waits. A subscriber that has no room by then
        is let go: it can still take what is queued, and then gets SubscriberTooSlow.
        """
        # Whoever joins from here on must not be told of a capture it will not see end.
        self._hub._end(self)
        waiting = self._put(terminal)
        for viewer in [*self.live]:
            viewer._finish(self, terminal)
        self.lossless.clear()
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
        """Queue it for the lossless ones; answers who had no room."""
        offered = [(subscription, subscription._put(item)) for subscription in self.lossless]
        return [(subscription, entry) for subscription, entry in offered if entry is not None]

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
            subscription._join(capture)

    def _let_go(self, subscription: _Lossless) -> None:
        self._drop(subscription)
        subscription._stop(SubscriberTooSlow)
        for entry in subscription._entries:
            entry.release()

    def _drop(self, subscription: Subscription) -> None:
        self._subscriptions.pop(subscription, None)
        for capture in self._captures:
            subscription._detach(capture)


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
