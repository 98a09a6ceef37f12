"""One capture, from its `capture.open` to its terminal.

                                       reader task ---[frames]---> forwarder task ---> sink
                                          |
    what the rig says --> `perform` <-----+                 [ ] memory channel, bounded
                            ^   |
                            |  [a request of the session]
                            |   v
                     session re-check task ---> session authority

The three stand side by side in one nursery. Whichever fails cancels the others, and what was
raised is the end of the capture: so a verdict that ends it is raised by the task that asked.
"""

from __future__ import annotations

import math
from functools import partial

import structlog
import trio

from cfw.actions import RequestSessionValidation
from cfw.errors import DomainError, ForwardFailed
from cfw.identity import Identity
from cfw.limits import NS_PER_S, ns
from cfw.metrics import observe_delay
from cfw.repository import ForwardBuffer
from cfw.routes.clock import RigClock
from cfw.routes.filling import Filling
from cfw.routes.ingest import IngestClock
from cfw.routes.outcome import Outcome, Stop, outcome_of
from cfw.routes.performer import Performer, SessionRequest
from cfw.routes.reader import Reader
from cfw.routes.registry import CaptureStatus, EndedCapture
from cfw.routes.services import Services
from cfw.service import SessionNotice, SessionVerdict, Verdict
from cfw.sessions import watching
from cfw.sinks import CaptureSink, LeasedSink
from cfw.state import Active, Idle
from cfw.wire import WebSocket, hold_after
from schemas import (
    SCHEMA_VERSION,
    CaptureAbort,
    CaptureClose,
    CaptureOpen,
    FeedAbort,
    FeedClose,
    FeedOpened,
    Terminal,
    Timestamp,
    restate,
)

SOURCE = "camera_feed_worker"
#: Of a source in the log: as long as a name may be. A rig may tell far more.
_SOURCE_CHARS = 128


