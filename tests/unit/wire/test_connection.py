"""An open connection: reading, sending, closing, keepalive, and what ends it."""

import os
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from cfw.wire import (
    InvalidPayload,
    KeepaliveTimeout,
    MessageTooBig,
    PeerClosed,
    PeerGone,
    ProtocolFault,
    WebSocket,
    WireCrashed,
    WireError,
)
from tests.planted import Change, planted
from tests.unit.wire.peer import (
    MASK,
    REQUEST,
    Peer,
    binary,
    close,
    frame,
    header,
    mask,
    pair,
    parse_frames,
    ping,
    serve,
    tcp_pair,
    text,
)


async def read_all(socket: WebSocket) -> tuple[list[str | bytes], WireError]:
    """Read to the end; return every message and what ended it."""
    messages: list[str | bytes] = []
    while True:
        try:
            messages += await socket.receive_batch()
        except WireError as exc:
            return messages, exc


# Reading.


async def test_handshake_and_capture_in_one_write() -> None:
    """A client that sends everything at once loses none of it."""
    transport, peer = pair()
    await peer.send(REQUEST, text("open"), text("meta"), binary(b"jpeg"), close(1000))
    async with serve(transport) as socket:
        messages, end = await read_all(socket)
    assert messages == ["open", "meta", b"jpeg"]
    assert isinstance(end, PeerClosed)
    assert end.code == 1000


async def test_one_read_gives_one_batch() -> None:
    """All whole messages of a read come together, and the rest of it is kept."""
    transport, peer = pair()
    await peer.send(REQUEST)
    async with serve(transport) as socket:
        await peer.read_until(b"\r\n\r\n")
        await peer.send(text("a"), binary(b"b"), text("c")[:3])
        assert await socket.receive_batch() == ["a", b"b"]
        await peer.send(text("c")[3:])
        assert await socket.receive_batch() == ["c"]


async def test_a_read_costs_one_checkpoint_at_most() -> None:
    """Messages that are there already are handed out without giving up the CPU."""
    transport, peer = pair()
    await peer.send(REQUEST, text("a"))
    async with serve(transport) as socket:
        with trio.testing.assert_no_checkpoints():
            assert await socket.receive_batch() == ["a"]


@pytest.mark.parametrize("cut", range(0, 12, 3))
async def test_a_cancelled_read_loses_nothing(cut: int) -> None:
    """Cancelled at any point, the next call goes on where the last one stopped."""
    transport, peer = pair()
    await peer.send(REQUEST, text("hello!")[:cut])
    async with serve(transport) as socket:
        with trio.move_on_after(0):
            await socket.receive_batch()
        async with trio.open_nursery() as nursery:

            async def read_and_be_cancelled() -> None:
                await socket.receive_batch()

            nursery.start_soon(read_and_be_cancelled)
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        await peer.send(text("hello!")[cut:], text("next"))
        with trio.CancelScope() as scope:
            scope.cancel()
            await socket.receive_batch()
        assert await socket.receive_batch() == ["hello!", "next"]


@pytest.mark.parametrize(
    ("bad", "error", "close_code"),
    [
        (frame(0x83, b"x"), ProtocolFault, 1002),
        (b"\x81\x01x", ProtocolFault, 1002),
        (close(1005), ProtocolFault, 1002),
        (frame(0x81, b"\xff"), InvalidPayload, 1007),
        (header(0x81, 1001) + MASK, MessageTooBig, 1009),
        (header(0x82, 100_001) + MASK, MessageTooBig, 1009),
    ],
)
async def test_violations_come_after_the_messages_before_them(
    bad: bytes, error: type[Any], close_code: int, autojump_clock: MockClock
) -> None:
    """What was sent before a fault counts; the fault carries its close code."""
    transport, peer = pair()
    await peer.send(REQUEST, text("good"), bad, text("never"))
    async with serve(transport) as socket:
        messages, end = await read_all(socket)
        assert messages == ["good"]
        assert isinstance(end, error)
        assert error.close_code == close_code
        with pytest.raises(error):
            await socket.receive_batch()
        await peer.read_until(b"\r\n\r\n")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(peer.stream.send_eof)
            await socket.close(close_code, "no", linger_s=2)
    assert await peer.read_frames() == [(0x88, close_code.to_bytes(2) + b"no")]


