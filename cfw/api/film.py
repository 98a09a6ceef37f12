"""What a worker needs to have people invited: the page at the port for rigs, and its desk."""

from __future__ import annotations

from functools import partial
from urllib.parse import urlsplit

import structlog

from cfw.admin import Desk
from cfw.api.access import Access
from cfw.api.config import Config
from cfw.film import Door, create_film_app
from cfw.identity import Invitations
from cfw.limits import limits_told
from cfw.net import reachable_url
from cfw.routes.refusals import Refusals
from cfw.routes.session import Sessions
from cfw.service import Verdict
from cfw.sessions.static import parse_session
from cfw.wire import Elsewhere

_log: structlog.stdlib.BoundLogger = structlog.get_logger("cfw.admin")


def make_invitations(config: Config) -> Invitations:
    """Invitations in the memory of this process, for one worker or for several."""
    wanted = config.invitations
    return Invitations(wanted.valid_s, wanted.film_s, wanted.max_open)


def film_url(url: str) -> str:
    """Where the page that films is reached now, for the URL of rigs."""
    parts = urlsplit(reachable_url(url))
    scheme = "https" if parts.scheme == "wss" else "http"
    return f"{scheme}://{parts.netloc}/capture"


def usual_session(config: Config) -> tuple[str, str] | None:
    """User and session that an invitation is for if nobody says otherwise; None for nobody."""
    return next(map(parse_session, config.sessions.static), None)


def open_pages(
    config: Config, access: Access, url: str, refusals: Refusals
) -> Elsewhere | None:
    """What serves the page that films at the port for rigs; None where nobody is invited.

    Args:
        config: of the worker.
        access: who may connect.
        url: that of rigs.
        refusals: the connections that were not let in last.
    """
    if access.gate.inviting is None:
        return None
    app = create_film_app(
        inviting=access.gate.inviting,
        capture_url=url,
        path=config.server.path,
        limits=limits_told(config.limits, config.times),
        needs_token=access.server.tokens is not None,
        refusals=refusals,
    )
    return Door(app).serve


def open_desk(config: Config, access: Access, sessions: Sessions, url: str) -> Desk | None:
    """Where operators make invitations; None where nobody is invited.

    Args:
        config: of the worker.
        access: who may connect.
        sessions: asked whether the session of an invitation is active.
        url: that of rigs.
    """
    if access.gate.inviting is None:
        return None

    async def check(user_id: str, session_id: str) -> Verdict:
        return await sessions.verdict_of(user_id, session_id, _log)

    def fingerprint() -> str | None:
        return None if access.server.tls is None else access.server.tls.fingerprint

    return Desk(
        access.gate.inviting,
        partial(film_url, url),
        check,
        fingerprint,
        usual_session(config),
    )
