"""Who is let in: the request of a handshake, and the certificate shown, become an identity."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import islice

import attrs
import trio

from cfw.identity.invitations import Invitation, InvitationsOutOfReach, Inviting
from cfw.identity.origins import Origins
from cfw.identity.tls import users_of
from cfw.identity.tokens import Entry, Tokens
from cfw.net import local_address
from cfw.wire import HandshakeReject, Request

#: The only subprotocol that is ever selected; browsers offer it beside their token.
SUBPROTOCOL = "cfw.v1"
#: A browser cannot set a header, but may offer subprotocols: this one carries a token.
BEARER_SUBPROTOCOL = "cfw.bearer."
#: One in each place where a token may stand: to look up as many as fit into a head would cost
#: the worker more than whoever sends them.
_LOOKED_UP = 2

#: The same whether a token is missing or wrong.
_NO_TOKEN = HandshakeReject(
    401,
    "this worker needs one of its tokens: send the header `Authorization: Bearer TOKEN`, or "
    f"from a browser offer the subprotocols {SUBPROTOCOL} and {BEARER_SUBPROTOCOL}TOKEN",
    headers=(("WWW-Authenticate", "Bearer"),),
)


#: The same where nobody but invited people is let in.
_NO_PASS = HandshakeReject(
    401,
    "this worker lets in who was invited; `cfw invite USER SESSION` makes a link for a "
    "browser, and programs need one of its tokens (server.token_file)",
    headers=(("WWW-Authenticate", "Bearer"),),
)
_OUT_OF_REACH = HandshakeReject(
    503, "whether you are invited cannot be found out now; try again", (("Retry-After", "5"),)
)


@attrs.frozen
class Identity:
    """Who connected.

    Args:
        users: the only users whose captures this connection may open; None for any user.
        invitation: what let it in, and its session is the only one then; None for anything
            else.
    """

    users: frozenset[str] | None = None
    invitation: Invitation | None = None

    @property
    def session_id(self) -> str | None:
        """The only session in which captures may be opened; None for any."""
        return None if self.invitation is None else self.invitation.session_id


class Gate:
    """Judges handshakes at the listener for rigs.

    Args:
        origins: who may connect; what names no origin is no page and passes.
        tokens: who may connect; None asks nobody for a token.
        inviting: who may connect besides; with it, nobody is let in without a token or the
            pass of an invitation.
    """

    def __init__(
        self, origins: Origins, tokens: Tokens | None = None, inviting: Inviting | None = None
    ) -> None:
        self.origins = origins
        self.inviting = inviting
        self._tokens = tokens

    async def judge(
        self, request: Request, stream: trio.abc.Stream
    ) -> Identity | HandshakeReject:
        """Say who it is, or why nobody is let in.

        Args:
            request: what it asked for.
            stream: what it came over; its TLS handshake is done, if it has one.

        Cancellation: nothing has happened. A checkpoint only where invitations are kept by
        somebody else.
        """
        for origin in request.values("origin"):
            address = local_address(stream)
            if not self.origins.admits(origin, request.host, address, self._is_asking):
                shown = origin[:100]
                return HandshakeReject(
                    403,
                    f"a request with the Origin {shown!r} may not connect: browsers name a web "
                    "page so. For a page that may, or a program whose library sends this, add "
                    f"{json.dumps(shown)} to server.origins",
                )
        users = users_of(stream)
        if not self._is_asking:
            return Identity(users)
        offered = list(islice(_offered(request), _LOOKED_UP))
        if self._tokens is not None and (entry := _first_known(self._tokens, offered)):
            if entry.user_id is not None:
                of_token = frozenset({entry.user_id})
                users = of_token if users is None else users & of_token
            return Identity(users)
        return await self._find_invited(offered, users)

    @property
    def _is_asking(self) -> bool:
        """Whether nobody is let in without a secret."""
        return self._tokens is not None or self.inviting is not None

    async def _find_invited(
        self, offered: list[str], users: frozenset[str] | None
    ) -> Identity | HandshakeReject:
        if self.inviting is not None:
            try:
                for text in offered:
                    if (invitation := await self.inviting.find(text)) is not None:
                        invited = frozenset({invitation.user_id})
                        bound = invited if users is None else users & invited
                        return Identity(bound, invitation)
            except InvitationsOutOfReach:
                return _OUT_OF_REACH
        return _NO_PASS if self._tokens is None else _NO_TOKEN

    async def still_holds(self, identity: Identity) -> bool:
        """Whether a capture may go on, as far as an invitation has let it in.

        Cancellation: nothing has happened.
        """
        if identity.invitation is None or self.inviting is None:
            return True
        try:
            return await self.inviting.holds(identity.invitation.invitation_id)
        except InvitationsOutOfReach:
            return True  # asked again at the next check


def bearer(value: str) -> str | None:
    """The token in an `Authorization` header; None when it is of another kind."""
    scheme, _, token = value.partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def _first_known(tokens: Tokens, offered: Iterable[str]) -> Entry | None:
    return next(filter(None, map(tokens.find, offered)), None)


def _offered(request: Request) -> Iterator[str]:
    for value in request.values("authorization"):
        if (token := bearer(value)) is not None:
            yield token
    for offered in request.items("sec-websocket-protocol"):
        if offered.startswith(BEARER_SUBPROTOCOL):
            yield offered.removeprefix(BEARER_SUBPROTOCOL)
