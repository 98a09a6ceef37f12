"""`/feed` over a real socket, read by a client that is not ours."""

from __future__ import annotations

import os
from contextlib import AbstractAsyncContextManager, suppress
from typing import Any

import pytest
import trio
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.trio.client import ClientConnection, connect

from cfw.admin import AdminServer
from cfw.admin._rounds import packed
from cfw.sinks.hub import (
    LOSSLESS_ITEMS,
    AskedSubscription,
    FeedItem,
    Hub,
    SubscriberTooSlow,
)
from cfw.state import Frame
from schemas import parse_feed, to_json
from tests.patience import PATIENCE_S, until
from tests.unit.admin.served import hub_app, served
from tests.unit.admin.test_serve import UPGRADE, dial, read_all, say
from tests.unit.sinks.items import abort, close, frame, opened, running
from tests.unit.wire.peer import frame as peer_frame
from tests.unit.wire.peer import ping, text


def feed(
    server: AdminServer, query: str = "", **options: Any
) -> AbstractAsyncContextManager[ClientConnection]:
    options = {"proxy": None, "max_size": None} | options
    return connect(f"ws://127.0.0.1:{server.port}/feed{query}", **options)


def wire(*items: FeedItem) -> list[str | bytes]:
    """What the feed sends for these items."""
    messages: list[str | bytes] = []
    for item in items:
        if isinstance(item, Frame):
            messages += [to_json(item.feed_message()), item.data]
        else:
            messages.append(to_json(item))
    return messages


async def read(client: ClientConnection, count: int) -> list[str | bytes]:
    with trio.fail_after(PATIENCE_S):
        return [await client.recv() for _ in range(count)]


async def read_to_close(client: ClientConnection) -> tuple[int, str, list[str | bytes]]:
    """All that still comes, and how the server closed."""
    messages: list[str | bytes] = []
    with trio.fail_after(PATIENCE_S), suppress(ConnectionClosed):
        while True:
            messages.append(await client.recv())
    assert client.close_code is not None
    assert client.close_reason is not None
    return client.close_code, client.close_reason, messages


@pytest.mark.parametrize("mode", ["", "?mode=lossless", "?mode=live"])
@pytest.mark.parametrize("terminal", [close(), abort()])
async def test_a_capture_arrives_byte_for_byte(mode: str, terminal: Any) -> None:
    """Opened, meta and JPEG of each frame, the terminal: the bytes and texts that went in."""
    hub = Hub()
    frames = [frame(seq, data=os.urandom(size)) for seq, size in enumerate((1, 126, 70_000), 1)]
    async with served(hub_app(hub)) as server, feed(server, mode) as client:
        await until(lambda: hub.subscribers)
        got = []
        async with hub.capture(opened()) as capture:
            got += await read(client, 1)
            for item in frames:
                await capture.send(item)
                got += await read(client, 2)
            await capture.finish(terminal)
        got += await read(client, 1)
    assert got == wire(opened(), *frames, terminal)
    assert [type(parse_feed(text)) for text in got if isinstance(text, str)]


async def test_lossless_gives_every_frame_of_a_burst_in_order() -> None:
    """Two readers, 200 frames sent as fast as they are taken."""
    hub = Hub()
    frames = [frame(seq, data=os.urandom(3_000)) for seq in range(1, 201)]
    got: list[list[str | bytes]] = [[], []]

    async def consume(server: AdminServer, into: list[str | bytes]) -> None:
        async with feed(server) as client:
            into += await read(client, 2 * len(frames) + 2)

    async with served(hub_app(hub)) as server, trio.open_nursery() as nursery:
        for into in got:
            nursery.start_soon(consume, server, into)
        await until(lambda: hub.subscribers == 2)
        async with running(hub) as capture:
            for item in frames:
                await capture.send(item)
    assert got == [wire(opened(), *frames, close())] * 2


ASKED = "?mode=live&frames=asked"


