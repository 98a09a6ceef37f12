"""The time from a ping to its pong."""

from __future__ import annotations

from functools import partial

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from cfw.wire import KeepaliveTimeout, PeerClosed
from tests.unit.wire.peer import REQUEST, close, frame, pair, parse_frames, serve, text


async def test_the_shortest_round_trip_is_kept(autojump_clock: MockClock) -> None:
    """The pongs of the extra ping and of the keepalive are timed; the least counts."""
    transport, peer = pair()
    await peer.send(REQUEST)
    known: list[float | None] = []

    async with serve(transport) as socket, trio.open_nursery() as nursery:
        await peer.read_until(b"\r\n\r\n")

        async def client() -> None:
            socket.ping_soon()
            for late_s in (0.5, 0.25, 2):
                ((first, payload),) = parse_frames(bytes(await peer.stream.receive_some()))
                assert first == 0x89
                await trio.sleep(late_s)
                await peer.send(frame(0x8A, payload))
                await trio.sleep(0.01)
                known.append(socket.round_trip_s)
            await peer.send(close(1000))

        assert socket.round_trip_s is None
        nursery.start_soon(client)
        with pytest.raises(PeerClosed):
            await socket.receive_batch()
    assert known == [0.5, 0.25, 0.25]


async def test_a_pong_that_answers_no_ping_is_no_round_trip(autojump_clock: MockClock) -> None:
    """Neither one that comes before the ping nor one whose payload is another."""
    transport, peer = pair()
    await peer.send(REQUEST, frame(0x8A, b"early"))
    async with serve(transport) as socket:
        await peer.read_until(b"\r\n\r\n")
        socket.ping_soon()
        await wait_all_tasks_blocked()
        ((_, payload),) = parse_frames(bytes(await peer.stream.receive_some()))
        forged = bytes([payload[0] ^ 1]) + payload[1:]
        await peer.send(frame(0x8A), frame(0x8A, forged), text("behind"))
        assert await socket.receive_batch() == ["behind"]
        await wait_all_tasks_blocked()
        assert socket.round_trip_s is None
        await peer.send(frame(0x8A, payload), text("behind"))
        assert await socket.receive_batch() == ["behind"]
        await wait_all_tasks_blocked()
        assert socket.round_trip_s == 0


async def test_the_extra_ping_moves_no_deadline(autojump_clock: MockClock) -> None:
    """A peer that answers none is found out when it would be without it: at 35 s."""
    transport, peer = pair()
    await peer.send(REQUEST)
    async with serve(transport) as socket:
        await peer.read_until(b"\r\n\r\n")
        socket.ping_soon()
        with pytest.raises(KeepaliveTimeout, match="15 s"):
            await socket.receive_batch()
        assert trio.current_time() == 35
    assert [first for first, _ in await peer.read_frames()] == [0x89, 0x89]


async def test_an_extra_ping_at_the_end_does_nothing(autojump_clock: MockClock) -> None:
    """Asked for while the connection is closed, or behind that, it is not sent."""
    transport, peer = pair()
    await peer.send(REQUEST)
    async with serve(transport) as socket, trio.open_nursery() as nursery:
        await peer.read_until(b"\r\n\r\n")
        nursery.start_soon(partial(socket.close, 1000, "done", linger_s=2))
        await wait_all_tasks_blocked()
        socket.ping_soon()
        await trio.sleep(1)
        await peer.send(close(1000))
        await peer.stream.send_eof()
        await wait_all_tasks_blocked()
        socket.ping_soon()
    socket.ping_soon()
    assert await peer.read_frames() == [(0x88, b"\x03\xe8done")]
    assert trio.current_time() == 1
