"""Who may use the admin listener, and from which pages.

Programs send `Authorization: Bearer TOKEN`. A browser is asked for the token once, by a page of
ours, and gets a cookie instead. HTTP Basic would have spared that page; but browsers send its
password along with requests that other sites cause, cannot forget it, and some leave it out
when they open a WebSocket.

The cookie is no token: it is made of one with a secret of this process, so it ends with the
process, and with its token when the file is read again. Scripts of a page cannot read it, and
no browser sends it for another site (`SameSite=Strict`). A site is a host without its port,
though, so what changes something also needs an `Origin` that is ours.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import html
import secrets
from contextlib import aclosing
from importlib import resources
from urllib.parse import parse_qs

import structlog
import trio
from starlette.requests import ClientDisconnect, HTTPConnection, Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from cfw.identity import Tokens, is_same_origin
from cfw.identity.gate import bearer
from cfw.identity.tokens import Entry

_log = structlog.get_logger("cfw.admin")

SIGN_IN_PATH = "/signin"
#: For probes, which rarely can be given a token; they tell nothing but yes or no.
_OPEN_PATHS = ("/healthz", "/readyz")
_PAGES = ("/", "/capture")
_SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
#: A form with the longest token that there can be is far smaller.
_MAX_FORM_BYTES = 4_096
#: For all of it to arrive; no byte of it begins this anew.
_FORM_S = 10.0
_NO_STORE = {"cache-control": "no-store"}


def same_origin_writes(app: ASGIApp) -> ASGIApp:
    """An application that takes what may change something from no page but its own: 403.

    A request without `Origin` comes from no page.
    """

    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and _is_unsafe(scope) and _is_foreign(scope):
            problem = "pages of another origin may not do this"
            await _json(problem, 403)(scope, receive, send)
            return
        await app(scope, receive, send)

    return guarded


def token_only(app: ASGIApp, tokens: Tokens) -> ASGIApp:
    """An application that asks everyone for a token, but on the health routes: 401.

    Args:
        app: what is guarded.
        tokens: any of these will do.
    """
    door = _Door(tokens)

    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket") or scope["path"] in _OPEN_PATHS:
            answer: ASGIApp = app
        elif scope["path"] == SIGN_IN_PATH and scope.get("method") == "POST":
            answer = await door.sign_in(Request(scope, receive))
        else:
            answer = door.refusal(scope) or app
        if scope["type"] == "websocket" and isinstance(answer, Response):
            await WebSocket(scope, receive, send).send_denial_response(answer)
        else:
            await answer(scope, receive, send)

    return guarded


class _Door:
    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens
        self._secret = secrets.token_bytes(32)
        page = resources.files("cfw.admin").joinpath("signin.html").read_text("utf-8")
        self._page = page
        style = page.partition("<style>")[2].partition("</style>")[0]
        digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
        self._headers = {
            **_NO_STORE,
            "content-security-policy": f"default-src 'none'; style-src 'sha256-{digest}'; "
            "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
            # With no-referrer a form would say that it comes from nowhere.
            "referrer-policy": "same-origin",
            "x-content-type-options": "nosniff",
        }

    def refusal(self, scope: Scope) -> Response | None:
        """The answer to who may not come in; None for who may."""
        connection = HTTPConnection(scope)
        token = bearer(connection.headers.get("authorization", ""))
        if token is not None and self._tokens.find(token) is not None:
            return None
        if self._knows_cookie(connection.cookies.get(_cookie_name(scope), "")):
            if scope["type"] == "http" and _is_unsafe(scope) and not _is_ours(scope):
                return _json("this needs a page of this listener, or a token", 403)
            return None
        if scope["type"] == "http" and "text/html" in connection.headers.get("accept", ""):
            return self._ask(scope["path"])
        problem = "this listener needs one of its tokens: Authorization: Bearer TOKEN"
        return _json(problem, 401, {"www-authenticate": "Bearer"})

    async def sign_in(self, request: Request) -> Response:
        """Give the cookie for a token."""
        if not _is_ours(request.scope):
            return _json("sign in on the page of this listener", 403)
        body = await _read_form(request)
        if isinstance(body, Response):
            return body
        form = parse_qs(body.decode("ascii", "replace"))
        token, back = (form.get(name, [""])[0] for name in ("token", "back"))
        entry = self._tokens.find(token.strip())
        if entry is None:
            _log.info("admin.sign_in_refused")
            return self._ask(back, "That is not a token of this worker.")
        answer = RedirectResponse(back if back in _PAGES else "/", 303, _NO_STORE)
        answer.set_cookie(
            _cookie_name(request.scope),
            self._cookie(entry),
            httponly=True,
            samesite="strict",
            secure=request.scope["scheme"] == "https",
        )
        return answer

    def _ask(self, back: str, problem: str = "") -> Response:
        page = self._page.replace("{back}", html.escape(back if back in _PAGES else "/"))
        return Response(
            page.replace("{problem}", html.escape(problem)),
            401,
            {**self._headers, "www-authenticate": "Bearer"},
            "text/html",
        )

    def _cookie(self, entry: Entry) -> str:
        return hmac.digest(self._secret, entry.digest, "sha256").hex()

    def _knows_cookie(self, cookie: str) -> bool:
        given, is_known = cookie.encode(), False
        for entry in self._tokens.entries:
            is_known |= hmac.compare_digest(self._cookie(entry).encode(), given)
        return is_known


async def _read_form(request: Request) -> bytearray | Response:
    """The body of a request, or why there is none."""
    body = bytearray()
    try:
        with trio.fail_after(_FORM_S):
            async with aclosing(request.stream()) as chunks:
                async for chunk in chunks:
                    body += chunk
                    if len(body) > _MAX_FORM_BYTES:
                        return _json(f"the form is over {_MAX_FORM_BYTES} bytes", 413)
    except trio.TooSlowError:
        return _json(f"the form took longer than {_FORM_S:g} s", 408)
    except ClientDisconnect:
        return _json("the form was cut short", 400)  # to nobody
    return body


def _cookie_name(scope: Scope) -> str:
    # Ports of a host share their cookies; two workers must not sign each other out.
    return f"cfw_admin_{scope['server'][1]}"


def _is_unsafe(scope: Scope) -> bool:
    return scope["method"] not in _SAFE_METHODS


def _is_ours(scope: Scope) -> bool:
    headers = HTTPConnection(scope).headers
    return is_same_origin(headers.get("origin", ""), headers.get("host", ""))


def _is_foreign(scope: Scope) -> bool:
    return "origin" in HTTPConnection(scope).headers and not _is_ours(scope)


def _json(problem: str, status: int, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse({"error": problem}, status, {**_NO_STORE, **(headers or {})})
