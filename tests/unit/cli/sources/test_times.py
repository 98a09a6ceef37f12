"""When frames were taken: a camera's clock and ours, what is missing, and several sources."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import pytest
import trio
from trio.testing import MockClock

from cfw.cli.sources import Frame
from cfw.cli.sources._clock import JUMP_NS, SETTLE_NS, DeviceClock, GapCounter, SequenceCounter
from cfw.cli.sources._source import Shot
from cfw.cli.sources._timeline import Timeline
from schemas import Timestamp

MS, S = 1_000_000, 1_000_000_000
EPOCH = 1_700_000_000 * S
START = 5_000 * S


def learn(clock: DeviceClock, frames: Sequence[tuple[int | None, int]]) -> None:
    for device_ns, arrived_ns in frames:
        clock.hear(device_ns, arrived_ns)


# --- a camera's clock ---------------------------------------------------------------------


def test_the_frame_that_waited_least_tells_how_clocks_stand() -> None:
    """The first ones lay in a buffer; the mapping is that of the quickest, for good."""
    clock = DeviceClock(EPOCH)
    frames = [(n * 100 * MS, START + max(900, n * 100 + 20) * MS) for n in range(16)]
    learn(clock, frames)
    assert clock.is_settled
    taken = [clock.taken(device, arrived) for device, arrived in frames]
    assert taken == [EPOCH + START + (n * 100 + 20) * MS for n in range(16)]


def test_frames_settle_within_half_a_second() -> None:
    """One nanosecond before, nothing is settled."""
    clock = DeviceClock(EPOCH)
    learn(clock, [(0, START), (1, START + SETTLE_NS - 1)])
    assert not clock.is_settled
    clock.hear(2, START + SETTLE_NS)
    assert clock.is_settled


def test_a_clock_that_is_ours_is_taken_as_it_is() -> None:
    """Drivers write our monotonic clock, to the nanosecond, and nothing has to settle."""
    clock = DeviceClock(EPOCH)
    clock.hear(START - 33 * MS, START)
    assert clock.is_settled
    assert clock.taken(START - 33 * MS, START) == EPOCH + START - 33 * MS


def test_without_a_clock_it_is_when_it_came() -> None:
    """And time goes on, whatever the order."""
    clock = DeviceClock(EPOCH)
    learn(clock, [(None, START), (None, START + SETTLE_NS)])
    assert clock.is_settled
    assert clock.taken(None, START) == EPOCH + START
    assert clock.taken(None, START - 1) == EPOCH + START


def test_one_frame_without_a_time_tells_nothing_of_the_others() -> None:
    """libav does not know that of the first packet of some cameras."""
    clock = DeviceClock(EPOCH)
    learn(clock, [(None, START), (0, START + 10 * MS), (S, START + S)])
    assert clock.taken(None, START) == EPOCH + START
    assert clock.taken(S, START + S) == EPOCH + START + S
    assert clock.pop_jumps() == 0


@pytest.mark.parametrize("jump", [-40_000 * S, -JUMP_NS - S, JUMP_NS + S, 10**6 * S])
def test_a_clock_that_is_set_moves_no_event_time(jump: int) -> None:
    """Times go on by ours, and by the camera's intervals from there; it is told once."""
    clock = DeviceClock(EPOCH)
    before = [(n * 100 * MS, START + n * 100 * MS) for n in range(10)]
    learn(clock, before)
    after = [(n * 100 * MS + jump, START + n * 100 * MS) for n in range(10, 20)]
    taken = [clock.taken(device, arrived) for device, arrived in before + after]
    assert taken == [EPOCH + START + n * 100 * MS for n in range(20)]
    assert (clock.pop_jumps(), clock.pop_jumps()) == (1, 0)


def test_a_late_network_moves_nothing() -> None:
    """Frames that come seconds late, within what buffers hold, keep the camera's times."""
    clock = DeviceClock(EPOCH)
    learn(clock, [(0, START), (S, START + S)])
    assert clock.taken(2 * S, START + 2 * S + JUMP_NS) == EPOCH + START + 2 * S
    assert clock.pop_jumps() == 0


# --- what is missing ----------------------------------------------------------------------


def missing(times_ms: Sequence[float | None]) -> list[int]:
    counter = GapCounter()
    return [counter.missing_before(None if t is None else round(t * MS)) for t in times_ms]


def test_gaps_are_counted_in_frames() -> None:
    """One and three of them, once the interval is known; jitter is none."""
    times = [0, 66, 134, 200, 266, 333, 467, 533, 800, 866]
    assert missing(times) == [0, 0, 0, 0, 0, 0, 1, 0, 3, 0]
    assert missing([0, 90, 130, 220, 260, 350, 390]) == [0] * 7


