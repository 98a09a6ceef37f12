"""**live**: the newest frame, and no capture ever waits.

The capture keeps that frame once for all of them, so it costs nothing for one who has not
taken the frame before it. What a subscriber has not taken of a capture is at most its opened,
one frame and its terminal, in that order. A capture whose opened was taken gets its terminal
told, always. Of those that began *and* ended while the consumer was away, the newest
LIVE_ENDED are kept; older ones are forgotten as a whole (`forgotten` counts them), so a
consumer never sees half a capture. Ended captures are told first, so what a stalled consumer
can hold is bounded by the captures that run at one time plus LIVE_ENDED.

Another one asks for so many frames of a capture, and takes the newest of all that it has asked
for at once, when it has time for them (`AskedSubscription`). Their frames wake nobody.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import ClassVar

import attrs

from cfw.sinks.hub._subscription import FeedItem, Subscription
from cfw.state import Frame
from schemas import FeedOpened, Terminal

#: Captures of which a live subscriber saw nothing, kept for when it comes back.
LIVE_ENDED = 16


@attrs.define(eq=False)
class _Slot:
    """What the consumer has not taken of one capture; it is taken in this order.

    Attributes:
        subscription: whose it is.
        wanted: how many frames are to be told; infinite unless it gets what it asks for.
        lane: where the newest frame is looked up; None when no more will come.
        seen: frames of the capture that were taken, replaced, or there before.
        frame: the last frame, once no more will come.
    """

    subscription: Live
    wanted: float
    lane: LiveLane | None
    opened: FeedOpened | None
    seen: int
    dropped: int = 0
    frame: Frame | None = None
    terminal: Terminal | None = None

    def take(self) -> FeedItem | None:
        item: FeedItem | None
        if self.opened is not None:
            item, self.opened = self.opened, None
        elif self.lane is not None:
            item = self.newest(self.lane)
        elif self.frame is not None:
            item, self.frame = self.frame, None
        else:
            item, self.terminal = self.terminal, None
        return item

    def settle(self, terminal: Terminal | None) -> None:
        """Keep what the lane holds for it, and look no more there."""
        if self.lane is not None:
            self.frame = self.newest(self.lane) if self.wanted else None
            self.lane = None
        self.terminal = terminal

    def ask(self, lane: LiveLane, frames: int) -> None:
        """Want the newest frame, and those behind it; those before it were never missed."""
        if not self.wanted:
            self.seen = max(self.seen, lane.frames - 1)
        self.wanted = frames

    def newest(self, lane: LiveLane) -> Frame | None:
        """Take the newest frame; None if it was taken."""
        unseen, self.seen = lane.frames - self.seen, lane.frames
        if not unseen:
            return None
        self.dropped += unseen - 1
        self.wanted -= 1
        return lane.newest

    @property
    def replaced(self) -> int:
        """Frames that were wanted and that a newer one has replaced."""
        if self.lane is None or not self.wanted:
            return self.dropped
        return self.dropped + max(self.lane.frames - self.seen - 1, 0)

    def is_empty(self) -> bool:
        if self.lane is None:
            return self.opened is None and self.frame is None and self.terminal is None
        has_frame = self.lane.frames > self.seen and self.subscription.tells_frames
        return self.opened is None and not has_frame


class Live(Subscription):
    """Gets the newest frame of each capture."""

    #: Whether frames are told unasked, as items.
    tells_frames: ClassVar[bool] = True

    def __init__(self, capture_id: str | None) -> None:
        super().__init__(capture_id)
        self._dropped = 0
        self._running: dict[LiveLane, _Slot] = {}
        # Ordered sets of slots that are not empty.
        self._fresh: dict[_Slot, None] = {}
        self._ended: dict[_Slot, None] = {}

    @property
    def dropped(self) -> int:
        return self._dropped + sum(slot.replaced for slot in self._running.values())

    def _join(self, lane: LiveLane) -> _Slot:
        wanted = math.inf if self.tells_frames else 0
        slot = self._running[lane] = _Slot(self, wanted, lane, lane.opened, lane.frames)
        self._refresh(slot)
        return slot

    def _refresh(self, slot: _Slot) -> None:
        """There is something to take again."""
        self._fresh[slot] = None
        self._notify()

    def _leave_lane(self, lane: LiveLane, terminal: Terminal | None) -> None:
        """Nothing more comes of a capture; None when its end is not to be told."""
        slot = self._running.pop(lane)
        slot.settle(terminal)
        self._dropped += slot.dropped
        if not slot.is_empty():
            self._end_slot(slot)
        if terminal is not None:
            self._notify()

    def _end_slot(self, slot: _Slot) -> None:
        self._fresh.pop(slot, None)
        self._ended[slot] = None
        untold = [ended for ended in self._ended if ended.opened is not None]
        if len(untold) > LIVE_ENDED:
            del self._ended[untold[0]]
            self.forgotten += 1
            self._dropped += untold[0].frame is not None

    def is_ready(self) -> bool:
        return bool(self._ended or self._fresh)

    def _take(self) -> FeedItem:
        # One ended capture to its end, then the next; running ones take turns.
        slots = self._ended or self._fresh
        slot = next(iter(slots))
        item = slot.take()
        assert item is not None, "a slot is listed only while it holds something"
        if slot.is_empty():
            del slots[slot]
            if slot.lane is not None and self.tells_frames:
                slot.lane.up_to_date[slot] = None
        elif slots is self._fresh:
            del slots[slot]
            slots[slot] = None
        return item

    def _clear(self) -> None:
        self._running.clear()
        self._fresh.clear()
        self._ended.clear()


class AskedSubscription(Live):
    """Is told of frames only where it has asked for them, and takes them when it has time."""

    tells_frames: ClassVar[bool] = False

    def __init__(self, capture_id: str | None) -> None:
        super().__init__(capture_id)
        # Ordered set of slots with frames to be told.
        self._asked: dict[_Slot, None] = {}
        # For those there was no room when frames were taken last.
        self._left_out: list[_Slot] = []

    def ask(self, capture_ids: Iterable[str], frames: int = 1) -> None:
        """Let `newest` give so many frames of each of these captures.

        An id that no running capture has is passed over; of one that was asked for before,
        `frames` takes the place of what is left.
        """
        wanted = frozenset(capture_ids)
        for lane, slot in self._running.items():
            if lane.opened.capture_id in wanted:
                slot.ask(lane, frames)
                self._asked[slot] = None

    def has_asked(self) -> bool:
        """Whether frames were asked for that have not been taken."""
        return bool(self._asked)

    def newest(self, max_bytes: float = math.inf) -> list[Frame]:
        """Take the newest frame of each capture asked for, where it was not taken before.

        Args:
            max_bytes: of all of them together; one is always taken. The next call is for those
                that were left out, and for no others.

        None of a capture whose opened was not taken, or whose end has come: the last frame of
        that is an item before its terminal, if it was asked for.
        """
        frames: list[Frame] = []
        slots, self._left_out = self._left_out or [*self._asked], []
        for place, slot in enumerate(slots):
            lane = slot.lane
            if slot not in self._asked or lane is None or lane.frames == slot.seen:
                continue
            # Nothing of a capture comes before its opened.
            if slot.opened is not None:
                continue
            assert lane.newest is not None, "it has a frame that was not taken"
            max_bytes -= len(lane.newest.data)
            if frames and max_bytes < 0:
                self._left_out = slots[place:]
                break
            frames.append(lane.newest)
            slot.newest(lane)
            if not slot.wanted:
                del self._asked[slot]
        self.delivered += len(frames)
        return frames

    def has_left_out(self) -> bool:
        """Whether the last call of `newest` had no room for all."""
        return bool(self._left_out)

    def forget(self) -> None:
        """What was asked for is wanted no more."""
        for slot in self._asked:
            slot.wanted = 0
        self._asked.clear()
        self._left_out.clear()

    def _leave_lane(self, lane: LiveLane, terminal: Terminal | None) -> None:
        self._asked.pop(self._running[lane], None)
        super()._leave_lane(lane, terminal)

    def _clear(self) -> None:
        super()._clear()
        self.forget()


class LiveLane:
    """The newest frame of one capture, kept once for all that want no more.

    Attributes:
        opened: what each of them gets first.
        slots: what each of them has not taken.
        up_to_date: the slots of those that have taken the newest frame.
        frames: how many there were while somebody looked.
        newest: the last of them.
    """

    def __init__(self, opened: FeedOpened) -> None:
        self.opened = opened
        self.slots: dict[Live, _Slot] = {}
        self.up_to_date: dict[_Slot, None] = {}
        self.frames = 0
        self.newest: Frame | None = None

    def join(self, subscriber: Live) -> None:
        """Let it have the capture from here on."""
        self.slots[subscriber] = subscriber._join(self)

    def leave(self, subscriber: Live) -> None:
        """Nothing more comes; what it holds it can still take."""
        if subscriber in self.slots:
            self._leave(subscriber, None)

    def put(self, frame: Frame) -> None:
        """There is a newer frame; somebody is there."""
        self.frames += 1
        self.newest = frame
        if self.up_to_date:
            for slot in self.up_to_date:
                slot.subscription._refresh(slot)
            self.up_to_date.clear()

    def finish(self, terminal: Terminal | None) -> None:
        """Have all of them leave, and told the terminal if there is one."""
        for subscriber in [*self.slots]:
            self._leave(subscriber, terminal)

    def _leave(self, subscriber: Live, terminal: Terminal | None) -> None:
        self.up_to_date.pop(self.slots.pop(subscriber), None)
        subscriber._leave_lane(self, terminal)
        if not self.slots:
            self.newest = None
