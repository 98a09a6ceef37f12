"""Who a request says it talks to: a loopback listener answers to loopback names only.

A page anywhere can have its own host name resolve to 127.0.0.1 and then read this listener
as if it were its own (DNS rebinding); its requests carry that name.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from cfw.identity import is_loopback, is_same_origin


def loopback_only(app: ASGIApp) -> ASGIApp:
    """An application that refuses requests made to any other host name, with 421."""

    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket") or _is_ours(scope):
            await app(scope, receive, send)
            return
        problem = "this listener answers to localhost, 127.0.0.1 and [::1] only"
        refusal = JSONResponse({"error": problem}, 421, {"cache-control": "no-store"})
        if scope["type"] == "websocket":
            await WebSocket(scope, receive, send).send_denial_response(refusal)
        else:
            await refusal(scope, receive, send)

    return guarded


def is_from_elsewhere(request: HTTPConnection) -> bool:
    """Whether a request is made for a page that is not of this listener.

    Browsers let any page reach for any address, loopback included, but name the page.
    """
    origin = request.headers.get("origin")
    return origin is not None and not is_same_origin(origin, request.headers.get("host", ""))


def _is_ours(scope: Scope) -> bool:
    host = Headers(scope=scope).get("host", "")
    try:
        name = urlsplit(f"//{host}").hostname
    except ValueError:
        return False
    return name is not None and is_loopback(name)
