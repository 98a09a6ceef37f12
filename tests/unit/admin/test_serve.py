"""The admin listener ends when it has to, whatever its peers do."""

from __future__ import annotations

import os
import re
import socket
from contextlib import suppress
from functools import partial

import pytest
import trio
from structlog.testing import capture_logs
from websockets.trio.client import connect

from cfw.admin import AdminServer, serve_admin
from cfw.sinks.hub import Hub
from tests.patience import PATIENCE_S, until
from tests.planted import Change, planted
from tests.unit.admin.served import hub_app, served
from tests.unit.sinks.items import frame, opened, running

UPGRADE = (
    b"GET /feed HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
#: Nothing of it may leave the process.
A_BUG = 'raise LookupError("a private detail")'


async def dial(server: AdminServer, data: bytes = b"") -> trio.SocketStream:
    stream = await trio.open_tcp_stream("127.0.0.1", server.port)
    await stream.send_all(data)
    return stream


async def stall(hub: Hub, server: AdminServer) -> trio.SocketStream:
    """A subscriber that never reads, with more on its way than the kernel takes."""
    stream = await dial(server, UPGRADE)
    await until(lambda: hub.subscribers)
    data = os.urandom(250_000)
    async with hub.capture(opened()) as capture:
        with trio.move_on_after(1) as waited:
            for seq in range(1, 1_000):
                await capture.send(frame(seq, data=data))
    assert waited.cancelled_caught, "the reader's back-pressure did not arrive"
    return stream


async def test_stopping_is_bounded_by_the_grace_though_a_reader_never_reads() -> None:
    """Whatever is being sent to it."""
    hub = Hub()
    async with served(hub_app(hub), grace_s=0.2) as server:
        stream = await stall(hub, server)
        hub.close()
        server.stop()
        await until(lambda: not server.connections)
        assert hub.subscribers == 0
    await trio.aclose_forcefully(stream)


async def test_cancelling_is_not_held_up_by_a_reader_that_never_reads() -> None:
    """No grace at all: the scope ends at once."""
    hub = Hub()
    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            server = await nursery.start(partial(serve_admin, hub_app(hub), grace_s=1e6))
            stream = await stall(hub, server)
            nursery.cancel_scope.cancel()
    assert hub.subscribers == 0
    await trio.aclose_forcefully(stream)


async def test_a_send_that_stalls_for_too_long_cuts_the_connection() -> None:
    """A dead reader is not kept for the life of its TCP connection."""
    hub = Hub()
    async with served(hub_app(hub), send_stall_s=0.3) as server:
        stream = await dial(server, UPGRADE)
        await until(lambda: hub.subscribers)
        async with hub.capture(opened()) as capture:
            for seq in range(1, 120):
                await capture.send(frame(seq, data=bytes(250_000)))
        await until(lambda: not server.connections)
        assert hub.subscribers == 0
    await trio.aclose_forcefully(stream)


async def test_stopping_ends_idle_connections_at_once() -> None:
    """A kept-alive connection, and one that has sent half a request."""
    async with served(hub_app(None), grace_s=1e6, handshake_s=1e6) as server:
        streams = [await dial(server), await dial(server, b"GET /healthz HT")]
        await until(lambda: server.connections == 2)
        server.stop()
        with trio.fail_after(PATIENCE_S):
            assert [await stream.receive_some() for stream in streams] == [b"", b""]
        for stream in streams:
            await stream.aclose()


async def test_stopping_closes_the_socket_first() -> None:
    """No new connection is taken while the last ones end."""
    async with served(hub_app(Hub()), grace_s=1e6) as server:
        url = f"ws://127.0.0.1:{server.port}/feed"
        async with connect(url, proxy=None):
            server.stop()
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(OSError, match="all attempts to connect"):
                await dial(server)


async def test_it_says_where_it_listens() -> None:
    """Port 0 is the system's choice; a taken one is refused by name."""
    async with served(hub_app(None)) as server:
        assert server.addresses == (("127.0.0.1", server.port),)
        assert server.port > 0
        with pytest.raises(OSError, match="in use"):
            await serve_admin(hub_app(None), port=server.port)


async def read_all(stream: trio.SocketStream) -> bytes:
    """What comes until the end; a reset is an end, too."""
    data = b""
    with trio.fail_after(PATIENCE_S), suppress(trio.BrokenResourceError):
        async for chunk in stream:
            data += chunk
    return data


async def say(server: AdminServer, data: bytes) -> bytes:
    """All that a connection has to say to these bytes, until it is ended."""
    async with await dial(server, data) as stream:
        return await read_all(stream)


async def ask(stream: trio.SocketStream) -> bytes:
    """Ask for the health, and read the whole answer."""
    await stream.send_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    answer = b""
    while not answer.endswith(b"}"):
        data = await stream.receive_some()
        assert data, answer
        answer += data
    return answer


async def test_one_connection_more_ends_the_quietest() -> None:
    """The one that was told nothing for longest is closed; the newest is answered."""
    async with served(hub_app(None), max_connections=2) as server:
        first, second = await dial(server), await dial(server)
        await until(lambda: server.connections == 2)
        with trio.fail_after(PATIENCE_S):
            assert (await ask(first)).startswith(b"HTTP/1.1 200")
            third = await dial(server)
            assert (await ask(third)).startswith(b"HTTP/1.1 200")
            assert await second.receive_some() == b""  # accepted later, and told nothing
            assert (await ask(first)).startswith(b"HTTP/1.1 200")
        assert server.connections == 2
        for stream in (first, second, third):
            await stream.aclose()


async def test_feeds_are_not_ended_for_others() -> None:
    """With nothing but feeds, the newcomer is refused: it reads why, and so does the log."""
    hub = Hub()
    async with served(hub_app(hub), max_connections=2) as server:
        feeds = [await dial(server, UPGRADE) for _ in range(2)]
        with trio.fail_after(PATIENCE_S):
            for feed in feeds:
                assert (await feed.receive_some()).startswith(b"HTTP/1.1 101")
            with capture_logs() as logs:
                newcomer = await dial(server)
                answer = await read_all(newcomer)
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"max_connections (2), all of them feeds or streams" in answer
        assert [line["event"] for line in logs] == ["admin.refused"]
        assert server.connections == 2
        hub.close()
        for stream in (*feeds, newcomer):
            await stream.aclose()


@pytest.mark.parametrize(
    ("data", "more", "said"),
    [
        (UPGRADE, b"\x82\x01a", b"not masked"),
        (UPGRADE, b"\xff\xff\xff\xff", b"a reserved bit is set"),
        (UPGRADE + b"\x82\x01a", b"", b"not masked"),  # before the handshake is answered
        (b"\x16\x03\x01\x02\x00garbage\r\n\r\n", b"", b"not an HTTP/1.1 request"),
        (b"GET / HTTP/1.1\r\n\r\n", b"", b"Host"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(100), b"", b"not an HTTP/1.1 request"),
    ],
)
async def test_garbage_ends_its_connection_only(data: bytes, more: bytes, said: bytes) -> None:
    """A hostile peer reads why; it neither stops the listener nor fills the log."""
    hub = Hub()
    async with served(hub_app(hub)) as server:
        answer = b""
        with capture_logs() as logs, trio.fail_after(PATIENCE_S):
            async with await dial(server, data) as stream:
                if more:
                    answer += await stream.receive_some()
                    await stream.send_all(more)
                answer += await read_all(stream)
            await until(lambda: not server.connections)
        assert said in answer
        assert logs == []
        async with connect(f"ws://127.0.0.1:{server.port}/feed", proxy=None) as client:
            await until(lambda: hub.subscribers)
            async with running(hub):
                pass
            await client.recv()


H2C = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n"
HEALTH = b"GET /healthz HTTP/1.1\r\nHost: x\r\n"
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9)