async def test_a_peer_that_just_leaves() -> None:
    """The end of bytes without a close frame is a peer gone, told again if asked again."""
    transport, peer = pair()
    await peer.send(REQUEST, text("last"), text("cut")[:4])
    await peer.stream.send_eof()
    async with serve(transport) as socket:
        messages, end = await read_all(socket)
        assert messages == ["last"]
        assert isinstance(end, PeerGone)
        with pytest.raises(PeerGone):
            await socket.receive_batch()


async def test_a_reset() -> None:
    """A reset is a peer gone, too."""
    transport, peer = pair()
    await peer.send(REQUEST, text("last"))

    async def reset() -> None:
        raise trio.BrokenResourceError

    async with serve(transport) as socket:
        assert await socket.receive_batch() == ["last"]
        transport.receive_stream.receive_some_hook = reset
        with pytest.raises(PeerGone):
            await socket.receive_batch()


# Sending.


async def test_text_goes_out_whole() -> None:
    """A text message arrives as one text frame."""
    transport, peer = pair()
    await peer.send(REQUEST)
    async with serve(transport) as socket:
        await peer.read_until(b"\r\n\r\n")
        await socket.send_text("abort €")
    assert await peer.read_frames() == [(0x81, "abort €".encode())]


async def test_sending_to_a_peer_that_is_away() -> None:
    """A send that fails is a peer gone, and so is every later one."""
    transport, peer = pair()
    await peer.send(REQUEST)

    async def reset() -> None:
        raise trio.BrokenResourceError

    async with serve(transport) as socket:
        transport.send_stream.send_all_hook = reset
        for _ in range(2):
            with pytest.raises(PeerGone):
                await socket.send_text("anyone?")


async def test_a_send_cut_half_way_is_followed_by_nothing(autojump_clock: MockClock) -> None:
    """After a cancelled send no close frame is written into the middle of a frame."""
    transport, peer = pair()
    await peer.send(REQUEST)
    async with serve(transport) as socket:
        await peer.read_until(b"\r\n\r\n")
        deliver = transport.send_stream.send_all_hook
        transport.send_stream.send_all_hook = trio.sleep_forever
        with trio.move_on_after(1):
            await socket.send_text("half")
        transport.send_stream.send_all_hook = deliver
        with pytest.raises(PeerGone):
            await socket.send_text("more")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(peer.read_rest)
            nursery.start_soon(peer.stream.send_eof)
            await socket.close(1011, "stuck", linger_s=5)
    assert trio.current_time() == 1


async def test_a_send_cancelled_before_it_begins_spoils_nothing() -> None:
    """A send that was cancelled before its first byte leaves the connection whole."""
    transport, peer = pair()
    await peer.send(REQUEST)
    async with serve(transport) as socket:
        await peer.read_until(b"\r\n\r\n")
        with trio.move_on_after(0):
            await socket.send_text("never")
        await socket.send_text("now")
    assert await peer.read_frames() == [(0x81, b"now")]


async def test_large_messages_over_a_socket_come_whole() -> None:
    """Whatever a read holds of them, what comes is what was sent, with a ping between."""
    sent: list[str | bytes] = []
    for number in range(1, 30):
        sent += [f"meta {number}", bytes([number]) * (60_000 + 5_000 * number)]
    transport, peer = await tcp_pair()

    async def send() -> None:
        await peer.send(REQUEST)
        for message in sent:
            await peer.send(text(message) if isinstance(message, str) else binary(message))
        await peer.send(ping(b"last"), close(1000))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        limit = 60_000 + 5_000 * 30
        async with serve(transport, max_binary_bytes=limit) as socket:
            messages, end = await read_all(socket)
        assert messages == sent
        assert isinstance(end, PeerClosed)
        await peer.stream.aclose()


