"""The application at the port for rigs: the page that films, and the end of an invitation."""

from __future__ import annotations

import json

import attrs
import structlog

from cfw.admin.pages import codes_route, film_routes
from cfw.errors import INVITATION_ENDED
from cfw.http.messages import Answer, Handler, Request, Response, json_answer, problem
from cfw.http.origin import own_pages_only
from cfw.http.routing import App, Route
from cfw.identity import InvitationsOutOfReach, Inviting, NotInvited
from cfw.identity.gate import bearer
from cfw.net import Throttle, group_of
from cfw.routes.refusals import Refusals
from schemas import WorkerLimits

_log: structlog.stdlib.BoundLogger = structlog.get_logger("cfw.film")


def create_film_app(
    *,
    inviting: Inviting,
    capture_url: str,
    path: str,
    limits: WorkerLimits,
    needs_token: bool,
    refusals: Refusals,
) -> Handler:
    """The application. A page of another origin can use up no invitation with it.

    Args:
        inviting: keeps the invitations.
        capture_url: where rigs connect, for the policy of the page.
        path: of that URL: the page films where it was loaded from.
        limits: what a page has to know to keep within; the rest is the operator's.
        needs_token: whether there are tokens too, for who has no invitation.
        refusals: the connections that were not let in last.
    """
    throttle = Throttle()

    async def info(_: Request) -> Response:
        return json_answer(
            {
                "capture_url": path,
                "has_feed": False,
                "needs_token": needs_token,
                "needs_invitation": True,
                "limits": limits,
            }
        )

    async def refused(request: Request) -> Response:
        # Who films learns of no other device.
        told = refusals.told(group_of(request.peer))
        return json_answer({"refused": [each for each in told if each["is_yours"]]})

    async def join(request: Request) -> Response:
        secret = _secret(request.body)
        if secret is None:
            return problem('the body has to be {"invitation": "..."}', 400)
        try:
            given = await inviting.use(secret)
        except NotInvited as exc:
            if (unwritten := throttle.unwritten()) is not None:
                _log.info(
                    "invitation.refused", detail=str(exc), by=request.peer, unwritten=unwritten
                )
            return problem(str(exc), 403)
        except InvitationsOutOfReach as exc:
            return problem(str(exc), 503, {"retry-after": "5"})
        invitation = given.invitation
        _log.info("invitation.used", **_named(attrs.asdict(invitation)), by=request.peer)
        named = {"user_id": invitation.user_id, "session_id": invitation.session_id}
        return json_answer({**named, "token": given.text})

    async def joined(request: Request) -> Response:
        token = bearer(request.header("authorization") or "")
        try:
            invitation = None if token is None else await inviting.find(token)
        except InvitationsOutOfReach as exc:
            return problem(str(exc), 503, {"retry-after": "5"})
        if invitation is None:
            return problem(INVITATION_ENDED, 401, {"www-authenticate": "Bearer"})
        named = {"user_id": invitation.user_id, "session_id": invitation.session_id}
        return json_answer(named)

    app = App(
        [
            *film_routes(capture_url),
            Route("/info", info),
            codes_route(),
            Route("/refused", refused),
            Route("/join", join, ("POST",)),
            Route("/joined", joined),
        ]
    )

    async def answered(request: Request) -> Answer:
        if request.is_websocket:
            # A rig with a wrong URL, which is told so in a word that it logs.
            return problem(f"the only endpoint for a WebSocket here is {path}", 404)
        return await app(request)

    return own_pages_only(answered)


def _secret(body: bytes) -> str | None:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return None
    secret = found.get("invitation") if isinstance(found, dict) else None
    return secret if isinstance(secret, str) else None


def _named(fields: dict[str, object]) -> dict[str, object]:
    return {name: fields[name] for name in ("invitation_id", "user_id", "session_id")}
