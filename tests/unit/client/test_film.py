"""`film` against a worker in memory, on a virtual clock: none doubled, none lost silently."""

# The block of `film` is what is tested, so it stands by itself, whole.
# ruff: noqa: PT012

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from cfw.client import (
    AccessDenied,
    CaptureError,
    ConnectionLost,
    ConnectionRefused,
    Film,
    FilmIncomplete,
    LimitsUnknown,
    ProtocolViolation,
    Receipt,
    SessionClosed,
    film,
)
from cfw.client._retry import LONGEST_PAUSE_S, Backoff, passes
from cfw.sessions import SessionStatus
from cfw.testing.fakes import FailingSink, RecordingSink, ScriptedAuthority
from cfw.testing.rigs import Worker, jpeg, running_worker
from schemas import (
    ABORTS,
    CaptureClose,
    ErrorCode,
    FeedAbort,
    FeedClose,
    SchemaError,
    Timestamp,
)
from tests.unit.client.fake_worker import FakeWorker, fake_worker

FPS = 10
OPTIONS: dict[str, Any] = {
    "user_id": "ada",
    "session_id": "s-1",
    "width": 640,
    "height": 480,
    "fps": FPS,
}


def filming(
    worker: Worker, dial: Callable[[], Awaitable[Any]] | None = None, **settings: Any
) -> AbstractAsyncContextManager[Film]:
    async def connect() -> Any:
        return worker.dial()

    return film("ws://worker", dial=dial or connect, **OPTIONS | settings)


def picture(number: int, size: int = 200) -> bytes:
    """Frame `number` of a film: no two are alike."""
    data = bytearray(jpeg(size))
    data[-6:-2] = bytes(1 + digit for digit in divmod(number, 100)) + b"xx"
    return bytes(data)


async def send(sent: Film, numbers: range, pace_s: float = 1 / FPS) -> None:
    for number in numbers:
        await sent.send_frame(picture(number))
        await trio.sleep(pace_s)


def received(worker: Worker) -> list[list[bytes]]:
    """What the sink was given, capture by capture."""
    return [[frame.data for frame in capture.frames] for capture in worker.captures]


def flat(worker: Worker) -> list[bytes]:
    """The same, without its captures."""
    return [data for frames in received(worker) for data in frames]


# --- split ------------------------------------------------------------------------------------


@pytest.mark.parametrize("frames", [1, 4, 5, 6, 10, 11])
async def test_a_film_goes_on_before_the_limit_of_frames(
    autojump_clock: MockClock, frames: int
) -> None:
    """Every frame once, in order, in captures as long as allowed; the receipts add up."""
    async with running_worker(limits={"max_frames": 5}) as worker:
        async with filming(worker, split=True, capture_id="film") as sent:
            await send(sent, range(frames))
        numbers = [*range(frames)]
        assert received(worker) == [
            [picture(number) for number in numbers[at : at + 5]] for at in range(0, frames, 5)
        ]
        assert sent.receipt == Receipt(frames, 200 * frames)
        assert [part.receipt for part in sent.parts] == [
            Receipt(len(each), 200 * len(each)) for each in received(worker)
        ]
        assert [part.first_frame for part in sent.parts] == [*range(1, frames + 1, 5)]
        names = ["film", "film.2", "film.3"][: len(sent.parts)]
        assert [part.capture_id for part in sent.parts] == names
        assert all(isinstance(each.terminals[0], FeedClose) for each in worker.captures)


@pytest.mark.parametrize(("most", "parts"), [(599, 3), (600, 2), (601, 2), (200, 6)])
async def test_a_film_goes_on_before_the_limit_of_bytes(
    autojump_clock: MockClock, most: int, parts: int
) -> None:
    """A frame that would be one byte too many begins the next capture."""
    async with running_worker(limits={"max_total_bytes": most}) as worker:
        async with filming(worker, split=True) as sent:
            await send(sent, range(6))
        assert sent.receipt == Receipt(6, 1200)
        assert len(sent.parts) == parts
        assert flat(worker) == [picture(number) for number in range(6)]


