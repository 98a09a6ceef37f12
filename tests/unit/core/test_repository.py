"""The forward buffer: bounded in frames and bytes, in order, and empty after any end."""

from __future__ import annotations

import weakref
from collections.abc import Sequence

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from cfw.errors import ForwardFailed, LimitForwardBufferExceeded
from cfw.limits import Limits
from cfw.repository import GRACE_S, ForwardBuffer
from cfw.state import Frame
from schemas import Terminal
from tests.factories import START_NS, make_meta


def frame(seq: int, size: int = 10) -> Frame:
    return Frame(make_meta(seq, size), bytes(size), START_NS)


async def put(box: ForwardBuffer, one: Frame) -> None:
    """As the reader does it."""
    if not box.has_room(one.meta.byte_length):
        await box.wait_for_room(one.meta)
    box.put(one)
    box.hand_on()


class Taker:
    """A sink that takes a frame only when it is told how many it may take."""

    def __init__(self, may_take: float = float("inf"), fails_at: int | None = None) -> None:
        self.may_take = may_take
        self.taken: list[int] = []
        self.fails_at = fails_at

    async def send(self, frame: Frame) -> None:
        if len(self.taken) >= self.may_take:
            await trio.sleep_forever()
        if frame.meta.seq == self.fails_at:
            raise OSError("no space")
        self.taken.append(frame.meta.seq)

    async def finish(self, terminal: Terminal) -> None: ...


def buffer(frames: int = 3, size: int = 1000) -> ForwardBuffer:
    return ForwardBuffer(
        Limits(
            max_forward_buffer_frames=frames,
            max_forward_buffer_bytes=size,
            max_frame_bytes=min(size, 500),
        )
    )


async def test_frames_reach_the_sink_in_order_and_are_counted() -> None:
    """What was put in comes out in order, and nothing is left."""
    box, sink = buffer(), Taker()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(box.forward, sink)
        for seq in range(1, 8):
            await put(box, frame(seq))
        box.close()
        await box.wait_flushed()
    assert sink.taken == list(range(1, 8))
    assert (box.frames_accepted, box.frames_forwarded, box.frames, box.bytes) == (7, 7, 0, 0)
    assert (box.bytes_accepted, box.bytes_forwarded) == (70, 70)


async def test_the_frame_limit_counts_the_one_being_sent(autojump_clock: MockClock) -> None:
    """With a sink that takes nothing, exactly max_forward_buffer_frames fit."""
    box = buffer(frames=3)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(box.forward, Taker(may_take=0))
        await put(box, frame(1))
        await wait_all_tasks_blocked()  # the first is being sent now
        await put(box, frame(2))
        await put(box, frame(3))
        with pytest.raises(LimitForwardBufferExceeded) as caught:
            await put(box, frame(4))
        assert (caught.value.seq, caught.value.observed, caught.value.limit) == (4, 4, 3)
        assert box.frames_accepted == 3
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(("size", "fits"), [(199, True), (200, True), (201, False)])
async def test_the_byte_limit(size: int, fits: bool) -> None:
    """max_forward_buffer_bytes may be reached and not passed."""
    box = buffer(frames=9, size=500)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(box.forward, Taker(may_take=0))
        await put(box, frame(1, 300))
        if fits:
            await put(box, frame(2, size))
        else:
            with pytest.raises(LimitForwardBufferExceeded, match="bytes") as caught:
                await put(box, frame(2, size))
            assert (caught.value.observed, caught.value.limit) == (501, 500)
        nursery.cancel_scope.cancel()


async def test_a_loop_that_stood_still_is_not_a_slow_sink(mock_clock: MockClock) -> None:
    """Time in which no task ran is not held against a sink that takes at once."""
    box, sink = buffer(frames=1), Taker()
    async with trio.open_nursery() as nursery:
        await put(box, frame(1))
        nursery.start_soon(put, box, frame(2))
        await wait_all_tasks_blocked()  # it waits for room
        nursery.start_soon(box.forward, sink)
        mock_clock.jump(2 * GRACE_S)  # nothing has run since
        await wait_all_tasks_blocked()
        box.close()
    assert sink.taken == [1, 2]


