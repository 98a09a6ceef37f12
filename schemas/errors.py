"""Why a capture cannot go on: one tree, raised in the worker, and in a rig by `cfw.client`.

    CaptureError                      it came to no receipt; `cfw.client` knows more of these
    └── CaptureAborted                the worker ended it, with an error code
        ├── ProtocolViolation             the rig broke order, shape, ids, times or timeouts
        ├── LimitExceeded                 the rig went over a limit
        │   ├── LimitDurationExceeded
        │   ├── LimitFrameCountExceeded
        │   ├── LimitResolutionExceeded
        │   ├── LimitFpsExceeded
        │   ├── LimitFrameBytesExceeded
        │   ├── LimitTotalBytesExceeded
        │   └── LimitForwardBufferExceeded    (the sink is too slow)
        ├── ForwardFailed                 the sink raised, or did not flush in time
        ├── SessionError                  the user may not send
        │   ├── SessionInvalid
        │   └── SessionClosed
        ├── ServerShutdown                the worker is going away
        ├── ServerAtCapacity              the worker has no room for this capture
        ├── ClientDisconnected            the rig went away; only consumers are left to be told
        ├── WorkerLost                    a worker fell silent; another one ends its capture
        └── InternalError                 a bug; its cause is logged and never sent

`SchemaError` stands apart: a message, or an argument of one, breaks its schema.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, ClassVar

import attrs

#: The tree, as `schemas`, `cfw.errors` and `cfw.client` hand it on.
__all__ = [
    "CaptureAborted",
    "CaptureError",
    "ClientDisconnected",
    "ForwardFailed",
    "InternalError",
    "LimitDurationExceeded",
    "LimitExceeded",
    "LimitForwardBufferExceeded",
    "LimitFpsExceeded",
    "LimitFrameBytesExceeded",
    "LimitFrameCountExceeded",
    "LimitResolutionExceeded",
    "LimitTotalBytesExceeded",
    "ProtocolViolation",
    "ServerAtCapacity",
    "ServerShutdown",
    "SessionClosed",
    "SessionError",
    "SessionInvalid",
    "WorkerLost",
]

#: What every reader of JSON takes for the same integer: a float has 53 bits for it.
MOST_INTEGER = 2**53 - 1


class ErrorCode(StrEnum):
    """Why a capture was aborted. The values are stable."""

    PROTOCOL_VIOLATION = "protocol_violation"
    LIMIT_DURATION_EXCEEDED = "limit_duration_exceeded"
    LIMIT_FRAME_COUNT_EXCEEDED = "limit_frame_count_exceeded"
    LIMIT_RESOLUTION_EXCEEDED = "limit_resolution_exceeded"
    LIMIT_FPS_EXCEEDED = "limit_fps_exceeded"
    LIMIT_FRAME_BYTES_EXCEEDED = "limit_frame_bytes_exceeded"
    LIMIT_TOTAL_BYTES_EXCEEDED = "limit_total_bytes_exceeded"
    LIMIT_FORWARD_BUFFER_EXCEEDED = "limit_forward_buffer_exceeded"
    FORWARD_FAILED = "forward_failed"
    SESSION_INVALID = "session_invalid"
    SESSION_CLOSED = "session_closed"
    SERVER_SHUTDOWN = "server_shutdown"
    SERVER_AT_CAPACITY = "server_at_capacity"
    INTERNAL_ERROR = "internal_error"
    #: In the feed only: the rig went away in mid-capture.
    CLIENT_DISCONNECTED = "client_disconnected"
    #: In the feed only: the worker fell silent in mid-capture, and another one tells so.
    WORKER_LOST = "worker_lost"


@attrs.define(slots=False, eq=False)
class SchemaError(ValueError):
    """A message breaks its schema; the rig has to be mended.

    Args:
        path: where, for example `fps_target` or `annotation.intent`; empty for the whole.
        problem: what is wrong and what is allowed, in one line.
    """

    path: str
    problem: str

    def __str__(self) -> str:
        return f"{self.path}: {self.problem}" if self.path else self.problem


def _told(number: Any) -> float | None:
    """A number as any reader of JSON takes it: beyond 2^53 not as an integer."""
    return float(number) if isinstance(number, int) and abs(number) > MOST_INTEGER else number


class CaptureError(Exception):
    """A capture, or the connection that was to carry it, failed."""


@attrs.define(slots=False, eq=False)
class CaptureAborted(CaptureError):
    """A capture has to end, or was ended, for a reason the protocol has a code for.

    Args:
        detail: what was wrong, what is allowed and what to do; safe to be sent to the rig.
            Empty in a rig that was not told.
        seq: the frame it was about; None when it was about none.
        observed: the value that was too large; None when no number was at fault.
        limit: the largest value allowed; None when no number was at fault.
        close_code: of the close frame that told it; None in the worker, and when none came.
    """

    code: ClassVar[ErrorCode]

    detail: str
    seq: int | None = None
    observed: float | None = attrs.field(default=None, converter=_told)
    limit: float | None = attrs.field(default=None, converter=_told)
    close_code: int | None = None

    def __str__(self) -> str:
        numbers = {
            "seq": self.seq,
            "observed": self.observed,
            "limit": self.limit,
            "close code": self.close_code,
        }
        known = ", ".join(f"{name} {n:.16g}" for name, n in numbers.items() if n is not None)
        text = f"{self.code.value}: {self.detail}" if self.detail else self.code.value
        return f"{text} ({known})" if known else text


class ProtocolViolation(CaptureAborted):
    """The rig broke the protocol: order, shape, ids, timestamps or a timeout."""

    code = ErrorCode.PROTOCOL_VIOLATION


class LimitExceeded(CaptureAborted):
    """The rig went over a limit; `observed` and `limit` say by how much."""


class LimitDurationExceeded(LimitExceeded):
    """The capture took longer than `max_duration_s`."""

    code = ErrorCode.LIMIT_DURATION_EXCEEDED


class LimitFrameCountExceeded(LimitExceeded):
    """The capture had more than `max_frames` frames."""

    code = ErrorCode.LIMIT_FRAME_COUNT_EXCEEDED


class LimitResolutionExceeded(LimitExceeded):
    """The picture is larger than allowed, or than the capture declared."""

    code = ErrorCode.LIMIT_RESOLUTION_EXCEEDED


class LimitFpsExceeded(LimitExceeded):
    """The capture asked for more than `max_fps` frames a second."""

    code = ErrorCode.LIMIT_FPS_EXCEEDED


class LimitFrameBytesExceeded(LimitExceeded):
    """A frame is longer than `max_frame_bytes`."""

    code = ErrorCode.LIMIT_FRAME_BYTES_EXCEEDED


class LimitTotalBytesExceeded(LimitExceeded):
    """The frames together are longer than `max_total_bytes`."""

    code = ErrorCode.LIMIT_TOTAL_BYTES_EXCEEDED


class LimitForwardBufferExceeded(LimitExceeded):
    """The forward buffer is full: the sink is slower than the rig."""

    code = ErrorCode.LIMIT_FORWARD_BUFFER_EXCEEDED


class ForwardFailed(CaptureAborted):
    """The sink raised, or did not take what was left in time."""

    code = ErrorCode.FORWARD_FAILED


class SessionError(CaptureAborted):
    """The session authority does not let this user send."""


class SessionInvalid(SessionError):
    """The session is unknown, another user's, or could not be checked at open."""

    code = ErrorCode.SESSION_INVALID


