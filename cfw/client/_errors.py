"""Why a capture did not end with a receipt.

CaptureError
├── CaptureAborted                    the worker ended it and said why
│   ├── ProtocolViolation
│   ├── LimitExceeded
│   │   ├── LimitDurationExceeded
│   │   ├── LimitFrameCountExceeded
│   │   ├── LimitResolutionExceeded
│   │   ├── LimitFpsExceeded
│   │   ├── LimitFrameBytesExceeded
│   │   ├── LimitTotalBytesExceeded
│   │   └── LimitForwardBufferExceeded
│   ├── ForwardFailed
│   ├── SessionError
│   │   ├── SessionInvalid
│   │   └── SessionClosed
│   ├── ServerShutdown
│   ├── ServerAtCapacity
│   ├── ClientDisconnected
│   └── InternalError
└── ConnectionLost                    the connection ended and nobody said why
    └── ConnectionRefused             it never began
        └── AccessDenied              the worker asks for a token, or lets in no such page
"""

from __future__ import annotations

from typing import ClassVar

import attrs

from schemas import ErrorCode


class CaptureError(Exception):
    """A capture, or the connection that was to carry it, failed."""


@attrs.define(slots=False, eq=False)
class CaptureAborted(CaptureError):
    """The worker ended the capture; each error code has a class of its own below this one.

    Args:
        detail: what was wrong, in the worker's words; empty when it gave none.
        seq: the frame it was about; None when it was about none.
        observed: the value that was too large; None when no number was at fault.
        limit: the largest value allowed; None when no number was at fault.
        close_code: of the worker's close frame; None when none came.
    """

    code: ClassVar[ErrorCode]

    detail: str = ""
    seq: int | None = None
    observed: float | None = None
    limit: float | None = None
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
    """The rig went over one of the worker's limits."""


class LimitDurationExceeded(LimitExceeded):
    """The capture took too long."""

    code = ErrorCode.LIMIT_DURATION_EXCEEDED


class LimitFrameCountExceeded(LimitExceeded):
    """The capture had too many frames."""

    code = ErrorCode.LIMIT_FRAME_COUNT_EXCEEDED


class LimitResolutionExceeded(LimitExceeded):
    """The picture is larger than the worker allows, or than the capture declared."""

    code = ErrorCode.LIMIT_RESOLUTION_EXCEEDED


class LimitFpsExceeded(LimitExceeded):
    """The capture asked for too many frames a second."""

    code = ErrorCode.LIMIT_FPS_EXCEEDED


class LimitFrameBytesExceeded(LimitExceeded):
    """A frame has too many bytes."""

    code = ErrorCode.LIMIT_FRAME_BYTES_EXCEEDED


class LimitTotalBytesExceeded(LimitExceeded):
    """The frames together have too many bytes."""

    code = ErrorCode.LIMIT_TOTAL_BYTES_EXCEEDED


class LimitForwardBufferExceeded(LimitExceeded):
    """The worker's consumer is slower than the rig."""

    code = ErrorCode.LIMIT_FORWARD_BUFFER_EXCEEDED


class ForwardFailed(CaptureAborted):
    """The worker's consumer failed, or did not take the frames in time."""

    code = ErrorCode.FORWARD_FAILED


class SessionError(CaptureAborted):
    """The session does not let this user send."""


class SessionInvalid(SessionError):
    """The session is unknown, another user's, or could not be checked."""

    code = ErrorCode.SESSION_INVALID


class SessionClosed(SessionError):
    """The session has ended."""

    code = ErrorCode.SESSION_CLOSED


class ServerShutdown(CaptureAborted):
    """The worker is going away; another one may take the next capture."""

    code = ErrorCode.SERVER_SHUTDOWN


class ServerAtCapacity(CaptureAborted):
    """The worker has no room for this capture; later it may."""

    code = ErrorCode.SERVER_AT_CAPACITY


class ClientDisconnected(CaptureAborted):
    """The worker took this rig for gone; only the feed tells it, a rig hardly can read it."""

    code = ErrorCode.CLIENT_DISCONNECTED


class WorkerLost(CaptureAborted):
    """The worker fell silent; only the feed tells it, for the rig's connection is gone."""

    code = ErrorCode.WORKER_LOST


class InternalError(CaptureAborted):
    """A bug in the worker; its log knows more."""

    code = ErrorCode.INTERNAL_ERROR


#: The class of every error code.
ABORTS: dict[ErrorCode, type[CaptureAborted]] = {
    cls.code: cls
    for parent in (CaptureAborted, LimitExceeded, SessionError)
    for cls in parent.__subclasses__()
    if hasattr(cls, "code")
}


@attrs.define(slots=False, eq=False)
class ConnectionLost(CaptureError):
    """The connection ended without a receipt and without one of the protocol's reasons.

    Args:
        detail: what happened.
        close_code: of the worker's close frame; None when none came.
    """

    detail: str
    close_code: int | None = None

    def __str__(self) -> str:
        return self.detail


@attrs.define(slots=False, eq=False)
class ConnectionRefused(ConnectionLost):
    """No WebSocket came to be: nobody there, no TLS, no answer in time, or an HTTP refusal.

    Args:
        status: of the HTTP answer, for example 404 (wrong path) or 503 (no room); None when
            none came.
    """

    status: int | None = None


class AccessDenied(ConnectionRefused):
    """The worker does not let this client in: 401 asks for a token, 403 is a foreign page's."""
