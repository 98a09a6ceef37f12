"""What a consumer holds of the hub, whichever its promise is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal, TypeAlias

import trio

from cfw.state import Frame
from schemas import FeedOpened, Terminal

Mode: TypeAlias = Literal["lossless", "live"]
FeedItem: TypeAlias = FeedOpened | Frame | Terminal


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
        while not self.is_ready():
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
    def is_ready(self) -> bool:
        """Whether an item is at hand, so that taking it does not wait."""

    @abstractmethod
    def _take(self) -> FeedItem: ...

    @abstractmethod
    def _clear(self) -> None: ...
