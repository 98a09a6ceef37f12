"""The opening handshake: who gets a connection, and what the others are told."""

import pytest
import trio
from trio.testing import MockClock

from cfw.net import describe_peer
from cfw.wire import (
    AskedElsewhere,
    HandshakeReject,
    HandshakeRejected,
    Judge,
    PeerGone,
    Request,
    RequestBytes,
)
from tests.unit.wire.peer import PATH, REQUEST, SETTINGS, Peer, pair, serve, text


async def refused(request: bytes, **changes: object) -> tuple[HandshakeRejected, int, str]:
    """Send `request` to a server; return its error and the answer the peer read."""
    transport, peer = pair()
    errors: list[HandshakeRejected] = []

    async def server() -> None:
        with pytest.raises(HandshakeRejected) as caught:
            async with serve(transport, **changes):
                raise AssertionError("a connection was opened")
        errors.append(caught.value)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(server)
        await peer.send(request)
        status, body = await peer.read_answer()
        await peer.stream.aclose()
    assert errors[0].status == status
    return errors[0], status, body


def changed(old: bytes, new: bytes) -> bytes:
    assert old in REQUEST
    return REQUEST.replace(old, new)


@pytest.mark.parametrize(
    ("request_bytes", "status", "words"),
    [
        (changed(b"/capture", b"/captures"), 404, PATH),
        (changed(b"/capture", b"/captur\xc3\xa9"), 404, PATH),
        (changed(b"GET /camera", b"GET //camera"), 404, PATH),
        (changed(PATH.encode(), b"/"), 404, PATH),
        (changed(PATH.encode(), b"*"), 404, PATH),
        (b"GET / HTTP/1.1\r\n\r\n", 404, PATH),
        (b"GET / HTTP/1.0\r\n\r\n", 404, PATH),
        (changed(PATH.encode(), b"http://worker"), 404, PATH),
        (changed(PATH.encode(), b"http://worker?" + PATH.encode()), 404, PATH),
        (b"\r\n" + REQUEST, 400, "not an HTTP/1.1 request"),
        (b"\n\n", 400, "not an HTTP/1.1 request"),
        (b"hello\r\n\r\n", 400, "not an HTTP/1.1 request"),
        (b"hello\r\n", 400, "not an HTTP/1.1 request"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\xa0", 400, "not an HTTP/1.1 request"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "not an HTTP/1.1 request"),
        (changed(b"HTTP/1.1", b"HTTP/2"), 400, "not an HTTP/1.1 request"),
        (changed(b"HTTP/1.1", b"HTTP/1.0"), 426, "needs HTTP/1.1"),
        (b"GET " + b"a" * 20_000, 431, "16384"),
        (changed(b"worker", b"w" * 16_384), 431, "16384"),
        (changed(b"Host", b"a:\n" * 122 + b"Host"), 431, "128 lines"),
        (f"GET {PATH} HTTP/1.1\r\nHost: worker\r\n\r\n".encode(), 426, "WebSocket client"),
        (changed(b"Upgrade: websocket\r\n", b""), 426, "Upgrade does not say websocket"),
        (changed(b"Upgrade: websocket", b"Upgrade: websockets"), 426, "Upgrade does not say"),
        (changed(b"Connection: Upgrade\r\n", b""), 426, "Connection does not say upgrade"),
        (changed(b"Connection: Upgrade", b"Connection: close"), 426, "Connection does not say"),
        (changed(b"GET", b"POST"), 400, "GET"),
        (changed(b"GET", b"get"), 400, "GET"),
        (changed(b"Host: worker\r\n", b""), 400, "one header Host"),
        (changed(b"Host", b"Host: a\r\nHost"), 400, "one header Host"),
        (changed(b"Version: 13", b"Version: 8"), 426, "13"),
        (changed(b"Version: 13", b"Version: 13, 8"), 426, "13"),
        (changed(b"Sec-WebSocket-Version: 13\r\n", b""), 426, "13"),
        (changed(b"Sec-WebSocket-Key", b"X-Key"), 400, "Sec-WebSocket-Key"),
        (changed(b"dGhl", b"dG hl"), 400, "Sec-WebSocket-Key"),
        (changed(b"dGhl", b"dG\xe9hl"), 400, "Sec-WebSocket-Key"),
        (changed(b"Sec-WebSocket-V", b"Sec-WebSocket-Key: a\r\nSec-WebSocket-V"), 400, "one"),
        (changed(b"\r\nHost", b"\r\n Host"), 400, "line 2 is no"),
        (changed(b"Host: worker", b"Host worker"), 400, "line 2 is no"),
        (changed(b"Host: worker", b"Host : worker"), 400, "line 2 is no"),
        (changed(b"Host", b"H\xf6st"), 400, "line 2 is no"),
        (changed(b"Host: worker", b"Host: w\r\nCookie: a\x00b"), 400, "line 3 holds"),
        (
            changed(b"Host: worker", b"Host: w\r\nCookie: a\rX: b"),
            400,
            "line 3 holds a control",
        ),
        (changed(b"Host", b"Content-Length: 5\r\nHost"), 400, "no body"),
        (changed(b"Host", b"Transfer-Encoding: chunked\r\nHost"), 400, "no body"),
        (changed(b"Host", b"Content-Length: x\r\nHost"), 400, "its length"),
    ],
)
async def test_refused(
    request_bytes: bytes, status: int, words: str, autojump_clock: MockClock
) -> None:
    """A request that cannot become a connection gets its HTTP status, and a reason."""
    error, got, body = await refused(request_bytes)
    assert got == status
    assert words in body
    assert body.endswith("\n")
    assert words in error.detail
    assert trio.current_time() == 0


async def test_at_capacity(autojump_clock: MockClock) -> None:
    """A refusal decided before is the answer to a request that is otherwise good."""

    async def full(_: Request) -> HandshakeReject:
        return HandshakeReject(503, "1000 connections are open")

    error, status, body = await refused(REQUEST, judge=full)
    assert (status, body) == (503, "1000 connections are open\n")
    assert error.detail == "1000 connections are open"


async def test_a_judge_sees_the_request_and_has_the_last_word() -> None:
    """Of a request for this path; its answer goes out with its own headers."""
    seen: list[Request] = []

    async def judge(request: Request) -> HandshakeReject:
        seen.append(request)
        return HandshakeReject(401, "who are you?", (("WWW-Authenticate", "Bearer"),))

    transport, peer = pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rejected, transport, judge)
        await peer.send(changed(b"Host", b"oRiGiN:  http://a \r\nHost"))
        head = await peer.read_until(b"\r\n\r\n")
        await peer.stream.aclose()
    assert head.startswith(b"HTTP/1.1 401 Unauthorized\r\n")
    assert b"\r\nWWW-Authenticate: Bearer\r\n" in head
    (asked,) = seen
    assert asked.headers[:2] == (("origin", "http://a"), ("host", "worker"))
    assert (asked.method, asked.path, asked.host) == ("GET", PATH, "worker")
    await refused(changed(PATH.encode(), b"/"), judge=judge)
    assert len(seen) == 1


