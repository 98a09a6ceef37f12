"""Under which addresses and names others on the network reach this machine."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

import ifaddr

#: Of a network for documentation (RFC 5737): nothing is sent to it, but the system says from
#: which of its addresses it would be.
_SOMEWHERE = ("192.0.2.1", 9)
_LOOPBACK = "127.0.0.1"
#: Of a server that is to be reached under each address; a client can connect to neither.
_EVERYWHERE = ("0.0.0.0", "::")


def own_addresses() -> list[str]:
    """The IPv4 addresses of this machine that are no loopback, the most usual one first.

    IPv6 is left out: its addresses change by the day, for the privacy of who uses them.
    """
    usual = _usual_address()
    first = [] if usual is None else [usual]
    return list(dict.fromkeys([*first, *_of_adapters()]))


def own_address() -> str:
    """The address that others on the network likely reach; loopback where there is none."""
    return next(iter(own_addresses()), _LOOPBACK)


def is_everywhere(host: str) -> bool:
    """Whether who listens there is reached under every address of this machine."""
    return host in _EVERYWHERE


def reachable_url(url: str) -> str:
    """A URL that can be used, for one that is listened at."""
    parts = urlsplit(url)
    if not is_everywhere(parts.hostname or ""):
        return url
    return parts._replace(netloc=f"{own_address()}:{parts.port}").geturl()


def own_names() -> list[str]:
    """What this machine is called, also in its local network (mDNS)."""
    name = socket.gethostname().rstrip(".").lower()
    bare = name.partition(".")[0]
    return list(dict.fromkeys(each for each in (name, bare, f"{bare}.local") if bare))


def _usual_address() -> str | None:
    """What the system would send from, if it knows a way out at all."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect(_SOMEWHERE)
            found: str = probe.getsockname()[0]
    except OSError:
        return None
    return None if ipaddress.ip_address(found).is_loopback else found


def _of_adapters() -> Iterator[str]:
    for adapter in ifaddr.get_adapters():
        for each in adapter.ips:
            if isinstance(each.ip, str) and not ipaddress.ip_address(each.ip).is_loopback:
                yield each.ip
