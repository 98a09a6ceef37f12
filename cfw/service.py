"""The rules of a capture, as one pure function: state and event in, state and actions out.

    state    event          next      actions
    Idle     CaptureOpen    Active    RequestSessionValidation
    Idle     Tick, Held, Session*
                            Idle      none
    Idle     other          raises ProtocolViolation
    Active   frame meta     Active    none
    Active   frame bytes    Active    ForwardFrame
    Active   CaptureClose   Idle      CleanupCapture
    Active   Tick           Active    RequestSessionRecheck, or none
    Active   Tick           Ending    RequestSessionRecheck, or none
    Active   Held           Active    none
    Active   SessionNotice  Active    RequestSessionRecheck, or none
    Active   SessionVerdict Active    RequestSessionRecheck, or none
    Active   any, refused   Idle      AbortCapture, CleanupCapture
    Ending   verdict, Tick  Idle      AbortCapture, CleanupCapture
    Ending   other          Ending    none

Time comes in as `now_ingest`, nanoseconds since 1970 UTC that never go back during a
capture; `next_deadline` says when the next Tick is due. What came by then has to be told
first: a Tick holds the time against the rig. Nothing here does I/O.
"""

from __future__ import annotations

from enum import Enum
from typing import TypeAlias, assert_never

import attrs

from cfw.actions import (
    AbortCapture,
    Action,
    CleanupCapture,
    ForwardFrame,
    RequestSessionRecheck,
    RequestSessionValidation,
)
from cfw.errors import (
    INVITATION_ENDED,
    SESSION_ENDED,
    SESSION_UNCHECKED,
    DomainError,
    LimitDurationExceeded,
    LimitFpsExceeded,
    LimitFrameBytesExceeded,
    LimitFrameCountExceeded,
    LimitResolutionExceeded,
    LimitTotalBytesExceeded,
    ProtocolViolation,
    SessionClosed,
    SessionInvalid,
)
from cfw.jpeg import NotAJpeg, probe
from cfw.limits import NS_PER_S, Limits, ns
from cfw.state import Active, Ending, Frame, Idle, RecordIds, State, Terms
from schemas import (
    CameraFeedWorkerInput,
    CaptureClose,
    CaptureFrameMeta,
    CaptureOpen,
    Timestamp,
)


@attrs.frozen
class Tick:
    """Time has passed, and all that came meanwhile was told; something may be due.

    Args:
        arrived_bytes: how much of the message that is arriving is there.
    """

    arrived_bytes: int = 0


@attrs.frozen
class Held:
    """The worker did not read the rig for a while, whatever it may have sent.

    Args:
        ns: for so long since the last event of this connection, in nanoseconds; no time of the
            rig's.
    """

    ns: int


@attrs.frozen
class SessionNotice:
    """Something has happened to the session; what, a check has to find out."""


class Verdict(Enum):
    """What is known of a session after one check.

    `UNINVITED` is no word of the authority: what let the user into the session is over.
    """

    ACTIVE = "active"
    CLOSED = "closed"
    INVALID = "invalid"
    UNINVITED = "uninvited"
    UNREACHABLE = "unreachable"


@attrs.frozen
class SessionVerdict:
    """A check of the session has ended.

    Args:
        verdict: what it found.
        at_open: True for the check that the capture waits for, False for a re-check.
    """

    verdict: Verdict
    at_open: bool


Event: TypeAlias = CameraFeedWorkerInput | bytes | Tick | Held | SessionNotice | SessionVerdict
Decision: TypeAlias = tuple[State, tuple[Action, ...]]


