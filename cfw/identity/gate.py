"""Who is let in: the request of a handshake, and the certificate shown, become an identity."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice

import attrs
import trio

from cfw.identity.origins import Origins
from cfw.identity.tls import users_of
from cfw.identity.tokens import Entry, Tokens
from cfw.net import local_address
from cfw.wire import HandshakeReject, Request

#: The only subprotocol that is ever selected; browsers offer it beside their token.
SUBPROTOCOL = "cfw.v1"
#: A browser cannot set a header, but may offer subprotocols: this one carries a token.
BEARER_SUBPROTOCOL = "cfw.bearer."

#: The same whether a token is missing or wrong.
_NO_TOKEN = HandshakeReject(
    401,
    "this worker needs one of its tokens: send the header `Authorization: Bearer TOKEN`, or "
    f"from a browser offer the subprotocols {SUBPROTOCOL} and {BEARER_SUBPROTOCOL}TOKEN",
    headers=(("WWW-Authenticate", "Bearer"),),
)


@attrs.frozen
class Identity:
    """Who connected.

    Args:
        users: the only users whose captures this connection may open; None for any user.
    """

    users: frozenset[str] | None = None


class Gate:
    """Judges handshakes at the listener for rigs.

    Args:
        origins: who may connect; what names no origin is no page and passes.
        tokens: who may connect; None asks nobody for a token.
    """

    def __init__(self, origins: Origins, tokens: Tokens | None = None) -> None:
        self.origins = origins
        self._tokens = tokens

    def judge(self, request: Request, stream: trio.abc.Stream) -> Identity | HandshakeReject:
        """Say who it is, or why nobody is let in.

        Args:
            request: what it asked for.
            stream: what it came over; its TLS handshake is done, if it has one.
        """
        for origin in request.values("origin"):
            is_guarded = self._tokens is not None
            if not self.origins.admits(origin, request.host, local_address(stream), is_guarded):
                shown = origin[:100]
                return HandshakeReject(
                    403,
                    f"a request with the Origin {shown!r} may not connect: browsers name a web "
                    "page so. For a page that may, or a program whose library sends this, add "
                    f"{json.dumps(shown)} to server.origins",
                )
        users = users_of(stream)
        if self._tokens is not None:
            entry = _first_known(self._tokens, request)
            if entry is None:
                return _NO_TOKEN
            if entry.user_id is not None:
                of_token = frozenset({entry.user_id})
                users = of_token if users is None else users & of_token
        return Identity(users)


def bearer(value: str) -> str | None:
    """The token in an `Authorization` header; None when it is of another kind."""
    scheme, _, token = value.partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def _first_known(tokens: Tokens, request: Request) -> Entry | None:
    # One in each place where it may stand: to look up as many as fit into a head would cost
    # the worker more than whoever sends them.
    found = (tokens.find(token) for token in islice(_offered(request), 2))
    return next(filter(None, found), None)


def _offered(request: Request) -> Iterator[str]:
    for value in request.values("authorization"):
        if (token := bearer(value)) is not None:
            yield token
    for offered in request.items("sec-websocket-protocol"):
        if offered.startswith(BEARER_SUBPROTOCOL):
            yield offered.removeprefix(BEARER_SUBPROTOCOL)
