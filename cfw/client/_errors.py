"""How a capture can end without a receipt and without the worker's word.

CaptureError
├── CaptureAborted                    the worker ended it and said why: `schemas.errors`
└── ConnectionLost                    the connection ended and nobody said why
    └── ConnectionRefused             it never began
        └── AccessDenied              the worker asks for a token, or lets in no such page
"""

from __future__ import annotations

import attrs

from schemas import CaptureError


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
