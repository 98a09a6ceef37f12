"""Requests and answers over HTTP, whatever they travel on."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeAlias
from urllib.parse import parse_qsl

import attrs
import orjson

from cfw.printable import printable
from cfw.wire import Request as RequestHead
from cfw.wire import WebSocket
from schemas import Timestamp

#: Every answer is about this moment.
NO_STORE = {"cache-control": "no-store"}
#: What may be done by who only looks.
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")


@attrs.frozen
class Request(RequestHead):
    """One request, whole; the path without percent signs.

    Args:
        body: all of it.
        scheme: `http` or `https`.
        port: the TCP port that it came to.
        peer: the address that it came from.
    """

    body: bytes
    scheme: str
    port: int
    peer: str

    def header(self, name: str) -> str | None:
        """A header's value, those of several lines joined by commas; None without any."""
        values = self.values(name)
        return ", ".join(values) if values else None

    def cookie(self, name: str) -> str:
        """The value of a cookie; empty without one. What others are called is no matter."""
        lines = self.values("cookie")
        pairs = (pair.strip().partition("=") for line in lines for pair in line.split(";"))
        return {key: value for key, _, value in pairs}.get(name, "")

    @property
    def params(self) -> Mapping[str, str]:
        """What the query says; of a name that comes again, the last."""
        return dict(parse_qsl(self.query, keep_blank_values=True))

    @property
    def is_websocket(self) -> bool:
        """Whether it asks for a WebSocket."""
        return "websocket" in map(str.lower, self.items("upgrade"))


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


@attrs.frozen
class Flow:
    """An answer whose body comes part by part, for as long as there is more and it is read.

    Its connection ends with it.

    Args:
        headers: but those of how it is sent; names in lower case.
        parts: begins the body; each part is sent before the next one is asked for. Closed when
            the reader leaves.
    """

    headers: Mapping[str, str]
    parts: Callable[[], AsyncGenerator[bytes, None]]


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


Answer: TypeAlias = Response | Flow | Upgrade
#: Answers one request; raises only what is a bug.
Handler: TypeAlias = Callable[[Request], Awaitable[Answer]]


def json_answer(
    content: object, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """JSON, of this moment; an attrs object by its fields, an instant as its text."""
    # A rig chose some of it, and `curl` shows it to a terminal.
    text = printable(orjson.dumps(content, default=_plain).decode())
    return Response(
        status,
        text.encode(),
        {"content-type": "application/json", **NO_STORE, **(headers or {})},
    )


def problem(text: str, status: int, headers: Mapping[str, str] | None = None) -> Response:
    """A refusal, in words."""
    return json_answer({"error": text}, status, headers)


def _plain(value: Any) -> object:
    if isinstance(value, Timestamp):
        return value.text
    fields = attrs.fields(type(value))
    return {field.name: getattr(value, field.name) for field in fields}
