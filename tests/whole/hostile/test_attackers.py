"""Peers that lie, flood, stall and do not read, against a worker in a process of its own."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from cfw.limits import Limits
from schemas import ErrorCode
from tests.factories import jpeg
from tests.patience import PATIENCE_S, until
from tests.raw import ending_of
from tests.unit.wire.peer import MASK, REQUEST, binary, frame, header, parse_frames, ping, text
from tests.whole.hostile.figures import IS_LONG, figure
from tests.whole.hostile.kit import MB, Rig, Worker, percentile, read_rest, worker
from tests.whole.smoke.worker import meta

#: Short times, so that what is ended by them is ended within a test.
QUICK = {
    "times.handshake_s": 2,
    "times.open_s": 1,
    "times.message_s": 1,
    "times.idle_s": 2,
    "times.meta_to_bytes_s": 2,
    "times.linger_s": 1,
    "times.keepalive_s": 1,
    "times.keepalive_timeout_s": 3,
}
LIMITS = Limits()
#: Until the last of them is cut.
CUT_S = 30
#: How many do the same at a time.
AT_A_TIME = 200 if IS_LONG else 50
#: So many where each keeps a core busy by itself: what they cost is CPU, which is shared out.
FLOODS_AT_A_TIME = 4
NUMBERS = itertools.count()


async def flood(stream: trio.SocketStream, data: bytes, seconds: float) -> int:
    """Send the same for so long, or until it cannot be sent; how many bytes went."""
    sent = 0
    with trio.move_on_after(seconds), contextlib.suppress(trio.BrokenResourceError):
        while True:
            await stream.send_all(data)
            sent += len(data)
    return sent


async def trickle(stream: trio.SocketStream, data: bytes) -> None:
    """Send a byte every 0.1 s, or until nobody takes them."""
    with contextlib.suppress(trio.BrokenResourceError):
        for byte in data:
            await stream.send_all(bytes([byte]))
            await trio.sleep(0.1)


async def shake(made: Worker) -> Rig:
    return await made.rig()


async def slow_handshake(made: Worker) -> bytes:
    stream = await made.dial()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trickle, stream, REQUEST)
        answer = await read_rest(stream)
        nursery.cancel_scope.cancel()
    await stream.aclose()
    return answer


async def in_parallel(rig: Rig, send: Callable[[], Awaitable[object]]) -> bytes:
    """What the worker says while the rig sends."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        answer = await read_rest(rig.stream)
        nursery.cancel_scope.cancel()
    await rig.stream.aclose()
    return answer


async def slow_first_message(made: Worker) -> bytes:
    rig = await shake(made)
    return await in_parallel(rig, lambda: trickle(rig.stream, text("{" * 400)))


async def slow_frame(made: Worker) -> bytes:
    rig = await shake(made)
    await rig.send(header(0x82, 1000) + MASK)
    return await in_parallel(rig, lambda: trickle(rig.stream, bytes(400)))


async def endless_fragments(made: Worker) -> bytes:
    rig = await shake(made)
    await rig.send(frame(0x01))
    return await in_parallel(rig, lambda: flood(rig.stream, frame(0x00) * 10_000, 60))


async def endless_pings(made: Worker) -> bytes:
    rig = await shake(made)
    return await in_parallel(rig, lambda: flood(rig.stream, ping(b"?") * 1000, 60))


async def pings_without_reading(made: Worker) -> bytes:
    rig = await shake(made)
    await flood(rig.stream, ping(bytes(125)) * 1000, 60)
    await rig.stream.aclose()
    return b""


async def never_reads(made: Worker) -> bytes:
    rig = await shake(made)
    await rig.send(text("no JSON"))
    await until_gone(rig)
    return b""


async def until_gone(rig: Rig) -> None:
    """Do not read a byte; wait for a send to fail."""
    with contextlib.suppress(trio.BrokenResourceError), trio.fail_after(PATIENCE_S):
        while True:
            await rig.stream.send_all(ping())
            await trio.sleep(0.05)
    await rig.stream.aclose()


