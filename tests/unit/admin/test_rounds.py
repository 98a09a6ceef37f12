"""Rounds of a feed: when they are due, and what they are."""

from __future__ import annotations

import json
import math
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from itertools import pairwise

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from cfw.admin._pace import LivePace
from cfw.admin._rounds import MOST_BYTES, MOST_FRAMES, USUAL_S, Rounds, packed
from cfw.sinks import CaptureSink
from cfw.sinks.hub import FeedItem, Hub
from cfw.state import Frame
from tests.unit.sinks.items import brief, close, frame, opened, running


def idle_pace() -> LivePace:
    """Of a worker that has all the time there is."""
    pace = LivePace(clock=lambda: 0.0)
    pace.rest_s = 0.0
    return pace


@attrs.frozen
class Reader:
    """What was told, in words, and when."""

    hub: Hub
    rounds: Rounds
    got: list[tuple[float, str]] = attrs.field(factory=list)

    async def read(self, each_takes_s: float = 0) -> None:
        async for item in self.rounds:
            self.got.append((round(trio.current_time() - BEGUN_S, 3), words(item)))
            await trio.sleep(each_takes_s)

    def asks(self, capture_ids: list[str], **more: object) -> bool:
        return self.rounds.hear(json.dumps({"ask": capture_ids, **more}))


#: Not 0, that a time is none by chance.
BEGUN_S = 1_000.0


@pytest.fixture
def mock_clock() -> MockClock:
    clock = MockClock(autojump_threshold=0)
    clock.jump(BEGUN_S)
    return clock


def words(item: FeedItem | list[Frame]) -> str:
    return " ".join(map(brief, item)) if isinstance(item, list) else brief(item)


@contextmanager
def reader(hub: Hub, pace: LivePace | None = None) -> Iterator[Reader]:
    with hub.subscribe_asked() as subscription:
        yield Reader(hub, Rounds(subscription, pace or idle_pace()))


@asynccontextmanager
async def reading(it: Reader, each_takes_s: float = 0) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(it.read, each_takes_s)
        await wait_all_tasks_blocked()
        yield
        nursery.cancel_scope.cancel()


async def film(capture: CaptureSink, frames: int, fps: float, capture_id: str = "cap") -> None:
    """The first one at once."""
    for seq in range(1, frames + 1):
        await capture.send(frame(seq, capture_id))
        await trio.sleep(1 / fps)


