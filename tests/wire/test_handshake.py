"""The opening handshake: who gets a connection, and what the others are told."""

import pytest
import trio
from trio.testing import MockClock

from cfw.wire import HandshakeReject, HandshakeRejected, Headers, Judge, PeerGone

from .peer import PATH, REQUEST, Peer, pair, serve, text


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
        (changed(b"Host: worker", b"Host: w\xf6rker"), 400, "not ASCII"),
        (changed(b"feed", b"f\xc3\xa9ed"), 400, "not ASCII"),
        (changed(b"/capture", b"/captures"), 404, PATH),
        (changed(b"GET /camera", b"GET //camera"), 404, PATH),
        (changed(PATH.encode(), b"/"), 404, PATH),
        (changed(PATH.encode(), b"*"), 404, PATH),
        (b"\r\n" + REQUEST, 400, "not an HTTP/1.1 request"),
        (b"\n\n", 400, "not an HTTP/1.1 request"),
        (b"hello\r\n\r\n", 400, "not an HTTP/1.1 request"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\xa0", 400, "not ASCII"),
        (changed(b"HTTP/1.1", b"HTTP/2"), 400, "not an HTTP/1.1 request"),
        (changed(b"Host: worker", b"Host: xn--999999999"), 400, "cannot be read"),
        (b"GET " + b"a" * 20_000, 431, "16384"),
        (changed(b"worker", b"w" * 16_384), 431, "16384"),
        (f"GET {PATH} HTTP/1.1\r\nHost: worker\r\n\r\n".encode(), 426, "WebSocket client"),
        (changed(b"Upgrade: websocket\r\n", b""), 426, "WebSocket client"),
        # These are wsproto's.
        (changed(b"GET", b"POST"), 400, ""),
        (changed(b"Host: worker\r\n", b""), 400, ""),
        (changed(b"Version: 13", b"Version: 8"), 426, ""),
        (changed(b"\r\nHost", b"\r\n Host"), 400, ""),
        (changed(b"Host: worker", b"Host worker"), 400, ""),
    ],
)
async def test_refused(
    request_bytes: bytes, status: int, words: str, autojump_clock: MockClock
) -> None:
    """A request that cannot become a connection gets its HTTP status, and a reason."""
    error, got, body = await refused(request_bytes)
    assert got == status
    assert words in body
    assert words in error.detail
    assert trio.current_time() == 0


async def test_at_capacity(autojump_clock: MockClock) -> None:
    """A refusal decided before is the answer to a request that is otherwise good."""
    full = HandshakeReject(503, "1000 connections are open")
    error, status, body = await refused(REQUEST, reject=full)
    assert (status, body) == (503, "1000 connections are open\n")
    assert error.detail == "1000 connections are open"


async def test_a_judge_sees_the_headers_and_has_the_last_word() -> None:
    """Of a request for this path; its answer goes out with its own headers."""
    seen: list[Headers] = []

    def judge(headers: Headers) -> HandshakeReject:
        seen.append(headers)
        return HandshakeReject(401, "who are you?", (("WWW-Authenticate", "Bearer"),))

    transport, peer = pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rejected, transport, judge)
        await peer.send(changed(b"Host", b"oRiGiN:  http://a \r\nHost"))
        head = await peer.read_until(b"\r\n\r\n")
        await peer.stream.aclose()
    assert head.startswith(b"HTTP/1.1 401 Unauthorized\r\n")
    assert b"\r\nWWW-Authenticate: Bearer\r\n" in head
    (headers,) = seen
    assert headers[:2] == (("origin", "http://a"), ("host", "worker"))
    await refused(changed(PATH.encode(), b"/"), judge=judge)
    assert len(seen) == 1


async def rejected(transport: trio.abc.Stream, judge: Judge) -> None:
    with pytest.raises(HandshakeRejected):
        async with serve(transport, judge=judge):
            raise AssertionError("a connection was opened")


async def test_a_head_that_cannot_be_read_is_never_judged() -> None:
    """Headers that two readers may take for different things are refused."""

    def judge(_: Headers) -> None:
        raise AssertionError("it was judged")

    for old, new in ((b"\r\nHost", b"\r\n Host"), (b"Host: worker", b"Host : worker")):
        _, status, body = await refused(changed(old, new), judge=judge)
        assert (status, body) == (400, "the request head cannot be read\n")


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


@pytest.mark.parametrize("query", [b"", b"?token=x", b"?a=/other"])
async def test_accepted(query: bytes) -> None:
    """The path is judged without its query."""
    transport, peer = pair()
    async with trio.open_nursery() as nursery:
        await peer.send(changed(PATH.encode(), PATH.encode() + query))
        async with serve(transport) as socket:
            assert "StapledStream" in socket.remote
            await peer.read_until(b"\r\n\r\n")
            nursery.cancel_scope.cancel()


async def test_no_extension_is_accepted() -> None:
    """Compression that a client offers is not taken up."""
    transport, peer = pair()
    offer = b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"
    await peer.send(changed(b"Host", offer + b"Host"))
    async with serve(transport):
        assert b"xtensions" not in await peer.read_until(b"\r\n\r\n")


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
    """The head must be ASCII, and only the head."""
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
