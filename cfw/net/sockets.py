"""Listening on an address, alone or beside other processes."""

from __future__ import annotations

import errno
import sys
from contextlib import ExitStack

import trio

#: Connections that wait to be accepted, at most, in the kernel.
BACKLOG = 1024
#: Every address of this machine, IPv4 and IPv6 alike, on one socket.
EVERY_ADDRESS = "::"
#: How many free ports are tried until one is free at every address of a name.
_TRIES = 16


async def open_listeners(host: str, port: int, *, share: bool) -> list[trio.SocketListener]:
    """Listen on every address of a host, at one port.

    Args:
        host: a name or an address; `::` is every address of the machine, IPv4 included.
        port: TCP port; 0 picks a free one.
        share: let other processes of this user listen there too (SO_REUSEPORT); the kernel
            spreads the connections over them. Fails where a process listens that does not.

    Raises:
        OSError: an address cannot be listened on; none is then.
    """
    with ExitStack() as opened:
        sockets = await bind_sockets(host, port, share=share)
        for sock in sockets:
            opened.enter_context(sock)
        for sock in sockets:
            sock.listen(BACKLOG)
        opened.pop_all()
    return [trio.SocketListener(sock) for sock in sockets]


async def bind_sockets(host: str, port: int, *, share: bool) -> list[trio.socket.SocketType]:
    """Take every address of a host, at one port, without listening yet.

    Arguments and errors are those of `open_listeners`.
    """
    for left in reversed(range(_TRIES)):
        try:
            return await _bind_all(host, port, share=share)
        except OSError as exc:
            # What one address of a name had free may be taken at another.
            if port or not left or exc.errno != errno.EADDRINUSE:
                raise
    raise AssertionError("unreachable: the last try returns or raises")


async def _bind_all(host: str, port: int, *, share: bool) -> list[trio.socket.SocketType]:
    found = await trio.socket.getaddrinfo(
        host, port, type=trio.socket.SOCK_STREAM, flags=trio.socket.AI_PASSIVE
    )
    unknown: OSError | None = None
    with ExitStack() as opened:
        bound: list[trio.socket.SocketType] = []
        # Some files of hosts name an address twice.
        for family, kind, proto, _, address in dict.fromkeys(found):
            try:
                sock = opened.enter_context(trio.socket.socket(family, kind, proto))
            except OSError as exc:
                # A system without IPv6 has names with IPv6 addresses all the same.
                if exc.errno != errno.EAFNOSUPPORT:
                    raise
                unknown = exc
                continue
            _set_options(sock, is_every=address[0] == EVERY_ADDRESS, share=share)
            await sock.bind((address[0], port, *address[2:]))
            port = sock.getsockname()[1]
            bound.append(sock)
        if not bound and unknown is not None:
            raise unknown
        opened.pop_all()
    return bound


def _set_options(sock: trio.socket.SocketType, *, is_every: bool, share: bool) -> None:
    if sys.platform == "win32":
        # What SO_REUSEADDR is there takes the port from whoever has it.
        sock.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_EXCLUSIVEADDRUSE, 1)
    else:
        sock.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_REUSEADDR, 1)
    if share:
        sock.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_REUSEPORT, 1)
    if sock.family == trio.socket.AF_INET6:
        sock.setsockopt(trio.socket.IPPROTO_IPV6, trio.socket.IPV6_V6ONLY, not is_every)
