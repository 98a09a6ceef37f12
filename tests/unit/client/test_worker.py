"""`ask_worker`: what a worker says of itself, and what of it is believed."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock

from cfw.client import (
    AccessDenied,
    ClockOffset,
    ConnectionRefused,
    WorkerLimits,
    ask_worker,
    open_capture,
)
from cfw.client._clock import RigClock
from cfw.limits import Limits, Times, limits_told
from schemas import Greeting, Timestamp
from tests.factories import START_NS
from tests.unit.client.fake_worker import FakeWorker, fake_worker, options_of
from tests.unit.routes.kit import bench
from tests.unit.wire.peer import PATH, pair

TOLD: dict[str, Any] = {
    "max_duration_s": 15,
    "max_fps": 15,
    "max_width": 640,
    "max_height": 480,
    "max_pixels": 307_200,
    "max_frames": 225,
    "max_frame_bytes": 300_000,
    "max_total_bytes": 50_000_000,
    "idle_s": 5,
}


@pytest.fixture
def rig_clock(monkeypatch: pytest.MonkeyPatch) -> int:
    """The rig's wall clock stands 40 ms ahead of that of the worker in `bench`."""
    ahead_ns = 40_000_000
    monkeypatch.setattr(
        "time.time_ns", lambda: START_NS + ahead_ns + round(trio.current_time() * 1e9)
    )
    return ahead_ns


class Line(trio.abc.HalfCloseableStream):
    """A stream whose bytes take a while, each way."""

    def __init__(self, stream: Any, there_s: float, back_s: float) -> None:
        self._stream, self._there_s, self._back_s = stream, there_s, back_s

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await trio.sleep(self._there_s)
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        await self._stream.send_eof()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        data: bytes | bytearray = await self._stream.receive_some(max_bytes)
        await trio.sleep(self._back_s)
        return data

    async def aclose(self) -> None:
        await self._stream.aclose()


async def test_a_worker_tells_its_limits_and_sees_no_capture(autojump_clock: MockClock) -> None:
    """Those it was given, before any `capture.open`; nothing reaches the sink."""
    limits: dict[str, Any] = {"max_fps": 30, "max_duration_s": 3600}
    async with bench(limits=limits, times={"idle_s": 7.5}) as b:
        ours, peer = pair()
        b.nursery.start_soon(b.router.handle, ours)
        worker = await ask_worker(f"ws://worker{PATH}", stream=peer.stream)
        assert worker.limits == WorkerLimits(**TOLD | limits | {"idle_s": 7.5})
        await b.router.wait_gone()
        assert b.sink.captures == []


@pytest.mark.usefixtures("rig_clock")
async def test_a_capture_knows_the_limits_of_its_worker(autojump_clock: MockClock) -> None:
    """Of the very worker that it is sent to, which another connection may not reach."""
    async with bench(limits={"max_frames": 3}) as b:
        ours, peer = pair()
        b.nursery.start_soon(b.router.handle, ours)
        options = options_of(peer.stream) | {"url": f"ws://worker{PATH}"}
        async with open_capture(**options) as capture:
            assert capture.limits is not None
            assert capture.limits.max_frames == 3


@pytest.mark.parametrize(("there_s", "back_s"), [(0, 0), (0.01, 0.03), (0.2, 0), (0, 0.2)])
async def test_the_offset_is_within_the_interval(
    rig_clock: int, autojump_clock: MockClock, there_s: float, back_s: float
) -> None:
    """However uneven the way is: it is as wide as the round trip, and never wrong."""
    async with bench() as b:
        ours, peer = pair()
        b.nursery.start_soon(b.router.handle, ours)
        line = Line(peer.stream, there_s, back_s)
        offset = (await ask_worker(f"ws://worker{PATH}", stream=line)).offset
    assert offset is not None
    assert offset.min_ns <= rig_clock <= offset.max_ns
    assert offset.width_ns == pytest.approx((there_s + back_s) * 1e9, abs=1000)


async def test_a_worker_that_tells_nothing_is_no_fault(autojump_clock: MockClock) -> None:
    """One of before, or behind a proxy that keeps headers to itself."""
    for headers in ([], [(b"Cfw-Limits", b"{}"), (b"Cfw-Time", b"now")]):
        greeting = Greeting.of(headers)
        assert greeting == Greeting(None, None)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"[]",
        b"15",
        b"{",
        b"\xff",
        b'{"max_fps":15}',
        *(
            Greeting(WorkerLimits(**TOLD), None)
            .headers()[0][1]
            .replace(b'"max_fps":15', b'"max_fps":' + wrong)
            for wrong in (b"0", b"-1", b"15.0", b'"15"', b"true", b"null", b"9007199254740992")
        ),
        Greeting(WorkerLimits(**TOLD), None).headers()[0][1].replace(b'_s":5', b'_s":0'),
    ],
    ids=str,
)
def test_limits_that_are_none_are_not_believed(value: bytes) -> None:
    """What cannot be read whole counts as not told."""
    assert Greeting.of([(b"cfw-limits", value)]).limits is None


def test_a_greeting_reads_back_and_further_fields_are_ignored() -> None:
    """What a worker writes is what a rig reads; a newer worker may say more."""
    said = Greeting(WorkerLimits(**TOLD), Timestamp.from_ns(START_NS))
    assert Greeting.of(said.headers()) == said
    more = said.headers()[0][1].replace(b"{", b'{"max_more":1,')
    assert Greeting.of([(b"CFW-LIMITS", more)]).limits == said.limits


def test_every_limit_that_a_rig_needs_is_told() -> None:
    """The values are those of the configuration."""
    assert attrs.asdict(limits_told(Limits(), Times())) == TOLD


def test_two_answers_say_more_than_one() -> None:
    """What both allow; where they contradict each other, the narrower one."""
    one, other = ClockOffset(0, 10), ClockOffset(6, 30)
    assert one.also(other) == other.also(one) == ClockOffset(6, 10)
    assert one.also(ClockOffset(20, 40)) == one
    assert ClockOffset(20, 40).also(one) == one
    assert ClockOffset(6, 10).middle_ns == 8


async def test_whoever_is_not_let_in_is_told_nothing() -> None:
    """No worker, no limits: the error is that of a capture."""
    ours, peer = pair()
    await ours.send_all(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n")
    with pytest.raises(AccessDenied):
        await ask_worker("ws://worker", stream=peer.stream)
    with pytest.raises(ValueError, match="WebSocket URL"):
        await ask_worker("http://worker")
    ours, peer = pair()
    await ours.aclose()
    with pytest.raises(ConnectionRefused):
        await ask_worker("ws://worker", stream=peer.stream)


async def test_a_worker_that_never_leaves_is_left(autojump_clock: MockClock) -> None:
    """Its last words are waited for, but not for ever."""

    async def silent(worker: FakeWorker) -> None:
        await trio.sleep(60)

    async with fake_worker(silent) as rig:
        before = trio.current_time()
        await ask_worker("ws://worker", stream=rig.stream)
        assert trio.current_time() - before < 10


async def test_the_clock_of_a_rig_never_jumps(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is read once; a wall clock that is set moves no event time."""
    clock = RigClock()
    before = clock.now_ns()
    monkeypatch.setattr("time.time_ns", lambda: 0)
    await trio.sleep(1)
    assert clock.now_ns() - before == 1_000_000_000
    assert clock.trio_time(clock.now_ns()) == pytest.approx(trio.current_time(), abs=1e-6)