async def test_a_reader_that_asks_gets_what_it_asks_for() -> None:
    """A page that shows one capture of two: nothing of the other but beginning and end."""
    hub = Hub()
    async with served(hub_app(hub)) as server, feed(server, ASKED) as client:
        await until(lambda: hub.subscribers)
        (subscription,) = hub._subscriptions
        assert isinstance(subscription, AskedSubscription)
        async with hub.capture(opened("a")) as shown, hub.capture(opened("b")) as hidden:
            assert await read(client, 2) == wire(opened("a"), opened("b"))
            await client.send('{"ask": ["a"], "frames": 2, "every_s": 0.01}')
            await until(lambda: subscription.has_asked())
            jpegs = [frame(seq, "a", os.urandom(70_000)) for seq in (1, 2, 3)]
            for item in jpegs:
                await hidden.send(frame(item.meta.seq, "b"))
                await shown.send(item)
                if item is not jpegs[2]:  # only two were asked for
                    assert await read(client, 1) == [packed([item])]
            await hidden.finish(close("b"))
            await shown.finish(close("a"))
            assert await read(client, 2) == wire(close("b"), close("a"))


async def test_what_is_looked_at_comes_in_one_message() -> None:
    """Of each capture its newest frame, and the last one of a capture that ends."""
    hub = Hub()
    async with served(hub_app(hub)) as server, feed(server, ASKED) as client:
        await until(lambda: hub.subscribers)
        (subscription,) = hub._subscriptions
        assert isinstance(subscription, AskedSubscription)
        async with hub.capture(opened("a")) as first, hub.capture(opened("b")) as second:
            assert await read(client, 2) == wire(opened("a"), opened("b"))
            for seq in (1, 2, 3):
                await first.send(frame(seq, "a"))
                await second.send(frame(seq, "b"))
            await client.send('{"ask": ["a", "b"], "frames": 2, "every_s": 60}')
            assert await read(client, 1) == [packed([frame(3, "a"), frame(3, "b")])]
            assert subscription.has_asked()
            await first.send(frame(4, "a"))
            await first.finish(close("a"))
            assert await read(client, 2) == [packed([frame(4, "a")]), *wire(close("a"))]
            await second.finish(close("b"))


@pytest.mark.parametrize(
    "said",
    [
        "ask",
        '["a"]',
        '{"ask": "a"}',
        '{"ask": [1]}',
        "{}",
        '{"ask": [], "frames": 0}',
        b"\xff",
        "[" * 4_000,
    ],
    ids=["no JSON", "a list", "a text", "a number", "nothing", "no frames", "bytes", "deep"],
)
async def test_a_reader_that_says_anything_else_is_told_what_it_may(said: str | bytes) -> None:
    """Where it may say something; elsewhere it is not listened to."""
    hub = Hub()
    async with served(hub_app(hub)) as server:
        async with feed(server, ASKED) as client:
            await client.send(said)
            code, reason, _ = await read_to_close(client)
            assert (code, reason) == (
                1008,
                'say {"ask": ["CAPTURE_ID", ...]}, with "frames" from 1 to 1000 '
                'and "every_s" from 0.01 to 60',
            )
        async with feed(server, "?mode=live") as client:
            await client.send(said)
            await until(lambda: hub.subscribers == 1)
            async with hub.capture(opened()) as capture:
                await capture.send(frame(1))
                assert await read(client, 3) == wire(opened(), frame(1))
                await capture.finish(close())


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("?mode=live&frames=some", "frames must be one of all, asked"),
        ("?frames=asked", "frames=asked needs mode=live; lossless has every frame"),
    ],
)
async def test_which_frames_is_said_with_words_that_are_known(query: str, reason: str) -> None:
    """Anything else is closed with what may be said."""
    async with served(hub_app(Hub())) as server, feed(server, query) as client:
        assert await read_to_close(client) == (1008, reason, [])


async def test_capture_id_narrows_the_feed() -> None:
    """The other capture is not sent at all."""
    hub = Hub()
    async with served(hub_app(hub)) as server, feed(server, "?capture_id=b") as client:
        await until(lambda: hub.subscribers)
        for capture_id in "ab":
            async with running(hub, capture_id):
                pass
        hub.close()
        code, _, messages = await read_to_close(client)
    assert (code, messages) == (1001, wire(opened("b"), close("b")))


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("?mode=both", "mode must be one of lossless, live"),
        ("?mode=", "mode must be one of lossless, live"),
        ("?capture_id=", "capture_id: must be 1 to 128 of A-Z a-z 0-9 . _ : -, not ''"),
        ("?capture_id=a%20b", "capture_id: must be 1 to 128 of A-Z a-z 0-9 . _ : -, not 'a b'"),
        (
            "?capture_id=" + "%F0%9F%8E%A5" * 200,
            f"capture_id: must be 1 to 128 of A-Z a-z 0-9 . _ : -, not '{'?' * 36}...",
        ),
    ],
)
async def test_a_wrong_query_is_closed_with_what_is_allowed(query: str, reason: str) -> None:
    """The handshake succeeds, so that a browser can read the reason."""
    hub = Hub()
    async with served(hub_app(hub)) as server, feed(server, query) as client:
        assert await read_to_close(client) == (1008, reason, [])
        assert hub.subscribers == 0