async def test_a_film_goes_on_before_the_limit_of_length(autojump_clock: MockClock) -> None:
    """By the worker's clock: 60 s at 10 frames a second in captures of at most 15 s."""
    async with running_worker(limits={"max_frames": 10_000}) as worker:
        async with filming(worker, split=True) as sent:
            await send(sent, range(600))
        assert sent.receipt.frames == 600
        assert flat(worker) == [picture(number) for number in range(600)]
        assert 4 <= len(sent.parts) <= 6


async def test_event_times_may_be_far_ahead_of_the_clock(autojump_clock: MockClock) -> None:
    """A recording that is sent at once: the length counts by the times of its frames, too."""
    begun = Timestamp.from_ns(1_800_000_000_000_000_000)
    async with running_worker(
        start=datetime.fromtimestamp(begun.ns / 1e9, UTC), limits={"max_frames": 1000}
    ) as worker:
        async with filming(worker, split=True, timestamp_start=begun.text) as sent:
            for number in range(100):
                taken = Timestamp.from_ns(begun.ns + number * 1_000_000_000)
                await sent.send_frame(picture(number), taken.text)
        assert flat(worker) == [picture(number) for number in range(100)]
        # 16 frames a second apart span 15 s, which may be reached.
        assert [len(frames) for frames in received(worker)] == [16, 16, 16, 16, 16, 16, 4]


async def test_a_silence_costs_nothing(autojump_clock: MockClock) -> None:
    """A camera that gives a frame a minute: each capture is closed before it is idle."""
    async with running_worker() as worker:
        async with filming(worker, split=True) as sent:
            await send(sent, range(5), pace_s=60)
        assert flat(worker) == [picture(number) for number in range(5)]
        assert all(isinstance(each.terminals[0], FeedClose) for each in worker.captures)
        assert sent.receipt.frames == 5


async def test_an_hour_in_captures_of_15_seconds(autojump_clock: MockClock) -> None:
    """At 2 frames a second: 7200 frames in, 7200 out, none doubled, each in its order."""
    frames = 7200
    async with running_worker() as worker:
        async with filming(worker, split=True) as sent:
            for number in range(frames):
                await sent.send_frame(picture(number))
                await trio.sleep(0.5)
        assert sent.receipt.frames == sent.frames_sent == frames
        assert flat(worker) == [picture(number) for number in range(frames)]
        assert sum(part.frames_sent for part in sent.parts) == frames
        assert trio.current_time() >= 3600
        assert len(sent.parts) >= 3600 / 15


async def test_the_next_capture_does_not_wait_for_a_receipt(autojump_clock: MockClock) -> None:
    """A sink that is slow at the end holds up no camera."""
    sink = RecordingSink(finish_s=2)
    async with running_worker(sink=sink, limits={"max_frames": 5}) as worker:
        async with filming(worker, split=True) as sent:
            took = []
            for number in range(8):
                began = trio.current_time()
                await sent.send_frame(picture(number))
                took.append(trio.current_time() - began)
                await trio.sleep(1 / FPS)
            assert max(took) == 0
        assert sent.receipt.frames == 8


async def test_a_worker_without_limits_cannot_be_split(autojump_clock: MockClock) -> None:
    """It is told at once; a film that is not split asks for none."""
    async with fake_worker(FakeWorker.read_to_end) as rig:
        with pytest.raises(LimitsUnknown, match="Cfw-Limits"):
            async with film("ws://worker", split=True, dial=once(rig.stream), **OPTIONS):
                raise AssertionError("it was begun")
    async with fake_worker(FakeWorker.confirm) as rig:
        async with film("ws://worker", dial=once(rig.stream), **OPTIONS) as sent:
            await sent.send_frame(picture(0))
        assert sent.receipt == Receipt(1, 200)


def once(*streams: Any) -> Callable[[], Awaitable[Any]]:
    left = [*streams]

    async def dial() -> Any:
        if not left:
            raise OSError("nobody is there")
        return left.pop(0)

    return dial


# --- losses -----------------------------------------------------------------------------------


class Network:
    """Connections to a worker that can be cut, and a time in which none can be made."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.streams: list[Any] = []
        self.is_down = False
        self.attempts: list[float] = []

    async def dial(self) -> Any:
        self.attempts.append(trio.current_time())
        if self.is_down:
            raise OSError("the network is down")
        stream = self.worker.dial()
        self.streams.append(stream)
        return stream

    def cut(self) -> None:
        self.streams[-1].close()


async def test_without_retry_a_film_fails_as_a_capture_does(autojump_clock: MockClock) -> None:
    """At the next frame, with the capture's own error; nothing is opened again."""
    async with running_worker() as worker:
        network = Network(worker)
        with pytest.raises(ConnectionLost):
            async with filming(worker, network.dial) as sent:
                await sent.send_frame(picture(0))
                network.cut()
                await trio.sleep(1)
                await sent.send_frame(picture(1))
        assert len(network.attempts) == 1