async def test_a_round_has_the_newest_and_comes_no_sooner(mock_clock: MockClock) -> None:
    """Two rigs at 20 frames a second, asked for three of each in tenths of a second."""
    hub = Hub()
    with reader(hub) as it:
        async with (
            running(hub, "a") as a,
            running(hub, "b") as b,
            reading(it),
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(film, a, 20, 20, "a")
            nursery.start_soon(film, b, 20, 20, "b")
            await trio.sleep(0.01)
            assert it.asks(["a", "b"], frames=3, every_s=0.1)
    assert [said for _, said in it.got[:2]] == ["a+", "b+"]
    told = [(at, said) for at, said in it.got[2:] if said]
    # The first one at once; from then on in step.
    assert told == [(0.01, "a1 b1"), (0.11, "a3 b3"), (0.21, "a5 b5")]


async def test_who_asks_again_in_time_sees_no_gap(mock_clock: MockClock) -> None:
    """Half a second before all that was asked for has come."""
    hub = Hub()
    with reader(hub) as it:
        async with running(hub) as capture, reading(it), trio.open_nursery() as nursery:
            nursery.start_soon(film, capture, 100, 40)
            await trio.sleep(0.01)
            for _ in range(4):
                assert it.asks(["cap"], frames=10, every_s=0.1)
                await trio.sleep(0.5)
    told = [at for at, said in it.got[1:] if said]
    assert told[:20] == [round(0.01 + 0.1 * number, 3) for number in range(20)]


async def test_a_question_is_heard_while_nothing_is_due(mock_clock: MockClock) -> None:
    """At once, not when the next capture begins."""
    hub = Hub()
    with reader(hub) as it:
        async with running(hub) as capture, reading(it):
            await capture.send(frame(1))
            await trio.sleep(5)
            assert it.asks(["cap"])
            await wait_all_tasks_blocked()
            assert it.got[1:] == [(5, "cap1")]
            await trio.sleep(1)
            await capture.send(frame(2))
            # A shorter time counts from the round before.
            assert it.asks(["cap"], every_s=60)
            await trio.sleep(1)
            assert len(it.got) == 2
            assert it.asks(["cap"], every_s=3)
            await trio.sleep(60)
    assert it.got[2:] == [(8, "cap2")]


async def test_a_slow_reader_is_told_beginnings_and_ends(mock_clock: MockClock) -> None:
    """For whom the next round is always due: what happens is told before what is seen."""
    hub = Hub()
    with reader(hub) as it:
        async with running(hub, "a") as a, reading(it, each_takes_s=1):
            await trio.sleep(2)
            assert it.asks(["a"], frames=100, every_s=0.1)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(film, a, 60, 10, "a")
                await trio.sleep(3.5)
                async with running(hub, "b"):
                    await trio.sleep(0.1)
                begun_s = trio.current_time() - BEGUN_S
    ends = {said: at for at, said in it.got if said in ("b+", "b.")}
    assert ends.keys() == {"b+", "b."}
    assert max(ends.values()) - begun_s < 3


async def test_while_the_worker_is_busy_rounds_come_less_often(mock_clock: MockClock) -> None:
    """As often as other live viewers get a frame."""
    pace = idle_pace()
    hub = Hub()
    with reader(hub, pace) as it:
        async with running(hub) as capture, reading(it), trio.open_nursery() as nursery:
            nursery.start_soon(film, capture, 100, 50)
            await trio.sleep(0.01)
            assert it.asks(["cap"], frames=10, every_s=0.1)
            await trio.sleep(0.45)
            pace.rest_s = 0.5
    gaps = [round(b - a, 3) for (a, _), (b, _) in zip(it.got[1:], it.got[2:], strict=False)]
    # The one that was due already is no later for it.
    assert gaps[:6] == [0.1] * 5 + [0.5]
    assert set(gaps[5:]) == {0.5}


async def test_a_late_round_makes_none_after_it_late(mock_clock: MockClock) -> None:
    """And after a long stall rounds do not come two at a time."""
    hub = Hub()
    with reader(hub) as it:
        async with running(hub) as capture:
            assert words(await anext(it.rounds)) == "cap+"
            assert it.asks(["cap"], frames=100, every_s=1)
            times = []
            for seq, late_s in enumerate((0, 1.3, 0, 5, 0), 1):
                await capture.send(frame(seq))
                await trio.sleep(late_s)
                assert words(await anext(it.rounds)) == f"cap{seq}"
                times.append(round(trio.current_time() - BEGUN_S, 3))
    assert times == [0, 1.3, 2, 7, 8]


async def test_the_last_frame_of_a_capture_is_a_round_before_its_end(
    mock_clock: MockClock,
) -> None:
    """Though no round was due."""
    hub = Hub()
    with reader(hub) as it:
        async with running(hub) as capture, reading(it):
            assert it.asks(["cap"], frames=9, every_s=60)
            await capture.send(frame(1))
            await wait_all_tasks_blocked()
            await capture.send(frame(2))
            await trio.sleep(1)
            await capture.finish(close())
            await wait_all_tasks_blocked()
            assert [said for _, said in it.got if said] == ["cap+", "cap1", "cap2", "cap."]


async def test_rounds_end_with_the_hub(mock_clock: MockClock) -> None:
    """Also while one is due."""
    hub = Hub()
    with reader(hub) as it:
        async with running(hub):
            assert it.asks(["cap"], frames=9)
            hub.close()
            with trio.fail_after(1):
                await it.read()
    assert it.got == [(0, "cap+")]


async def test_a_round_is_no_larger_than_a_slow_line_takes(mock_clock: MockClock) -> None:
    """Forty large pictures come a few at a time, each of them in its turn."""
    hub = Hub()
    names = [f"cap-{number}" for number in range(7)]
    with reader(hub) as it:
        async with AsyncExitStack() as stack:
            for name in names:
                capture = await stack.enter_async_context(running(hub, name))
                await anext(it.rounds)
                await capture.send(frame(1, name, bytes(MOST_BYTES // 3)))
            assert it.asks(names, frames=9, every_s=60)
            with trio.fail_after(1):
                rounds = [words(await anext(it.rounds)) for _ in range(3)]
            assert it.rounds._due == BEGUN_S + 60
    assert [len(each.split()) for each in rounds] == [3, 3, 1]
    assert " ".join(rounds).split() == [f"{name}1" for name in names]


@pytest.mark.parametrize(("every_s", "rest_s"), [(2, 0), (2, 1), (0.1, 1)])
async def test_large_rounds_come_no_more_often_than_they_are_asked_for(
    mock_clock: MockClock, every_s: float, rest_s: float
) -> None:
    """On a line that takes its time, with newer frames of all meanwhile: each has its turn."""
    pace = idle_pace()
    pace.rest_s = rest_s
    hub = Hub()
    names = [f"cap-{number}" for number in range(7)]
    with reader(hub, pace) as it:
        async with AsyncExitStack() as stack:
            captures = [await stack.enter_async_context(running(hub, name)) for name in names]
            for _ in names:
                await anext(it.rounds)
            nursery = await stack.enter_async_context(trio.open_nursery())
            nursery.start_soon(it.read, 0.1)
            # Sent without a pause, so that a newer one is always there.
            for seq in range(1, 201):
                for name, capture in zip(names, captures, strict=True):
                    await capture.send(frame(seq, name, bytes(MOST_BYTES // 3)))
                if seq == 1:
                    assert it.asks(names, frames=100, every_s=every_s)
                await trio.sleep(0.05)
            nursery.cancel_scope.cancel()
    rounds = [(at, said.split()) for at, said in it.got if said]
    assert {len(said) for _, said in rounds} <= {1, 3}
    for name in names:
        times = [at for at, said in rounds if any(each.startswith(name) for each in said)]
        gaps = [b - a for a, b in pairwise(times)]
        assert len(gaps) >= 10 / max(every_s, 3 * rest_s + 0.3) - 2
        assert min(gaps) >= every_s - 1e-6
    starts = [at for at, _ in rounds]
    assert min(b - a for a, b in pairwise(starts)) >= max(rest_s, 0.1) - 1e-6


@pytest.mark.parametrize(
    ("frames", "every_s", "lasts_s"), [(1, 0.1, 3), (45, 1 / 30, 3), (9, 1, 18)]
)
async def test_who_asks_no_more_soon_costs_nothing(
    mock_clock: MockClock, frames: int, every_s: float, lasts_s: float
) -> None:
    """Also where what it has asked for does not come."""
    hub = Hub()
    with reader(hub) as it:
        async with running(hub) as capture, reading(it):
            assert it.asks(["cap"], frames=frames, every_s=every_s)
            await trio.sleep(lasts_s - 0.01)
            assert it.rounds._subscription.has_asked()
            await trio.sleep(2 * every_s)
            assert not it.rounds._subscription.has_asked()
            assert it.rounds._due == math.inf
            await capture.send(frame(1))
            await trio.sleep(9)
            assert [said for _, said in it.got if said] == ["cap+"]


def test_a_round_is_one_message() -> None:
    """Four bytes, so much JSON, and the JPEGs as they came."""
    frames = [frame(7, "a", b"first"), frame(9, "b", b"2"), frame(1, "c", b"third" * 1_000)]
    message = packed(frames)
    size = int.from_bytes(message[:4], "big")
    assert json.loads(message[4 : 4 + size]) == {
        "event": "capture.frames",
        "frames": [
            {"capture_id": "a", "seq": 7, "byte_length": 5, "delay_s": 7e-9},
            {"capture_id": "b", "seq": 9, "byte_length": 1, "delay_s": 9e-9},
            {"capture_id": "c", "seq": 1, "byte_length": 5_000, "delay_s": 1e-9},
        ],
    }
    assert message[4 + size :] == b"first2" + b"third" * 1_000


@pytest.mark.parametrize(
    ("more", "is_right"),
    [
        ({"frames": 0}, False),
        ({"frames": 1}, True),
        ({"frames": MOST_FRAMES}, True),
        ({"frames": MOST_FRAMES + 1}, False),
        ({"frames": 1.0}, False),
        ({"frames": True}, False),
        ({"frames": "1"}, False),
        ({"every_s": 0.009}, False),
        ({"every_s": 0.01}, True),
        ({"every_s": 60}, True),
        ({"every_s": 60.001}, False),
        ({"every_s": True}, False),
        ({"every_s": None}, False),
        ({"every": 1}, False),
        ({"every_s": float("nan")}, False),
        ({"every_s": float("inf")}, False),
    ],
    ids=str,
)
async def test_what_may_be_asked_has_bounds(more: dict[str, object], is_right: bool) -> None:
    """Told in `ALLOWED`; what is wrong asks for nothing."""
    hub = Hub()
    with reader(hub) as it:
        hub._begin(hub.capture(opened()))
        assert it.asks(["cap"], **more) == is_right
        assert it.rounds._subscription.has_asked() == is_right
    assert USUAL_S < 0.05
