"""`static:` - the active sessions are a list given at start."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import structlog
import trio

from cfw.sessions._authority import SessionAuthority, SessionStatus, refuse_rest
from schemas import CaptureOpen, SchemaError, check_field

_log = structlog.get_logger("cfw.sessions")

_SHOWN_CHARACTERS = 60


def parse_session(text: str) -> tuple[str, str]:
    """Split `USER:SESSION` at its first colon.

    Args:
        text: both parts are what `capture.open` may say; only the session may hold a colon.

    Raises:
        ValueError: names the text and the form allowed.
    """
    user_id, colon, session_id = text.partition(":")
    try:
        if not colon:
            raise SchemaError("", "it has no colon")
        check_field(CaptureOpen, "user_id", user_id)
        check_field(CaptureOpen, "session_id", session_id)
    except SchemaError as exc:
        shown = text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "..."
        raise ValueError(
            f"session {shown!r}: {exc}; allowed: USER:SESSION, without a colon in USER"
        ) from None
    return user_id, session_id


class StaticAuthority:
    """Knows the sessions it was given, and no other.

    Args:
        sessions: pairs of user id and session id.
    """

    def __init__(self, sessions: Sequence[tuple[str, str]]) -> None:
        self._sessions = frozenset(sessions)

    async def check(self, user_id: str, session_id: str) -> SessionStatus:
        """Return ACTIVE for a session of that user in the list, else INVALID.

        Cancellation: a checkpoint.
        """
        await trio.lowlevel.checkpoint()
        known = (user_id, session_id) in self._sessions
        return SessionStatus.ACTIVE if known else SessionStatus.INVALID


def open_static(
    url: str, *, sessions: Sequence[str]
) -> AbstractAsyncContextManager[SessionAuthority]:
    """Make the authority of `static:`.

    Args:
        url: `static:` and nothing more.
        sessions: the active sessions as `USER:SESSION`; with none, every open is refused.

    Raises:
        SessionUrlError: something follows the colon.
        ValueError: a session is not in that form.
    """
    refuse_rest("static", url, "give the sessions beside the URL, as USER:SESSION")
    return _open([parse_session(text) for text in sessions])


@asynccontextmanager
async def _open(pairs: Sequence[tuple[str, str]]) -> AsyncIterator[SessionAuthority]:
    if not pairs:
        _log.warning(
            "sessions.static_empty",
            effect="every capture is refused as session_invalid",
            reason="static: was given no session",
            advice="give sessions as USER:SESSION, or another authority URL",
        )
    yield StaticAuthority(pairs)
