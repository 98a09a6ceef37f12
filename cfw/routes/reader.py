"""The reader task of a capture: what its rig says, message by message."""

from __future__ import annotations

import trio

from cfw.errors import ProtocolViolation
from cfw.limits import ns
from cfw.repository import ForwardBuffer
from cfw.routes.clock import RigClock
from cfw.routes.ingest import IngestClock
from cfw.routes.performer import Performer
from cfw.service import Held, Tick, next_deadline
from cfw.state import Active, Ending
from cfw.wire import WebSocket
from schemas import CameraFeedWorkerInput, CaptureFrameMeta, SchemaError, parse_input


def parse(text: str | bytes) -> CameraFeedWorkerInput:
    """A control message.

    Raises:
        ProtocolViolation: it is none.
    """
    try:
        return parse_input(text)
    except SchemaError as exc:
        raise ProtocolViolation(str(exc)) from None


class Reader:
    """Parses what the rig sends and has it performed, and holds the time against it.

    Args:
        ws: where messages come from.
        performer: is told of each.
        buffer: where there has to be room before the bytes of a frame are received.
        clock: the connection's ingest time.
        rig_clock: is told when each message was made, and read.
    """

    def __init__(
        self,
        ws: WebSocket,
        performer: Performer,
        buffer: ForwardBuffer,
        clock: IngestClock,
        rig_clock: RigClock,
    ) -> None:
        self._ws = ws
        self._performer = performer
        self._buffer = buffer
        self._clock = clock
        self._rig_clock = rig_clock

    async def read(self, batch: list[str | bytes]) -> None:
        """Take what the rig sends until the capture is over.

        Args:
            batch: the messages behind its `capture.open` that came with that; emptied.

        Raises:
            DomainError: the end of the capture.
            WireError: that of the connection.
        """
        performer, clock = self._performer, self._clock
        while True:
            if isinstance(performer.state, Active):  # else its session has ended it meanwhile
                await self._take(batch)
            state = performer.state
            due = next_deadline(state)
            if due is None:
                return
            deadline = clock.trio_time(due)
            if isinstance(state, Ending):
                # Nothing more is read: only the session can change what the end is called.
                await trio.sleep_until(deadline)
                performer.now = max(performer.now, due)
                performer.perform(Tick())
                continue
            batch = await self._ws.receive_batch(until=deadline)
            performer.now = clock.now()
            if self._ws.held_s:
                performer.perform(Held(ns(self._ws.held_s)))
                self._ws.held_s = 0.0
            if batch or performer.state is not state:
                continue  # first what has come; it may be due later then
            if trio.current_time() >= deadline:
                performer.now = max(performer.now, due)
            if performer.now >= due:
                performer.perform(Tick(self._ws.arrived_bytes))

    async def _take(self, batch: list[str | bytes]) -> None:
        """Have the messages of a read performed, up to the one that ends the capture."""
        # Whatever a frame is known by here is forgotten before more is waited for. Types are
        # compared, for that takes no call, and there are two messages for each frame.
        performer, buffer, rig_clock = self._performer, self._buffer, self._rig_clock
        try:
            for message in batch:
                if type(message) is bytes:
                    performer.perform(message)
                    continue
                event = parse(message)
                rig_clock.note(event.timestamp, performer.now)
                performer.perform(event)
                if type(event) is CaptureFrameMeta:
                    if buffer.has_room(event.byte_length):
                        continue
                    # Before its bytes are received: they would be held beside a full buffer.
                    await buffer.wait_for_room(event)
                if not isinstance(performer.state, Active):
                    break
        finally:
            # A traceback holds it, and tiny messages are many times what was sent for them.
            batch.clear()
            # What was accepted before a violation in the same read is the sink's as well.
            buffer.hand_on()