async def half_open(made: Worker) -> bytes:
    """Alive as a TCP connection, and dead otherwise: answers no ping."""
    rig = await made.rig(f"half-open-{next(NUMBERS)}")
    answer = await read_rest(rig.stream)
    await rig.stream.aclose()
    return answer


def codes(answer: bytes) -> int | None:
    """The close code in what a worker said, if it said one."""
    frames = parse_frames(answer)
    return ending_of(frames).code


ATTACKS: dict[str, tuple[Any, int, dict[str, object]]] = {
    "a handshake, a byte every 0.1 s": (slow_handshake, AT_A_TIME, {}),
    "a first message, a byte every 0.1 s": (slow_first_message, AT_A_TIME, {}),
    "a frame, a byte every 0.1 s": (slow_frame, AT_A_TIME, {"times.open_s": 5}),
    "endless empty fragments": (endless_fragments, AT_A_TIME, {}),
    "endless pings": (endless_pings, FLOODS_AT_A_TIME, {}),
    "pings, and no pong is read": (pings_without_reading, AT_A_TIME, {}),
    "a peer that never reads": (never_reads, AT_A_TIME, {}),
    "a peer that answers no ping": (half_open, AT_A_TIME, {"times.idle_s": 9}),
}


@pytest.mark.alone
@pytest.mark.parametrize("name", ATTACKS)
async def test_an_attack_is_over_soon_and_costs_little(name: str, tmp_path: Path) -> None:
    """Many at a time: all are ended, memory is bounded, a bystander's capture goes on."""
    attack, at_a_time, settings = ATTACKS[name]
    lasted: list[float] = []
    waits: list[float] = []
    peak = 0
    bystander_times = {"limits.max_duration_s": 300, "limits.max_frames": 100_000}
    async with worker(tmp_path, settings=QUICK | bystander_times | settings) as made:
        bystander = await made.rig("bystander")
        before = made.rss
        async with trio.open_nursery() as nursery:

            async def one() -> None:
                began = trio.current_time()
                await attack(made)
                lasted.append(trio.current_time() - began)

            async def watch() -> None:
                nonlocal peak
                while True:
                    peak = max(peak, made.rss)
                    await trio.sleep(0.02)

            async def film() -> None:
                # It answers pings, for it reads; and measures how long a frame takes to go.
                while True:
                    began = trio.current_time()
                    await bystander.frame()
                    await trio.sleep(0.05)
                    waits.append(trio.current_time() - began - 0.05)

            async def answer_pings() -> None:
                while data := await bystander.stream.receive_some():
                    assert data[0] == 0x89, data
                    await bystander.send(frame(0x8A, data[2:]))

            nursery.start_soon(watch)
            nursery.start_soon(film)
            nursery.start_soon(answer_pings)
            async with trio.open_nursery() as attackers:
                for _ in range(at_a_time):
                    attackers.start_soon(one)
            nursery.cancel_scope.cancel()
        receipt = await bystander.receipt()
        assert receipt["frames"] == bystander.seq
        assert made.log("connection.failed") == []
        await made.connections(0)
    grown = (peak - before) / MB
    assert len(lasted) == at_a_time
    assert max(lasted) < CUT_S
    # A connection costs some 40 kB, and may have a read of 192 KiB in its hands.
    assert grown < 20 + at_a_time * 0.6
    figure(
        f"{at_a_time} times {name}",
        f"over after {percentile(lasted, 0.5):.1f} s, all within {max(lasted):.1f} s; "
        f"{grown:+.1f} MB; bystander waits {max(waits) * 1e3:.0f} ms at most",
    )


# --- lengths --------------------------------------------------------------------------------

OVER = {
    "a length of 2^63": (
        header(0x82, 5)[:1] + b"\xff" + (1 << 63).to_bytes(8, "big") + MASK,
        1002,
    ),
    "a length of 2^63 - 1": (header(0x82, (1 << 63) - 1) + MASK, 1009),
    "one byte over max_frame_bytes": (header(0x82, LIMITS.max_frame_bytes + 1) + MASK, 1009),
    "one byte over max_control_bytes": (
        header(0x81, LIMITS.max_control_bytes + 1) + MASK,
        1009,
    ),
    "fragments one byte over max_frame_bytes": (
        frame(0x02, bytes(LIMITS.max_frame_bytes)) + header(0x80, 1) + MASK,
        1009,
    ),
    "a control frame of 126 bytes": (header(0x89, 126) + MASK, 1002),
}


