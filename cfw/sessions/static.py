"""``static:`` - the active sessions are a list given at start."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import structlog
import trio

from cfw.plugins import redact_url
from cfw.sessions._authority import SessionAuthority, SessionStatus, SessionUrlError

_log = structlog.get_logger("cfw.sessions")

# The bounds of user_id and session_id in capture.open.
_MAX_CHARACTERS = 128
_SHOWN_CHARACTERS = 60


def parse_session(text: str) -> tuple[str, str]:
    """Split ``USER:SESSION`` at its first colon.

    Args:
        text: both parts have 1-128 characters; only the session may hold a colon.

    Raises:
        ValueError: names the text and the form allowed.
    """
    user_id, colon, session_id = text.partition(":")
    if not colon:
        problem = "it has no colon"
    elif not 1 <= len(user_id) <= _MAX_CHARACTERS:
        problem = f"its user has {len(user_id)} characters"
    elif not 1 <= len(session_id) <= _MAX_CHARACTERS:
        problem = f"its session has {len(session_id)} characters"
    else:
        return user_id, session_id
    shown = text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "..."
    raise ValueError(
        f"session {shown!r}: {problem}; allowed: USER:SESSION, "
        f"each of 1-{_MAX_CHARACTERS} characters, no colon in USER"
    )


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
    """Make the authority of ``static:``.

    Args:
        url: ``static:`` and nothing more.
        sessions: the active sessions as ``USER:SESSION``; with none, every open is refused.

    Raises:
        SessionUrlError: something follows the colon.
        ValueError: a session is not in that form.
    """
    if url.lower() != "static:":
        raise SessionUrlError(
            redact_url(url),
            "'static:' takes nothing behind its colon",
            ("static:",),
            "give the sessions beside the URL, as USER:SESSION",
        )
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
