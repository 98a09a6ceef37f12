"""Taking connections: a loop that no error stops, and whom a connection counts for.

`trio.serve_listeners` logs ten tracebacks a second while descriptors are used up, and ends the
server on an error that it does not know.
"""

from __future__ import annotations

import errno
import ipaddress
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NoReturn

import structlog
import trio

#: How long to wait after an accept that failed; what is freed is used this soon.
RETRY_S = 0.05
#: The same complaint is logged this often at most.
COMPLAIN_EVERY_S = 1.0
#: Descriptors that connections leave to the rest of the process: to sinks, to the session
#: authority, to the admin listener. Never more than this part of what there are.
RESERVE = 64
_RESERVED_PART = 4

_log: structlog.stdlib.BoundLogger = structlog.get_logger("cfw.server")

Handler = Callable[[trio.abc.Stream], Awaitable[object]]


class Throttle:
    """Keeps a flood of events from being a flood of log lines.

    The first is written at once; those within `COMPLAIN_EVERY_S` are counted, for the next
    line to tell.
    """

    def __init__(self) -> None:
        self._silent_until = float("-inf")
        self._unwritten = 0

    def unwritten(self) -> int | None:
        """How many events to tell of beside this one; None when it is not to be written."""
        now = trio.current_time()
        if now < self._silent_until:
            self._unwritten += 1
            return None
        self._silent_until = now + COMPLAIN_EVERY_S
        unwritten, self._unwritten = self._unwritten, 0
        return unwritten


async def serve_listeners(
    handler: Handler,
    listeners: Sequence[trio.abc.Listener[Any]],
    *,
    connections: trio.Nursery,
    shed: Handler,
    reserve: int = RESERVE,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> NoReturn:
    """Accept connections and start a task for each; never returns.

    No error of accepting ends it: what is short is waited for, `RETRY_S` at a time.

    Args:
        handler: serves one connection, whose stream is closed behind it; what it raises is
            logged.
        listeners: closed on the way out.
        connections: where handlers run.
        shed: called instead of `handler` when all but `reserve` descriptors are taken; must
            let go of the connection at once.
        reserve: descriptors left to the rest of the process.
        task_status: told when connections are taken.

    Cancellation: no connection that was accepted is lost; its handler runs.
    """
    # The kernel gives the lowest number that is free: one up here tells that all below are
    # taken, by whomever.
    scarce_from = descriptor_limit() - min(reserve, descriptor_limit() // _RESERVED_PART)
    throttle = Throttle()

    async def run(serve: Handler, stream: trio.abc.Stream) -> None:
        try:
            await serve(stream)
        except Exception:
            # The last net: a bug in one connection's handler reaches no other.
            _log.exception("connection.failed")
        finally:
            await trio.aclose_forcefully(stream)

    async def accept(listener: trio.abc.Listener[trio.abc.Stream]) -> None:
        async with listener:
            while True:
                try:
                    stream = await listener.accept()
                except OSError as exc:
                    if (unwritten := throttle.unwritten()) is not None:
                        name = errno.errorcode.get(exc.errno or 0, "?")
                        problem = f"{name}: {exc.strerror or exc}"
                        _log.error("server.accept_failed", error=problem, unwritten=unwritten)
                    await trio.sleep(RETRY_S)
                    continue
                socket = socket_of(stream)
                is_scarce = socket is not None and socket.fileno() >= scarce_from
                connections.start_soon(run, shed if is_scarce else handler, stream)

    async with trio.open_nursery() as nursery:
        for listener in listeners:
            nursery.start_soon(accept, listener)
        task_status.started()
    raise AssertionError("unreachable: the loops do not return")


def descriptor_limit() -> int:
    """How many descriptors this process may have open; a number out of reach if any."""
    if sys.platform == "win32":
        return sys.maxsize
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if soft == resource.RLIM_INFINITY else soft


def raise_descriptor_limit(wanted: int) -> int:
    """Ask the system for so many descriptors; answers how many there may be.

    Args:
        wanted: nothing is changed when there are as many already.
    """
    if descriptor_limit() >= wanted or sys.platform == "win32":
        return descriptor_limit()
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return soft


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
