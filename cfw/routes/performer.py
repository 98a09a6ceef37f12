"""The one place where the core is asked, and where its actions are carried out."""

from __future__ import annotations

import contextlib
from typing import TypeAlias

import trio

from cfw.actions import (
    AbortCapture,
    CleanupCapture,
    ForwardFrame,
    RequestSessionRecheck,
    RequestSessionValidation,
)
from cfw.repository import ForwardBuffer
from cfw.routes.ingest import IngestClock
from cfw.service import Event, SessionNotice, SessionVerdict, dispatch
from cfw.state import Idle, State
from schemas import CaptureClose

SessionRequest: TypeAlias = RequestSessionValidation | RequestSessionRecheck


class Performer:
    """Keeps the state of one capture, and does what the core decides. Nothing here waits.

    The tasks of the capture call it, each with what it has heard. Once the capture is over,
    whatever they still bring changes nothing.

    Args:
        idle: the state before any message.
        clock: the connection's ingest time.
        buffer: gets the accepted frames.
        asks: gets each request to check the session; of one place.
        closes: gets the rig's `capture.close`, when that has ended the capture; of one place.

    Attributes:
        state: where the capture stands.
        now: ingest time of what is told next; never goes back.
    """

    def __init__(
        self,
        idle: Idle,
        clock: IngestClock,
        buffer: ForwardBuffer,
        asks: trio.MemorySendChannel[SessionRequest],
        closes: trio.MemorySendChannel[CaptureClose],
    ) -> None:
        self.state: State = idle
        self.now = clock.now()
        self._clock = clock
        self._buffer = buffer
        self._asks = asks
        self._closes = closes

    def perform(self, event: Event) -> None:
        """Ask the core what an event means, and do it.

        Raises:
            DomainError: the end of the capture, or that none can begin.
        """
        self.state, actions = dispatch(self.state, event, self.now)
        for action in actions:
            if type(action) is ForwardFrame:  # no call: it is there for each frame
                self._buffer.put(action.frame)
            elif isinstance(action, SessionRequest):
                with contextlib.suppress(trio.WouldBlock):  # one waits already
                    self._asks.send_nowait(action)
            elif isinstance(action, AbortCapture):
                try:
                    raise action.error
                finally:
                    # Else this frame and the error's traceback would hold each other.
                    del action, actions
            elif isinstance(action, CleanupCapture) and action.close is not None:
                self._closes.send_nowait(action.close)

    def perform_now(self, event: SessionVerdict | SessionNotice) -> None:
        """The same with news that came by itself, perhaps in the middle of a read's messages.

        Raises:
            DomainError: the end of the capture.
        """
        self.now = max(self.now, self._clock.now())
        self.perform(event)