async def test_without_a_hub_the_feed_says_so() -> None:
    """The sink is the operator's choice; the viewer is told what to look for."""
    async with served(hub_app(None)) as server, feed(server) as client:
        code, reason, _ = await read_to_close(client)
    assert (code, reason) == (1008, "this worker's sink is not hub:, so it has no feed")


async def test_who_has_the_handshake_misses_nothing() -> None:
    """The subscription is there before the client can know that it is connected."""
    hub = Hub()
    for _ in range(20):
        async with served(hub_app(hub)) as server, feed(server) as client:
            assert hub.subscribers == 1
            async with running(hub):
                pass
            assert await read(client, 2) == wire(opened(), close())
        await until(lambda: not hub.subscribers)


async def test_the_feed_ends_with_1001_when_the_hub_closes() -> None:
    """What was sent before still arrives, and the connection is gone soon after."""
    hub = Hub()
    async with served(hub_app(hub)) as server, feed(server) as client:
        await until(lambda: hub.subscribers)
        async with running(hub) as capture:
            await capture.send(frame(1))
        hub.close()
        code, reason, messages = await read_to_close(client)
        assert (code, reason) == (1001, "the worker is shutting down")
        assert messages == wire(opened(), frame(1), close())
        await until(lambda: not server.connections)


@pytest.mark.parametrize("mode", ["lossless", "live"])
async def test_a_reader_that_leaves_is_noticed_while_nothing_runs(mode: str) -> None:
    """With a close frame, or without one; neither leaves a subscription or a socket."""
    hub = Hub()
    async with served(hub_app(hub)) as server:
        async with feed(server, f"?mode={mode}"):
            await until(lambda: hub.subscribers)
        await until(lambda: not hub.subscribers and not server.connections)
        async with feed(server, f"?mode={mode}") as client:
            await until(lambda: hub.subscribers)
            await trio.aclose_forcefully(client.stream)
            await until(lambda: not hub.subscribers and not server.connections)


async def test_what_a_reader_sends_is_ignored() -> None:
    """Text, binary and pings; the feed goes on."""
    hub = Hub()
    async with served(hub_app(hub)) as server, feed(server) as client:
        await until(lambda: hub.subscribers)
        for message in ("hello", b"\0" * 4_096, "{}") * 20:
            await client.send(message)
        with trio.fail_after(PATIENCE_S):
            await (await client.ping()).wait()
        async with running(hub):
            pass
        assert await read(client, 2) == wire(opened(), close())


async def test_a_reader_that_sends_too_much_is_closed() -> None:
    """A message over the limit is not kept, and a flood behind it does not live on."""
    hub = Hub()
    async with served(hub_app(hub)) as server, feed(server) as client:
        await until(lambda: hub.subscribers)
        await client.send(b"\0" * 5_000)
        assert (await read_to_close(client))[0] == 1009
        await until(lambda: not hub.subscribers and not server.connections)


async def test_pages_of_another_origin_cannot_read_the_feed() -> None:
    """Browsers let any page open a socket to loopback; programs send no origin."""
    async with served(hub_app(Hub())) as server:
        for origin in ("http://evil.example", "null", "http://127.0.0.1:1"):
            with pytest.raises(InvalidStatus) as refused:
                async with feed(server, origin=origin):
                    pass
            assert refused.value.response.status_code == 403
        async with feed(server, origin=f"http://127.0.0.1:{server.port}"):
            pass


async def test_an_unknown_websocket_path_is_a_404() -> None:
    """As for plain requests."""
    async with served(hub_app(Hub())) as server:
        with pytest.raises(InvalidStatus) as refused:
            async with connect(f"ws://127.0.0.1:{server.port}/nosuch", proxy=None):
                pass
        assert refused.value.response.status_code == 404
        assert refused.value.response.body == b'{"error":"not found"}'