async def test_a_judge_has_the_time_of_the_handshake(autojump_clock: None) -> None:
    """Whoever it asks in turn."""

    async def judge(_: Request) -> HandshakeReject:
        await trio.sleep_forever()
        raise AssertionError

    started = trio.current_time()
    error, status, _ = await refused(REQUEST, judge=judge)
    assert (status, error.status) == (408, 408)
    assert trio.current_time() - started <= SETTINGS["handshake_s"]


async def test_who_asks_for_another_path_is_served_elsewhere() -> None:
    """With all that was read, for as long as it takes; the transport is closed behind it."""
    elsewhere: list[tuple[bytes, bytes]] = []

    async def serve_page(transport: trio.abc.Stream, begun: RequestBytes) -> None:
        elsewhere.append((begun.head, begun.rest))
        await transport.send_all(b"a page")

    transport, peer = pair()

    async def asked() -> None:
        with pytest.raises(AskedElsewhere):
            async with serve(transport, elsewhere=serve_page):
                raise AssertionError("there is no WebSocket")

    head = changed(PATH.encode(), b"/page")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(asked)
        await peer.send(head, b"more")
        assert await peer.read_rest() == b"a page"
    assert elsewhere == [(head, b"more")]


async def rejected(transport: trio.abc.Stream, judge: Judge) -> None:
    with pytest.raises(HandshakeRejected):
        async with serve(transport, judge=judge):
            raise AssertionError("a connection was opened")


async def test_a_head_that_cannot_be_read_is_never_judged() -> None:
    """Headers that two readers may take for different things are refused."""

    def judge(_: Request) -> None:
        raise AssertionError("it was judged")

    for old, new in ((b"\r\nHost", b"\r\n Host"), (b"Host: worker", b"Host : worker")):
        _, status, body = await refused(changed(old, new), judge=judge)
        assert status == 400
        assert body.startswith("the request head cannot be read: line 2 ")


@pytest.mark.parametrize(
    ("offer", "selected"),
    [(b"", b""), (b"ours", b"ours"), (b"x, ours, y", b"ours"), (b"x", b""), (b"OURS", b"")],
)
async def test_one_subprotocol_is_selected_if_it_is_offered(
    offer: bytes, selected: bytes
) -> None:
    """And nothing else that was offered is said."""
    transport, peer = pair()
    offered = b"Sec-WebSocket-Protocol: " + offer + b"\r\nHost"
    await peer.send(changed(b"Host", offered) if offer else REQUEST)
    async with serve(transport, subprotocol="ours"):
        head = (await peer.read_until(b"\r\n\r\n")).lower()
    name, _, value = head.partition(b"sec-websocket-protocol: ")
    assert value.partition(b"\r\n")[0] == selected, name