async def test_what_the_sink_has_taken_is_held_by_nobody() -> None:
    """A frame is let go of when the sink has it, though those of its read still wait."""
    box, sink = buffer(), Taker(may_take=1)
    frames = [frame(1), frame(2), frame(3)]
    held = [weakref.ref(one) for one in frames]
    for one in frames:
        box.put(one)
    box.hand_on()
    del one, frames
    async with trio.open_nursery() as nursery:
        nursery.start_soon(box.forward, sink)
        await wait_all_tasks_blocked()
        assert [ref() is not None for ref in held] == [False, True, True]
        assert box.frames == 2
        nursery.cancel_scope.cancel()


async def test_a_full_buffer_resumes_once_the_sink_takes_again() -> None:
    """Saturation is no end: room made is room used."""
    box, sink = buffer(frames=2), Taker(may_take=0)
    async with trio.open_nursery() as nursery:
        with trio.CancelScope() as stuck:
            await put(box, frame(1))
            await put(box, frame(2))
            with pytest.raises(LimitForwardBufferExceeded):
                await put(box, frame(3))
        assert not stuck.cancelled_caught
        sink.may_take = 9
        nursery.start_soon(box.forward, sink)
        await put(box, frame(3))
        box.close()
        await box.wait_flushed()
    assert sink.taken == [1, 2, 3]


async def test_a_burst_is_no_overflow_for_a_sink_that_takes_at_once() -> None:
    """225 frames put without a pause go through a buffer of 3, also over some checkpoints."""

    class Hops(Taker):
        async def send(self, frame: Frame) -> None:
            for _ in range(5):
                await trio.lowlevel.checkpoint()
            await super().send(frame)

    for sink in (Taker(), Hops()):
        box = buffer(frames=3)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(box.forward, sink)
            for seq in range(1, 226):
                await put(box, frame(seq))
            box.close()
            await box.wait_flushed()
        assert sink.taken == list(range(1, 226))


class _Stalling(Taker):
    """Takes every frame, after a moment in which the whole process gets no CPU."""

    def __init__(self, clock: MockClock) -> None:
        super().__init__()
        self.clock = clock

    async def send(self, frame: Frame) -> None:
        self.clock.jump(1)
        await trio.lowlevel.checkpoint()
        await super().send(frame)


async def test_a_process_that_is_stopped_for_a_second_has_no_slow_sink(
    mock_clock: MockClock,
) -> None:
    """When the wait for room ends late, the sink gets its turn before it is judged."""
    box, sink = buffer(frames=1), _Stalling(mock_clock)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(box.forward, sink)
        for seq in range(1, 6):
            await put(box, frame(seq))
        box.close()
        await box.wait_flushed()
    assert sink.taken == [1, 2, 3, 4, 5]


async def test_a_sink_behind_a_socket_is_not_too_slow(autojump_clock: MockClock) -> None:
    """A sink that takes a frame every 40 ms holds a burst up; one that takes 60 overflows."""

    class Slow(Taker):
        async def send(self, frame: Frame) -> None:
            await trio.sleep(self.may_take)
            self.taken.append(frame.meta.seq)

    for pace, overflows in ((0.04, False), (0.06, True)):
        box, sink = buffer(frames=3), Slow(pace)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(box.forward, sink)
            try:
                for seq in range(1, 21):
                    await put(box, frame(seq))
            except LimitForwardBufferExceeded:
                assert overflows
                nursery.cancel_scope.cancel()
            else:
                assert not overflows
                box.close()
                await box.wait_flushed()
                assert sink.taken == list(range(1, 21))


async def test_a_sink_that_raises_is_forward_failed() -> None:
    """The error names the frame and chains the cause, without telling it."""
    box = buffer()
    await put(box, frame(1))
    await put(box, frame(2))
    with pytest.raises(ForwardFailed) as caught:
        await box.forward(Taker(fails_at=2))
    assert caught.value.seq == 2
    assert "no space" not in caught.value.detail
    assert isinstance(caught.value.__cause__, OSError)
    assert (box.frames_forwarded, box.frames) == (1, 1)


