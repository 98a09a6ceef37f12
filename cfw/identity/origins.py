"""Which web pages may connect.

Browsers let any page open a WebSocket anywhere, loopback included, but name the page's origin
in the header Origin. Programs need not, but many do: some libraries send the origin of the URL
that they connect to, others a fixed text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TypeAlias
from urllib.parse import urlsplit

from cfw.identity.hosts import is_loopback

#: Scheme, host and port; None is the port of a scheme whose usual one is not known here.
_Origin: TypeAlias = tuple[str, str, int | None]

_USUAL_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}
_SHAPE = re.compile(r"[a-z][a-z0-9+.-]*://[^\s/?#@*]+", re.IGNORECASE)
#: Names of the admin listener that are remembered, by which somebody has signed in there.
SIGNED_IN_KEPT = 64
_ANY_ADDRESS = ("0.0.0.0", "::", "")


class Origins:
    """The origins that may connect.

    Args:
        listed: each `scheme://host` or `scheme://host:port`, which is known in any spelling;
            any other text, which must come exactly so; or `*` for everybody.
    """

    def __init__(self, listed: Iterable[str]) -> None:
        self._texts = frozenset(listed)
        self._known = {known for text in self._texts if (known := _known(text)) is not None}
        self._signed_in: dict[_Origin, None] = {}

    def add_page(self, scheme: str, host: str, port: int) -> None:
        """Let in a page that the worker itself serves; see `page_origins`."""
        self._known |= set(map(_read, page_origins(scheme, host, port)))

    def add_signed_in(self, origin: str) -> None:
        """Let in a page of the worker's own under a name that only its reader knows.

        Args:
            origin: of a page of the admin listener on which somebody has signed in. The last
                `SIGNED_IN_KEPT` are remembered.
        """
        if (known := _known(origin)) is None:
            return
        self._signed_in.pop(known, None)
        self._signed_in[known] = None
        if len(self._signed_in) > SIGNED_IN_KEPT:
            del self._signed_in[next(iter(self._signed_in))]

    def admits(
        self, origin: str, host: str, address: tuple[str, int] | None, is_guarded: bool
    ) -> bool:
        """Whether a request that names an origin may connect to the listener for rigs.

        Args:
            origin: as the client wrote it.
            host: what its `Host` header names.
            address: address and port that it has connected to; None where there are none, as
                on a Unix socket.
            is_guarded: whether it has to show a token, or the pass of an invitation, as well.
        """
        if self.allows(origin):
            return True
        if address is not None and is_of_listener(origin, *address):
            return True
        # A page under a name that was made to resolve to this machine says the same, but it has
        # no token and no pass, and no browser adds one.
        return is_guarded and is_same_origin(origin, host)

    def allows(self, origin: str) -> bool:
        """Whether an origin is on the list, or one of the worker's own pages."""
        if "*" in self._texts or origin in self._texts:
            return True
        known = _known(origin)
        return known in self._known or known in self._signed_in


def is_of_listener(origin: str, host: str, port: int) -> bool:
    """Whether an `Origin` names the very listener that was connected to.

    No page comes from a listener that serves none, so the origin is that of a program. It has
    to be named by its address, or by a loopback name when the connection is a loopback one: any
    other name may be made to resolve to this machine, and the loopback of the machine where a
    browser runs may be another one.

    Args:
        origin: as the client wrote it.
        host: the address that the client has connected to.
        port: its TCP port.
    """
    known = _known(origin)
    names = (name for scheme in _USUAL_PORTS for name in page_origins(scheme, host, port))
    return known is not None and known in map(_read, names)


def is_same_origin(origin: str, host: str) -> bool:
    """Whether an `Origin` is that of the server which the `Host` header names."""
    known = _known(origin)
    return known is not None and known == _known(f"{known[0]}://{host}")


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


def check_origin(text: str) -> str | None:
    """Look at one entry of the list; what to warn of, or None.

    Raises:
        ValueError: no client can send it; the text says what is wrong and what is allowed.
    """
    if text == "*":
        return None
    if not re.fullmatch("[!-~]([ -~]*[!-~])?", text) or "*" in text:
        raise ValueError(
            f"{text!r} is no value of the header Origin, such as https://lab.example:8443 for "
            "a page: it is ASCII, without space around it and without patterns; or "
            '"*" for all pages'
        )
    if text == "null":
        return "any page can call itself null, for example one in a sandboxed frame"
    if text.lower().startswith(("http:", "https:")) and _known(text) is None:
        return "it is compared as text: a page names a scheme, a host and perhaps a port only"
    return None


def _known(text: str) -> _Origin | None:
    try:
        return _read(text)
    except ValueError:
        return None


def _read(text: str) -> _Origin:
    if not (text.isascii() and _SHAPE.fullmatch(text)):
        raise ValueError("not an origin")
    parts = urlsplit(text)
    if not parts.hostname:
        raise ValueError("no host")
    return parts.scheme, parts.hostname, parts.port or _USUAL_PORTS.get(parts.scheme)
