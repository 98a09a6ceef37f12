"""How a capture can end without a receipt and without the worker's word.

CaptureError
├── CaptureAborted                    the worker ended it and said why: `schemas.errors`
├── ConnectionLost                    the connection ended and nobody said why
│   └── ConnectionRefused             it never began
│       └── AccessDenied              the worker asks for a token, or lets in no such page
├── FilmIncomplete                    a film went on after captures of it were lost
├── LimitsUnknown                     a film is to be split at limits that nobody tells
├── ClockUnknown                      it is to start by a clock that nobody tells
└── StartMissed                       the instant at which it was to start is over
"""

from __future__ import annotations

import attrs

from cfw.client._receipts import FilmPart
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


@attrs.define(slots=False, eq=False)
class FilmIncomplete(CaptureError):
    """A film has ended, and some of its captures came to no receipt on the way.

    Their frames were sent. The worker may have taken any of them, or none: its consumers know,
    from the terminals of these captures.

    Args:
        lost: the captures without a receipt.
        captures: how many captures the film has.
        frames_sent: how many frames.
    """

    lost: tuple[FilmPart, ...]
    captures: int
    frames_sent: int

    @property
    def frames_lost(self) -> int:
        """Frames that were sent without a receipt."""
        return sum(part.frames_sent for part in self.lost)

    def __str__(self) -> str:
        last = self.lost[-1]
        return (
            f"{len(self.lost)} of {self.captures} captures came to no receipt: "
            f"{self.frames_lost} of {self.frames_sent} frames were sent and not confirmed, and "
            f"the worker may have taken any of them (the last was {last.capture_id}: "
            f"{last.failure})"
        )


@attrs.define(slots=False, eq=False)
class _Told(CaptureError):
    """What is said in a sentence.

    Args:
        detail: what happened, and why that may be.
    """

    detail: str

    def __str__(self) -> str:
        return self.detail


class LimitsUnknown(_Told):
    """A worker does not tell what is needed to keep within its limits."""


class ClockUnknown(_Told):
    """A worker does not tell its clock."""


class StartMissed(_Told):
    """A film was to start at an instant that is over."""