@pytest.mark.parametrize(
    ("data", "answered"),
    [
        (HEALTH + H2C, [b"200"]),
        (HEALTH + b"\r\n" + HEALTH + H2C, [b"200", b"200"]),
        (PREFACE, [b"400"]),
    ],
)
async def test_nothing_but_http_1_is_spoken(data: bytes, answered: list[bytes]) -> None:
    """A proxy in front knows what passes through it, and a connection is one request."""
    async with served(hub_app(None)) as server:
        answer = await say(server, data + HEALTH + b"Connection: close\r\n\r\n")
    statuses = re.findall(rb"HTTP/1\.1 (\d+)", answer)
    assert statuses == (answered if data == PREFACE else [*answered, b"200"])


async def test_no_way_of_asking_for_compression_gets_it() -> None:
    """In parts, or behind another request on the same connection."""
    offer = b"Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
    whole = UPGRADE[:-2] + offer
    async with served(hub_app(Hub())) as server:
        for parts in ([whole[:-20], whole[-20:]], [HEALTH + b"\r\n", whole]):
            stream, answer = await dial(server), b""
            with trio.fail_after(PATIENCE_S):
                for part in parts:
                    await stream.send_all(part)
                    await trio.sleep(0.1)
                while b"HTTP/1.1 101" not in answer:
                    answer += await stream.receive_some()
            await stream.aclose()
            assert b"permessage-deflate" not in answer