async def test_a_lost_connection_is_opened_again_and_told(autojump_clock: MockClock) -> None:
    """What was sent without a receipt is told to the frame; every other one is confirmed."""
    async with running_worker() as worker:
        network = Network(worker)
        with pytest.raises(FilmIncomplete) as caught:
            async with filming(worker, network.dial, retry_s=60) as sent:
                await send(sent, range(10))
                network.cut()
                await send(sent, range(10, 30))
        error = caught.value
        assert (error.captures, error.frames_sent, error.frames_lost) == (2, 30, 10)
        assert "10 of 30 frames were sent and not confirmed" in str(error)
        (lost,) = error.lost
        assert (lost.first_frame, lost.frames_sent, lost.receipt) == (1, 10, None)
        assert isinstance(lost.failure, ConnectionLost)
        assert sent.receipt == Receipt(20, 4000)
        assert received(worker)[1] == [picture(number) for number in range(10, 30)]
        assert isinstance(worker.captures[0].terminals[0], FeedAbort)


async def away(network: Network, seconds: float) -> None:
    """The network is cut, and comes back."""
    network.is_down = True
    network.cut()
    await trio.sleep(seconds)
    network.is_down = False


async def test_a_network_that_is_away_is_waited_for(autojump_clock: MockClock) -> None:
    """With pauses that grow and are never alike; the frame that waited is sent, and once."""
    async with running_worker() as worker, trio.open_nursery() as nursery:
        network = Network(worker)
        with pytest.raises(FilmIncomplete) as caught:
            async with filming(worker, network.dial, retry_s=60) as sent:
                await send(sent, range(3))
                nursery.start_soon(away, network, 30)
                await trio.sleep(0.1)
                await send(sent, range(3, 6))
        assert [part.frames_sent for part in caught.value.lost] == [3]
        times = network.attempts[1:]
        pauses = [later - earlier for earlier, later in pairwise(times)]
        assert all(LONGEST_PAUSE_S / 2 <= pause <= LONGEST_PAUSE_S for pause in pauses[-4:-2])
        assert len(set(pauses)) == len(pauses)
        assert len(network.attempts) < 20
        assert flat(worker) == [picture(number) for number in range(6)]
        assert sent.receipt.frames == 3


async def test_it_gives_up_in_the_end(autojump_clock: MockClock) -> None:
    """With the last error, `retry_s` after the first one."""
    async with running_worker() as worker:
        network = Network(worker)
        with pytest.raises(ConnectionRefused, match="the network is down"):
            async with filming(worker, network.dial, retry_s=20) as sent:
                await send(sent, range(3))
                network.is_down = True
                network.cut()
                began = trio.current_time()
                await send(sent, range(3, 6))
        assert 10 <= trio.current_time() - began <= 20


async def test_the_first_capture_has_to_open_at_once() -> None:
    """A wrong address is told, not tried for ever."""
    with pytest.raises(ConnectionRefused):
        async with film("ws://worker", retry_s=60, dial=once(), **OPTIONS):
            raise AssertionError("it was begun")


async def test_a_worker_that_stops_is_left_for_the_next(autojump_clock: MockClock) -> None:
    """A worker is drained and another one takes its place, as in an update."""
    async with running_worker() as first, running_worker() as second:
        workers = [first, second]

        async def dial() -> Any:
            return workers[0].dial()

        with pytest.raises(FilmIncomplete) as caught:
            async with filming(first, dial, retry_s=60) as sent:
                await send(sent, range(5))
                del workers[0]
                first.router.abort_all()
                await trio.sleep(0.1)
                await send(sent, range(5, 10))
        assert [part.frames_sent for part in caught.value.lost] == [5]
        assert received(second) == [[picture(number) for number in range(5, 10)]]