async def test_a_peer_that_never_pauses_does_not_stop_the_clock(
    monkeypatch: pytest.MonkeyPatch, mock_clock: MockClock
) -> None:
    """Bytes that are always there, and end no message, do not put off an instant."""
    transport, peer = await tcp_pair()
    await peer.send(REQUEST)
    pongs = frame(0x8A, b"?") * 10
    sending = peer.stream.socket.fileno()

    def readv(_: int, spaces: tuple[memoryview]) -> int:
        mock_clock.jump(1.0)
        os.write(sending, b"more")
        spaces[0][: len(pongs)] = pongs
        return len(pongs)

    async with serve(transport) as socket:
        monkeypatch.setattr("os.readv", readv)
        assert await socket.receive_batch(until=trio.current_time() + 3.0) == []
        monkeypatch.undo()
    await peer.stream.aclose()


async def test_a_reset_inside_a_large_message_ends_the_connection() -> None:
    """A peer that vanishes while its picture is received is only gone."""
    transport, peer = await tcp_pair()
    picture = bytes(100_000)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(peer.send, REQUEST, binary(picture))
        async with serve(transport, max_binary_bytes=len(picture)) as socket:
            assert await socket.receive_batch() == [picture]
            await peer.send(binary(picture)[:-1])
            with trio.move_on_after(0.05):
                await socket.receive_batch()
            assert socket._decoder.in_message
            await peer.stream.aclose()
            with pytest.raises(PeerGone):
                await socket.receive_batch()


# Closing.


async def test_a_peer_that_closes_first_gets_our_code_and_reason(
    autojump_clock: MockClock,
) -> None:
    """The reply to a close frame is the receipt, not an echo."""
    transport, peer = pair()
    await peer.send(REQUEST, text("capture.close"), close(1001, b"bye"))
    async with serve(transport) as socket:
        messages, end = await read_all(socket)
        assert messages == ["capture.close"]
        assert isinstance(end, PeerClosed)
        assert (end.code, end.reason) == (1001, "bye")
        await peer.read_until(b"\r\n\r\n")
        await wait_all_tasks_blocked()
        assert peer.received == b""
        await socket.send_text("still open this way")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(
                socket_close := lambda: socket.close(1000, "receipt", linger_s=2)
            )
            del socket_close
            sent = await peer.read_frames()
            await peer.stream.aclose()
    assert sent == [(0x81, b"still open this way"), (0x88, b"\x03\xe8receipt")]
    assert trio.current_time() == 0


async def test_a_peer_that_shut_down_its_half_gets_the_receipt(
    autojump_clock: MockClock,
) -> None:
    """The end of a peer's bytes does not keep our close frame from going out."""
    transport, peer = pair()
    await peer.send(REQUEST, close(1000))
    await peer.stream.send_eof()
    async with serve(transport) as socket:
        await read_all(socket)
        await socket.close(1000, "receipt", linger_s=2)
    await peer.read_until(b"\r\n\r\n")
    assert await peer.read_frames() == [(0x88, b"\x03\xe8receipt")]
    assert trio.current_time() == 0


async def test_closing_first_waits_for_the_peer(autojump_clock: MockClock) -> None:
    """Our half is shut down behind our close frame; the rest is read and discarded."""
    transport, peer = pair()
    await peer.send(REQUEST)
    async with serve(transport) as socket:
        await peer.read_until(b"\r\n\r\n")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: socket.close(1008, "stop", linger_s=9))
            for _ in range(3):
                await trio.sleep(1)
                await peer.send(binary(bytes(500)), ping(b"?"))
            assert await peer.read_frames() == [(0x88, b"\x03\xf0stop")]
            await peer.send(close(1008))
            await peer.stream.send_eof()
    assert trio.current_time() == 3


