"""`http://` and `https://` - a server answers.

    POST {"user_id": ..., "session_id": ...}   ->   200 {"status": "active"}

The status is `active`, `closed` or `invalid`; other fields are ignored. A server that
does not know a user or a session answers `invalid`.

No connection, no answer, and the statuses 408, 429 and 5xx mean that it is out of reach:
AuthorityUnreachable. Any other answer is none to this question: UnusableAnswer.

Nothing that an answer holds is kept: no cookie, no redirect, no credential that it asks for.
"""

from __future__ import annotations

import base64
import os
import re
import socket
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from typing import Any

import httpx
import orjson

from cfw.plugins import redact_url
from cfw.sessions._authority import (
    AuthorityUnreachable,
    SessionAuthority,
    SessionStatus,
    SessionUrlError,
    UnusableAnswer,
    refuse_sessions,
)

#: The answer is some 20 bytes; this leaves room for fields of the server's own.
MAX_ANSWER_BYTES = 64 * 1024
#: Chunks of one byte each would cost a thousand times what they carry.
MAX_ANSWER_PIECES = 1024

_HEADERS = {
    "Accept": "application/json",
    "Accept-Encoding": "identity",
    "Content-Type": "application/json",
    "User-Agent": "cfw",
}
#: What a server says that can serve nobody just now (RFC 9110, RFC 6585), whatever it is asked.
_UNABLE = (408, 429)
_FORM = ("http://HOST[:PORT]/PATH", "https://HOST[:PORT]/PATH")
_SHOWABLE_STATUS = re.compile(r"[A-Za-z0-9_-]{1,32}")

#: A server may close an idle connection just as we write to it. A check changes nothing at
#: the server, so it is asked once more; a refused rig would be the price of not doing so.
_STALE = (httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError)

_FAULTS: tuple[tuple[type[httpx.HTTPError], str], ...] = (
    (httpx.ConnectError, "cannot connect"),
    (httpx.RemoteProtocolError, "the answer is not HTTP, or was cut short"),
    (httpx.NetworkError, "the connection broke"),
)


class HttpAuthority:
    """Asks a server, over connections that are kept and reused.

    Args:
        transport: carries the questions; closed by its owner. No client is put over it: that
            would keep cookies, and read redirects and challenges.
        url: where to ask, without user info.
        headers: of every question.
    """

    def __init__(
        self, transport: httpx.AsyncBaseTransport, url: httpx.URL, headers: Mapping[str, str]
    ) -> None:
        self._transport = transport
        self._url = url
        self._headers = headers
        self._name = redact_url(str(url))

    async def check(self, user_id: str, session_id: str) -> SessionStatus:
        """Return what the server answers.

        Args:
            user_id: sent as it is.
            session_id: sent as it is.

        Raises:
            AuthorityUnreachable: no connection, or a server that says it is unable.
            UnusableAnswer: an answer that has not the form above.

        Cancellation: safe; a connection with a half-read answer is closed, not reused.
        """
        body = orjson.dumps({"user_id": user_id, "session_id": session_id})
        try:
            answer = await self._ask(body)
        except _STALE:
            try:
                answer = await self._ask(body)
            except httpx.HTTPError as exc:
                raise self._unreachable(_describe(exc)) from exc
        except httpx.HTTPError as exc:
            raise self._unreachable(_describe(exc)) from exc
        return self._read_status(answer)

    async def _ask(self, body: bytes) -> bytes:
        request = httpx.Request(
            "POST",
            self._url,
            headers=self._headers,
            content=body,
            extensions={"trace": _HandshakeGuard()},
        )
        request.stream = _Body(body)
        response = await self._transport.handle_async_request(request)
        async with aclosing(response):
            status = response.status_code
            if status in _UNABLE or status >= 500:
                raise self._unreachable(f"answered HTTP {status}")
            if status != 200:
                raise self._unusable(f"answered HTTP {status}, not 200")
            return await self._read_bounded(response)

    async def _read_bounded(self, response: httpx.Response) -> bytes:
        answer, pieces, excess = bytearray(), 0, ""
        try:
            # Raw, because a small compressed body could unfold to a large one.
            async for chunk in response.aiter_raw():
                if not excess:
                    answer += chunk
                    pieces += 1
                    excess = _excess(len(answer), pieces)
                    if excess:
                        # Not left here: httpx nests generators, and all of them end well
                        # only if the end comes from below, as the next read's error.
                        await response.aclose()
        except httpx.HTTPError:
            if not excess:
                raise
        if excess:
            raise self._unusable(f"answered more than {excess}")
        return bytes(answer)

    def _read_status(self, answer: bytes) -> SessionStatus:
        try:
            parsed = orjson.loads(answer)
        except orjson.JSONDecodeError:
            # Without the cause: it would carry the whole answer into a traceback.
            raise self._unusable("the answer is not JSON") from None
        if not isinstance(parsed, dict) or not isinstance(parsed.get("status"), str):
            raise self._unusable("the answer has no text field 'status'")
        status: str = parsed["status"]
        try:
            return SessionStatus(status)
        except ValueError:
            shown = f" {status!r}" if _SHOWABLE_STATUS.fullmatch(status) else ""
            raise self._unusable(
                f"unknown status{shown}; known: active, closed, invalid"
            ) from None

    def _unreachable(self, why: str) -> AuthorityUnreachable:
        return AuthorityUnreachable(f"{self._name}: {why}")

    def _unusable(self, why: str) -> UnusableAnswer:
        return UnusableAnswer(f"{self._name}: {why}")


