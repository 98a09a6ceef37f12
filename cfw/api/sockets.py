"""Listening on an address, alone or beside other processes."""

from __future__ import annotations

from contextlib import ExitStack

import trio

#: Connections that wait to be accepted, at most, in the kernel.
BACKLOG = 1024


async def open_listeners(host: str, port: int, *, share: bool) -> list[trio.SocketListener]:
    """Listen on every address of a host.

    Args:
        host: a name or an address.
        port: TCP port; 0 picks a free one.
        share: let other processes of this user listen there too (SO_REUSEPORT); the kernel
            spreads the connections over them. Fails where a process listens that does not.

    Raises:
        OSError: an address cannot be listened on; none is then.
    """
    if not share:
        return await trio.open_tcp_listeners(port, host=host, backlog=BACKLOG)
    with ExitStack() as opened:
        listeners = []
        for family, kind, proto, _, address in await trio.socket.getaddrinfo(
            host, port, type=trio.socket.SOCK_STREAM, flags=trio.socket.AI_PASSIVE
        ):
            sock = opened.enter_context(trio.socket.socket(family, kind, proto))
            sock.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_REUSEADDR, 1)
            sock.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_REUSEPORT, 1)
            if family == trio.socket.AF_INET6:
                sock.setsockopt(trio.socket.IPPROTO_IPV6, trio.socket.IPV6_V6ONLY, 1)
            await sock.bind(address)
            sock.listen(BACKLOG)
            listeners.append(trio.SocketListener(sock))
        opened.pop_all()
    return listeners