async def test_the_feed_is_not_compressed() -> None:
    """JPEG does not shrink, and the captures need the core."""
    async with (
        served(hub_app(Hub())) as server,
        feed(server, compression="deflate") as client,
    ):
        assert client.response is not None
        assert "sec-websocket-extensions" not in client.response.headers


async def test_a_stalled_reader_makes_captures_wait_and_they_resume() -> None:
    """Back-pressure reaches from TCP to the hub: fill, it stops; read on, it all came."""
    hub = Hub()
    data = os.urandom(250_000)
    total = 120  # 30 MB, more than the kernel buffers of both ends take
    sent = 0

    async def send() -> None:
        nonlocal sent
        async with running(hub) as capture:
            for seq in range(1, total + 1):
                await capture.send(frame(seq, data=data))
                sent = seq

    async with served(hub_app(hub)) as server, feed(server, max_queue=1) as client:
        await until(lambda: hub.subscribers)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            before = -1
            while before < sent:
                before = sent
                await trio.sleep(0.3)
            assert LOSSLESS_ITEMS < sent < total
            got = await read(client, 2 * total + 2)
    assert got[2::2] == [data] * total
    assert sent == total


async def test_a_reader_too_slow_for_lossless_is_told_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The hub let it go; it is closed with what to do."""
    hub = Hub()

    async def refuse(_: object) -> FeedItem:
        raise SubscriberTooSlow

    monkeypatch.setattr("cfw.sinks.hub.Subscription.__anext__", refuse)
    async with served(hub_app(hub)) as server, feed(server) as client:
        code, reason, _ = await read_to_close(client)
    assert (code, reason) == (1008, str(SubscriberTooSlow()))
    assert len(reason) <= 123


TALK: dict[str, tuple[bytes, int, bytes]] = {
    "pings": (ping(), 1008, b"over 20 frames within 0.2 s"),
    "pongs": (peer_frame(0x8A), 1008, b"over 20 frames within 0.2 s"),
    "empty messages": (text(""), 1008, b"over 20 frames within 0.2 s"),
    "empty fragments": (peer_frame(0x01) + peer_frame(0x00) * 5_000, 1002, b"fragments"),
}


@pytest.mark.parametrize("name", TALK)
async def test_a_reader_that_does_nothing_but_send_is_closed(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it sends is ignored, but it costs; it reads why."""
    monkeypatch.setattr("cfw.admin.feed.MAX_TALK_FRAMES", 20)
    monkeypatch.setattr("cfw.admin.feed.TALK_S", 0.2)
    data, code, said = TALK[name]
    hub = Hub()
    async with served(hub_app(hub)) as server, await dial(server, UPGRADE) as stream:
        await until(lambda: hub.subscribers)

        async def talk() -> None:
            with suppress(trio.BrokenResourceError):
                while True:
                    await stream.send_all(data)
                    await trio.lowlevel.checkpoint()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(talk)
            answer = await read_all(stream)
            nursery.cancel_scope.cancel()
        close = answer[answer.index(b"\x88", -127) :]
        assert int.from_bytes(close[2:4], "big") == code
        assert said in close
        await until(lambda: not hub.subscribers and not server.connections)


@pytest.mark.parametrize(("frames", "is_kept"), [(19, True), (20, True), (21, False)])
async def test_a_reader_may_say_so_much(
    frames: int, is_kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """n-1, n and n+1 frames within the time for which they are counted."""
    monkeypatch.setattr("cfw.admin.feed.MAX_TALK_FRAMES", 20)
    hub = Hub()
    async with served(hub_app(hub)) as server, feed(server) as client:
        await until(lambda: hub.subscribers)
        for _ in range(frames):
            await client.send("hello")
        if is_kept:
            async with running(hub):
                pass
            assert await read(client, 2) == wire(opened(), close())
        else:
            assert (await read_to_close(client))[0] == 1008


async def test_a_reader_that_answers_no_ping_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that is gone does not keep its place."""
    monkeypatch.setattr("cfw.admin.serve.PING_S", 0.1)
    monkeypatch.setattr("cfw.admin.serve.PONG_S", 0.2)
    hub = Hub()
    async with served(hub_app(hub)) as server:
        answer = await say(server, UPGRADE)
        assert b"\x89" in answer
        assert b"no pong came within 0.2 s" in answer
        await until(lambda: not hub.subscribers and not server.connections)