def dispatch(state: State, event: Event, now_ingest: int) -> Decision:
    """Decide what an event means.

    Args:
        state: where the capture stands; never changed.
        event: a message of the rig, the bytes of a frame, a tick, that the rig was held, or
            news of the session.
        now_ingest: the time at which the worker has it, nanoseconds since 1970 UTC.

    Returns:
        The next state, and what to do, in order.

    Raises:
        DomainError: the event is refused and no capture is running.
    """
    if not isinstance(state, Active):
        if isinstance(state, Idle):
            return _dispatch_idle(state, event, now_ingest)
        return _dispatch_ending(state, event, now_ingest)
    try:
        # The two events of every frame come first.
        if isinstance(event, bytes):
            return handle_frame_bytes(state, event, now_ingest)
        if isinstance(event, CaptureFrameMeta):
            return handle_frame_meta(state, event, now_ingest)
        return _dispatch_active(state, event, now_ingest)
    except DomainError as error:
        return _abort(state.terms.idle, error)


def _dispatch_idle(state: Idle, event: Event, now_ingest: int) -> Decision:
    if isinstance(event, CaptureOpen):
        return handle_open(state, event, now_ingest)
    if isinstance(event, Tick | Held | SessionNotice | SessionVerdict):
        return state, ()
    name = "a binary message" if isinstance(event, bytes) else event.event
    raise ProtocolViolation(f"{name} before capture.open; a capture begins with capture.open")


def _dispatch_ending(state: Ending, event: Event, now_ingest: int) -> Decision:
    if isinstance(event, SessionVerdict):
        return _abort(state.idle, _session_error(event) or state.error)
    if isinstance(event, Tick) and now_ingest >= state.until:
        return _abort(state.idle, state.error)
    return state, ()


def _abort(idle: Idle, error: DomainError) -> Decision:
    return idle, (AbortCapture(error), CleanupCapture(None))


def _dispatch_active(
    state: Active,
    event: CaptureOpen | CaptureClose | Tick | Held | SessionNotice | SessionVerdict,
    now_ingest: int,
) -> Decision:
    if isinstance(event, Tick):
        return handle_tick(state, event, now_ingest)
    if isinstance(event, Held):
        return handle_held(state, event, now_ingest)
    if isinstance(event, SessionVerdict):
        return handle_verdict(state, event, now_ingest)
    if isinstance(event, SessionNotice):
        return handle_notice(state, now_ingest)
    if isinstance(event, CaptureClose):
        return handle_close(state, event, now_ingest)
    if isinstance(event, CaptureOpen):
        raise ProtocolViolation(
            "a second capture.open; one connection carries one capture, so close this one "
            "and open another"
        )
    assert_never(event)


def handle_open(state: Idle, message: CaptureOpen, now_ingest: int) -> Decision:
    """Start a capture, if what it declares is within the limits.

    Raises:
        SessionInvalid: the connection is bound to another user, or another session.
        LimitResolutionExceeded, LimitFpsExceeded, ProtocolViolation: it is not.
    """
    limits, times = state.limits, state.times
    if state.users is not None and message.user_id not in state.users:
        raise SessionInvalid(
            "the token or certificate of this connection is bound to another user_id"
        )
    if state.session_id not in (None, message.session_id):
        raise SessionInvalid("the invitation of this connection is for another session_id")
    for side, value, most, key in (
        ("width", message.width, limits.max_width, "max_width"),
        ("height", message.height, limits.max_height, "max_height"),
        ("width x height", message.width * message.height, limits.max_pixels, "max_pixels"),
    ):
        if value > most:
            raise LimitResolutionExceeded(
                f"{side} may be at most {most} pixels ({key}), not {value}",
                observed=value,
                limit=most,
            )
    if message.fps_target > limits.max_fps:
        raise LimitFpsExceeded(
            f"fps_target may be at most {limits.max_fps} (max_fps), not {message.fps_target}",
            observed=message.fps_target,
            limit=limits.max_fps,
        )
    max_skew_ns, start = ns(limits.max_clock_skew_s), message.timestamp_start.ns
    if abs(start - now_ingest) > max_skew_ns:
        raise _skewed("timestamp_start", message.timestamp_start, limits, now_ingest)
    max_duration_ns = ns(limits.max_duration_s)
    terms = Terms(
        idle=state,
        opened=message,
        max_skew_ns=max_skew_ns,
        meta_to_bytes_ns=ns(times.meta_to_bytes_s),
        idle_ns=ns(times.idle_s),
        duration_until=now_ingest + max_duration_ns,
        earliest_ns=start - max_duration_ns,
        latest_ns=start + max_duration_ns,
        record_ids=RecordIds(message.record_id),
        recheck_at=now_ingest + ns(times.session_recheck_s),
        check_until=None,
        grace_until=None,
    )
    active = Active(terms, last=None, total_bytes=0, pending=None, meta_at=now_ingest)
    return active, (RequestSessionValidation(message.user_id, message.session_id),)


