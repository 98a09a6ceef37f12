"""Taking connections: a loop that no error stops.

`trio.serve_listeners` logs ten tracebacks a second while descriptors are used up, and ends the
server on an error that it does not know.
"""

from __future__ import annotations

import errno
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NoReturn

import structlog
import trio

from cfw.net.descriptors import RESERVE, RESERVED_PART, descriptor_limit
from cfw.net.peers import socket_of
from cfw.net.throttle import Throttle

#: How long to wait after an accept that failed; what is freed is used this soon.
RETRY_S = 0.05

_log: structlog.stdlib.BoundLogger = structlog.get_logger("cfw.server")

Handler = Callable[[trio.abc.Stream], Awaitable[object]]


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
    scarce_from = descriptor_limit() - min(reserve, descriptor_limit() // RESERVED_PART)
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
