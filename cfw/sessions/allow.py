"""`allow:` - anyone may send, for demos and closed networks."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import structlog
import trio

from cfw.sessions._authority import (
    SessionAuthority,
    SessionStatus,
    refuse_rest,
    refuse_sessions,
)

_log = structlog.get_logger("cfw.sessions")


class AllowAuthority:
    """Takes every session for active."""

    async def check(self, user_id: str, session_id: str) -> SessionStatus:
        """Return ACTIVE.

        Cancellation: a checkpoint.
        """
        await trio.lowlevel.checkpoint()
        return SessionStatus.ACTIVE


def open_allow(
    url: str, *, sessions: Sequence[str]
) -> AbstractAsyncContextManager[SessionAuthority]:
    """Make the authority of `allow:`.

    Args:
        url: `allow:` and nothing more.
        sessions: must be empty; a list that is not looked at would be a false comfort.

    Raises:
        SessionUrlError: something follows the colon, or sessions were given.
    """
    refuse_rest("allow", url, "leave the rest out")
    refuse_sessions("allow", url, sessions)
    return _open()


@asynccontextmanager
async def _open() -> AsyncIterator[SessionAuthority]:
    _log.warning(
        "sessions.allow_all",
        effect="ANYONE who reaches this port may send captures under any user id",
        reason="the session authority is allow:",
        advice="use static: or an http(s) authority outside demos and closed networks",
    )
    yield AllowAuthority()