@pytest.mark.parametrize("tail", [b"", close(1000), binary(bytes(500)), b"\xff" * 64])
async def test_a_peer_that_never_leaves(tail: bytes, autojump_clock: MockClock) -> None:
    """The linger ends on its instant, whatever the peer has said."""
    transport, peer = pair()
    await peer.send(REQUEST, tail)
    async with serve(transport) as socket:
        await socket.close(1000, "", linger_s=2.5)
    assert trio.current_time() == 2.5


async def test_a_peer_that_never_reads(autojump_clock: MockClock) -> None:
    """A close frame that cannot be sent holds the close no longer than the linger."""
    transport, peer = pair()
    await peer.send(REQUEST)
    async with serve(transport) as socket:
        transport.send_stream.send_all_hook = trio.sleep_forever
        await socket.close(1000, "unheard", linger_s=2)
        assert trio.current_time() == 2


async def test_a_peer_that_reads_only_when_it_is_read(autojump_clock: MockClock) -> None:
    """Bytes are discarded while the close frame is on its way, so neither side waits."""
    ours, theirs = trio.testing.lockstep_stream_pair()
    peer = Peer(theirs)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(peer.open)
        async with serve(ours) as socket:
            await wait_all_tasks_blocked()

            async def upload() -> None:
                await peer.send(binary(bytes(5000)), close(1000))
                await peer.read_rest()
                await theirs.aclose()

            nursery.start_soon(upload)
            await socket.close(1008, "stop", linger_s=2)
    assert trio.current_time() == 0


async def test_a_stuck_send_does_not_hold_the_close(autojump_clock: MockClock) -> None:
    """A close behind a send that never ends is over with its linger."""
    transport, peer = pair()
    await peer.send(REQUEST)
    async with serve(transport) as socket, trio.open_nursery() as nursery:
        transport.send_stream.send_all_hook = trio.sleep_forever
        nursery.start_soon(socket.send_text, "stuck")
        await wait_all_tasks_blocked()
        await socket.close(1000, "", linger_s=2)
        assert trio.current_time() == 2
        nursery.cancel_scope.cancel()


async def test_close_is_idempotent_and_final(autojump_clock: MockClock) -> None:
    """A second close does nothing; using a closed connection is the caller's mistake."""
    transport, peer = pair()
    await peer.send(REQUEST, text("unread"))
    await peer.stream.send_eof()
    async with serve(transport) as socket:
        await socket.close(1000, "once", linger_s=2)
        await socket.close(1011, "twice", linger_s=2)
        with pytest.raises(trio.ClosedResourceError):
            await socket.receive_batch()
        with pytest.raises(trio.ClosedResourceError):
            await socket.send_text("late")
    await peer.read_until(b"\r\n\r\n")
    assert await peer.read_frames() == [(0x88, b"\x03\xe8once")]


async def test_closing_a_connection_that_is_gone(autojump_clock: MockClock) -> None:
    """Closing after a reset takes no time and raises nothing."""
    transport, peer = pair()
    await peer.send(REQUEST)
    async with serve(transport) as socket:
        await peer.stream.aclose()
        with pytest.raises(PeerGone):
            await socket.receive_batch()
        await socket.close(1000, "", linger_s=2)
    assert trio.current_time() == 0


@pytest.mark.parametrize(
    ("reason", "sent"),
    [
        ("r" * 123, b"r" * 123),
        ("r" * 124, b"r" * 123),
        ("€" * 41, "€".encode() * 41),
        ("r" + "€" * 41, b"r" + "€".encode() * 40),
        ("\ud800", b"?"),
    ],
)
async def test_the_reason_is_cut_between_characters(reason: str, sent: bytes) -> None:
    """A reason too long is cut to whole characters within 123 bytes."""
    transport, peer = pair()
    await peer.send(REQUEST)
    await peer.stream.send_eof()
    async with serve(transport) as socket:
        await peer.read_until(b"\r\n\r\n")
        await socket.close(1000, reason, linger_s=2)
    assert await peer.read_frames() == [(0x88, b"\x03\xe8" + sent)]


