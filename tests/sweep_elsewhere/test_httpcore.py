"""httpcore: a connection is lost when the request is cancelled in the handshake of TLS."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
import trio

from cfw.testing.sweep import SweepFailure, World, run_sweep, stream_pair
from tests.sweep_elsewhere import check_found, need

need("httpcore")
import httpcore
from httpcore._backends.trio import TrioStream

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class _Stream(TrioStream):
    """The stream that httpcore has for Trio, on what has no socket to be asked."""

    def get_extra_info(self, info: str) -> Any:
        return False if info == "is_readable" else None


class _Backend(httpcore.AsyncNetworkBackend):
    """Connects to a peer in memory."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.connected = trio.Event()
        self.peers: list[trio.abc.Stream] = []

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        await trio.sleep(0.1)
        ours, theirs = stream_pair()
        self.peers.append(theirs)
        self.connected.set()
        self._world.track(f"connection {len(self.peers)} is closed", ours)
        return _Stream(ours)

    async def sleep(self, seconds: float) -> None:
        await trio.sleep(seconds)


async def _ask(world: World, url: str, backend: _Backend) -> None:
    timeouts = {"timeout": {"connect": 5.0}}
    async with httpcore.AsyncConnectionPool(network_backend=backend) as pool:
        with trio.CancelScope() as scope, world.expose("request", scope):
            await pool.request("GET", url, extensions=timeouts)


async def silent_in_the_handshake(world: World) -> None:
    """The server never says hello."""
    await _ask(world, "https://host/", _Backend(world))


async def plain(world: World) -> None:
    """The server answers in its time."""
    backend = _Backend(world)

    async def serve() -> None:
        await backend.connected.wait()
        (peer,) = backend.peers
        async with peer:
            await peer.receive_some()
            for number in range(len(ANSWER)):
                await peer.send_all(ANSWER[number : number + 1])
                await trio.sleep(0.01)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        await _ask(world, "http://host/", backend)
        nursery.cancel_scope.cancel()


def test_a_request_that_is_cancelled_in_the_handshake_leaks_its_connection() -> None:
    """`start_tls` closes the stream for any `Exception`; a `Cancelled` is none."""
    settings = {"schedules": ["fifo"], "allow": [httpcore.ConnectTimeout]}
    with pytest.raises(SweepFailure) as caught:
        run_sweep(silent_in_the_handshake, at="request", **settings)  # type: ignore[arg-type]
    check_found(caught.value, "connection 1 is closed", "TrioStream.start_tls")


def test_plain_requests_are_clean() -> None:
    """Whenever one is cancelled, its connection is closed."""
    assert run_sweep(plain, at="request").complete