class Capture:
    """What one `capture.open` asks for, whether it is granted or not.

    Args:
        services: what all connections share.
        ws: the connection, for this capture alone.
        opened: what the rig has asked for.
        identity: who the rig is.
        idle: the state that it finds.
        clock: the connection's ingest time.
        stop: of the connection.
        log: of the connection.

    Attributes:
        is_claimed: whether it owns its id, or has owned it; else it was refused.
        failed_at: when its end began, if it is not a clean one, by Trio's clock.
        log: says which capture it is.
        buffer: its frames that the sink has not taken, and how many there were in all.
    """

    def __init__(
        self,
        services: Services,
        ws: WebSocket,
        opened: CaptureOpen,
        *,
        identity: Identity,
        idle: Idle,
        clock: IngestClock,
        stop: Stop,
        log: structlog.stdlib.BoundLogger,
    ) -> None:
        self.is_claimed = False
        self.failed_at = math.inf
        self.log = log.bind(capture_id=opened.capture_id)
        self._services = services
        self._ws = ws
        self._opened = opened
        self._identity = identity
        self._clock = clock
        self._stop = stop
        self._opened_at = Timestamp.from_ns(clock.now())
        self.buffer = buffer = ForwardBuffer(services.limits)
        delays = services.metrics.ingest_to_sink
        buffer.on_taken = partial(observe_delay, delays, clock.epoch_ns, clock.trio_now)
        self._filling = Filling(services, buffer, self.log)
        self._rig_clock = RigClock()
        self._rig_clock.note(opened.timestamp, self._opened_at.ns)
        asks, self._asked = trio.open_memory_channel[SessionRequest](1)
        closes, self._closed = trio.open_memory_channel[CaptureClose](1)
        self._performer = Performer(idle, clock, buffer, asks, closes)
        self._reader = Reader(ws, self._performer, buffer, clock, self._rig_clock)

    async def run(self, batch: list[str | bytes]) -> None:
        """Have it granted, and take it to its end.

        Args:
            batch: the messages that came with the `capture.open`; emptied.

        Raises:
            Exception: what ended it; the sink has its terminal, and nothing is left of it.

        Cancellation: the sink gets its terminal, under a deadline.
        """
        self._performer.perform(self._opened)
        await self._answer(self._asked.receive_nowait())
        registry, metrics = self._services.registry, self._services.metrics
        claim = registry.claim(self._opened.capture_id, self._status, self._stop.request)
        with claim, metrics.running(self.buffer):
            self.is_claimed = True
            await self._deliver(batch)
        buffer = self.buffer
        self.log.info(
            "capture.closed", frames=buffer.frames_forwarded, bytes=buffer.bytes_forwarded
        )

    # --- the sink ---------------------------------------------------------------------------

    async def _deliver(self, batch: list[str | bytes]) -> None:
        """Give the sink its frames and its terminal, whatever happens."""
        feed_opened = restate(self._opened, FeedOpened, timestamp_ingest=self._opened_at)
        flush_s = self._services.times.close_flush_s
        # None for as long as the sink has not taken it.
        end: CaptureClose | BaseException | None = None
        try:
            # No limit while the capture runs; at its end a shield with a deadline, so that
            # the sink gets its terminal although this connection is cancelled.
            with trio.CancelScope(deadline=trio.current_time() + flush_s) as guard:
                async with self._services.sink.capture(feed_opened) as sink:
                    guard.deadline = math.inf
                    self.log.info("capture.opened", **_said(self._opened))
                    try:
                        end = await self._run_tasks(sink, batch)
                    except BaseException as exc:
                        end = exc
                    guard.shield = True
                    guard.deadline = trio.current_time() + flush_s
                    self.buffer.discard()
                    await sink.finish(self._terminal(end))
            if guard.cancelled_caught:
                raise trio.TooSlowError(f"the sink did not answer within {flush_s:g} s")
        except Exception as exc:
            # Whatever was raised here, it is the sink that failed.
            if isinstance(exc, DomainError) and end is None:
                end = exc
            elif not isinstance(end, BaseException):
                end = ForwardFailed("the sink failed at an end of the capture")
                end.__cause__ = exc
            else:
                self.log.exception("sink.failed")
        if isinstance(end, BaseException):
            try:
                raise end
            finally:
                del end  # else this frame and the traceback would hold each other

    def _terminal(self, end: CaptureClose | BaseException) -> Terminal:
        buffer, now = self.buffer, Timestamp.from_ns(self._clock.now())
        counts = {
            **self._clock_offset(),
            "timestamp_ingest": now,
            "frames_accepted": buffer.frames_accepted,
            "bytes_accepted": buffer.bytes_accepted,
            "frames_forwarded": buffer.frames_forwarded,
            "bytes_forwarded": buffer.bytes_forwarded,
        }
        if isinstance(end, CaptureClose):
            return restate(end, FeedClose, **counts)
        return restate(
            self._opened,
            FeedAbort,
            schema_version=SCHEMA_VERSION,
            timestamp=now,
            source=SOURCE,
            **outcome_of(end, self._stop.error).diagnostics,
            **counts,
        )

    # --- its tasks --------------------------------------------------------------------------

    async def _run_tasks(self, sink: CaptureSink, batch: list[str | bytes]) -> CaptureClose:
        """Take its frames to the sink; returns the rig's `capture.close`."""
        async with trio.open_nursery() as nursery:
            self._filling.watch(nursery)
            nursery.start_soon(self._read, nursery, batch)
            nursery.start_soon(self._recheck)
            nursery.start_soon(self.buffer.forward, sink)
            if isinstance(sink, LeasedSink):
                nursery.start_soon(self._watch, sink)
            self._ws.ping_soon()  # read from here on without a pause: its pong is not held up
        return self._closed.receive_nowait()

    async def _read(self, nursery: trio.Nursery, batch: list[str | bytes]) -> None:
        """Take what the rig says to its end, and see that the sink takes what is left then."""
        try:
            opened, authority = self._opened, self._services.authority
            with watching(authority, opened.user_id, opened.session_id, self._notice):
                await self._reader.read(batch)
            self.buffer.close()
            await self._flush()
        except BaseException:
            self.note_failure()  # before the other tasks and the sink have ended
            raise
        nursery.cancel_scope.cancel()

    async def _flush(self) -> None:
        flush_s = self._services.times.close_flush_s
        with hold_after(flush_s) as scope:
            await self.buffer.wait_flushed()
        if scope.cancelled_caught:
            raise ForwardFailed(
                f"the sink did not take what was left within {flush_s:g} s (close_flush_s)"
            )

    async def _recheck(self) -> None:
        """Ask the session authority whenever the core wants to know."""
        async for request in self._asked:
            await self._answer(request)

    async def _answer(self, request: SessionRequest) -> None:
        """Get the authority's word for the session, and have it performed.

        Nothing is asked where the invitation of who films is over.
        """
        sessions = self._services.sessions
        if await self._services.gate.still_holds(self._identity):
            verdict = await sessions.verdict_of(request.user_id, request.session_id, self.log)
        else:
            verdict = Verdict.UNINVITED
        at_open = isinstance(request, RequestSessionValidation)
        self._hear(SessionVerdict(verdict, at_open=at_open))

    def _notice(self) -> None:
        """Something has happened to the session."""
        self._hear(SessionNotice())

    def _hear(self, news: SessionVerdict | SessionNotice) -> None:
        self._performer.perform_now(news)
        self._ws.interrupt()  # the reader waits for another deadline now

    @staticmethod
    async def _watch(sink: LeasedSink) -> None:
        try:
            await sink.watch()
        except Exception as exc:
            raise ForwardFailed("the sink has lost its hold on the capture") from exc

    # --- what others are told of it ---------------------------------------------------------

    def note_failure(self) -> None:
        """Its end begins now, if it has not begun."""
        self.failed_at = min(self.failed_at, trio.current_time())

    @property
    def receipt(self) -> dict[str, int]:
        """What the sink has taken, as the rig is told it."""
        return {"frames": self.buffer.frames_forwarded, "bytes": self.buffer.bytes_forwarded}

    def abort_message(self, outcome: Outcome) -> CaptureAbort:
        """Why it has failed, as the rig is told it."""
        return restate(
            self._opened,
            CaptureAbort,
            schema_version=SCHEMA_VERSION,
            timestamp=Timestamp.from_ns(self._clock.now()),
            source=SOURCE,
            **outcome.diagnostics,
        )

    def record_end(self, outcome: Outcome | None) -> None:
        """Have it remembered; with an outcome of None it ended cleanly."""
        diagnostics = {} if outcome is None else outcome.diagnostics
        self._services.registry.record_end(
            EndedCapture(
                capture_id=self._opened.capture_id,
                user_id=self._opened.user_id,
                session_id=self._opened.session_id,
                frames=self.buffer.frames_accepted,
                bytes=self.buffer.bytes_accepted,
                error_code=diagnostics.get("error_code"),
                detail=diagnostics.get("detail"),
                opened=self._opened_at,
                ended=Timestamp.from_ns(self._clock.now()),
                **self._clock_offset(),
            ),
            was_refused=not self.is_claimed,
        )

    def _status(self) -> CaptureStatus:
        buffer, lasted_s = self.buffer, self._lasted_s()
        return CaptureStatus(
            capture_id=self._opened.capture_id,
            user_id=self._opened.user_id,
            session_id=self._opened.session_id,
            state="active" if isinstance(self._performer.state, Active) else "closing",
            frames=buffer.frames_accepted,
            bytes=buffer.bytes_accepted,
            buffer_frames=buffer.frames,
            buffer_bytes=buffer.bytes,
            opened=self._opened_at,
            fps=buffer.frames_accepted / lasted_s if lasted_s > 0 else 0.0,
            **self._clock_offset(),
        )

    def _lasted_s(self) -> float:
        return (self._clock.now() - self._opened_at.ns) / NS_PER_S

    def _clock_offset(self) -> dict[str, float]:
        """How far the rig's clock is ahead, as fields of a terminal; none when unknown."""
        round_trip_s = self._ws.round_trip_s
        round_trip_ns = None if round_trip_s is None else ns(round_trip_s)
        offset = self._rig_clock.offset(round_trip_ns)
        return {} if offset is None else offset.fields


def _said(opened: CaptureOpen) -> dict[str, str | int]:
    """What a rig says of a capture that it opens, for the log."""
    told: dict[str, str | int] = {
        "user_id": opened.user_id,
        "session_id": opened.session_id,
        "width": opened.width,
        "height": opened.height,
        "fps": opened.fps_target,
    }
    return told if opened.source is None else told | {"source": opened.source[:_SOURCE_CHARS]}