def test_another_rate_is_no_loss_for_long() -> None:
    """In dim light a camera takes half as many: that is no frame lost for ever."""
    times = [n * 33 for n in range(30)] + [29 * 33 + n * 66 for n in range(1, 60)]
    found = missing(times)
    assert sum(found) <= 8
    assert not any(found[40:])


def test_times_that_are_none_or_go_back_are_no_gap() -> None:
    """There is nothing to count from."""
    assert missing([0, 10, 20, 30, 40, 50, None, 500, 100, 110]) == [0] * 10


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ([0, 1, 2, 3], [0, 0, 0, 0]),
        ([7, 9, 10, 14], [0, 1, 0, 3]),
        ([2**32 - 1, 0, 2], [0, 0, 1]),
        ([500, 3, 4], [0, 0, 0]),
        ([5, 5], [0, 0]),
    ],
)
def test_numbers_of_a_driver_tell_what_is_missing(
    numbers: list[int], expected: list[int]
) -> None:
    """From the first on, over the end of 32 bits, and not where it begins anew."""
    counter = SequenceCounter()
    assert [counter.missing_before(number) for number in numbers] == expected


# --- several sources ----------------------------------------------------------------------


class _Source:
    """Names one of several sources."""

    name = "source"
    fps = about = None

    def __init__(self, *, is_live: bool = False) -> None:
        self.is_live = is_live

    async def next_frame(self) -> Shot | None:
        return None

    async def aclose(self) -> None:
        pass


def gap_ns(first: Frame, second: Frame) -> int:
    assert first.timestamp is not None
    assert second.timestamp is not None
    return Timestamp.parse(second.timestamp).ns - Timestamp.parse(first.timestamp).ns


async def test_what_was_recorded_keeps_its_intervals(autojump_clock: MockClock) -> None:
    """To the nanosecond in event times, and when it is due; the next source follows on."""
    line = Timeline(0.1)
    first, second = _Source(), _Source()
    frames = [line.begin(line.place(first, Shot(b"", elapsed_ns=0)))]
    frames += [line.place(first, Shot(b"", elapsed_ns=ns)) for ns in (33_366_700, 66_733_400)]
    assert gap_ns(frames[0], frames[1]) == 33_366_700
    assert gap_ns(frames[0], frames[2]) == 66_733_400
    assert frames[2].due == pytest.approx(trio.current_time() + 0.0667334)
    following = line.place(second, Shot(b"", elapsed_ns=0))
    assert gap_ns(frames[2], following) == 100 * MS
    assert following.due == pytest.approx(frames[2].due + 0.1)


async def test_what_has_no_times_is_spread_evenly(autojump_clock: MockClock) -> None:
    """It is taken when it is sent; delays do not add up."""
    line, source = Timeline(0.1), _Source()
    frames = [line.place(source, Shot(b""))]
    await trio.sleep(5)  # the first is read before it can be sent
    frames[0] = line.begin(frames[0])
    assert frames[0] == Frame(b"", None, 5)
    await trio.sleep(1)
    frames += [line.place(source, Shot(b"")) for _ in range(3)]
    assert [frame.due for frame in frames] == pytest.approx([5, 5.1, 5.2, 5.3])
    assert {frame.timestamp for frame in frames} == {None}


async def test_a_camera_is_sent_at_once(autojump_clock: MockClock) -> None:
    """And a picture behind it is due from then on, not from the beginning."""
    line, camera, picture = Timeline(0.1), _Source(is_live=True), _Source()
    first = line.place(camera, Shot(b"", taken_ns=EPOCH))
    assert (first.timestamp, first.due) == (Timestamp.from_ns(EPOCH).text, -math.inf)
    assert line.begin(first) == first
    await trio.sleep(60)
    assert line.place(picture, Shot(b"")).due == 60


async def test_event_times_never_go_back(autojump_clock: MockClock) -> None:
    """Whatever sources say, as the worker would refuse the frame."""
    line, camera, video = Timeline(0.1), _Source(is_live=True), _Source()
    times = [
        line.place(camera, Shot(b"", taken_ns=EPOCH)),
        line.place(camera, Shot(b"", taken_ns=EPOCH - S)),
        line.place(video, Shot(b"", elapsed_ns=0)),
        line.place(video, Shot(b"", elapsed_ns=-S)),
        line.place(video, Shot(b"", elapsed_ns=S)),
        line.place(_Source(), Shot(b"")),
    ]
    gaps = [gap_ns(a, b) for a, b in pairwise(times)]
    assert min(gaps) >= 0