async def test_a_length_is_refused_at_its_header(tmp_path: Path) -> None:
    """Each kind, many times: its close code, before a byte of payload, in bounded memory."""
    grown: dict[str, float] = {}
    async with worker(tmp_path) as made:
        await (await made.rig("warm")).receipt()
        for name, (data, code) in OVER.items():
            before = made.rss
            for _ in range(AT_A_TIME):
                rig = await shake(made)
                await rig.send(data)
                assert codes(await read_rest(rig.stream)) == code, name
                await rig.stream.aclose()
            grown[name] = (made.rss - before) / MB
        await made.connections(0)
    assert max(grown.values()) < 10
    figure(
        f"{len(OVER)} lengths over a limit, {AT_A_TIME} times each",
        f"refused at the header; worker {sum(grown.values()):+.1f} MB in all",
    )


@pytest.mark.parametrize(
    ("key", "at"),
    [("limits.max_frame_bytes", LIMITS.max_frame_bytes), ("limits.max_control_bytes", 16_384)],
)
async def test_a_message_of_the_limit_is_taken(key: str, at: int, tmp_path: Path) -> None:
    """n-1 and n are taken, n+1 is not."""
    async with worker(tmp_path) as made:
        for size, is_taken in ((at - 1, True), (at, True), (at + 1, False)):
            rig = await made.rig(f"cap-{size}")
            if key.endswith("frame_bytes"):
                await rig.send(text(meta(1, min(size, at), capture_id=rig.capture_id)))
                await rig.send(binary(jpeg(size)))
                rig.seq = 1
            else:
                told = meta(1, 200, capture_id=rig.capture_id)
                await rig.send(text(told + " " * (size - len(told))) + binary(jpeg(200)))
            if is_taken:
                assert (await rig.receipt())["frames"] == 1
            else:
                assert (await rig.ending()).code == 1009


# --- closing while the peer still sends -----------------------------------------------------


@pytest.mark.parametrize("cause", ["a frame too large", "a wrong seq"])
async def test_a_peer_that_still_sends_reads_why(cause: str, tmp_path: Path) -> None:
    """200 of 200: the abort and the close code are read by one that only then stops sending."""
    read = 0
    async with worker(tmp_path) as made, trio.open_nursery() as nursery:
        limit = trio.CapacityLimiter(10)

        async def one(number: int) -> None:
            nonlocal read
            async with limit:
                rig = await made.rig(f"cap-{number}")
                if cause == "a frame too large":
                    data = header(0x82, 4 * MB) + MASK + bytes(4 * MB)
                    expected = (ErrorCode.LIMIT_FRAME_BYTES_EXCEEDED, 1009)
                else:
                    data = text(meta(7, capture_id=rig.capture_id)) + binary(jpeg(200_000)) * 20
                    expected = (ErrorCode.PROTOCOL_VIOLATION, 1008)
                await rig.send(data)  # all of it, before a byte is read
                ending = await rig.ending()
                (abort,) = ending.aborts
                assert (abort.error_code, ending.code) == expected
                read += 1

        for number in range(200):
            nursery.start_soon(one, number)
    assert read == 200
    figure(f"{cause}, while 4 MB more are sent", f"abort and close code read by {read} of 200")


async def test_one_that_sends_for_ever_is_cut(tmp_path: Path) -> None:
    """After the close frame what is read is bounded, in bytes and in time."""
    async with worker(tmp_path, settings={"times.linger_s": 60}) as made:
        rig = await made.rig("cap-1")
        await rig.send(text("no JSON"))
        began = trio.current_time()
        sent = await flood(rig.stream, binary(jpeg(200_000)) * 5, CUT_S)
        took = trio.current_time() - began
        await rig.stream.aclose()
        await until(lambda: made.log("connection.closed"))
    assert took < CUT_S
    assert 32 * MB < sent < 128 * MB
    figure("a peer that sends for ever after our close", f"cut after {sent / MB:.0f} MB")
