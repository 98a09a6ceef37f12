"""Every wait for a peer has an end that the peer cannot move; on the virtual clock."""

from __future__ import annotations

import gc
import sys

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from cfw.routes.outcome import LADDER
from cfw.testing.fakes import RecordingSink
from cfw.wire import MessageTimeout
from schemas import ErrorCode
from tests.factories import close_fields, jpeg, meta_fields, open_fields
from tests.unit.routes.kit import bench, encode, ending_of
from tests.unit.wire.peer import REQUEST, binary, close, frame, pair, ping, serve, text
from tests.whole.hostile.figures import figure

PONG = frame(0x8A, b"unasked")
CONVERSATION = b"".join(
    [
        REQUEST,
        encode(open_fields()),
        encode(meta_fields(1, 200)),
        encode(jpeg(200)),
        encode(close_fields()),
        close(1000),
    ]
)


# --- one message ----------------------------------------------------------------------------


@pytest.mark.parametrize("over", [False, True])
async def test_a_message_has_message_s_from_its_first_byte_to_its_last(
    over: bool, autojump_clock: MockClock
) -> None:
    """A byte a second: the last one in time is in time, and one more second is too late."""
    transport, peer = pair()
    message = text("7 bytes")  # 13 with its header
    await peer.send(REQUEST)
    async with serve(transport, message_s=11.5 if over else 12.5, keepalive_s=1e6) as ws:
        await trio.sleep(60)  # between messages no time counts

        async def send() -> None:
            for byte in message:
                await peer.send(bytes([byte]))
                await trio.sleep(1)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            if over:
                with pytest.raises(MessageTimeout, match=r"11\.5 s"):
                    await ws.receive_batch()
            else:
                assert await ws.receive_batch() == ["7 bytes"]
            assert trio.current_time() == 60 + (11.5 if over else 12)
            nursery.cancel_scope.cancel()
        await peer.stream.aclose()


@pytest.mark.parametrize(
    "filler",
    [ping(b"?"), PONG, frame(0x00), frame(0x00, b"x")],
    ids=["pings", "pongs", "empty fragments", "fragments"],
)
async def test_nothing_but_its_end_begins_the_time_of_a_message_anew(
    filler: bytes, autojump_clock: MockClock
) -> None:
    """A message that is fed with other frames four times a second ends on its instant."""
    transport, peer = pair()
    await peer.send(REQUEST)
    async with (
        serve(transport, message_s=5, keepalive_s=1e6) as ws,
        trio.open_nursery() as nursery,
    ):

        async def read() -> None:
            while True:
                await peer.stream.receive_some()

        async def send() -> None:
            await peer.send(frame(0x01, b"begun"))
            for _ in range(100):
                await trio.sleep(0.25)
                await peer.send(filler)

        nursery.start_soon(read)
        nursery.start_soon(send)
        with pytest.raises(MessageTimeout):
            await ws.receive_batch()
        assert trio.current_time() == 5
        nursery.cancel_scope.cancel()


async def test_a_control_frame_has_the_same_time(autojump_clock: MockClock) -> None:
    """A ping whose bytes trickle in is no way to be quiet for two minutes."""
    transport, peer = pair()
    await peer.send(REQUEST)
    async with (
        serve(transport, message_s=5, keepalive_s=1e6) as ws,
        trio.open_nursery() as nursery,
    ):

        async def send() -> None:
            for byte in ping(bytes(125)):
                await peer.send(bytes([byte]))
                await trio.sleep(1)

        nursery.start_soon(send)
        with pytest.raises(MessageTimeout):
            await ws.receive_batch()
        assert trio.current_time() == 5
        nursery.cancel_scope.cancel()


async def test_only_time_spent_reading_counts(autojump_clock: MockClock) -> None:
    """Nobody pays for our own pauses: half a message may lie there while we are busy."""
    transport, peer = pair()
    await peer.send(REQUEST, text("whole"), text("half")[:5])
    async with serve(transport, message_s=5, keepalive_s=1e6) as ws:
        assert await ws.receive_batch() == ["whole"]
        for _ in range(3):  # a pause, and then 1.5 s of waiting that somebody cuts short
            await trio.sleep(60)
            with trio.move_on_after(1.5):
                await ws.receive_batch()
        await trio.sleep(60)
        began = trio.current_time()
        with pytest.raises(MessageTimeout):
            await ws.receive_batch()
        assert trio.current_time() == began + 0.5
        await peer.stream.aclose()


