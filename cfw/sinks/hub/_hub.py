"""The hub and its captures: who gets what, and from when to when."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from types import TracebackType
from typing import get_args

from cfw.sinks import refuse_options
from cfw.sinks.hub._live import AskedSubscription, Live, LiveLane
from cfw.sinks.hub._lossless import Lossless, LosslessLane
from cfw.sinks.hub._subscription import Mode, Subscription
from cfw.state import Frame
from schemas import FeedOpened, Terminal


class HubCapture:
    """One capture on its way through the hub: its `CaptureSink` and the context of it."""

    def __init__(self, hub: Hub, opened: FeedOpened) -> None:
        self.opened = opened
        self._hub = hub
        self._lossless = LosslessLane(opened, hub._let_go)
        self._live = LiveLane(opened)

    async def __aenter__(self) -> HubCapture:
        self._hub._begin(self)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._hub._end(self)
        self._live.finish(None)
        self._lossless.subscribers.clear()

    def join(self, subscriber: Lossless | Live) -> None:
        """Let it have the capture from here on, beginning with its opened."""
        if isinstance(subscriber, Live):
            self._live.join(subscriber)
        else:
            self._lossless.join(subscriber)

    def leave(self, subscriber: Lossless | Live) -> None:
        """Nothing more comes to it of this capture; what it holds it can still take."""
        if isinstance(subscriber, Live):
            self._live.leave(subscriber)
        else:
            self._lossless.leave(subscriber)

    async def send(self, frame: Frame) -> None:
        """Hand the frame to every subscriber; waits for the lossless ones.

        Raises:
            RuntimeError: an earlier `send` was cancelled, so that some subscribers have its
                frame and some do not; only `finish` can follow.

        Cancellation: a checkpoint only while it waits. Those who had room keep the frame,
        the others have a prefix without it.
        """
        live, lossless = self._live, self._lossless
        if lossless.is_torn:
            raise RuntimeError("a send of this capture was cancelled; only finish may follow")
        if live.slots:
            live.put(frame)
        if lossless.subscribers and (waiting := lossless.put(frame)):
            await lossless.wait(waiting)

    def send_nowait(self, frames: Sequence[Frame]) -> bool:
        """Hand frames to every subscriber, or to none where a lossless one has no room."""
        live, lossless = self._live, self._lossless
        if not lossless.has_room(len(frames)):
            return False
        for frame in frames:
            if live.slots:
                live.put(frame)
            if lossless.subscribers:
                lossless.put(frame)
        return True

    async def finish(self, terminal: Terminal) -> None:
        """Hand the terminal to every subscriber; waits for the lossless ones.

        Cancellation: a checkpoint only while it waits. A subscriber that has no room by then
        is let go: it can still take what is queued, and then gets SubscriberTooSlow.
        """
        # Whoever joins from here on must not be told of a capture it will not see end.
        self._hub._end(self)
        self._live.finish(terminal)
        await self._lossless.finish(terminal)


class Hub:
    """A sink that hands captures to whoever has subscribed at that time.

    With no subscriber a frame costs one look at an empty list.
    """

    def __init__(self) -> None:
        self._captures: dict[HubCapture, None] = {}
        self._subscriptions: dict[Lossless | Live, None] = {}
        self._is_closed = False

    @property
    def subscribers(self) -> int:
        """How many subscribers there are."""
        return len(self._subscriptions)

    def capture(self, opened: FeedOpened) -> HubCapture:
        """A context for one capture; see `cfw.sinks.Sink`.

        Cancellation: entering and leaving never wait.
        """
        return HubCapture(self, opened)

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
        subscription = Live(capture_id) if mode == "live" else Lossless(capture_id)
        with self._subscribed(subscription):
            yield subscription

    @contextmanager
    def subscribe_asked(self, *, capture_id: str | None = None) -> Iterator[AskedSubscription]:
        """As `subscribe` in mode `live`, but frames are told only where they are asked for."""
        subscription = AskedSubscription(capture_id)
        with self._subscribed(subscription):
            yield subscription

    @contextmanager
    def _subscribed(self, subscription: Lossless | Live) -> Iterator[None]:
        if self._is_closed:
            subscription._stop(StopAsyncIteration)
        else:
            self._subscriptions[subscription] = None
            for capture in self._captures:
                self._join(capture, subscription)
        try:
            yield
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

    def _begin(self, capture: HubCapture) -> None:
        self._captures[capture] = None
        for subscription in self._subscriptions:
            self._join(capture, subscription)

    def _end(self, capture: HubCapture) -> None:
        self._captures.pop(capture, None)

    @staticmethod
    def _join(capture: HubCapture, subscription: Lossless | Live) -> None:
        if subscription.capture_id in (None, capture.opened.capture_id):
            capture.join(subscription)

    def _let_go(self, subscriber: Lossless) -> None:
        self._drop(subscriber)
        subscriber._let_go()

    def _drop(self, subscription: Lossless | Live) -> None:
        self._subscriptions.pop(subscription, None)
        for capture in self._captures:
            capture.leave(subscription)


def open_hub(url: str) -> AbstractAsyncContextManager[Hub]:
    """The sink of `hub:`; it closes when the context is left.

    Raises:
        ValueError: something follows the scheme.
    """
    refuse_options("hub", url)
    return _open()


@asynccontextmanager
async def _open() -> AsyncIterator[Hub]:
    hub = Hub()
    try:
        yield hub
    finally:
        hub.close()