async def test_without_halves_the_close_handshake_is_enough(
    autojump_clock: MockClock,
) -> None:
    """A transport that cannot half-close is closed once both close frames are out."""
    transport, peer = pair()
    whole = WholeStream(transport)
    await peer.send(REQUEST, close(1000))
    async with serve(whole) as socket:
        await socket.close(1000, "receipt", linger_s=2)
    await peer.read_until(b"\r\n\r\n")
    assert await peer.read_frames() == [(0x88, b"\x03\xe8receipt")]
    assert trio.current_time() == 0


class WholeStream(trio.abc.Stream):
    """A stream that cannot half-close, as TLS cannot."""

    def __init__(self, inner: trio.StapledStream[Any, Any]) -> None:
        self.inner = inner

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self.inner.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self.inner.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        data: bytes | bytearray = await self.inner.receive_some(max_bytes)
        return data

    async def aclose(self) -> None:
        await self.inner.aclose()


# Control frames.


async def test_pings_are_answered_in_order() -> None:
    """Pings between and inside messages get their pongs, while messages flow on."""
    transport, peer = pair()
    await peer.send(REQUEST, ping(b"1"), frame(0x01, b"a"), ping(b"2"), frame(0x80, b"b"))
    async with serve(transport) as socket:
        assert await socket.receive_batch() == ["ab"]
        await peer.send(ping(b"3"), text("c"))
        assert await socket.receive_batch() == ["c"]
        await peer.read_until(b"\r\n\r\n")
        await wait_all_tasks_blocked()
    assert await peer.read_frames() == [(0x8A, b"1"), (0x8A, b"2"), (0x8A, b"3")]


async def test_a_ping_flood_stops_the_reading(autojump_clock: MockClock) -> None:
    """Saturated: pings whose pongs are not read stop the reader; drained: it resumes."""
    transport, peer = pair()
    await peer.send(REQUEST)
    async with serve(transport) as socket:
        await peer.read_until(b"\r\n\r\n")
        deliver = transport.send_stream.send_all_hook
        transport.send_stream.send_all_hook = (gate := trio.Event()).wait
        reads = 0

        async def send_more() -> None:
            nonlocal reads
            reads += 1
            transport.receive_stream.put_data(ping(b"flood") * 1000)

        transport.receive_stream.receive_some_hook = send_more
        with trio.move_on_after(5):
            await socket.receive_batch()
        assert reads == 1
        transport.receive_stream.receive_some_hook = None
        transport.send_stream.send_all_hook = deliver
        gate.set()
        await peer.send(text("through"))
        assert await socket.receive_batch() == ["through"]
        await wait_all_tasks_blocked()
    pongs = await peer.read_frames()
    assert pongs == [(0x8A, b"flood")] * 1000


async def test_pings_in_flight_when_we_close(autojump_clock: MockClock) -> None:
    """Pings that are waiting, and those that follow, get no pong behind a close frame."""
    transport, peer = pair()
    await peer.send(REQUEST, ping(b"p") * 50, text("m"))
    async with serve(transport) as socket:
        assert await socket.receive_batch() == ["m"]
        await peer.send(ping(b"q") * 50, close(1000))
        await peer.stream.send_eof()
        await socket.close(1000, "", linger_s=2)
    await peer.read_until(b"\r\n\r\n")
    frames = await peer.read_frames()
    assert frames[-1] == (0x88, b"\x03\xe8")
    assert set(frames[:-1]) <= {(0x8A, b"p")}
    assert trio.current_time() == 0