async def test_discard_releases_everything_and_says_what_was_lost() -> None:
    """After an abort nothing is buffered, and accepted = forwarded + discarded holds."""
    box = buffer(frames=5)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(box.forward, Taker(may_take=2))
        for seq in range(1, 6):
            await put(box, frame(seq))
        await wait_all_tasks_blocked()
        assert box.frames == 3
        nursery.cancel_scope.cancel()
    box.discard()
    box.discard()
    assert (box.frames, box.bytes) == (0, 0)
    assert box.frames_accepted - box.frames_forwarded == 3


class BatchTaker(Taker):
    """A sink that takes what waits at once, when it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[list[int]] = []
        self.may_go = trio.Event()
        self.error: Exception | None = None

    async def send_many(self, frames: Sequence[Frame]) -> None:
        seqs = [frame.meta.seq for frame in frames]
        await self.may_go.wait()
        if self.error is not None:
            raise self.error
        self.batches.append(seqs)


async def test_a_sink_that_takes_batches_gets_all_that_waits() -> None:
    """Frames that came while it was busy come in one call, in order, and count when it ends."""
    box, sink = buffer(frames=5), BatchTaker()
    taken: list[int] = []
    box.on_taken = lambda frames: taken.extend(frame.meta.seq for frame in frames)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(box.forward, sink)
        await put(box, frame(1))
        await wait_all_tasks_blocked()
        for seq in (2, 3, 4):
            await put(box, frame(seq))
        assert (box.frames, box.frames_forwarded, taken) == (4, 0, [])
        sink.may_go.set()
        await wait_all_tasks_blocked()
        box.close()
        await box.wait_flushed()
    assert sink.batches == [[1], [2, 3, 4]]
    assert (box.frames, box.bytes, box.frames_forwarded, box.bytes_forwarded) == (0, 0, 4, 40)
    assert taken == [1, 2, 3, 4]


async def test_frames_of_one_read_are_one_batch() -> None:
    """All that comes before the forwarder has its turn, whether it waits already or not."""
    box, sink = buffer(frames=9), BatchTaker()
    sink.may_go.set()
    for seq in (1, 2):
        box.put(frame(seq))
    box.hand_on()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(box.forward, sink)
        await wait_all_tasks_blocked()
        for seq in (3, 4, 5):
            box.put(frame(seq))
        box.hand_on()
        await wait_all_tasks_blocked()
        box.put(frame(6))
        box.hand_on()
        box.close()
    assert sink.batches == [[1, 2], [3, 4, 5], [6]]


@pytest.mark.parametrize(("size", "has_room"), [(29, True), (30, True), (31, False)])
async def test_there_is_room_up_to_the_limit_in_bytes(size: int, has_room: bool) -> None:
    """What would fill the buffer to the last byte may enter."""
    box = buffer(size=50)
    box.put(frame(1, 20))
    assert box.has_room(size) == has_room


async def test_there_is_room_up_to_the_limit_in_frames() -> None:
    """The last one that may enter fills it."""
    box = buffer(frames=2)
    box.put(frame(1))
    assert box.has_room(10)
    box.put(frame(2))
    assert not box.has_room(10)
    assert (box.frames, box.frames_accepted, box.peak_frames) == (2, 2, 2)
    assert (box.bytes, box.bytes_accepted, box.peak_bytes) == (20, 20, 20)


@pytest.mark.parametrize("frames", [1, 2, 3])
async def test_the_channel_has_as_many_places_as_are_promised(frames: int) -> None:
    """A frame put without asking for room is refused, and counted nowhere."""
    box = buffer(frames=frames)
    for seq in range(1, frames + 1):
        box.put(frame(seq))
    with pytest.raises(trio.WouldBlock):
        box.put(frame(frames + 1))
    assert (box.frames, box.frames_accepted) == (frames, frames)


async def test_a_batch_that_fails_counts_none_of_its_frames() -> None:
    """The error names the first frame of the batch, and what is left is accounted for."""
    box, sink = buffer(frames=5), BatchTaker()
    for seq in (1, 2, 3):
        await put(box, frame(seq))
    sink.error = OSError("no space")
    sink.may_go.set()
    with pytest.raises(ForwardFailed) as caught:
        await box.forward(sink)
    assert caught.value.seq == 1
    assert (box.frames_forwarded, box.frames) == (0, 3)
    box.discard()
    assert (box.frames, box.bytes) == (0, 0)


class PromptTaker(Taker):
    """Takes frames at once while it is told that it can."""

    can = True

    def send_nowait(self, frames: Sequence[Frame]) -> bool:
        if not self.can:
            return False
        seqs = [one.meta.seq for one in frames]
        if self.fails_at in seqs:
            raise OSError("the disk is full")
        self.taken += seqs
        return True


async def test_a_sink_that_can_takes_a_frame_without_a_turn_of_the_forwarder() -> None:
    """It has the frames when `hand_on` returns, and they are counted as all others are."""
    box, sink = buffer(), PromptTaker()
    forwarded: list[int] = []
    box.on_taken = lambda frames: forwarded.extend(one.meta.seq for one in frames)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(box.forward, sink)
        await wait_all_tasks_blocked()
        for seq in (1, 2):
            box.put(frame(seq))
        assert (box.frames, sink.taken) == (2, [])
        box.hand_on()
        assert (box.frames, box.bytes, box.frames_forwarded, box.bytes_forwarded) == (
            *(0, 0),
            *(2, 20),
        )
        assert sink.taken == forwarded == [1, 2]
        assert box.peak_frames == 2
        box.hand_on()
        box.close()
        await box.wait_flushed()
    assert sink.taken == [1, 2]


async def test_no_frame_overtakes_one_that_waits() -> None:
    """What cannot be taken at once goes to the forwarder, and all behind it until it is taken,
    however willing the sink is by then."""
    box, sink = buffer(), PromptTaker(may_take=0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(box.forward, sink)
        await wait_all_tasks_blocked()
        sink.can = False
        await put(box, frame(1))
        sink.can = True
        await put(box, frame(2))  # the first has not been taken by the forwarder
        await wait_all_tasks_blocked()
        await put(box, frame(3))  # it waits in the sink
        assert (box.frames, sink.taken) == (3, [])
        nursery.cancel_scope.cancel()
    box.discard()
    assert box.frames_forwarded == 0


async def test_before_the_forwarder_runs_and_behind_it_nothing_is_taken_at_once() -> None:
    """The sink is the forwarder's: what it has not begun, or ended, waits for nobody."""
    box, sink = buffer(), PromptTaker()
    await put(box, frame(1))
    assert sink.taken == []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(box.forward, sink)
        await wait_all_tasks_blocked()
        assert sink.taken == [1]
        nursery.cancel_scope.cancel()
    await put(box, frame(2))
    assert sink.taken == [1]
    assert box.frames == 1


async def test_a_sink_that_raises_at_once_is_forward_failed() -> None:
    """As when the forwarder had asked it; none of the frames counts."""
    box, sink = buffer(), PromptTaker(fails_at=2)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(box.forward, sink)
        await wait_all_tasks_blocked()
        await put(box, frame(1))
        with pytest.raises(ForwardFailed, match="did not take frame 2") as caught:
            await put(box, frame(2))
        nursery.cancel_scope.cancel()
    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.seq == 2
    assert (box.frames, box.frames_forwarded) == (1, 1)


async def test_a_full_buffer_is_handed_on_before_anybody_waits_for_room() -> None:
    """In the middle of a read, so a burst is no overflow for a sink that takes at once."""
    box, sink = buffer(frames=2), PromptTaker()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(box.forward, sink)
        await wait_all_tasks_blocked()
        for seq in range(1, 6):
            one = frame(seq)
            if not box.has_room(one.meta.byte_length):
                await box.wait_for_room(one.meta)
            box.put(one)
        box.hand_on()
        box.close()
    assert sink.taken == [1, 2, 3, 4, 5]