def handle_frame_meta(state: Active, message: CaptureFrameMeta, now_ingest: int) -> Decision:
    """Note which frame comes next, if it may.

    Raises:
        ProtocolViolation, LimitExceeded: it may not.
    """
    terms, last = state.terms, state.last
    limits = terms.idle.limits
    expected = 1 if last is None else last.seq + 1
    _check_ids(terms.opened, message, expected)
    if state.pending is not None:
        raise ProtocolViolation(
            f"frame_meta {message.seq} before the bytes of frame {state.pending.seq}; "
            "each frame_meta is followed at once by its binary message",
            seq=state.pending.seq,
        )
    record_ids = terms.record_ids.add(message.record_id, expected)
    if record_ids is None:
        raise _record_id_used(expected)
    if message.seq != expected:
        raise ProtocolViolation(
            f"seq must be {expected}, not {message.seq}; it counts 1, 2, 3, ...",
            seq=expected,
            observed=message.seq,
        )
    frame_ns = message.timestamp_frame.ns
    if last is not None and frame_ns < last.timestamp_frame.ns:
        raise ProtocolViolation(
            f"timestamp_frame {message.timestamp_frame} is earlier than that of the frame "
            "before it; event times must not go back",
            seq=expected,
        )
    if abs(frame_ns - now_ingest) > terms.max_skew_ns:
        raise _skewed("timestamp_frame", message.timestamp_frame, limits, now_ingest, expected)
    # Only the first one can be too early, as none is earlier than the one before it.
    if frame_ns > terms.latest_ns or (last is None and frame_ns < terms.earliest_ns):
        raise _apart(terms.opened.timestamp_start, message.timestamp_frame, limits, expected)
    if message.byte_length > limits.max_frame_bytes:
        raise LimitFrameBytesExceeded(
            f"a frame may have at most {limits.max_frame_bytes} bytes (max_frame_bytes), "
            f"not {message.byte_length}",
            seq=expected,
            observed=message.byte_length,
            limit=limits.max_frame_bytes,
        )
    if expected > limits.max_frames:
        raise LimitFrameCountExceeded(
            f"a capture may have at most {limits.max_frames} frames (max_frames)",
            seq=expected,
            observed=expected,
            limit=limits.max_frames,
        )
    total_bytes = state.total_bytes + message.byte_length
    if total_bytes > limits.max_total_bytes:
        raise LimitTotalBytesExceeded(
            f"the frames of a capture may have at most {limits.max_total_bytes} bytes "
            f"together (max_total_bytes), not {total_bytes}",
            seq=expected,
            observed=total_bytes,
            limit=limits.max_total_bytes,
        )
    # Nearly always the same ones, with one id more: then the terms are shared as well.
    if record_ids is not terms.record_ids:
        terms = attrs.evolve(terms, record_ids=record_ids)
    return Active(terms, last, state.total_bytes, message, now_ingest), ()


