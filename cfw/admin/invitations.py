"""`/invitations`: whom operators let film, by a link that is good once."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import attrs
import structlog

from cfw.admin.qr import qr_path
from cfw.http.messages import Request, Response, json_answer, problem
from cfw.http.routing import Route
from cfw.identity import InvitationsOutOfReach, Inviting, TooManyInvitations
from cfw.service import Verdict
from schemas import CaptureOpen, SchemaError, check_field

_log: structlog.stdlib.BoundLogger = structlog.get_logger("cfw.admin")

#: Answers whether a user's session may send, or what is known of it.
CheckSession = Callable[[str, str], Awaitable[Verdict]]

_NOBODY_INVITED = (
    "this worker invites nobody; start it with --lan, or with invitations.enabled=true"
)
_NOT_ACTIVE = {
    Verdict.INVALID: "is unknown to the session authority, or another user's",
    Verdict.CLOSED: "has ended",
}


@attrs.frozen
class Desk:
    """Where invitations are made.

    Args:
        inviting: keeps them.
        page_url: where the page that films is reached, asked for each invitation: a machine
            may get another address meanwhile.
        check: asked about the session of each invitation; may be left out.
        fingerprint: SHA-256 of the certificate that a browser will ask about; None where it
            is not that of this listener.
        usual: user and session to begin with; None for none.
    """

    inviting: Inviting
    page_url: Callable[[], str]
    check: CheckSession
    fingerprint: Callable[[], str | None] = lambda: None
    usual: tuple[str, str] | None = None

    def link(self, secret: str) -> str:
        """What is handed to a person. Behind the # it reaches no server and no log."""
        return f"{self.page_url()}#i={secret}"


def invitation_routes(desk: Desk | None) -> list[Route]:
    """The routes of invitations.

    Args:
        desk: None for a worker that invites nobody.
    """

    async def listed(_: Request) -> Response:
        if desk is None:
            return problem(_NOBODY_INVITED, 404)
        try:
            found = await desk.inviting.listed()
        except InvitationsOutOfReach as exc:
            return problem(str(exc), 503)
        return json_answer({"invitations": found})

    async def invite(request: Request) -> Response:
        if desk is None:
            return problem(_NOBODY_INVITED, 404)
        named = _named(request.body)
        if isinstance(named, str):
            return problem(named, 400)
        user_id, session_id = named
        why = _NOT_ACTIVE.get(await desk.check(user_id, session_id))
        if why is not None:
            return problem(
                f"session {session_id!r} of user {user_id!r} {why}; nobody could film in it",
                409,
            )
        try:
            made = await desk.inviting.invite(user_id, session_id)
        except TooManyInvitations as exc:
            return problem(str(exc), 429)
        except InvitationsOutOfReach as exc:
            return problem(str(exc), 503)
        shown = attrs.asdict(made.invitation)
        _log.info("invitation.made", **_fields(shown), by=request.peer)
        link = desk.link(made.text)
        told = {"url": link, "fingerprint": desk.fingerprint()}
        return json_answer({**shown, **told, "qr": qr_path(link)}, 201)

    async def take_back(request: Request) -> Response:
        if desk is None:
            return problem(_NOBODY_INVITED, 404)
        invitation_id = request.path.rpartition("/")[2]
        try:
            is_taken_back = await desk.inviting.take_back(invitation_id)
        except InvitationsOutOfReach as exc:
            return problem(str(exc), 503)
        if not is_taken_back:
            return problem("no invitation that lets anybody in has this invitation_id", 404)
        _log.info("invitation.taken_back", invitation_id=invitation_id, by=request.peer)
        return Response(204)

    return [
        Route("/invitations", _by_method(GET=listed, HEAD=listed, POST=invite), _METHODS),
        Route("/invitations/{invitation_id}", take_back, ("DELETE",)),
    ]


_METHODS = ("GET", "HEAD", "POST")


def _by_method(
    **handlers: Callable[[Request], Awaitable[Response]],
) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        return await handlers[request.method](request)

    return answer


def _named(body: bytes) -> tuple[str, str] | str:
    """User and session of a request, or what is wrong with it."""
    try:
        found: Any = json.loads(body)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        return 'the body has to be {"user_id": "...", "session_id": "..."}'
    user_id, session_id = found.get("user_id"), found.get("session_id")
    try:
        check_field(CaptureOpen, "user_id", user_id)
        check_field(CaptureOpen, "session_id", session_id)
    except SchemaError as exc:
        return str(exc)
    return str(user_id), str(session_id)


def _fields(shown: Mapping[str, object]) -> dict[str, object]:
    return {name: shown[name] for name in ("invitation_id", "user_id", "session_id")}