async def test_no_frame_is_wasted_on_a_worker_that_refuses(autojump_clock: MockClock) -> None:
    """After a loss, a new capture is trusted with a frame when it was not refused."""
    authority = ScriptedAuthority(delay_s=0.1)
    sink = FailingSink(at="open", times=3)
    async with running_worker(sink=sink, authority=authority, sink_may_fail=True) as worker:
        network = Network(worker)
        sink.times = 0
        with pytest.raises(FilmIncomplete) as caught:
            async with filming(worker, network.dial, retry_s=600) as sent:
                await send(sent, range(3))
                sink.times = 3
                network.cut()
                await trio.sleep(1)
                await send(sent, range(3, 6))
        assert [part.frames_sent for part in caught.value.lost] == [3]
        assert len(network.attempts) == 5
        assert received(worker)[-1] == [picture(number) for number in range(3, 6)]


async def test_a_worker_without_room_is_waited_for(autojump_clock: MockClock) -> None:
    """It answers 503 while it drains, or has too many connections."""
    async with running_worker() as worker, trio.open_nursery() as nursery:
        network = Network(worker)

        async def let_in() -> None:
            await trio.sleep(20)
            worker.router.is_draining = False

        with pytest.raises(FilmIncomplete) as caught:
            async with filming(worker, network.dial, retry_s=600) as sent:
                await send(sent, range(3))
                worker.router.is_draining = True
                network.cut()
                nursery.start_soon(let_in)
                await trio.sleep(0.1)
                await send(sent, range(3, 6))
        assert [part.frames_sent for part in caught.value.lost] == [3]
        assert flat(worker) == [picture(number) for number in range(6)]


async def test_a_consumer_that_always_fails_costs_few_frames(autojump_clock: MockClock) -> None:
    """The pauses grow although each capture opens; then it is given up."""
    sink = FailingSink(at=1)
    async with running_worker(sink=sink, sink_may_fail=True) as worker:
        with pytest.raises(CaptureError):
            async with filming(worker, retry_s=60) as sent:
                await send(sent, range(10_000))
        assert 1 < len(sent.lost) < 40
        assert sum(part.frames_sent for part in sent.lost) < 100
        assert sent.receipt == Receipt(0, 0)


async def test_a_session_that_ends_ends_the_film(autojump_clock: MockClock) -> None:
    """The next capture would be refused as well."""
    authority = ScriptedAuthority()
    async with running_worker(authority=authority, times={"session_recheck_s": 1}) as worker:
        with pytest.raises(SessionClosed):
            async with filming(worker, split=True, retry_s=60) as sent:
                await send(sent, range(5))
                authority.flip(SessionStatus.CLOSED)
                await send(sent, range(5, 50))
        assert len(worker.captures) == 1


async def test_a_picture_that_is_none_ends_the_film(autojump_clock: MockClock) -> None:
    """A rig that is wrong would be wrong again."""
    async with running_worker() as worker:
        with pytest.raises(ProtocolViolation, match="not a JPEG"):
            async with filming(worker, split=True, retry_s=60) as sent:
                await send(sent, range(5))
                await sent.send_frame(b"no picture")
                await send(sent, range(5, 10))


async def test_a_receipt_that_does_not_come_is_a_loss(autojump_clock: MockClock) -> None:
    """Its frames are told although all of them were sent, and the film had gone on."""

    async def deaf(worker: FakeWorker) -> None:
        await worker.read_until(CaptureClose)
        await trio.sleep(1000)

    async with fake_worker(deaf) as rig, running_worker() as other:
        streams = [rig.stream]

        async def dial() -> Any:
            return streams.pop() if streams else other.dial()

        with pytest.raises(FilmIncomplete) as caught:
            async with film("ws://worker", retry_s=60, dial=dial, **OPTIONS) as sent:
                await send(sent, range(5))
        assert [part.frames_sent for part in caught.value.lost] == [5]
        assert "no receipt" in str(caught.value)


async def test_frames_that_waited_long_are_no_violation(autojump_clock: MockClock) -> None:
    """The frame from before an outage and those from behind it need captures of their own."""
    async with (
        running_worker(limits={"max_duration_s": 10}) as worker,
        trio.open_nursery() as nursery,
    ):
        network = Network(worker)
        with pytest.raises(FilmIncomplete) as caught:
            async with filming(worker, network.dial, retry_s=600) as sent:
                await send(sent, range(3))
                nursery.start_soon(away, network, 60)
                await trio.sleep(0.1)
                await send(sent, range(3, 6))
        assert [part.frames_sent for part in caught.value.lost] == [3]
        assert received(worker)[1:] == [[picture(3)], [picture(4), picture(5)]]