async def test_keepalive_times_are_exact(autojump_clock: MockClock) -> None:
    """The first ping goes at 20 s; without a pong the connection fails at 35 s."""
    transport, peer = pair()
    await peer.send(REQUEST)
    async with serve(transport) as socket:
        await peer.read_until(b"\r\n\r\n")
        with pytest.raises(KeepaliveTimeout, match="15 s"):
            await socket.receive_batch()
        assert trio.current_time() == 35
        with pytest.raises(KeepaliveTimeout):
            await socket.receive_batch()
    (only,) = await peer.read_frames()
    assert only[0] == 0x89


async def test_a_pong_keeps_the_connection_alive(autojump_clock: MockClock) -> None:
    """Pinged every 20 s after the last pong, a peer that answers stays connected."""
    transport, peer = pair()
    await peer.send(REQUEST)
    pings: list[float] = []

    async def client() -> None:
        await peer.read_until(b"\r\n\r\n")
        for _ in range(3):
            ((first, payload),) = parse_frames(bytes(await peer.stream.receive_some()))
            assert first == 0x89
            pings.append(trio.current_time())
            await trio.sleep(1)
            await peer.send(frame(0x8A, payload))

    async with serve(transport) as socket, trio.open_nursery() as nursery:
        nursery.start_soon(client)
        with pytest.raises(KeepaliveTimeout):
            await socket.receive_batch()
    assert pings == [20, 41, 62]
    assert trio.current_time() == 63 + 35


async def test_keepalive_reaches_a_reader_held_up_by_a_flood(
    autojump_clock: MockClock,
) -> None:
    """A peer that reads nothing is found out although the reader is not reading."""
    transport, peer = pair()
    await peer.send(REQUEST)
    async with serve(transport) as socket:
        await peer.read_until(b"\r\n\r\n")
        transport.send_stream.send_all_hook = trio.sleep_forever
        await peer.send(ping(b"a") * 3)
        with pytest.raises(KeepaliveTimeout):
            await socket.receive_batch()
    assert trio.current_time() == 35


# Ways out.


async def test_leaving_without_close_closes_the_transport(autojump_clock: MockClock) -> None:
    """A body that just returns leaves nothing open and sends no close frame."""
    transport, peer = pair()
    await peer.send(REQUEST)
    async with serve(transport):
        await peer.read_until(b"\r\n\r\n")
    assert await peer.read_frames() == []
    assert trio.current_time() == 0


@pytest.mark.parametrize("error", [ValueError("mine"), KeyboardInterrupt(), PeerGone("x")])
async def test_what_the_body_raises_leaves_as_it_is(error: BaseException) -> None:
    """The body's exception is not wrapped in a group of an inner nursery."""
    transport, peer = pair()
    await peer.send(REQUEST)
    with pytest.raises(type(error)) as caught:
        async with serve(transport):
            raise error
    assert caught.value is error
    assert error.__context__ is None


async def test_a_group_of_the_body_leaves_as_it_is() -> None:
    """A group that the body raised is its own, and no deeper than before."""
    transport, peer = pair()
    await peer.send(REQUEST)
    group = ExceptionGroup("mine", [ValueError(), KeyError()])
    with pytest.raises(ExceptionGroup) as caught:
        async with serve(transport):
            raise group
    assert caught.value is group


