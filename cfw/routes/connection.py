"""One connection: its handshake, its first message, and what its rig is told at the end."""

from __future__ import annotations

import contextlib
import json
from functools import partial

import structlog
import trio

from cfw.errors import DomainError, ProtocolViolation
from cfw.identity import SUBPROTOCOL, Identity
from cfw.metrics import Refusal
from cfw.net import address_of, describe_peer
from cfw.routes.capture import Capture
from cfw.routes.ingest import IngestClock
from cfw.routes.outcome import Outcome, Stop, not_ours, outcome_of
from cfw.routes.reader import parse
from cfw.routes.services import Services
from cfw.service import dispatch
from cfw.state import Idle
from cfw.wire import (
    AskedElsewhere,
    HandshakeReject,
    HandshakeRejected,
    PeerGone,
    Request,
    WebSocket,
    accept,
)
from schemas import CaptureOpen, Greeting, Timestamp, to_json

#: HTTP status of a refused handshake -> what it is counted as; None is none, TLS failed.
_REFUSALS: dict[int | None, Refusal] = {None: "tls", 401: "identity", 403: "identity"}

_log: structlog.stdlib.BoundLogger = structlog.get_logger("cfw.capture")


class Connection:
    """Serves one connection; whatever happens to it stays in it.

    Args:
        services: what all connections share.
        number: what it is called in the log.
    """

    def __init__(self, services: Services, number: int) -> None:
        self._services = services
        self._log = _log.bind(connection=number)
        self._stop = Stop()
        self._clock = IngestClock(services.wall_clock)
        self._identity = Identity()
        self._idle = Idle(services.limits, services.times)
        # None until its `capture.open` has come; there may be none.
        self._capture: Capture | None = None

    @property
    def is_capturing(self) -> bool:
        """Whether there is a capture that was not refused."""
        return self._capture is not None and self._capture.is_claimed

    def abort(self, error: DomainError) -> None:
        """End it for a reason from outside; the first one counts."""
        self._stop.request(error)

    async def run(self, stream: trio.abc.Stream) -> None:
        """Serve it to its end and close the stream.

        Cancellation: passes on, after the last words to sink and rig, under their deadlines.
        """
        services, limits, times = self._services, self._services.limits, self._services.times
        address = address_of(stream)  # a closed one has none
        self._log = self._log.bind(remote=describe_peer(stream))
        try:
            with self._stop.scope:
                async with accept(
                    stream,
                    path=services.path,
                    max_text_bytes=limits.max_control_bytes,
                    max_binary_bytes=limits.max_frame_bytes,
                    handshake_s=times.handshake_s,
                    keepalive_s=times.keepalive_s,
                    keepalive_timeout_s=times.keepalive_timeout_s,
                    message_s=times.message_s,
                    judge=partial(self._judge, stream),
                    subprotocol=SUBPROTOCOL,
                    greet=self._greet,
                    elsewhere=services.pages,
                ) as ws:
                    self._log.info("connection.opened")
                    await self._serve(ws)
        except HandshakeRejected as exc:
            why = _REFUSALS.get(exc.status, "handshake")
            services.refusals.record(why, exc.status, exc.detail, address)
            self._log.info("connection.refused", status=exc.status, detail=exc.detail)
        except AskedElsewhere:
            self._log.debug("connection.paged")
        except PeerGone as exc:
            self._log.info("connection.lost", detail=exc.detail)
        except Exception:
            # A bug of ours must not reach the other connections.
            self._log.exception("connection.failed")

    async def _judge(self, stream: trio.abc.Stream, request: Request) -> HandshakeReject | None:
        """Learn who it is, once the request is there; or why nobody is let in."""
        verdict = await self._services.gate.judge(request, stream)
        if isinstance(verdict, HandshakeReject):
            return verdict
        limits, times = self._services.limits, self._services.times
        self._identity = verdict
        self._idle = Idle(limits, times, verdict.users, verdict.session_id)
        return None

    def _greet(self) -> list[tuple[bytes, bytes]]:
        now = Timestamp.from_ns(self._clock.now())
        return Greeting(self._services.told_limits, now).headers()

    async def _serve(self, ws: WebSocket) -> None:
        linger_s = self._services.times.linger_s
        batch: list[str | bytes] = []
        try:
            batch = await self._first_batch(ws)
            capture = self._begin(ws, self._take_open(batch))
            await capture.run(batch)
        except BaseException as failure:
            batch.clear()  # of a read full of tiny messages many times what was sent
            outcome = self._fail(failure)
            # The rig is told also while the server is being cancelled, but never waits for.
            with trio.move_on_after(linger_s, shield=True):
                await self._tell(ws, outcome)
            del outcome  # it holds the failure, whose traceback holds this frame
            passing = not_ours(failure)
            if passing is not None:
                raise passing from None
        else:
            capture.record_end(None)
            with trio.move_on_after(linger_s, shield=True):
                reason = json.dumps(capture.receipt, separators=(",", ":"))
                await self._close(ws, 1000, reason)

    async def _first_batch(self, ws: WebSocket) -> list[str | bytes]:
        open_s = self._services.times.open_s
        batch = await ws.receive_batch(until=trio.current_time() + open_s)
        if not batch:
            raise ProtocolViolation(f"no capture.open within {open_s:g} s (open_s)")
        return batch

    def _take_open(self, batch: list[str | bytes]) -> CaptureOpen:
        """Take the first message out of its batch."""
        message = batch.pop(0)
        first = message if isinstance(message, bytes) else parse(message)
        if isinstance(first, CaptureOpen):
            return first
        dispatch(self._idle, first, self._clock.now())
        raise AssertionError("the core lets a capture begin with something else")

    def _begin(self, ws: WebSocket, opened: CaptureOpen) -> Capture:
        capture = Capture(
            self._services,
            ws,
            opened,
            identity=self._identity,
            idle=self._idle,
            clock=self._clock,
            stop=self._stop,
            log=self._log,
        )
        self._capture, self._log = capture, capture.log
        return capture

    # --- the end ----------------------------------------------------------------------------

    def _fail(self, failure: BaseException) -> Outcome:
        """Find out what has ended it, log that and have it remembered."""
        capture = self._capture
        outcome = outcome_of(failure, self._stop.error, has_capture=capture is not None)
        if capture is None:
            self._log_failure("connection.ended", outcome)
        else:
            capture.note_failure()
            self._log_failure(
                "capture.aborted",
                outcome,
                frames_accepted=capture.buffer.frames_accepted,
                frames_forwarded=capture.buffer.frames_forwarded,
            )
            capture.record_end(outcome)
        return outcome

    async def _tell(self, ws: WebSocket, outcome: Outcome) -> None:
        capture = self._capture
        if capture is not None and outcome.is_told:
            with contextlib.suppress(PeerGone):
                await ws.send_text(to_json(capture.abort_message(outcome)))
                took_s = trio.current_time() - capture.failed_at
                self._services.metrics.aborts.observe(took_s)
        await self._close(ws, outcome.close_code, outcome.reason)

    async def _close(self, ws: WebSocket, code: int, reason: str) -> None:
        await ws.close(code, reason, linger_s=self._services.times.linger_s)
        self._log.info("connection.closed", close_code=code)

    def _log_failure(self, event: str, outcome: Outcome, **frames: int) -> None:
        # A chained cause is what a sink raised or a bug; a rig's mistake has none.
        cause = outcome.cause if outcome.is_bug else outcome.cause.__cause__
        getattr(self._log, outcome.level)(
            event,
            error_code=outcome.error.code.value,
            close_code=outcome.close_code,
            detail=outcome.error.detail,
            seq=outcome.error.seq,
            **frames,
            **({} if cause is None else {"exc_info": cause}),
        )
