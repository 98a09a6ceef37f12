"""Why a capture cannot go on, as typed errors: what the core raises and the shell reports.

    DomainError
    ├── ProtocolViolation             the rig broke order, shape, ids, timestamps or timeouts
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
    ├── ClientDisconnected            the rig went away; nobody is left to be told
    ├── WorkerLost                    a worker fell silent; another one ends its capture
    └── InternalError                 a bug; its cause is logged and never sent

The core knows no close code: `cfw.routes.outcome` maps each error to one.
"""

from __future__ import annotations

from typing import Any, ClassVar

import attrs

from cfw.settings import MOST_INTEGER
from schemas import ErrorCode


def _told(number: Any) -> float | None:
    """A number as any reader of JSON takes it: beyond 2^53 not as an integer."""
    return float(number) if isinstance(number, int) and abs(number) > MOST_INTEGER else number


@attrs.define(slots=False, eq=False)
class DomainError(Exception):
    """A capture has to end for a reason the protocol has a code for.

    Args:
        detail: what was wrong, what is allowed and what to do; safe to be sent to the rig.
        seq: the frame it was about; None when it was about none.
        observed: the value that was too large; None when no number was at fault.
        limit: the largest value allowed; None when no number was at fault.
    """

    code: ClassVar[ErrorCode]

    detail: str
    seq: int | None = None
    observed: float | None = attrs.field(default=None, converter=_told)
    limit: float | None = attrs.field(default=None, converter=_told)

    def __str__(self) -> str:
        return f"{self.code.value}: {self.detail}"


class ProtocolViolation(DomainError):
    """The rig broke the protocol: order, shape, ids, timestamps or a timeout."""

    code = ErrorCode.PROTOCOL_VIOLATION


class LimitExceeded(DomainError):
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


class ForwardFailed(DomainError):
    """The sink raised, or did not take what was left in time."""

    code = ErrorCode.FORWARD_FAILED


class SessionError(DomainError):
    """The session authority does not let this user send."""


class SessionInvalid(SessionError):
    """The session is unknown, another user's, or could not be checked at open."""

    code = ErrorCode.SESSION_INVALID


class SessionClosed(SessionError):
    """The session has ended, or its authority was out of reach for too long."""

    code = ErrorCode.SESSION_CLOSED


class ServerShutdown(DomainError):
    """The worker stops and the drain deadline has been reached."""

    code = ErrorCode.SERVER_SHUTDOWN


class ServerAtCapacity(DomainError):
    """The worker has no room for one more capture."""

    code = ErrorCode.SERVER_AT_CAPACITY


class ClientDisconnected(DomainError):
    """The rig went away in mid-capture."""

    code = ErrorCode.CLIENT_DISCONNECTED


class WorkerLost(DomainError):
    """The worker of the capture fell silent; only consumers can be told, by another worker."""

    code = ErrorCode.WORKER_LOST


class InternalError(DomainError):
    """A bug in the worker; the cause is logged and never sent."""

    code = ErrorCode.INTERNAL_ERROR
