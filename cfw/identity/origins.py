"""Which web pages may connect.

Browsers let any page open a WebSocket anywhere, loopback included, but name the page's origin.
Programs that are no browsers name none.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TypeAlias
from urllib.parse import urlsplit

from cfw.identity.hosts import is_loopback

#: Scheme, host and port; None is the port of a scheme whose usual one is not known here.
_Origin: TypeAlias = tuple[str, str, int | None]

_USUAL_PORTS = {"http": 80, "https": 443}
_SHAPE = re.compile(r"[a-z][a-z0-9+.-]*://[^\s/?#@*]+", re.IGNORECASE)
_ANY_ADDRESS = ("0.0.0.0", "::", "")


class Origins:
    """The origins whose pages may connect.

    Args:
        listed: each `scheme://host` or `scheme://host:port`, or `*` for all pages.
    """

    def __init__(self, listed: Iterable[str]) -> None:
        self._is_any = "*" in listed
        self._known = {check_origin(origin) for origin in listed if origin != "*"}

    def add_page(self, scheme: str, host: str, port: int) -> None:
        """Let in a page that the worker itself serves; see `page_origins`."""
        self._known |= set(map(_read, page_origins(scheme, host, port)))

    def allows(self, origin: str) -> bool:
        """Whether a page with this `Origin` header may connect."""
        if self._is_any:
            return True
        try:
            return _read(origin) in self._known
        except ValueError:
            return False


def page_origins(scheme: str, host: str, port: int) -> tuple[str, ...]:
    """The origins of pages that a worker serves, by the names that only it can have.

    Any other name may be made to resolve to this machine by whoever owns it.

    Args:
        scheme: `http` or `https`.
        host: where its listener listens; an address for all interfaces is also loopback.
        port: its TCP port.
    """
    names = () if host in _ANY_ADDRESS else (f"[{host}]" if ":" in host else host,)
    if not names or is_loopback(host):
        names = ("127.0.0.1", "localhost", "[::1]", *names)
    return tuple(dict.fromkeys(f"{scheme}://{name}:{port}" for name in names))


def check_origin(text: str) -> _Origin:
    """Read one entry of the list.

    Raises:
        ValueError: it is no origin; the text says what is wrong and what is allowed.
    """
    if text == "null":
        raise ValueError(
            "'null' is what every sandboxed page calls itself; serve the page over http, or "
            'allow all pages with "*"'
        )
    try:
        return _read(text)
    except ValueError:
        raise ValueError(
            f"{text!r} is no origin such as https://lab.example:8443: a scheme, a host and "
            'perhaps a port, without a path; or "*" for all pages'
        ) from None


def _read(text: str) -> _Origin:
    if not (text.isascii() and _SHAPE.fullmatch(text)):
        raise ValueError("not an origin")
    parts = urlsplit(text)
    if not parts.hostname:
        raise ValueError("no host")
    return parts.scheme, parts.hostname, parts.port or _USUAL_PORTS.get(parts.scheme)