def handle_frame_bytes(state: Active, data: bytes, now_ingest: int) -> Decision:
    """Accept the frame whose metadata came before these bytes.

    Raises:
        ProtocolViolation: they are not the bytes announced, or no JPEG.
        LimitResolutionExceeded: the picture is larger than declared at open.
    """
    terms, meta = state.terms, state.pending
    if meta is None:
        raise ProtocolViolation(
            "a binary message without a frame_meta before it; send the frame_meta first",
            seq=state.frames + 1,
        )
    if len(data) != meta.byte_length:
        raise ProtocolViolation(
            f"byte_length said {meta.byte_length}, the binary message has {len(data)}",
            seq=meta.seq,
            observed=len(data),
            limit=meta.byte_length,
        )
    try:
        width, height = probe(data)
    except NotAJpeg as exc:
        raise ProtocolViolation(f"the frame is not a JPEG: {exc}", seq=meta.seq) from None
    opened = terms.opened
    if width > opened.width:
        raise _too_large("width", width, opened.width, meta.seq)
    if height > opened.height:
        raise _too_large("height", height, opened.height, meta.seq)
    # Idle is counted from one metadata to the next, so the bytes leave `meta_at` as it is.
    accepted = Active(terms, meta, state.total_bytes + len(data), None, state.meta_at)
    return accepted, (ForwardFrame(Frame(meta, data, now_ingest)),)


def handle_close(state: Active, message: CaptureClose, now_ingest: int) -> Decision:
    """End the capture as the rig asks, if its times agree with its frames.

    Raises:
        ProtocolViolation, LimitDurationExceeded: they do not.
    """
    terms, last = state.terms, state.last
    limits, opened = terms.idle.limits, terms.opened
    _check_ids(opened, message, None)
    if state.pending is not None:
        raise ProtocolViolation(
            f"capture.close before the bytes of frame {state.pending.seq}",
            seq=state.pending.seq,
        )
    if terms.record_ids.add(message.record_id, state.frames + 1) is None:
        raise _record_id_used(None)
    start, end = opened.timestamp_start, message.timestamp_end
    if end.ns < start.ns:
        raise ProtocolViolation(
            f"timestamp_end is earlier than timestamp_start{_naive(start, end)}"
        )
    if last is not None and end.ns < last.timestamp_frame.ns:
        raise ProtocolViolation(
            "timestamp_end is earlier than the last timestamp_frame"
            f"{_naive(last.timestamp_frame, end)}",
            seq=last.seq,
        )
    if abs(end.ns - now_ingest) > terms.max_skew_ns:
        raise _skewed("timestamp_end", end, limits, now_ingest)
    if end.ns > terms.latest_ns:
        lasted = end.ns - start.ns
        raise _too_long(limits, lasted, f"by its own timestamps{_naive(start, end)}")
    return terms.idle, (CleanupCapture(message),)


def handle_tick(state: Active, event: Tick, now_ingest: int) -> Decision:
    """Do what is due by now; what the session has to say comes before a limit.

    Raises:
        LimitDurationExceeded, ProtocolViolation, SessionClosed: a time limit is reached, and
            no check of the session is due or under way.
    """
    terms = state.terms
    # With the default times the grace and the duration end together: session before limit.
    if terms.grace_until is not None and now_ingest >= terms.grace_until:
        raise SessionClosed(
            "the session could not be checked again for "
            f"{terms.idle.times.session_grace_s:g} s (session_grace_s)"
        )
    error = _overdue(state, event, now_ingest)
    recheck_at = terms.recheck_at
    actions: tuple[Action, ...] = ()
    if error is not None:
        # One that is due a moment later is made now: it counts from the answer at open.
        recheck_at -= ns(terms.idle.times.session_check_s)
    if now_ingest >= recheck_at and not _is_checking(terms, now_ingest):
        terms, actions = _check_again(terms, now_ingest)
    if error is None:
        return attrs.evolve(state, terms=terms) if actions else state, actions
    if terms.check_until is None or now_ingest >= terms.check_until:
        raise error
    return Ending(terms.idle, error, terms.check_until), actions