@pytest.mark.parametrize("query", [b"", b"?token=x", b"?a=/other", "?name=José".encode()])
async def test_accepted(query: bytes) -> None:
    """The path is judged without its query."""
    await let_in(changed(PATH.encode(), PATH.encode() + query))


async def let_in(request: bytes, **changes: object) -> str:
    """Send a request that must be let in, and a message; gives the answer's head."""
    transport, peer = pair()
    await peer.send(request + text("first"))
    assert "StapledStream" in describe_peer(transport)  # it has no address
    async with serve(transport, **changes) as socket:
        assert await socket.receive_batch() == ["first"]
        head = (await peer.read_until(b"\r\n\r\n")).decode()
    # Of the key in every request here (RFC 6455, 1.3).
    assert "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in head
    return head


@pytest.mark.parametrize(
    "more",
    [
        "Cookie: name=José; other=1".encode(),
        "Cookie: name=José".encode("latin-1"),
        b"Cookie: \xff\xfe\x80",
        b"Cookie: a=1\r\nCookie: b=2",
        b"Cookie: " + b"x" * 8_000,
        b"User-Agent: caf\xe9\r\nReferer: http://h/\xc3\xa9",
        b"X-Empty:\r\nX-Folded: one\r\n two\r\n\tthree",
        b"Authorization: Basic \xe9",
        b"Sec-WebSocket-Protocol: \xe9, x",
        b"Sec-WebSocket-Extensions: \xe9; ;;, =",
        b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits",
        b"Content-Length: 0",
        b"Expect: 100-continue",
    ],
)
async def test_only_what_is_read_has_to_be_readable(more: bytes) -> None:
    """Headers of another program on the same host, and what nobody asked for."""
    await let_in(changed(b"\r\nHost", b"\r\n" + more + b"\r\nHost"))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"Host: worker", b"Host: w\xf6rker"),
        (b"Host: worker", b"Host:"),
        (b"Host: worker", b"Host: xn--999999999"),
        (PATH.encode(), b"http://worker" + PATH.encode()),
        (PATH.encode(), b"WS://worker:8765" + PATH.encode() + b"?a=b"),
        (PATH.encode(), b"wss://[::1]:8765" + PATH.encode()),
        (b"Connection: Upgrade", b"Connection: keep-alive\r\nConnection: Upgrade"),
        (b"Connection: Upgrade", b"Connection: Upgrade\r\nConnection: keep-alive"),
        (b"Connection: Upgrade", b"Connection: keep-alive , upgrade,"),
        (b"Upgrade: websocket", b"Upgrade: h2c, WebSocket"),
        (b"Upgrade: websocket", b"Upgrade: h2c\r\nUpgrade: websocket"),
        (b"Upgrade: websocket", b"Upgrade: ,websocket ,foo/2"),
        (b"Upgrade: websocket", b"uPGRADE:\twebsocket\t"),
        (b"HTTP/1.1", b"HTTP/1.2"),
        (b"\r\n", b"\n"),
    ],
)
async def test_what_is_legal_is_let_in(old: bytes, new: bytes) -> None:
    """However unusual it is."""
    await let_in(changed(old, new))


async def test_the_target_says_whom_a_request_is_for() -> None:
    """Before the header does (RFC 9112, 3.2.2)."""
    hosts: list[str] = []

    async def judge(request: Request) -> None:
        hosts.append(request.host)

    await let_in(REQUEST, judge=judge)
    await let_in(changed(PATH.encode(), b"ws://other:1" + PATH.encode()), judge=judge)
    assert hosts == ["worker", "other:1"]


async def test_a_refusal_repeats_no_value() -> None:
    """A line that cannot be read may hold a token."""
    secret = b"c2VjcmV0IHNlY3JldCBzZWNyZXQ"
    for line in (b"Authorization : Bearer " + secret, b"Authorization: Bearer \x00" + secret):
        error, _, body = await refused(changed(b"Host", line + b"\r\nHost"))
        assert secret.decode() not in body + error.detail


async def test_no_extension_is_accepted() -> None:
    """Compression that a client offers is not taken up."""
    offer = b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"
    assert "xtensions" not in await let_in(changed(b"Host", offer + b"Host"))


@pytest.mark.parametrize("more", [120, 121])
async def test_a_head_may_have_so_many_lines(more: int) -> None:
    """n-1 and n; one more is refused, see above."""
    transport, peer = pair()
    assert REQUEST.count(b"\n") == 7
    await peer.send(changed(b"Host", b"a:\n" * more + b"Host") + text("first"))
    async with serve(transport) as socket:
        assert await socket.receive_batch() == ["first"]