class SessionClosed(SessionError):
    """The session has ended, or its authority was out of reach for too long."""

    code = ErrorCode.SESSION_CLOSED


class ServerShutdown(CaptureAborted):
    """The worker stops and the drain deadline has been reached."""

    code = ErrorCode.SERVER_SHUTDOWN


class ServerAtCapacity(CaptureAborted):
    """The worker has no room for one more capture."""

    code = ErrorCode.SERVER_AT_CAPACITY


class ClientDisconnected(CaptureAborted):
    """The rig went away in mid-capture."""

    code = ErrorCode.CLIENT_DISCONNECTED


class WorkerLost(CaptureAborted):
    """The worker of the capture fell silent; only consumers can be told, by another worker."""

    code = ErrorCode.WORKER_LOST


class InternalError(CaptureAborted):
    """A bug in the worker; the cause is logged and never sent."""

    code = ErrorCode.INTERNAL_ERROR


def _leaves(kind: type[CaptureAborted]) -> list[type[CaptureAborted]]:
    below = kind.__subclasses__()
    return [leaf for sub in below for leaf in _leaves(sub)] if below else [kind]


#: The class of every error code.
ABORTS: dict[ErrorCode, type[CaptureAborted]] = {
    leaf.code: leaf for leaf in _leaves(CaptureAborted)
}
