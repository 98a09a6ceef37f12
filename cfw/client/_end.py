"""How a capture ended, read from the worker's last words."""

from __future__ import annotations

from trio_websocket import CloseReason

from cfw.client._errors import ConnectionLost
from cfw.client._receipts import Receipt
from schemas import (
    ABORTS,
    CaptureAbort,
    CaptureAborted,
    CaptureError,
    ErrorCode,
    SchemaError,
    parse_output,
)

_NO_CLOSE_FRAME = frozenset({1005, 1006})  # RFC 6455, section 7.4.1: never on the wire


def read_abort(message: str | bytes) -> CaptureAbort | None:
    """The abort message; None for anything else a worker may say."""
    if isinstance(message, str):
        try:
            return parse_output(message)
        except SchemaError:
            pass  # from a newer worker; the close frame tells the reason too
    return None


def outcome_of(
    abort: CaptureAbort | None, closed: CloseReason | None
) -> Receipt | CaptureError:
    """How a capture ended, from the abort message and the close frame, where they came."""
    close_code = int(closed.code) if closed and closed.code not in _NO_CLOSE_FRAME else None
    reason = (closed.reason if closed else None) or ""
    if abort is not None:
        return ABORTS[abort.error_code](
            abort.detail or "", abort.seq, abort.observed, abort.limit, close_code
        )
    if (aborted := _aborted_by(reason, close_code)) is not None:
        return aborted
    if close_code is None:
        return ConnectionLost("the connection ended without a close frame")
    if close_code == 1000:
        try:
            return Receipt.parse(reason)
        except ValueError:
            pass
    said = f" ({reason})" if reason else ""
    return ConnectionLost(f"the worker closed with code {close_code}{said}", close_code)


def _aborted_by(reason: str, close_code: int | None) -> CaptureAborted | None:
    """What a close frame says by itself: its reason begins with the error code."""
    code, _, detail = reason.partition(":")
    try:
        return ABORTS[ErrorCode(code.strip())](detail.strip(), close_code=close_code)
    except ValueError:
        return None
