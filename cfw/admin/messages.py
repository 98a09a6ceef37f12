"""Requests and answers of the admin listener, whatever they travel on."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import TypeAlias
from urllib.parse import parse_qsl

import attrs

from cfw.wire import Headers, WebSocket

#: Every answer is about this moment.
NO_STORE = {"cache-control": "no-store"}
#: What may be done by who only looks.
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")


@attrs.frozen
class Request:
    """One request, whole.

    Args:
        method: as it came: `GET`.
        host: whom it is made to, as a name and perhaps a port; empty when it does not say.
        path: without the query, and without percent signs.
        query: as it came; empty when there is none.
        headers: names in lower case.
        body: all of it.
        scheme: `http` or `https`.
        port: the TCP port that it came to.
        peer: the address that it came from.
    """

    method: str
    host: str
    path: str
    query: str
    headers: Headers
    body: bytes
    scheme: str
    port: int
    peer: str

    def header(self, name: str) -> str | None:
        """A header's value, those of several lines joined by commas; None without any."""
        values = [value for key, value in self.headers if key == name]
        return ", ".join(values) if values else None

    def cookie(self, name: str) -> str:
        """The value of a cookie; empty without one. What others are called is no matter."""
        lines = (value for key, value in self.headers if key == "cookie")
        pairs = (pair.strip().partition("=") for line in lines for pair in line.split(";"))
        return {key: value for key, _, value in pairs}.get(name, "")

    @property
    def params(self) -> Mapping[str, str]:
        """What the query says; of a name that comes again, the last."""
        return dict(parse_qsl(self.query, keep_blank_values=True))

    @property
    def is_websocket(self) -> bool:
        """Whether it asks for a WebSocket."""
        return self._lists("upgrade", "websocket") and self._lists("connection", "upgrade")

    def _lists(self, name: str, wanted: str) -> bool:
        listed = (self.header(name) or "").lower().split(",")
        return wanted in map(str.strip, listed)


@attrs.frozen
class Response:
    """An answer.

    Args:
        status: of HTTP.
        body: all of it.
        headers: but those of how it is sent; names in lower case.
    """

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = NO_STORE


#: Makes of the request, which is still unanswered, a WebSocket; see `cfw.wire.accept`.
Opening: TypeAlias = AbstractAsyncContextManager[WebSocket]


@attrs.frozen
class Upgrade:
    """What is given instead of an answer to who asks for a WebSocket.

    Args:
        serve: does all of it, opening and closing included; told how many seconds a reader
            may take for one message.
    """

    serve: Callable[[Opening, float], Awaitable[None]]


Answer: TypeAlias = Response | Upgrade
#: Answers one request; raises only what is a bug.
Handler: TypeAlias = Callable[[Request], Awaitable[Answer]]


def json_answer(
    content: object, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """JSON, of this moment."""
    body = json.dumps(content, separators=(",", ":"), ensure_ascii=False).encode()
    return Response(
        status, body, {"content-type": "application/json", **NO_STORE, **(headers or {})}
    )


def problem(text: str, status: int, headers: Mapping[str, str] | None = None) -> Response:
    """A refusal, in words."""
    return json_answer({"error": text}, status, headers)
