"""Receiving over TLS: all that has come, nothing twice, and how it ends."""

from __future__ import annotations

import os
import random
import socket
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import cache

import pytest
import trio
import trustme
from trio.testing import MockClock, lockstep_stream_pair, memory_stream_pair

from cfw.wire.receiver import MIN_READ_BYTES, Receiver
from cfw.wire.tls import TlsReceiver, open_receiver
from tests.patience import PATIENCE_S

#: What one record carries, at most.
RECORD_BYTES = 16_384


@cache
def contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Of a server, and of a client that trusts it."""
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("worker.test").configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    return server, client


class Peer:
    """A client whose records are sent when a test says so."""

    def __init__(self, send: trio.abc.SendStream) -> None:
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = contexts()[1].wrap_bio(
            self.incoming, self.outgoing, server_hostname="worker.test"
        )
        self.send = send

    def records(self, *payloads: bytes) -> bytes:
        """What goes over the wire for these payloads."""
        for payload in payloads:
            self.tls.write(payload)
        return self.outgoing.read()

    def goodbye(self) -> bytes:
        with pytest.raises(ssl.SSLWantReadError):
            self.tls.unwrap()
        return self.outgoing.read()


@asynccontextmanager
async def connected(
    ours: trio.abc.Stream, theirs: trio.abc.Stream
) -> AsyncIterator[tuple[TlsReceiver, Peer]]:
    """A receiver behind its handshake, and its peer."""
    stream = trio.SSLStream(ours, contexts()[0], server_side=True, https_compatible=True)
    peer = Peer(theirs)
    async with stream, theirs:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.do_handshake)
            while True:
                try:
                    peer.tls.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    await theirs.send_all(peer.outgoing.read())
                    peer.incoming.write(await theirs.receive_some())
            await theirs.send_all(peer.outgoing.read())
        receiver = open_receiver(stream)
        assert isinstance(receiver, TlsReceiver)
        yield receiver, peer
        receiver.release()


@asynccontextmanager
async def over_memory() -> AsyncIterator[tuple[TlsReceiver, Peer]]:
    async with connected(*memory_stream_pair()) as both:
        yield both


@asynccontextmanager
async def over_sockets() -> AsyncIterator[tuple[TlsReceiver, Peer]]:
    ours, theirs = (
        trio.SocketStream(trio.socket.from_stdlib_socket(sock)) for sock in socket.socketpair()
    )
    async with connected(ours, theirs) as both:
        yield both


async def received(receiver: TlsReceiver, size: int) -> bytes:
    got = b""
    while len(got) < size:
        got += bytes(await receiver.receive() or b"")
    return got


@pytest.mark.parametrize("sizes", [[1], [RECORD_BYTES], [RECORD_BYTES + 1], [420, 30_000]])
async def test_what_came_together_is_received_together(sizes: Sequence[int]) -> None:
    """A frame of a camera is some records, and one read of the socket."""
    payloads = [os.urandom(size) for size in sizes]
    async with over_sockets() as (receiver, peer):
        await receiver.receive(trio.current_time())
        for _ in range(3):
            await peer.send.send_all(peer.records(*payloads))
            assert bytes(await receiver.receive() or b"") == b"".join(payloads)


@pytest.mark.parametrize("most", [1, 5, 1_000, 16_500, 100_000])
async def test_records_may_come_in_any_pieces(most: int) -> None:
    """Byte for byte what was sent, however the network cuts it."""
    chance = random.Random(most)
    payloads = [chance.randbytes(chance.choice([1, 300, RECORD_BYTES + 1])) for _ in range(8)]
    if most < 10:
        payloads = [payload[:40] for payload in payloads]
    async with over_memory() as (receiver, peer), trio.open_nursery() as nursery:
        sent = peer.records(*payloads)

        async def send() -> None:
            at = 0
            while at < len(sent):
                step = chance.randint(1, most)
                await peer.send.send_all(sent[at : at + step])
                at += step

        nursery.start_soon(send)
        expected = b"".join(payloads)
        assert await received(receiver, len(expected)) == expected


async def test_the_beginning_of_a_record_is_nothing_until_the_rest_has_come(
    autojump_clock: MockClock,
) -> None:
    """The wait ends at its instant, and no byte is lost; a cancelled wait loses none either."""
    async with over_memory() as (receiver, peer):
        record = peer.records(b"x" * 1_000)
        await peer.send.send_all(record[:500])
        until = trio.current_time() + 5
        assert await receiver.receive(until) is None
        assert trio.current_time() == until
        with trio.move_on_after(2) as cancelled:
            await receiver.receive()
        assert cancelled.cancelled_caught
        await peer.send.send_all(record[500:])
        assert bytes(await receiver.receive() or b"") == b"x" * 1_000


async def test_a_wait_ends_when_woken_and_nothing_is_lost() -> None:
    """Also between the halves of a record."""
    async with over_sockets() as (receiver, peer):
        record = peer.records(b"whole")
        await peer.send.send_all(record[:7])
        async with trio.open_nursery() as nursery:
            nursery.start_soon(receiver.receive)
            await trio.testing.wait_all_tasks_blocked()
            receiver.wake()
        receiver.is_woken = False
        await peer.send.send_all(record[7:])
        assert bytes(await receiver.receive() or b"") == b"whole"


async def test_who_is_woken_waits_for_no_record_to_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a peer whose bytes come to nothing would be read for as long as it sends them."""
    async with over_sockets() as (receiver, peer):
        assert await receiver.receive(trio.current_time()) is None
        record = peer.records(b"whole")
        given: list[int] = []

        async def piece(self: Receiver, deadline: float) -> bytes:
            await trio.lowlevel.checkpoint()
            given.append(len(given))
            if len(given) == 2:
                self.wake()
            return record[given[-1] :][:1]

        with monkeypatch.context() as planted:
            planted.setattr(Receiver, "receive", piece)
            assert await receiver.receive() is None
        assert given == [0, 1]
        receiver.is_woken = False
        await peer.send.send_all(record[2:])
        assert bytes(await receiver.receive() or b"") == b"whole"