async def test_ctrl_c_in_a_task_of_the_connection_is_not_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It leaves, and not the cancellation of the body that it brought about."""
    pressed = KeyboardInterrupt()

    async def interrupted(*_: object) -> None:
        raise pressed

    monkeypatch.setattr(WebSocket, "keep_alive", interrupted)
    transport, peer = pair()
    await peer.send(REQUEST)
    with pytest.raises(KeyboardInterrupt) as caught:
        async with serve(transport):
            await trio.sleep_forever()
    assert caught.value is pressed


async def test_an_error_of_a_cancelled_body_is_not_lost() -> None:
    """A bug that surfaces while the connection is being cancelled is still raised."""
    transport, peer = pair()
    await peer.send(REQUEST)

    async def body() -> None:
        with trio.CancelScope() as scope:
            async with serve(transport):
                scope.cancel()
                raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        await body()


async def test_cancelling_passes_untouched() -> None:
    """A cancelled body ends its own scope, at once and without a group."""
    transport, peer = pair()
    await peer.send(REQUEST)
    kinds = []
    with trio.CancelScope() as scope:
        try:
            async with serve(transport) as socket:
                scope.cancel()
                await socket.receive_batch()
        except BaseException as exc:
            kinds.append(type(exc))
            raise
    assert scope.cancelled_caught
    assert kinds == [trio.Cancelled]
    await peer.read_until(b"\r\n\r\n")
    assert await peer.read_rest() == b""


async def test_cancelled_while_closing(autojump_clock: MockClock) -> None:
    """A cancelled close does not wait for its linger."""
    transport, peer = pair()
    await peer.send(REQUEST)
    with trio.move_on_after(1) as scope:
        async with serve(transport) as socket:
            await socket.close(1000, "", linger_s=60)
    assert scope.cancelled_caught
    assert trio.current_time() == 1


async def test_a_crash_below_is_one_connections_error(autojump_clock: MockClock) -> None:
    """A bug in the library's background task reaches this connection's reader alone."""
    transport, peer = pair()
    await peer.send(REQUEST)
    crash = Change(
        "cfw/wire/stream.py",
        "await checkpoint()\nwhile not self._next:",
        'await trio.sleep(3)\nraise AssertionError("a bug")\nwhile not self._next:',
    )
    async with serve(transport) as socket:
        await peer.read_until(b"\r\n\r\n")
        with planted(crash):
            await peer.send(ping())
            with pytest.raises(WireCrashed) as caught:
                await socket.receive_batch()
        await peer.stream.send_eof()
        await socket.close(1011, "", linger_s=2)
    assert isinstance(caught.value.__cause__, ExceptionGroup)
    assert trio.current_time() == 3


CONVERSATION = REQUEST + text("open") + ping(b"?") + binary(b"jpeg" * 9) + close(1000)


@pytest.mark.parametrize("at", range(0, len(CONVERSATION), 1))
async def test_an_end_at_any_byte_leaves_nothing(at: int, autojump_clock: MockClock) -> None:
    """Wherever the peer's bytes end, the connection ends at once, and typed."""
    transport, peer = pair()
    await peer.send(CONVERSATION[:at])
    await peer.stream.aclose()
    before = trio.lowlevel.current_statistics().tasks_living
    ended: list[object] = []
    try:
        async with serve(transport) as socket:
            ended.append((await read_all(socket))[1])
            await socket.close(1000, "", linger_s=2)
    except PeerGone as exc:
        ended.append(exc)
    assert len(ended) == 1
    assert isinstance(ended[0], PeerGone)
    assert trio.lowlevel.current_statistics().tasks_living == before
    assert trio.current_time() == 0


def test_the_mask_of_these_tests_is_its_own_inverse() -> None:
    """Masking twice gives the payload back."""
    assert mask(mask(b"payload")) == b"payload"


async def test_a_ping_that_is_due_while_closing_is_no_work(autojump_clock: MockClock) -> None:
    """The peer is seen off for longer than the keepalive, and is waited for meanwhile."""
    transport, peer = pair()
    await peer.send(REQUEST)
    async with serve(transport, keepalive_s=3, keepalive_timeout_s=2) as socket:
        passes = Passes()
        trio.lowlevel.add_instrument(passes)
        await socket.close(1000, "", linger_s=60)
        trio.lowlevel.remove_instrument(passes)
        assert trio.current_time() == 60
    assert passes.number < 200
    await peer.stream.aclose()


class Passes(trio.abc.Instrument):
    """Counts the passes of the event loop."""

    number = 0

    def before_io_wait(self, timeout: float) -> None:
        self.number += 1
