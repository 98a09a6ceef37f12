"""`WS /camera_feed_worker/capture`, or another path: the nursery of one connection.

    reader task ──[forward buffer]──> forwarder task ──> sink
       │  ^
       v  │ verdicts (memory channel of one)
    session re-check task ──> session authority

The reader (`cfw.routes.reader`) parses, asks the core and carries out its actions. A task that
fails cancels its siblings; `_Connection.run` turns whatever was raised into one outcome.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import time
from collections.abc import Callable
from functools import partial

import attrs
import structlog
import trio

from cfw.actions import RequestSessionRecheck, RequestSessionValidation
from cfw.errors import DomainError, ForwardFailed, ProtocolViolation, ServerShutdown
from cfw.identity import SUBPROTOCOL, Gate, Origins
from cfw.limits import NS_PER_S, Limits, Times, ns
from cfw.metrics import Metrics, Refusal, observe_delay
from cfw.net import address_of, describe_peer
from cfw.repository import FILLING_RATIO, GRACE_S, ForwardBuffer
from cfw.routes.admission import Admission
from cfw.routes.outcome import Outcome, not_ours, outcome_of
from cfw.routes.reader import IngestClock, Reader
from cfw.routes.registry import CaptureStatus, EndedCapture, Registry
from cfw.routes.session import Sessions
from cfw.service import SessionVerdict, Verdict
from cfw.sessions import SessionAuthority, watching
from cfw.sinks import CaptureSink, LeasedSink, Sink
from cfw.state import Active, Idle
from cfw.wire import (
    HandshakeReject,
    HandshakeRejected,
    PeerGone,
    Request,
    WebSocket,
    accept,
    hold_after,
)
from schemas import (
    SCHEMA_VERSION,
    CaptureAbort,
    CaptureClose,
    CaptureOpen,
    FeedAbort,
    FeedClose,
    FeedOpened,
    Greeting,
    Terminal,
    Timestamp,
    WorkerLimits,
    restate,
    to_json,
)

PATH = "/camera_feed_worker/capture"
SOURCE = "camera_feed_worker"
#: A buffer that is still this full after so long was not only filled by one large read. The
#: warning comes before the abort, which waits for `GRACE_S`.
FILLING_S = GRACE_S / 2

#: HTTP status of a refused handshake -> what it is counted as; None is none, TLS failed.
_REFUSALS: dict[int | None, Refusal] = {None: "tls", 401: "identity", 403: "identity"}

_log: structlog.stdlib.BoundLogger = structlog.get_logger("cfw.capture")


class Router:
    """Serves capture connections; one failing never touches another.

    Args:
        limits: what a capture may cost.
        times: how long each step may take.
        sink: where accepted frames go.
        authority: who says whether a user may send.
        registry: who owns which capture_id.
        metrics: where it counts; None for its own.
        gate: who may connect; None lets everyone.
        path: of the URL, without a query; the only one that is answered.
        wall_clock: nanoseconds since 1970 UTC; read once per connection, so that a clock
            that is set meanwhile moves no deadline.
    """

    def __init__(
        self,
        *,
        limits: Limits,
        times: Times,
        sink: Sink,
        authority: SessionAuthority,
        registry: Registry,
        metrics: Metrics | None = None,
        gate: Gate | None = None,
        path: str = PATH,
        wall_clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self.limits = limits
        self.times = times
        self.sink = sink
        self.authority = authority
        self.registry = registry
        self.metrics = Metrics() if metrics is None else metrics
        self.sessions = Sessions(authority, times, self.metrics)
        self.gate = Gate(Origins("*")) if gate is None else gate
        self.path = path
        self.wall_clock = wall_clock
        self.told_limits = limits_told(limits, times)
        self.is_draining = False
        self._connections: set[_Connection] = set()
        self._ids = itertools.count(1)
        self._admission = Admission(limits, self.metrics)
        self._all_gone = trio.Event()

    async def handle(self, stream: trio.abc.Stream) -> None:
        """Serve one connection to its end and close the stream.

        Cancellation: the capture is aborted with `server_shutdown`; its terminal, abort
        message and close frame are still sent, under their deadlines.
        """
        if self.is_draining:
            await self._admission.refuse(stream, "draining", "the worker is shutting down")
            return
        address = address_of(stream)
        if (problem := self._admission.problem(address)) is not None:
            await self._admission.refuse(stream, *problem)
            return
        connection = _Connection(self, next(self._ids))
        self._connections.add(connection)
        try:
            with self._admission.count(address):
                await connection.run(stream)
        finally:
            self._connections.discard(connection)
            if not self._connections:
                self._all_gone.set()

    async def shed(self, stream: trio.abc.Stream) -> None:
        """Let go of a connection at once: descriptors are nearly used up."""
        reason = "the worker has no descriptor for another connection"
        await self._admission.refuse(stream, "descriptors", reason)

    def drain(self) -> None:
        """Let running captures finish and end every connection that has none."""
        self.is_draining = True
        for connection in tuple(self._connections):
            if not connection.is_capturing:
                connection.abort(ServerShutdown("the worker is shutting down"))

    def abort_all(self) -> None:
        """End every connection with `server_shutdown`."""
        self.is_draining = True
        for connection in tuple(self._connections):
            connection.abort(
                ServerShutdown("the worker is shutting down and cannot wait any longer")
            )

    async def wait_gone(self) -> None:
        """Wait until no connection is left."""
        while self._connections:
            self._all_gone = trio.Event()
            await self._all_gone.wait()


def limits_told(limits: Limits, times: Times) -> WorkerLimits:
    """What a rig has to know to keep within the limits of a capture."""
    told = {field.name for field in attrs.fields(WorkerLimits)}
    known = attrs.asdict(limits) | attrs.asdict(times)
    return WorkerLimits(**{name: value for name, value in known.items() if name in told})


class _Connection:
    def __init__(self, router: Router, number: int) -> None:
        self._router = router
        self._log = _log.bind(connection=number)
        self._scope = trio.CancelScope()
        self._abort_error: DomainError | None = None
        self._clock = IngestClock(router.wall_clock)
        self._buffer = ForwardBuffer(router.limits)
        delays = router.metrics.ingest_to_sink
        self._buffer.on_taken = partial(observe_delay, delays, self._clock.epoch_ns)
        idle = Idle(router.limits, router.times)
        self._reader = Reader(idle, self._buffer, self._clock)
        self._failed_at: float | None = None
        self._opened: CaptureOpen | None = None
        self._opened_ns = 0
        self._close: CaptureClose | None = None
        self._ws: WebSocket | None = None
        self.is_capturing = False

    def abort(self, error: DomainError) -> None:
        """End the connection for a reason from outside; the first one counts."""
        if self._abort_error is None:
            self._abort_error = error
            self._scope.cancel()

    # --- the whole connection ---------------------------------------------------------------

    async def run(self, stream: trio.abc.Stream) -> None:
        limits, times = self._router.limits, self._router.times
        self._log = self._log.bind(remote=describe_peer(stream))
        try:
            with self._scope:
                async with accept(
                    stream,
                    path=self._router.path,
                    max_text_bytes=limits.max_control_bytes,
                    max_binary_bytes=limits.max_frame_bytes,
                    handshake_s=times.handshake_s,
                    keepalive_s=times.keepalive_s,
                    keepalive_timeout_s=times.keepalive_timeout_s,
                    message_s=times.message_s,
                    judge=partial(self._judge, stream),
                    subprotocol=SUBPROTOCOL,
                    greet=self._greet,
                ) as ws:
                    self._log.info("connection.opened")
                    await self._serve(ws)
        except HandshakeRejected as exc:
            why = _REFUSALS.get(exc.status, "handshake")
            self._router.metrics.refused[why] += 1
            self._log.info("connection.refused", status=exc.status, detail=exc.detail)
        except PeerGone as exc:
            self._log.info("connection.lost", detail=exc.detail)
        except Exception:
            # A bug of ours must not reach the other connections.
            self._log.exception("connection.failed")

    def _judge(self, stream: trio.abc.Stream, request: Request) -> HandshakeReject | None:
        """Learn who it is, once the request is there; or why nobody is let in."""
        verdict = self._router.gate.judge(request, stream)
        if isinstance(verdict, HandshakeReject):
            return verdict
        self._reader.state = Idle(self._router.limits, self._router.times, verdict.users)
        return None

    def _greet(self) -> list[tuple[bytes, bytes]]:
        now = Timestamp.from_ns(self._clock.now())
        return Greeting(self._router.told_limits, now).headers()

    async def _serve(self, ws: WebSocket) -> None:
        linger_s = self._router.times.linger_s
        self._ws = ws
        try:
            await self._wait_open(ws)
            await self._capture(ws)
        except BaseException as failure:
            self._note_failure()
            self._reader.batch = []  # of a read full of tiny messages many times what was sent
            outcome = outcome_of(failure, self._abort_error)
            self._log_failure(outcome)
            self._record_end(outcome)
            # The rig is told also while the server is being cancelled, but never waits for.
            with trio.move_on_after(linger_s, shield=True):
                await self._tell(ws, outcome)
            del outcome  # it holds the failure, whose traceback holds this frame
            passing = not_ours(failure)
            if passing is not None:
                raise passing from None
        else:
            self._record_end(None)
            receipt = {"frames": self._buffer.frames_forwarded}
            receipt["bytes"] = self._buffer.bytes_forwarded
            with trio.move_on_after(linger_s, shield=True):
                reason = json.dumps(receipt, separators=(",", ":"))
                await self._close_socket(ws, 1000, reason)

    async def _tell(self, ws: WebSocket, outcome: Outcome) -> None:
        if self._opened is not None and outcome.is_told:
            abort = restate(
                self._opened,
                CaptureAbort,
                schema_version=SCHEMA_VERSION,
                timestamp=Timestamp.from_ns(self._clock.now()),
                source=SOURCE,
                **outcome.diagnostics,
            )
            with contextlib.suppress(PeerGone):
                await ws.send_text(to_json(abort))
                assert self._failed_at is not None
                self._router.metrics.aborts.observe(trio.current_time() - self._failed_at)
        code = outcome.close_code
        if self._opened is None and not outcome.is_told and code == 1008:
            code = 1000  # it opened nothing, so nothing is missing
        await self._close_socket(ws, code, outcome.reason)

    async def _close_socket(self, ws: WebSocket, code: int, reason: str) -> None:
        await ws.close(code, reason, linger_s=self._router.times.linger_s)
        self._log.info("connection.closed", close_code=code)

    def _log_failure(self, outcome: Outcome) -> None:
        event = "connection.ended" if self._opened is None else "capture.aborted"
        log = getattr(self._log, outcome.level)
        # A chained cause is what a sink raised or a bug; a rig's mistake has none.
        cause = outcome.cause if outcome.is_bug else outcome.cause.__cause__
        log(
            event,
            error_code=outcome.error.code.value,
            close_code=outcome.close_code,
            detail=outcome.error.detail,
            seq=outcome.error.seq,
            frames_accepted=self._buffer.frames_accepted,
            frames_forwarded=self._buffer.frames_forwarded,
            **({} if cause is None else {"exc_info": cause}),
        )

    def _note_failure(self) -> None:
        """Begin to measure how long the abort takes; the first time counts."""
        if self._failed_at is None:
            self._failed_at = trio.current_time()

    def _record_end(self, outcome: Outcome | None) -> None:
        if self._opened is None:
            return
        diagnostics = {} if outcome is None else outcome.diagnostics
        self._router.registry.record_end(
            EndedCapture(
                capture_id=self._opened.capture_id,
                user_id=self._opened.user_id,
                session_id=self._opened.session_id,
                frames=self._buffer.frames_accepted,
                bytes=self._buffer.bytes_accepted,
                error_code=diagnostics.get("error_code"),
                detail=diagnostics.get("detail"),
                opened=Timestamp.from_ns(self._opened_ns),
                ended=Timestamp.from_ns(self._clock.now()),
                **self._clock_offset(),
            ),
            was_refused=not self.is_capturing,
        )

    def _clock_offset(self) -> dict[str, float]:
        """How far the rig's clock is ahead, as fields of a terminal; none when unknown."""
        round_trip_s = None if self._ws is None else self._ws.round_trip_s
        round_trip_ns = None if round_trip_s is None else ns(round_trip_s)
        offset = self._reader.rig_clock.offset(round_trip_ns)
        return {} if offset is None else offset.fields

    # --- capture.open -----------------------------------------------------------------------

    async def _wait_open(self, ws: WebSocket) -> None:
        """Take the `capture.open`, and the session authority's word for it."""
        open_s = self._router.times.open_s
        self._reader.batch = await ws.receive_batch(until=trio.current_time() + open_s)
        if not self._reader.batch:
            raise ProtocolViolation(f"no capture.open within {open_s:g} s (open_s)")
        self._opened_ns = self._clock.now()
        first = self._reader.take_first(self._opened_ns)
        if isinstance(first, CaptureOpen):
            self._opened = first
            self._log = self._log.bind(capture_id=first.capture_id)
        for action in self._reader.decide(first, self._opened_ns):
            if isinstance(action, RequestSessionValidation):
                verdict = await self._check_session(action.user_id, action.session_id)
                answered = SessionVerdict(verdict, at_open=True)
                self._reader.decide(answered, self._clock.now())

    async def _check_session(self, user_id: str, session_id: str) -> Verdict:
        return await self._router.sessions.verdict_of(user_id, session_id, self._log)

    # --- the capture ------------------------------------------------------------------------

    async def _capture(self, ws: WebSocket) -> None:
        """Forward one capture and give the sink its terminal, whatever happens."""
        assert self._opened is not None
        feed_opened = restate(
            self._opened, FeedOpened, timestamp_ingest=Timestamp.from_ns(self._opened_ns)
        )
        flush_s = self._router.times.close_flush_s
        failure: BaseException | None = None
        is_taken = False
        with (
            self._router.registry.claim(self._opened.capture_id, self._status, self.abort),
            self._router.metrics.running(self._buffer),
        ):
            self.is_capturing = True
            try:
                # No limit while the capture runs; at its end a shield with a deadline, so
                # that the sink gets its terminal although this connection is cancelled.
                with trio.CancelScope(deadline=trio.current_time() + flush_s) as guard:
                    async with self._router.sink.capture(feed_opened) as sink:
                        is_taken, guard.deadline = True, math.inf
                        self._log.info("capture.opened", user_id=self._opened.user_id)
                        try:
                            await self._run_tasks(ws, sink)
                        except BaseException as exc:
                            failure = exc
                        guard.shield = True
                        guard.deadline = trio.current_time() + flush_s
                        self._buffer.discard()
                        await sink.finish(self._terminal(failure))
                if guard.cancelled_caught:
                    raise trio.TooSlowError(f"the sink did not answer within {flush_s:g} s")
            except Exception as exc:
                # Whatever was raised here, it is the sink that failed.
                if isinstance(exc, DomainError) and not is_taken:
                    failure = exc
                elif failure is None:
                    failure = ForwardFailed("the sink failed at an end of the capture")
                    failure.__cause__ = exc
                else:
                    self._log.exception("sink.failed")
        if failure is not None:
            try:
                raise failure
            finally:
                del failure  # else this frame and the traceback would hold each other
        self._log.info(
            "capture.closed",
            frames=self._buffer.frames_forwarded,
            bytes=self._buffer.bytes_forwarded,
        )

    async def _run_tasks(self, ws: WebSocket, sink: CaptureSink) -> None:
        ask, asked = trio.open_memory_channel[RequestSessionRecheck](1)
        answer, verdicts = trio.open_memory_channel[SessionVerdict](1)
        assert self._opened is not None
        session = (self._opened.user_id, self._opened.session_id)
        async with trio.open_nursery() as nursery:
            self._buffer.on_filling = partial(nursery.start_soon, self._warn_filling, nursery)
            nursery.start_soon(self._buffer.forward, sink)
            nursery.start_soon(self._recheck, ws, asked, answer)
            ws.ping_soon()  # read from here on without a pause, so its pong is not held up
            if isinstance(sink, LeasedSink):
                nursery.start_soon(self._watch, sink)
            try:
                with watching(self._router.authority, *session, partial(self._notice, ws)):
                    self._close = await self._reader.read(ws, ask, verdicts)
            except BaseException:
                self._note_failure()  # before the other tasks and the sink have ended
                # Done by the nursery, it would leave its frame and their tracebacks in a
                # cycle, and an abort would end with work for the garbage collector.
                nursery.cancel_scope.cancel()
                raise
            self._buffer.close()
            flush_s = self._router.times.close_flush_s
            with hold_after(flush_s) as scope:
                await self._buffer.wait_flushed()
            if scope.cancelled_caught:
                raise ForwardFailed(
                    f"the sink did not take what was left within {flush_s:g} s (close_flush_s)"
                )
            nursery.cancel_scope.cancel()

    @staticmethod
    async def _watch(sink: LeasedSink) -> None:
        try:
            await sink.watch()
        except Exception as exc:
            raise ForwardFailed("the sink has lost its hold on the capture") from exc

    async def _warn_filling(self, nursery: trio.Nursery) -> None:
        """Warn once of a sink that is too slow, while there still is room."""
        await trio.sleep(FILLING_S)
        buffer = self._buffer
        if buffer.fill_ratio <= FILLING_RATIO:
            # The forwarder had only not had its turn; look again next time.
            buffer.on_filling = partial(nursery.start_soon, self._warn_filling, nursery)
            return
        self._router.metrics.filling += 1
        limits, lasted_s = self._router.limits, (self._clock.now() - self._opened_ns) / NS_PER_S
        self._log.warning(
            "buffer.filling",
            slow_side="sink",
            fill=round(buffer.fill_ratio, 3),
            frames=buffer.frames,
            max_forward_buffer_frames=limits.max_forward_buffer_frames,
            bytes=buffer.bytes,
            max_forward_buffer_bytes=limits.max_forward_buffer_bytes,
            accepted_per_s=round(buffer.frames_accepted / lasted_s, 2),
            forwarded_per_s=round(buffer.frames_forwarded / lasted_s, 2),
        )

    async def _recheck(
        self,
        ws: WebSocket,
        asked: trio.MemoryReceiveChannel[RequestSessionRecheck],
        answer: trio.MemorySendChannel[SessionVerdict],
    ) -> None:
        """Ask the session authority whenever the reader wants to know."""
        async for request in asked:
            verdict = await self._check_session(request.user_id, request.session_id)
            await answer.send(SessionVerdict(verdict, at_open=False))
            self._reader.has_verdict = True
            ws.interrupt()  # the reader looks at the verdict at once

    def _notice(self, ws: WebSocket) -> None:
        """Something has happened to the session: have the reader look at it."""
        self._reader.has_notice = True
        ws.interrupt()

    def _terminal(self, failure: BaseException | None) -> Terminal:
        buffer, now = self._buffer, Timestamp.from_ns(self._clock.now())
        counts = {
            **self._clock_offset(),
            "timestamp_ingest": now,
            "frames_accepted": buffer.frames_accepted,
            "bytes_accepted": buffer.bytes_accepted,
            "frames_forwarded": buffer.frames_forwarded,
            "bytes_forwarded": buffer.bytes_forwarded,
        }
        if failure is None:
            assert self._close is not None
            return restate(self._close, FeedClose, **counts)
        assert self._opened is not None
        return restate(
            self._opened,
            FeedAbort,
            schema_version=SCHEMA_VERSION,
            timestamp=now,
            source=SOURCE,
            **outcome_of(failure, self._abort_error).diagnostics,
            **counts,
        )

    def _status(self) -> CaptureStatus:
        assert self._opened is not None
        buffer, now = self._buffer, self._clock.now()
        lasted_s = (now - self._opened_ns) / NS_PER_S
        return CaptureStatus(
            capture_id=self._opened.capture_id,
            user_id=self._opened.user_id,
            session_id=self._opened.session_id,
            state="active" if isinstance(self._reader.state, Active) else "closing",
            frames=buffer.frames_accepted,
            bytes=buffer.bytes_accepted,
            buffer_frames=buffer.frames,
            buffer_bytes=buffer.bytes,
            opened=Timestamp.from_ns(self._opened_ns),
            fps=buffer.frames_accepted / lasted_s if lasted_s > 0 else 0.0,
            **self._clock_offset(),
        )
