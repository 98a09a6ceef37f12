"""hypercorn: a server that is cancelled does not close its connections (hypercorn#106)."""

from __future__ import annotations

import socket
from typing import Any

import pytest
import trio

from cfw.testing.sweep import SweepFailure, World, run_sweep, stream_pair
from tests.sweep_elsewhere import check_found, need

need("hypercorn")
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext


class _Socket:
    """What the server asks of the socket below a stream."""

    family = socket.AF_INET

    def getsockname(self) -> tuple[str, int]:
        return "127.0.0.1", 80

    def getpeername(self) -> tuple[str, int]:
        return "127.0.0.1", 1024


async def _app(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await trio.sleep(1)
    headers = [(b"content-length", b"2")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"ok"})


async def one_request(world: World) -> None:
    """A client asks once, and reads until the server has closed."""
    ours: Any
    theirs, ours = stream_pair()
    ours.socket = _Socket()
    world.track("the connection is closed", ours)
    server = TCPServer(ASGIWrapper(_app), Config(), WorkerContext(None), {}, ours)

    async with trio.open_nursery() as nursery:
        with trio.CancelScope() as scope, world.expose("server", scope):
            nursery.start_soon(_ask, theirs)
            await server.run()


async def _ask(stream: trio.abc.HalfCloseableStream) -> None:
    await stream.send_all(b"GET / HTTP/1.1\r\nhost: host\r\nconnection: close\r\n\r\n")
    async for _ in stream:
        pass


def test_a_server_that_is_cancelled_leaves_its_client_waiting() -> None:
    """`send_eof` is a checkpoint: it raises, and `aclose` after it is never called."""
    with pytest.raises(SweepFailure) as caught:
        run_sweep(one_request, at="server", schedules=["fifo"])
    check_found(caught.value, "finished", "'server' fired", "_ask (")