async def test_a_request_of_two_lengths_hides_no_other() -> None:
    """What may be a body to a proxy is no request here."""
    data = b"POST /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n"
    data += b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + HEALTH + b"\r\n"
    async with served(hub_app(None)) as server:
        answer = await say(server, data)
    assert re.findall(rb"HTTP/1\.1 (\d+)", answer) == [b"400"]


@pytest.mark.parametrize(
    ("name", "status"),
    [(b"Protocol", b"101"), (b"Extensions", b"101"), (b"Key", b"400"), (b"Version", b"426")],
)
async def test_bytes_above_ascii_in_an_upgrade_are_answered(name: bytes, status: bytes) -> None:
    """Refused in what is read and nowhere else, without a traceback in the log."""
    head = UPGRADE[:-2] + b"Sec-WebSocket-" + name + b": \xff\xfe\r\n\r\n"
    async with served(hub_app(Hub())) as server:
        with capture_logs() as logs, trio.fail_after(PATIENCE_S):
            stream = await dial(server, head)
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 " + status)
            if status != b"101":
                assert await stream.receive_some() == b""
            await stream.aclose()
            await until(lambda: not server.connections)
        assert logs == []


async def test_a_bug_below_the_application_ends_its_connection_only() -> None:
    """Each connection is its own failure boundary: one error line, no crash."""
    broken = Change("cfw/http/http1.py", "return await self._read_request()", A_BUG)
    async with served(hub_app(None)) as server:
        with planted(broken), capture_logs() as logs:
            stream = await dial(server)
            with trio.fail_after(PATIENCE_S):
                assert await stream.receive_some() == b""
            await stream.aclose()
        assert [(line["event"], line["log_level"]) for line in logs] == [
            ("admin.connection_failed", "error")
        ]
        stream = await dial(server, b"GET /healthz HTTP/1.0\r\n\r\n")
        with trio.fail_after(PATIENCE_S):
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 200")
        await stream.aclose()


async def test_a_feed_behind_a_bug_is_closed_with_1011() -> None:
    """The reader learns that it was not its fault, and nothing else."""
    send = "async for item in items:"
    broken = Change("cfw/admin/feed.py", send, f"{A_BUG}\n{send}")
    async with served(hub_app(Hub())) as server:
        with planted(broken), capture_logs() as logs:
            answer = await say(server, UPGRADE)
    assert answer.endswith(b"\r\n\r\n" + b"\x88\x02" + (1011).to_bytes(2, "big"))
    assert [line["event"] for line in logs] == ["admin.failed"]


async def test_a_refused_flood_is_cut() -> None:
    """What follows a message that is too long is not kept, and not read for ever."""
    hub = Hub()
    async with served(hub_app(hub)) as server, await dial(server, UPGRADE) as stream:
        await until(lambda: hub.subscribers)
        # One masked binary message of 1 GB, of which 1 MB is sent and the rest never ends.
        await stream.send_all(b"\x82\xff" + (10**9).to_bytes(8, "big") + bytes(4))
        with suppress(trio.BrokenResourceError):
            for _ in range(16):
                await stream.send_all(bytes(65_536))
        await until(lambda: not hub.subscribers and not server.connections)


async def test_a_reset_connection_leaves_nothing() -> None:
    """The hardest way to leave: RST in mid-feed."""
    hub = Hub()
    async with served(hub_app(hub)) as server:
        stream = await dial(server, UPGRADE)
        await until(lambda: hub.subscribers)
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        await trio.aclose_forcefully(stream)
        await until(lambda: not hub.subscribers and not server.connections)
