"""Who a request says it talks to, and for whose page it is made.

A page anywhere can have its own host name resolve to 127.0.0.1 and then read a loopback
listener as if it were its own (DNS rebinding); its requests carry that name.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from cfw.http.messages import SAFE_METHODS, Answer, Handler, Request, problem
from cfw.identity import is_loopback, is_same_origin


def loopback_only(app: Handler) -> Handler:
    """An application that refuses requests made to any other host name, with 421."""

    async def guarded(request: Request) -> Answer:
        if _names_loopback(request.host):
            return await app(request)
        return problem("this listener answers to localhost, 127.0.0.1 and [::1] only", 421)

    return guarded


def own_pages_only(app: Handler) -> Handler:
    """An application of which pages of other origins only get what they cannot read: else 403.

    Browsers let any page reach for any address, loopback included, and name the page. They
    hide from it what is answered, but do what it asks, and hide nothing of a WebSocket. A
    request without `Origin` comes from no page.
    """

    async def guarded(request: Request) -> Answer:
        matters = request.is_websocket or request.method not in SAFE_METHODS
        is_page = request.header("origin") is not None
        if matters and is_page and not is_from_here(request):
            return problem("pages of another origin may not do this", 403)
        return await app(request)

    return guarded


def is_from_here(request: Request) -> bool:
    """Whether a request is made for a page of this listener."""
    return is_same_origin(request.header("origin") or "", request.host)


def _names_loopback(host: str) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname
    except ValueError:
        return False
    return name is not None and is_loopback(name)