async def test_a_slow_message_ends_the_capture_as_a_protocol_violation(
    autojump_clock: MockClock,
) -> None:
    """With patient idle times it is message_s that ends a frame sent a byte a second."""
    patient = {"idle_s": 14, "meta_to_bytes_s": 14, "message_s": 3}
    async with bench(times=patient) as b:
        rig = await b.capture()
        await rig.say(meta_fields(1, 200))
        await wait_all_tasks_blocked()
        begun = trio.current_time()
        for byte in binary(jpeg(200))[:4]:
            await rig.peer.send(bytes([byte]))
            await trio.sleep(1)
        ending = await rig.ending()
        assert b.sink.only.terminals_at == [begun + 3]
    (abort,) = ending.aborts
    assert abort.error_code is ErrorCode.PROTOCOL_VIOLATION
    assert ending.code == LADDER[ErrorCode.PROTOCOL_VIOLATION][0]
    assert "message_s" in ending.reason


# --- a whole connection ---------------------------------------------------------------------


@pytest.mark.parametrize("flood", [ping(b"?"), PONG], ids=["pings", "pongs"])
async def test_a_flood_does_not_extend_idle_s(flood: bytes, autojump_clock: MockClock) -> None:
    """An open capture without a frame ends at its instant, however lively its peer is."""
    async with bench() as b, trio.open_nursery() as nursery:
        rig = await b.capture()
        await wait_all_tasks_blocked()
        begun = trio.current_time()

        async def send() -> None:
            while True:
                await rig.peer.send(flood * 20)
                await trio.sleep(0.1)

        nursery.start_soon(send)
        ended = await rig.peer.read_rest()
        nursery.cancel_scope.cancel()
        await rig.peer.stream.aclose()
    assert b.sink.only.terminals_at == [begun + 5]
    assert b"idle_s" in ended


@pytest.mark.parametrize("tail", [b"", frame(0x00) * 9], ids=["silence", "empty fragments"])
async def test_open_s_is_not_extended_by_fragments(
    tail: bytes, autojump_clock: MockClock
) -> None:
    """A first message that never ends is over with message_s or open_s, whichever is first."""
    async with bench(times={"message_s": 60}) as b, trio.open_nursery() as nursery:
        rig = await b.connect()
        begun = trio.current_time()
        await rig.peer.send(frame(0x01, b"{"))

        async def send() -> None:
            while True:
                await rig.peer.send(tail)
                await trio.sleep(0.1)

        nursery.start_soon(send)
        with trio.fail_after(20):
            frames = await rig.peer.read_frames()
        assert trio.current_time() - begun == 10
        nursery.cancel_scope.cancel()
        await rig.peer.stream.aclose()
    assert "open_s" in ending_of(frames).reason


async def test_a_stall_at_every_byte_is_over_in_bounded_time(
    autojump_clock: MockClock,
) -> None:
    """A rig that stops at any byte of its conversation and stays is ended and said to be."""
    longest = 0.0
    for at in range(len(CONVERSATION)):
        sink = RecordingSink()
        async with bench(sink) as b:
            ours, peer = pair()
            b.nursery.start_soon(b.router.handle, ours)
            begun = trio.current_time()
            await peer.send(CONVERSATION[:at])
            await wait_all_tasks_blocked()
            await b.router.wait_gone()
            longest = max(longest, trio.current_time() - begun)
        for capture in sink.captures:
            assert len(capture.terminals) == 1, at
    # open_s and then linger_s, the longest pair of waits that one rig can have.
    assert longest <= 10 + 2
    figure(
        f"a stall at each of {len(CONVERSATION)} bytes", f"over within {longest:g} s (virtual)"
    )


async def test_a_half_open_peer_is_found_out(autojump_clock: MockClock) -> None:
    """One whose machine is gone answers no ping, and takes none of our sends."""
    quiet = {"idle_s": 3600, "open_s": 3600}
    async with bench(times=quiet, limits={"max_duration_s": 3600}) as b:
        ours, peer = pair()
        b.nursery.start_soon(b.router.handle, ours)
        await peer.open()
        await peer.send(encode(open_fields()))
        await wait_all_tasks_blocked()
        ours.send_stream.send_all_hook = trio.sleep_forever
        begun = trio.current_time()
        await b.router.wait_gone()
        took = trio.current_time() - begun
        await peer.stream.aclose()
    # keepalive_s and keepalive_timeout_s, then linger_s for words that nobody reads.
    assert took <= 20 + 20 + 2
    assert b.sink.only.error_code is ErrorCode.CLIENT_DISCONNECTED


async def test_what_is_refused_is_not_kept_while_the_peer_is_seen_off(
    autojump_clock: MockClock,
) -> None:
    """A read full of tiny messages takes many times its bytes, and the linger is long."""
    count = 5_000
    data = text("{}") * count
    async with bench() as b:
        rig = await b.connect()
        await wait_all_tasks_blocked()
        gc.collect()
        before = sys.getallocatedblocks()
        await rig.peer.send(data)
        await wait_all_tasks_blocked()
        kept = sys.getallocatedblocks() - before
        assert "event" in (await rig.ending()).reason
        await rig.peer.stream.aclose()
    assert kept < count / 2