# --- how it is used ---------------------------------------------------------------------------


async def test_an_exception_of_the_body_leaves_as_it_is(autojump_clock: MockClock) -> None:
    """And the capture is not closed, so that nobody takes it for whole."""
    async with running_worker() as worker:
        with pytest.raises(KeyError, match="mine"):
            async with filming(worker, split=True, retry_s=60) as sent:
                await send(sent, range(3))
                raise KeyError("mine")
        await worker.wait_gone()
        (terminal,) = worker.captures[0].terminals
        assert isinstance(terminal, FeedAbort)
        assert terminal.error_code is ErrorCode.CLIENT_DISCONNECTED
        with pytest.raises(trio.ClosedResourceError):
            await sent.send_frame(picture(4))


async def test_wrong_frames_cost_the_film_nothing(autojump_clock: MockClock) -> None:
    """Told to the caller, and not sent; those behind it are."""
    async with running_worker() as worker:
        async with filming(worker, split=True) as sent:
            await sent.send_frame(picture(0))
            with pytest.raises(SchemaError):
                await sent.send_frame(picture(1), "yesterday")
            with pytest.raises(SchemaError):
                await sent.send_frame(b"")
            with pytest.raises(TypeError):
                await sent.send_frame(15)  # type: ignore[arg-type]
            later = datetime.now(UTC) + timedelta(seconds=1)
            await sent.send_frame(picture(1), later)
        assert received(worker) == [[picture(0), picture(1)]]


async def test_frames_of_several_tasks_go_in_the_order_of_the_calls(
    autojump_clock: MockClock,
) -> None:
    """Over the ends of captures, too."""
    async with running_worker(limits={"max_frames": 3}) as worker:
        async with filming(worker, split=True) as sent, trio.open_nursery() as nursery:
            for number in range(10):
                nursery.start_soon(sent.send_frame, picture(number))
                await trio.testing.wait_all_tasks_blocked()
        assert flat(worker) == [picture(number) for number in range(10)]
        assert max(Counter(flat(worker)).values()) == 1


@pytest.mark.parametrize("value", [0, -1, float("nan")])
def test_a_time_that_is_none_is_refused_at_the_call(value: float) -> None:
    """As other timeouts are."""
    with pytest.raises(ValueError, match="retry_s"):
        film("ws://worker", retry_s=value, **OPTIONS)
    with pytest.raises(TypeError):
        film("ws://worker", user_id="ada")  # type: ignore[call-arg]


def test_what_passes_and_what_does_not() -> None:
    """Each way in which a capture may end; a new error code is decided here."""
    passing = {
        ErrorCode.FORWARD_FAILED,
        ErrorCode.INTERNAL_ERROR,
        ErrorCode.LIMIT_FORWARD_BUFFER_EXCEEDED,
        ErrorCode.SERVER_AT_CAPACITY,
        ErrorCode.SERVER_SHUTDOWN,
    }
    assert {code for code, kind in ABORTS.items() if passes(kind("why"))} == passing
    assert passes(ConnectionLost("gone"))
    assert passes(ConnectionRefused("nobody is there"))
    assert passes(ConnectionRefused("no room", status=503))
    assert not passes(ConnectionRefused("wrong path", status=404))
    assert not passes(AccessDenied("who are you", status=401))


async def test_pauses_have_a_bound_and_a_beginning(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They double up to the longest one, and begin anew after a success."""
    monkeypatch.setattr("random.uniform", lambda low, high: high)
    backoff = Backoff(for_s=1000)
    await backoff.pause()
    assert trio.current_time() == 0
    pauses = []
    for _ in range(9):
        backoff.failed(ConnectionLost("gone"))
        began = trio.current_time()
        await backoff.pause()
        pauses.append(round(trio.current_time() - began, 3))
    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5, 5, 5]
    backoff.succeeded()
    assert not backoff.in_trouble
    backoff.failed(ConnectionLost("gone"))
    began = trio.current_time()
    await backoff.pause()
    assert trio.current_time() - began == pytest.approx(0.1)