def _excess(size: int, pieces: int) -> str:
    """Which bound an answer is over; empty for none."""
    if size > MAX_ANSWER_BYTES:
        return f"{MAX_ANSWER_BYTES} bytes"
    return f"{MAX_ANSWER_PIECES} pieces" if pieces > MAX_ANSWER_PIECES else ""


class _Body(httpx.AsyncByteStream):
    """A request's body without an async generator, which httpcore abandons when cancelled."""

    def __init__(self, body: bytes) -> None:
        self._parts = [body]

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if not self._parts:
            raise StopAsyncIteration
        return self._parts.pop()


class _HandshakeGuard:
    """Closes the socket of a TLS handshake that is cancelled; httpcore leaves it open."""

    def __init__(self) -> None:
        self._stream: Any = None

    async def __call__(self, event: str, info: Mapping[str, Any]) -> None:
        """Follow a request; httpx calls this its trace extension."""
        if event == "connection.connect_tcp.complete":
            self._stream = info["return_value"]
        elif event == "connection.start_tls.failed":
            # Trio closes a socket before its checkpoint, so this needs no shield.
            await self._stream.aclose()


def _describe(exc: httpx.HTTPError) -> str:
    """Say what went wrong in words of our own: httpx may quote what the peer sent."""
    known = (said for kind, said in _FAULTS if isinstance(exc, kind))
    words = next(known, type(exc).__name__)
    reason = _os_reason(exc)
    return f"{words} ({reason})" if reason else words


def _os_reason(exc: BaseException | None) -> str | None:
    """Find the operating system's own words, which name no secret, below an exception."""
    waiting = [exc]
    seen: set[int] = set()
    while waiting:
        current = waiting.pop()
        if current is None or id(current) in seen:
            continue
        seen.add(id(current))
        if isinstance(current, ssl.SSLCertVerificationError):
            return current.verify_message
        if isinstance(current, ssl.SSLError):
            return current.reason
        if isinstance(current, OSError) and current.errno:
            # Trio adds the address to the text; the resolver's numbers are its own.
            resolver = isinstance(current, socket.gaierror)
            return current.strerror if resolver else os.strerror(current.errno)
        if isinstance(current, BaseExceptionGroup):
            waiting.extend(current.exceptions)
        waiting += [current.__context__, current.__cause__]
    return None


def open_http(
    url: str, *, sessions: Sequence[str]
) -> AbstractAsyncContextManager[SessionAuthority]:
    """Make the authority of `http://` and `https://`.

    Certificates are checked against the system's trust store (`SSL_CERT_FILE` names
    another); proxies and other settings of the environment are not used.

    Args:
        url: where to ask; user info in it is sent as basic authentication.
        sessions: must be empty: the server knows them.

    Raises:
        SessionUrlError: the URL has no host or is malformed, or sessions were given.
    """
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        # Without the cause: it may quote a piece of the user info.
        parsed = None
    shown = redact_url(url)
    if parsed is None or parsed.scheme not in ("http", "https"):
        raise SessionUrlError(
            shown, "it is malformed", _FORM, "correct it; percent-encode odd characters"
        )
    if not parsed.host:
        raise SessionUrlError(shown, "it names no host", _FORM, "name the server to ask")
    if parsed.port is not None and not 1 <= parsed.port <= 65535:
        raise SessionUrlError(shown, "its port does not exist", _FORM, "use a port of 1-65535")
    refuse_sessions(parsed.scheme, shown, sessions)
    # Credentials leave the URL here, so that whoever names it shows none.
    headers = dict(_HEADERS)
    if parsed.userinfo:
        pair = base64.b64encode(f"{parsed.username}:{parsed.password}".encode())
        headers["Authorization"] = f"Basic {pair.decode()}"
    return _open(parsed.copy_with(userinfo=b""), headers)


@asynccontextmanager
async def _open(url: httpx.URL, headers: Mapping[str, str]) -> AsyncIterator[SessionAuthority]:
    async with httpx.AsyncHTTPTransport(
        verify=ssl.create_default_context() if url.scheme == "https" else False,
        trust_env=False,
        # As many checks at a time as there are captures: one that queued here would use up
        # its deadline and refuse a rig that did nothing wrong.
        limits=httpx.Limits(max_connections=None, max_keepalive_connections=100),
    ) as transport:
        yield HttpAuthority(transport, url, headers)