def _overdue(state: Active, event: Tick, now_ingest: int) -> DomainError | None:
    """The time limit that is reached, if any is."""
    terms, pending = state.terms, state.pending
    limits, times = terms.idle.limits, terms.idle.times
    if now_ingest >= terms.duration_until:
        # What is over the limit, and the limit: the instant of the open is kept nowhere else.
        lasted = now_ingest - terms.duration_until + ns(limits.max_duration_s)
        return _too_long(limits, lasted, "since its capture.open arrived")
    if pending is not None and now_ingest >= state.meta_at + terms.meta_to_bytes_ns:
        within = f"within {times.meta_to_bytes_s:g} s of its frame_meta (meta_to_bytes_s)"
        # More may have arrived: the message on its way need not be the one announced.
        came = min(event.arrived_bytes, pending.byte_length)
        return ProtocolViolation(
            f"{came or 'none'} of the {pending.byte_length} bytes of the frame came {within}",
            seq=pending.seq,
            observed=came,
            limit=pending.byte_length,
        )
    if now_ingest >= state.meta_at + terms.idle_ns:
        return ProtocolViolation(
            f"no frame_meta for {times.idle_s:g} s (idle_s); send frames or capture.close",
            seq=state.frames + 1,
        )
    return None


def handle_held(state: Active, event: Held, now_ingest: int) -> Decision:
    """Count for the rig as much less since its last metadata; the duration goes on."""
    return attrs.evolve(state, meta_at=min(state.meta_at + event.ns, now_ingest)), ()


def handle_notice(state: Active, now_ingest: int) -> Decision:
    """Check the session now, or again as soon as the check that is under way has ended."""
    if _is_checking(state.terms, now_ingest):
        # Its answer may be one of before.
        return attrs.evolve(state, terms=attrs.evolve(state.terms, recheck_at=now_ingest)), ()
    terms, actions = _check_again(state.terms, now_ingest)
    return attrs.evolve(state, terms=terms), actions


def _is_checking(terms: Terms, now_ingest: int) -> bool:
    return terms.check_until is not None and now_ingest < terms.check_until


def _check_again(terms: Terms, now_ingest: int) -> tuple[Terms, tuple[Action, ...]]:
    opened, times = terms.opened, terms.idle.times
    checking = attrs.evolve(
        terms,
        # From now, not from when it was due: after a pause one check is enough.
        recheck_at=now_ingest + ns(times.session_recheck_s),
        check_until=now_ingest + ns(times.session_check_s),
    )
    return checking, (RequestSessionRecheck(opened.user_id, opened.session_id),)


def handle_verdict(state: Active, event: SessionVerdict, now_ingest: int) -> Decision:
    """Go on, or not, after a check of the session.

    Raises:
        SessionInvalid, SessionClosed: the user may not send.
    """
    error = _session_error(event)
    if error is not None:
        raise error
    terms, times = state.terms, state.terms.idle.times
    if event.at_open:
        # The rig was made to wait; that time is not held against it.
        recheck_at = now_ingest + ns(times.session_recheck_s)
        terms = attrs.evolve(terms, recheck_at=recheck_at)
        return attrs.evolve(state, terms=terms, meta_at=now_ingest), ()
    # An answer ends the grace; the first one that does not come begins it, and no later one.
    grace_until = None
    if event.verdict is Verdict.UNREACHABLE:
        grace_until = terms.grace_until or now_ingest + ns(times.session_grace_s)
    terms = attrs.evolve(terms, check_until=None, grace_until=grace_until)
    actions: tuple[Action, ...] = ()
    if now_ingest >= terms.recheck_at:  # the next check had to wait for this one
        terms, actions = _check_again(terms, now_ingest)
    return attrs.evolve(state, terms=terms), actions


