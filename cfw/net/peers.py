"""Who is at the other end of a connection, for a log and for whom it counts."""

from __future__ import annotations

import ipaddress
from typing import Any

import trio


def socket_of(stream: trio.abc.Stream) -> trio.socket.SocketType | None:
    """The socket under a connection, also under TLS; None for what has none."""
    inner = stream.transport_stream if isinstance(stream, trio.SSLStream) else stream
    return inner.socket if isinstance(inner, trio.SocketStream) else None


def address_of(stream: trio.abc.Stream) -> str | None:
    """Whom a connection counts for; None where there is no address, or no peer any more.

    An IPv4 address, also one that is written as IPv6; else the /64 network, which a single
    host usually has all of.
    """
    socket = socket_of(stream)
    if socket is None or socket.family not in (trio.socket.AF_INET, trio.socket.AF_INET6):
        return None
    try:
        host: str = socket.getpeername()[0]
    except OSError:
        return None
    return group_of(host)


def local_address(stream: trio.abc.Stream) -> tuple[str, int] | None:
    """The address and port that a peer has connected to; None where there is no address.

    An IPv4 address that is written as IPv6 comes as IPv4.
    """
    socket = socket_of(stream)
    if socket is None or socket.family not in (trio.socket.AF_INET, trio.socket.AF_INET6):
        return None
    try:
        host, port = socket.getsockname()[:2]
    except OSError:
        return None
    address = ipaddress.ip_address(host.partition("%")[0])
    return str(getattr(address, "ipv4_mapped", None) or address), port


def group_of(host: str) -> str:
    """The addresses that count as one peer, for an address as `getpeername` gives it."""
    address = ipaddress.ip_address(host.partition("%")[0])
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((address, 64), strict=False))


def describe_peer(transport: trio.abc.Stream) -> str:
    """Name the peer of a transport for a log: "host:port", else the transport's repr."""
    socket = socket_of(transport)
    if socket is None:
        return repr(transport)
    try:
        return address_text(socket.getpeername())
    except OSError:
        return "a peer that has left"


def address_text(name: tuple[Any, ...]) -> str:
    """A socket's address as a URL has it, `host:port`.

    IPv6 stands in brackets; an IPv4 address that is written as IPv6, as a socket for both has
    it, is shown as what it is.
    """
    host, port = name[:2]
    if ":" in host:
        mapped = ipaddress.IPv6Address(host.partition("%")[0]).ipv4_mapped
        host = f"[{host}]" if mapped is None else mapped
    return f"{host}:{port}"