async def test_what_openssl_answers_goes_out_before_the_next_read() -> None:
    """A peer that asked for new keys, or was refused others, may wait for that."""
    async with over_sockets() as (receiver, peer), trio.open_nursery() as nursery:
        assert await receiver.receive(trio.current_time()) is None
        receiver._outgoing.write(b"answer")
        nursery.start_soon(receiver.receive)
        assert isinstance(peer.send, trio.SocketStream)
        with trio.fail_after(PATIENCE_S):
            assert (await peer.send.receive_some()).endswith(b"answer")  # behind tickets
        nursery.cancel_scope.cancel()


async def test_who_does_not_read_answers_gets_no_more_time_by_that(
    autojump_clock: MockClock,
) -> None:
    """The wait for its bytes ends at its instant, and when woken."""
    async with connected(*memory_stream_pair()) as (receiver, _):
        assert await receiver.receive(trio.current_time()) is None
        receiver._stream.transport_stream, peer = lockstep_stream_pair()
        async with peer, receiver._stream.transport_stream:
            receiver._outgoing.write(b"answer")
            until = trio.current_time() + 5
            assert await receiver.receive(until) is None
            assert trio.current_time() == until
            receiver._outgoing.write(b"answer")
            receiver.wake()
            assert await receiver.receive() is None


async def test_what_finds_no_room_is_given_by_the_next_read() -> None:
    """Without another look at the socket, where nothing more may come."""
    payload = os.urandom(50_000)
    async with over_memory() as (receiver, peer):
        receiver._space = memoryview(bytearray(20_000))
        await peer.send.send_all(peer.records(payload))
        parts = [bytes(await receiver.receive() or b"") for _ in range(3)]
        assert b"".join(parts) == payload
        assert [len(part) for part in parts] == [20_000, 20_000, 10_000]


@pytest.mark.parametrize("is_polite", [True, False])
async def test_the_end_comes_behind_what_was_sent(is_polite: bool) -> None:
    """With a goodbye of TLS or without: empty, and empty again."""
    async with over_memory() as (receiver, peer):
        await peer.send.send_all(peer.records(b"last") + (peer.goodbye() if is_polite else b""))
        await peer.send.aclose()
        assert bytes(await receiver.receive() or b"") == b"last"
        for _ in range(2):
            data = await receiver.receive()
            assert data is not None
            assert not data


async def test_what_the_peers_tls_has_not_sent_breaks_the_connection() -> None:
    """A bit that is another on the way; what came before it is received first."""
    async with over_memory() as (receiver, peer):
        good, bad = peer.records(b"good"), bytearray(peer.records(b"bad"))
        bad[-1] ^= 1
        await peer.send.send_all(good + bad)
        assert bytes(await receiver.receive() or b"") == b"good"
        with pytest.raises(trio.BrokenResourceError):
            await receiver.receive()


async def test_what_came_with_the_request_is_not_left_behind() -> None:
    """Read and not decrypted yet when this half was handed over."""
    ours, theirs = memory_stream_pair()
    async with connected(ours, theirs) as (receiver, peer):
        receiver._incoming.write(peer.records(b"early"))
        assert bytes(await receiver.receive(-1) or b"") == b"early"


async def test_a_frame_costs_a_read_of_the_socket_and_one_of_tls_for_each_record(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What a rig costs more over wss:// is its records, and no exception."""
    reads: list[str] = []
    readv = os.readv

    def counted(fd: int, spaces: Sequence[memoryview]) -> int:
        reads.append("socket")
        return readv(fd, spaces)

    class Tls:
        def read(self, size: int, space: memoryview) -> int:
            reads.append("tls")
            count: int = tls.read(size, space)
            return count

    async with over_sockets() as (receiver, peer):
        await peer.send.send_all(peer.records(b"first"))
        await receiver.receive()
        tls, receiver._tls = receiver._tls, Tls()
        monkeypatch.setattr("os.readv", counted)
        for _ in range(3):
            reads.clear()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(received, receiver, 30_000)
                await trio.testing.wait_all_tasks_blocked()
                await peer.send.send_all(peer.records(bytes(30_000)))
            assert reads == ["socket", "tls", "tls"]


async def test_a_rig_that_floods_over_tls_is_read_in_small_pieces(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is read at once stays with OpenSSL, for each connection."""
    asked: list[int] = []
    readv = os.readv

    def counted(fd: int, spaces: Sequence[memoryview]) -> int:
        asked.append(len(spaces[0]))
        return readv(fd, spaces)

    payload = os.urandom(500_000)
    async with over_sockets() as (receiver, peer), trio.open_nursery() as nursery:
        monkeypatch.setattr("os.readv", counted)
        nursery.start_soon(peer.send.send_all, peer.records(payload))
        assert await received(receiver, len(payload)) == payload
    assert set(asked) == {MIN_READ_BYTES}
