"""The Autobahn cases, and a client by other hands, over real loopback sockets."""

import asyncio
import contextlib
import queue
import threading
from collections.abc import Iterator

import pytest
import trio
from kosoku import run_fuzzingclient
from websockets.sync.client import connect

from cfw.wire import HandshakeRejected, PeerClosed, PeerGone, WebSocket, WireViolation, accept

pytestmark = pytest.mark.conformance

MAX_BYTES = 16 * 1024 * 1024

#: Cases that are conformant but not what Autobahn likes best, each with its reason.
NON_STRICT: dict[str, str] = {}

#: The families asked for: framing, pings, reserved bits and opcodes, fragments, UTF-8,
#: closing, limits, and odds and ends. 12 and 13 are compression, which is not offered.
FAMILIES = ["1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "10.*"]
#: Megabytes per case; what they measure is also measured by the benchmarks.
LARGE = ["9.*"]


async def echo(socket: WebSocket) -> None:
    """Send back every text; Autobahn's binary cases need their bytes back too."""
    try:
        while True:
            for message in await socket.receive_batch():
                # The worker sends no binary messages, so its connection has no way to.
                await socket._library.send_message(message)
    except PeerClosed as exc:
        await socket.close(exc.code or 1000, exc.reason, linger_s=1)
    except WireViolation as exc:
        await socket.close(exc.close_code, exc.detail, linger_s=1)
    except PeerGone:
        pass


async def handle(transport: trio.SocketStream) -> None:
    with contextlib.suppress(HandshakeRejected, PeerGone):
        async with accept(
            transport,
            path="/echo",
            max_text_bytes=MAX_BYTES,
            max_binary_bytes=MAX_BYTES,
            handshake_s=10,
            keepalive_s=20,
            keepalive_timeout_s=20,
            message_s=60,
        ) as socket:
            await echo(socket)


@pytest.fixture
def url() -> Iterator[str]:
    """Run an echo server in a thread of its own; the clients here are not Trio's."""
    started: queue.Queue[tuple[trio.lowlevel.TrioToken, trio.CancelScope, int]] = queue.Queue()

    async def main() -> None:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
                nursery.start_soon(trio.serve_listeners, handle, [listener])
                port = listener.socket.getsockname()[1]
                started.put((trio.lowlevel.current_trio_token(), scope, port))

    thread = threading.Thread(target=trio.run, args=(main,))
    thread.start()
    token, scope, port = started.get(timeout=10)
    yield f"ws://127.0.0.1:{port}/echo"
    token.run_sync_soon(scope.cancel)
    thread.join(timeout=10)
    assert not thread.is_alive()


def run_cases(url: str, cases: list[str]) -> None:
    """Run cases; a failure is raised by the runner itself, with the case's name."""
    # Not `asyncio.run`: its handler of Ctrl-C holds the task. Trio asks for the handler when a
    # run begins, Python then describes the task on the way, and the coroutine of this client
    # raises when it is described while it runs.
    with asyncio.Runner() as runner:
        loop = runner.get_loop()
        results = loop.run_until_complete(run_fuzzingclient(url, cases=cases, concurrency=4))
    assert results
    found = {}
    for result in results:
        verdicts = {result.behavior.value, result.behavior_close.value}
        assert verdicts <= {"OK", "NON-STRICT", "INFORMATIONAL"}, result
        if "NON-STRICT" in verdicts:
            found[result.case_id] = verdicts
    ran = {result.case_id for result in results}
    assert set(found) == set(NON_STRICT) & ran


def test_autobahn(url: str) -> None:
    """No case fails, and the table above names all that are not strict."""
    run_cases(url, FAMILIES)


@pytest.mark.slow
def test_autobahn_large(url: str) -> None:
    """No case of messages up to 16 MiB fails."""
    run_cases(url, LARGE)


def test_a_foreign_client(url: str) -> None:
    """The websockets library, offering compression, sees an ordinary server."""
    with connect(url, max_size=None) as client:
        messages: list[str | bytes] = ["", "€" * 50_000, b"", bytes(300_000)]
        for message in messages:
            client.send(message)
            assert client.recv(timeout=10) == message
        client.send(["frag", "men", "ts"])
        assert client.recv(timeout=10) == "fragments"
        assert client.ping().wait(timeout=10)
        client.close(1001, "done €")
    assert client.close_code == 1001
    assert client.close_reason == "done €"
