"""One ladder: whatever ended a connection becomes one error, one close code, one log level."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import attrs
import trio

from cfw.errors import (
    ClientDisconnected,
    DomainError,
    ForwardFailed,
    InternalError,
    LimitExceeded,
    LimitFrameBytesExceeded,
    ProtocolViolation,
    ServerAtCapacity,
    ServerShutdown,
    SessionError,
    WorkerLost,
)
from cfw.tasks.nurseries import leaves
from cfw.wire import (
    KeepaliveTimeout,
    MessageTimeout,
    MessageTooBig,
    PeerClosed,
    PeerGone,
    WireViolation,
)
from schemas import ErrorCode

LogLevel: TypeAlias = Literal["info", "warning", "error"]

#: error_code -> WebSocket close code, level of the log line.
LADDER: dict[ErrorCode, tuple[int, LogLevel]] = {
    ErrorCode.PROTOCOL_VIOLATION: (1008, "warning"),
    ErrorCode.LIMIT_DURATION_EXCEEDED: (1008, "warning"),
    ErrorCode.LIMIT_FRAME_COUNT_EXCEEDED: (1008, "warning"),
    ErrorCode.LIMIT_RESOLUTION_EXCEEDED: (1008, "warning"),
    ErrorCode.LIMIT_FPS_EXCEEDED: (1008, "warning"),
    ErrorCode.LIMIT_FRAME_BYTES_EXCEEDED: (1009, "warning"),
    ErrorCode.LIMIT_TOTAL_BYTES_EXCEEDED: (1008, "warning"),
    ErrorCode.LIMIT_FORWARD_BUFFER_EXCEEDED: (1008, "error"),
    ErrorCode.FORWARD_FAILED: (1011, "error"),
    ErrorCode.SESSION_INVALID: (1008, "warning"),
    ErrorCode.SESSION_CLOSED: (1008, "warning"),
    ErrorCode.SERVER_SHUTDOWN: (1001, "info"),
    ErrorCode.SERVER_AT_CAPACITY: (1013, "warning"),
    ErrorCode.INTERNAL_ERROR: (1011, "error"),
    # Not 1000, which is the receipt: whoever reads it must not take this for a success.
    ErrorCode.CLIENT_DISCONNECTED: (1008, "info"),
    # What a rig sees of it is a broken connection.
    ErrorCode.WORKER_LOST: (1011, "error"),
}

#: When several failures meet, the first of these is reported.
PRECEDENCE: tuple[type[DomainError], ...] = (
    SessionError,
    ForwardFailed,
    LimitExceeded,
    ServerAtCapacity,
    ProtocolViolation,
    InternalError,
    ServerShutdown,
    ClientDisconnected,
    WorkerLost,
)


@attrs.frozen
class Outcome:
    """How a connection failed.

    Args:
        error: the one error that is reported.
        close_code: what the rig is sent in the close frame.
        level: the level to log it at.
        cause: what was raised, for the log.
    """

    error: DomainError
    close_code: int
    level: LogLevel
    cause: BaseException

    @property
    def is_told(self) -> bool:
        """Whether somebody is there to read an abort message."""
        return not isinstance(self.error, ClientDisconnected)

    @property
    def is_bug(self) -> bool:
        """Whether it is ours; then nothing of it leaves the process."""
        return isinstance(self.error, InternalError)

    @property
    def diagnostics(self) -> dict[str, Any]:
        """The error as the fields of an abort message."""
        if self.is_bug:
            return {"error_code": self.error.code}
        return {
            "error_code": self.error.code,
            "detail": self.error.detail,
            "seq": self.error.seq,
            "observed": self.error.observed,
            "limit": self.error.limit,
        }

    @property
    def reason(self) -> str:
        """The reason of the close frame: the error code, then why."""
        code = self.error.code.value
        return code if self.is_bug else f"{code}: {self.error.detail}"


class Stop:
    """Ends a connection for a reason from outside.

    Attributes:
        scope: all of the connection but its last words runs in it.
        error: why it was cancelled; None when nobody has said so, and then the server stops.
    """

    def __init__(self) -> None:
        self.scope = trio.CancelScope()
        self.error: DomainError | None = None

    def request(self, error: DomainError) -> None:
        """End it; the first reason counts."""
        if self.error is None:
            self.error = error
            self.scope.cancel()


def outcome_of(
    failure: BaseException, requested: DomainError | None, *, has_capture: bool = True
) -> Outcome:
    """Find the one error to report in whatever was raised.

    Args:
        failure: an exception, or a group of what several tasks raised.
        requested: why the connection was cancelled from outside; None when it is not known,
            and then a cancellation means that the server stops.
        has_capture: whether a capture was opened; a rig that leaves before it misses nothing.
    """
    found = [_outcome(leaf, requested, has_capture) for leaf in leaves(failure)]
    return min(found, key=lambda outcome: _rank(outcome.error))


def not_ours(failure: BaseException) -> BaseException | None:
    """What must go on outwards after it was reported: Cancelled, KeyboardInterrupt."""
    if isinstance(failure, BaseExceptionGroup):
        return failure.split(Exception)[1]
    return None if isinstance(failure, Exception) else failure


def _outcome(leaf: BaseException, requested: DomainError | None, has_capture: bool) -> Outcome:
    error, said = _error_of(leaf, requested)
    close_code, level = LADDER[error.code]
    if said is not None:
        close_code = said
    elif isinstance(error, ClientDisconnected) and not has_capture:
        close_code = 1000
    return Outcome(error, close_code, level, leaf)


def _error_of(
    leaf: BaseException, requested: DomainError | None
) -> tuple[DomainError, int | None]:
    """The domain error, and the close code where the wire has a say in it."""
    match leaf:
        case DomainError():
            return leaf, None
        case trio.Cancelled():
            return requested or ServerShutdown("the worker is shutting down"), None
        case PeerClosed():
            code = None if leaf.code == 1000 else leaf.code
            return ClientDisconnected("the rig closed before capture.close"), code
        case PeerGone():
            return ClientDisconnected("the connection was lost"), None
        case KeepaliveTimeout():
            return ClientDisconnected(leaf.detail), leaf.close_code
        case MessageTooBig(kind="binary"):
            error = LimitFrameBytesExceeded(
                leaf.detail, observed=leaf.observed, limit=leaf.limit
            )
            return error, leaf.close_code
        case WireViolation() | MessageTimeout():
            return ProtocolViolation(leaf.detail), leaf.close_code
        case _:
            return InternalError(f"a bug: {type(leaf).__name__}"), None


def _rank(error: DomainError) -> int:
    return next(rank for rank, kind in enumerate(PRECEDENCE) if isinstance(error, kind))
