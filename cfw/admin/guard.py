"""Who may use the admin listener, and from which pages.

Programs send `Authorization: Bearer TOKEN`. A browser is asked for the token once, by a page of
ours, and gets a cookie instead. HTTP Basic would have spared that page; but browsers send its
password along with requests that other sites cause, cannot forget it, and some leave it out
when they open a WebSocket. Viewers that take an address of a camera know nothing else: for
pictures alone, a token may come as its password.

The cookie is no token: it is made of one with a secret of this process, so it ends with the
process, and with its token when the file is read again. Scripts of a page cannot read it, and
no browser sends it for another site (`SameSite=Strict`). A site is a host without its port,
though, so what changes something also needs an `Origin` that is ours.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Callable
from importlib import resources
from urllib.parse import parse_qs

import structlog

from cfw.admin.pictures import is_picture
from cfw.admin.words import filled, words_for
from cfw.http.messages import (
    NO_STORE,
    SAFE_METHODS,
    Answer,
    Handler,
    Request,
    Response,
    problem,
)
from cfw.http.origin import is_from_here
from cfw.identity import Tokens
from cfw.identity.gate import bearer
from cfw.identity.tokens import Entry

_log = structlog.get_logger("cfw.admin")

SIGN_IN_PATH = "/signin"
#: For probes, which rarely can be given a token; they tell nothing but yes or no.
_OPEN_PATHS = ("/healthz", "/readyz")
_PAGES = ("/", "/capture")


def token_only(
    app: Handler, tokens: Tokens, on_page: Callable[[str], object] = lambda _: None
) -> Handler:
    """An application that asks everyone for a token, but on the health routes: 401.

    Args:
        app: what is guarded.
        tokens: any of these will do.
        on_page: told the origin of each page of this listener on which somebody has signed in.
    """
    door = _Door(tokens, on_page)

    async def guarded(request: Request) -> Answer:
        if request.path in _OPEN_PATHS:
            return await app(request)
        if request.path == SIGN_IN_PATH and request.method == "POST":
            return door.sign_in(request)
        return door.refusal(request) or await app(request)

    return guarded


class _Door:
    def __init__(self, tokens: Tokens, on_page: Callable[[str], object]) -> None:
        self._tokens = tokens
        self._on_page = on_page
        self._secret = secrets.token_bytes(32)
        page = resources.files("cfw.admin").joinpath("signin.html").read_text("utf-8")
        self._page = page
        style, script = (_source(page, tag) for tag in ("style", "script"))
        self._headers = {
            **NO_STORE,
            "content-security-policy": f"default-src 'none'; style-src {style}; "
            f"script-src {script}; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
            "vary": "accept-language",
            # With no-referrer a form would say that it comes from nowhere.
            "referrer-policy": "same-origin",
            "x-content-type-options": "nosniff",
            "content-type": "text/html; charset=utf-8",
        }

    def refusal(self, request: Request) -> Response | None:
        """The answer to who may not come in; None for who may."""
        authorization = request.header("authorization") or ""
        token = bearer(authorization)
        if is_picture(request.path):
            token = token or _password(authorization)
        if token is not None and self._tokens.find(token) is not None:
            return None
        if self._knows_cookie(request.cookie(_cookie_name(request))):
            if is_from_here(request):
                self._on_page(request.header("origin") or "")
            elif request.method not in SAFE_METHODS:
                return problem("this needs a page of this listener, or a token", 403)
            return None
        if "text/html" in (request.header("accept") or "") and not request.is_websocket:
            return self._ask(request, request.path)
        text = "this listener needs one of its tokens: Authorization: Bearer TOKEN"
        # Only what is no browser is asked for a password: one would keep it for good.
        asks_password = is_picture(request.path) and request.header("sec-fetch-mode") is None
        scheme = 'Basic realm="cfw: any name, and a token as password"'
        challenge = scheme if asks_password else "Bearer"
        return problem(text, 401, {"www-authenticate": challenge})

    def sign_in(self, request: Request) -> Response:
        """Give the cookie for a token."""
        if not is_from_here(request):
            return problem("sign in on the page of this listener", 403)
        form = parse_qs(request.body.decode("ascii", "replace"))
        token, back = (form.get(name, [""])[0] for name in ("token", "back"))
        entry = self._tokens.find(token.strip())
        if entry is None:
            _log.info("admin.sign_in_refused")
            return self._ask(request, back, is_wrong=True)
        self._on_page(request.header("origin") or "")
        cookie = (
            f"{_cookie_name(request)}={self._cookie(entry)}; HttpOnly; Path=/; SameSite=strict"
        )
        if request.scheme == "https":
            cookie += "; Secure"
        to = {"location": back if back in _PAGES else "/", "set-cookie": cookie}
        return Response(303, headers={**NO_STORE, **to})

    def _ask(self, request: Request, back: str, *, is_wrong: bool = False) -> Response:
        words = words_for(request.header("accept-language"))
        texts = words.sign_in
        said = {
            **texts,
            "lang": words.language,
            "back": back if back in _PAGES else "/",
            "problem": texts["wrong"] if is_wrong else "",
        }
        headers = {**self._headers, "www-authenticate": "Bearer"}
        return Response(401, filled(self._page, said).encode(), headers)

    def _cookie(self, entry: Entry) -> str:
        return hmac.digest(self._secret, entry.digest, "sha256").hex()

    def _knows_cookie(self, cookie: str) -> bool:
        given, is_known = cookie.encode(), False
        for entry in self._tokens.entries:
            is_known |= hmac.compare_digest(self._cookie(entry).encode(), given)
        return is_known


def _source(page: str, tag: str) -> str:
    """What a policy calls the one inline style or script of a page."""
    text = page.partition(f"<{tag}>")[2].partition(f"</{tag}>")[0]
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return f"'sha256-{digest}'"


def _password(authorization: str) -> str | None:
    """The password of HTTP Basic; None for another scheme, or one that cannot be read."""
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        return base64.b64decode(value.strip(), validate=True).decode().partition(":")[2]
    except ValueError:
        return None


def _cookie_name(request: Request) -> str:
    # Ports of a host share their cookies; two workers must not sign each other out.
    return f"cfw_admin_{request.port}"
