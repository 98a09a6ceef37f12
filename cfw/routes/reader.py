"""The reader task of a connection: what its rig says, message by message."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import NoReturn

import trio

from cfw.actions import (
    AbortCapture,
    Action,
    CleanupCapture,
    ForwardFrame,
    RequestSessionRecheck,
)
from cfw.errors import ProtocolViolation
from cfw.limits import NS_PER_S
from cfw.repository import ForwardBuffer
from cfw.routes.clock import RigClock
from cfw.service import (
    Event,
    SessionNotice,
    SessionVerdict,
    Tick,
    dispatch,
    next_deadline,
)
from cfw.state import Active, Idle, State
from cfw.wire import WebSocket
from schemas import (
    CameraFeedWorkerInput,
    CaptureClose,
    CaptureFrameMeta,
    SchemaError,
    parse_input,
)


class IngestClock:
    """Ingest time: the wall clock at the start, plus what Trio's clock has counted since.

    Args:
        wall_clock: nanoseconds since 1970 UTC; read once.

    Attributes:
        epoch_ns: ingest time when Trio's clock was at 0.
    """

    def __init__(self, wall_clock: Callable[[], int]) -> None:
        self.epoch_ns = wall_clock() - round(trio.current_time() * NS_PER_S)

    def now(self) -> int:
        """Ingest time now, nanoseconds since 1970 UTC."""
        return self.epoch_ns + round(trio.current_time() * NS_PER_S)


class Reader:
    """Parses what the rig sends, asks the core, and carries out its actions.

    Args:
        idle: the state before any message.
        buffer: where accepted frames go.
        clock: the connection's ingest time.

    Attributes:
        state: where the capture stands.
        batch: the messages of the last read; emptied when they are done with.
        rig_clock: what the messages tell of the rig's clock.
        has_verdict: set when a verdict was put into the channel that `read` was given.
        has_notice: set when something has happened to the session.
    """

    def __init__(self, idle: Idle, buffer: ForwardBuffer, clock: IngestClock) -> None:
        self.state: State = idle
        self.batch: list[str | bytes] = []
        self.rig_clock = RigClock()
        self.has_verdict = self.has_notice = False
        self._buffer = buffer
        self._clock = clock

    def decide(self, event: Event, now: int) -> tuple[Action, ...]:
        """Ask the core what an event means.

        Raises:
            DomainError: the end of the capture, or that none can begin.
        """
        self.state, actions = dispatch(self.state, event, now)
        # An abort is the first of its actions.
        if actions and type(actions[0]) is AbortCapture:
            try:
                raise actions[0].error
            finally:
                del actions  # else this frame and the error's traceback would hold each other
        return actions

    def take_first(self, now: int) -> Event:
        """Take the first message of the batch; it has not been decided on."""
        message = self.batch.pop(0)
        return message if isinstance(message, bytes) else self._parse(message, now)

    async def read(
        self,
        ws: WebSocket,
        ask: trio.MemorySendChannel[RequestSessionRecheck],
        verdicts: trio.MemoryReceiveChannel[SessionVerdict],
    ) -> CaptureClose:
        """Take what the rig sends until its `capture.close`, and return that.

        Args:
            ws: where more comes from when the batch is done with.
            ask: gets a request for each re-check that is due.
            verdicts: has the answer when `has_verdict` says so.

        Raises:
            DomainError: the end of the capture.
            WireError: that of the connection.
        """
        clock = self._clock
        now = clock.now()
        while (close := await self._take_batch(now)) is None:
            if self.has_verdict:
                self.has_verdict = False
                self._ask(ask, verdicts.receive_nowait(), clock.now())
            if self.has_notice:
                self.has_notice = False
                self._ask(ask, SessionNotice(), clock.now())
            due = next_deadline(self.state)
            assert due is not None
            deadline = (due - clock.epoch_ns) / NS_PER_S
            if not isinstance(self.state, Active):
                await self._wait_verdict(verdicts, deadline, due)
            self.batch = await ws.receive_batch(until=deadline)
            now = clock.now()
            if self.batch or self.has_verdict or self.has_notice:
                continue  # first what has come; it may be due later then
            if trio.current_time() >= deadline:
                now = max(now, due)  # the clock's float may fall short by a nanosecond
            if now >= due:
                self._ask(ask, Tick(ws.arrived_bytes), now)
        return close

    def _ask(
        self, ask: trio.MemorySendChannel[RequestSessionRecheck], event: Event, now: int
    ) -> None:
        for action in self.decide(event, now):
            if isinstance(action, RequestSessionRecheck):
                with contextlib.suppress(trio.WouldBlock):  # one waits already
                    ask.send_nowait(action)

    async def _wait_verdict(
        self, verdicts: trio.MemoryReceiveChannel[SessionVerdict], deadline: float, due: int
    ) -> NoReturn:
        """End the capture with what the session has to say, or else with the limit.

        Nothing is read from the rig any more.
        """
        with trio.move_on_at(deadline):
            self.decide(await verdicts.receive(), self._clock.now())
        self.decide(Tick(), due)
        raise AssertionError("a capture has ended and goes on")

    async def _take_batch(self, now: int) -> CaptureClose | None:
        """Do what the messages of a batch ask for; returns its `capture.close`, if any."""
        # Whatever a frame is known by here is forgotten before more is waited for.
        buffer, close = self._buffer, None
        for message in self.batch:
            event = message if isinstance(message, bytes) else self._parse(message, now)
            for action in self.decide(event, now):
                if isinstance(action, ForwardFrame):
                    buffer.put(action.frame)
                elif isinstance(action, CleanupCapture):
                    close = action.close
            if close is not None:
                break
            if isinstance(event, CaptureFrameMeta) and not buffer.has_room(event.byte_length):
                # Before its bytes are received: they would be held beside a full buffer.
                await buffer.wait_for_room(event)
        self.batch = []
        return close

    def _parse(self, text: str, now: int) -> CameraFeedWorkerInput:
        try:
            message = parse_input(text)
        except SchemaError as exc:
            raise ProtocolViolation(str(exc)) from None
        self.rig_clock.note(message.timestamp, now)
        return message