@pytest.mark.parametrize("end", [b"\r\n\r\n", b"\n\n", b"\n\r\n"])
async def test_the_head_ends_where_h11_ends_it(end: bytes) -> None:
    """Bytes behind the head are frames, whichever line ends a client uses."""
    transport, peer = pair()
    await peer.send(REQUEST.removesuffix(b"\r\n\r\n") + end + text("first"))
    async with serve(transport) as socket:
        assert await socket.receive_batch() == ["first"]


@pytest.mark.parametrize("step", [1, 2, 3])
async def test_a_head_in_pieces(step: int) -> None:
    """The end of the head is found across reads."""
    transport, peer = pair()
    data = REQUEST + text("first")

    async def send() -> None:
        for at in range(0, len(data), step):
            await peer.send(data[at : at + step])
            await trio.testing.wait_all_tasks_blocked()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        async with serve(transport) as socket:
            assert await socket.receive_batch() == ["first"]


async def test_bytes_above_ascii_behind_the_head_are_frames() -> None:
    """Whatever they are."""
    transport, peer = pair()
    await peer.send(REQUEST + text("\xfc" * 60))
    async with serve(transport) as socket:
        assert await socket.receive_batch() == ["\xfc" * 60]


@pytest.mark.parametrize("sent", [0, 1, len(REQUEST) - 1])
async def test_a_silent_peer_has_one_deadline(sent: int, autojump_clock: MockClock) -> None:
    """The handshake ends at its deadline, with 408, however much of it has come."""
    transport, peer = pair()

    async def client() -> None:
        await peer.send(REQUEST[:sent])
        assert (await peer.read_answer())[0] == 408
        await peer.stream.aclose()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(client)
        with pytest.raises(HandshakeRejected, match="10 s"):
            async with serve(transport):
                pass
    assert trio.current_time() == 10


async def test_a_byte_a_second_does_not_move_the_deadline(autojump_clock: MockClock) -> None:
    """The deadline is for the whole handshake, not for each read."""
    transport, peer = pair()

    async def client() -> None:
        for byte in REQUEST:
            await peer.send(bytes([byte]))
            await trio.sleep(1)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(client)
        with pytest.raises(HandshakeRejected) as caught:
            async with serve(transport):
                pass
        # The peer does not leave, so it is given its second.
        assert trio.current_time() == 11
        nursery.cancel_scope.cancel()
    assert caught.value.status == 408


@pytest.mark.parametrize("data", [b"", b"GET / HTTP/1.1\r\n\r\n"])
async def test_a_peer_that_reads_nothing_is_left(
    data: bytes, autojump_clock: MockClock
) -> None:
    """An answer that cannot be sent holds the connection for a second, no longer."""
    transport, peer = pair()
    transport.send_stream.send_all_hook = trio.sleep_forever
    await peer.send(data)
    with pytest.raises(HandshakeRejected):
        async with serve(transport):
            pass
    assert trio.current_time() == (1 if data else 11)


async def test_an_accepting_answer_that_blocks_is_bounded(autojump_clock: MockClock) -> None:
    """A peer that does not read the 101 is left at the deadline."""
    transport, peer = pair()
    transport.send_stream.send_all_hook = trio.sleep_forever
    await peer.send(REQUEST)
    with pytest.raises(HandshakeRejected):
        async with serve(transport):
            pass
    assert trio.current_time() == 10


@pytest.mark.parametrize("sent", [0, 1, len(REQUEST) - 1])
async def test_a_peer_that_leaves(sent: int, autojump_clock: MockClock) -> None:
    """A peer that leaves during its request is gone; a port probe is no news."""
    transport, peer = pair()
    await peer.send(REQUEST[:sent])
    await peer.stream.aclose()
    with pytest.raises(PeerGone, match=f"after {sent} bytes"):
        async with serve(transport):
            pass
    assert trio.current_time() == 0


async def test_a_peer_that_leaves_before_the_answer(autojump_clock: MockClock) -> None:
    """A 101 that cannot be delivered is a peer gone."""
    transport, peer = pair()
    await peer.send(REQUEST)

    async def reset() -> None:
        raise trio.BrokenResourceError

    transport.send_stream.send_all_hook = reset
    with pytest.raises(PeerGone):
        async with serve(transport):
            pass


async def test_cancelled_in_the_handshake() -> None:
    """Cancelled while it waits, it leaves nothing open."""
    transport, peer = pair()
    with trio.move_on_after(0) as scope:
        async with serve(transport):
            pass
    assert scope.cancelled_caught
    assert await Peer(peer.stream).read_rest() == b""