def _session_error(event: SessionVerdict) -> DomainError | None:
    """What a verdict ends the capture with, if it does."""
    if event.verdict is Verdict.INVALID:
        return SessionInvalid("the session is unknown or belongs to another user")
    if event.verdict is Verdict.CLOSED:
        return SessionClosed(SESSION_ENDED)
    if event.verdict is Verdict.UNINVITED:
        return SessionClosed(INVITATION_ENDED)
    if event.verdict is Verdict.UNREACHABLE and event.at_open:
        return SessionInvalid(SESSION_UNCHECKED)
    return None


def next_deadline(state: State) -> int | None:
    """When the next Tick is due, nanoseconds since 1970 UTC; None when none will be."""
    if not isinstance(state, Active):
        return None if isinstance(state, Idle) else state.until
    terms = state.terms
    recheck_at, check_until = terms.recheck_at, terms.check_until
    if check_until is not None and check_until > recheck_at:
        recheck_at = check_until  # one check at a time
    # Called for each frame, so it asks no property.
    due = min(terms.duration_until, state.meta_at + terms.idle_ns, recheck_at)
    if state.pending is not None:
        due = min(due, state.meta_at + terms.meta_to_bytes_ns)
    if terms.grace_until is not None and terms.grace_until < due:
        due = terms.grace_until
    return due


def _check_ids(
    opened: CaptureOpen, message: CaptureFrameMeta | CaptureClose, seq: int | None
) -> None:
    if message.capture_id != opened.capture_id:
        name = "capture_id"
    elif message.user_id != opened.user_id:
        name = "user_id"
    elif message.session_id is not None and message.session_id != opened.session_id:
        name = "session_id"
    else:
        return
    raise ProtocolViolation(
        f"{name} of {message.event} is not that of capture.open; it must stay the same", seq=seq
    )


def _record_id_used(seq: int | None) -> ProtocolViolation:
    return ProtocolViolation(
        "record_id was used before; each message has its own, whatever its case", seq=seq
    )


def _naive(*instants: Timestamp) -> str:
    """What may be the reason when two instants do not agree."""
    if all(instant.has_offset for instant in instants):
        return ""
    return "; one without an offset is read as UTC, so write Z or the offset"


def _skewed(
    name: str, event: Timestamp, limits: Limits, now_ingest: int, seq: int | None = None
) -> ProtocolViolation:
    skew_s = abs(event.ns - now_ingest) / NS_PER_S
    return ProtocolViolation(
        f"{name} is {skew_s:.0f} s away from the worker's clock; at most "
        f"{limits.max_clock_skew_s:g} s (max_clock_skew_s) are allowed, so set the clock"
        f"{_naive(event)}",
        seq=seq,
        observed=skew_s,
        limit=limits.max_clock_skew_s,
    )


def _apart(start: Timestamp, frame: Timestamp, limits: Limits, seq: int) -> DomainError:
    """A frame so far from the beginning that no `capture.close` could follow it."""
    apart_s = abs(frame.ns - start.ns) / NS_PER_S
    is_after = frame.ns > start.ns
    kind = LimitDurationExceeded if is_after else ProtocolViolation
    return kind(
        f"timestamp_frame is {apart_s:g} s {'after' if is_after else 'before'} "
        f"timestamp_start{_naive(start, frame)}; a capture may last at most "
        f"{limits.max_duration_s:g} s (max_duration_s)",
        seq=seq,
        observed=apart_s,
        limit=limits.max_duration_s,
    )


def _too_large(side: str, pixels: int, declared: int, seq: int) -> LimitResolutionExceeded:
    return LimitResolutionExceeded(
        f"the frame's {side} is {pixels} pixels, capture.open declared {declared}",
        seq=seq,
        observed=pixels,
        limit=declared,
    )


def _too_long(limits: Limits, lasted: int, how: str) -> LimitDurationExceeded:
    return LimitDurationExceeded(
        f"a capture may last at most {limits.max_duration_s:g} s (max_duration_s), this one "
        f"lasted {lasted / NS_PER_S:g} s {how}",
        observed=lasted / NS_PER_S,
        limit=limits.max_duration_s,
    )
