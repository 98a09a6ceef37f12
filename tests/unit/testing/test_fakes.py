"""Fakes do what they are told, record it with virtual times, and say what is wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from cfw.sessions import AuthorityUnreachable, SessionStatus, UnusableAnswer
from cfw.state import Frame
from cfw.testing.bytecuts import stream_pair
from cfw.testing.fakes import (
    Answer,
    DeafPeer,
    FailingSink,
    FlippingSink,
    Place,
    Recorded,
    RecordingSink,
    ScriptedAuthority,
    StallingSink,
)
from schemas import FeedClose, FeedOpened, restate
from tests.factories import START_NS, at, jpeg, make_close, make_meta, make_open

ACTIVE, CLOSED = SessionStatus.ACTIVE, SessionStatus.CLOSED


def opened() -> FeedOpened:
    return restate(make_open(), FeedOpened, timestamp_ingest=at(0))


def frame(seq: int, data: bytes | None = None) -> Frame:
    return Frame(make_meta(seq), jpeg(fill=seq) if data is None else data, START_NS)


def ended(
    accepted: int = 0, forwarded: int = 0, forwarded_bytes: int | None = None
) -> FeedClose:
    return restate(
        make_close(),
        FeedClose,
        timestamp_ingest=at(0),
        frames_accepted=accepted,
        bytes_accepted=accepted * 200,
        frames_forwarded=forwarded,
        bytes_forwarded=forwarded * 200 if forwarded_bytes is None else forwarded_bytes,
    )


async def run_capture(sink: RecordingSink, frames: int = 3) -> None:
    async with sink.capture(opened()) as taker:
        for seq in range(1, frames + 1):
            await taker.send(frame(seq))
        await taker.finish(ended(frames, frames))


# --- sinks ----------------------------------------------------------------------------------


async def test_a_recording_sink_keeps_everything_and_when(autojump_clock: MockClock) -> None:
    """Frames, terminal and leaving have their exact times."""
    sink = RecordingSink(delay_s=0.5, finish_s=2)
    await run_capture(sink)
    seen = sink.only
    assert (seen.opened_at, seen.frames_at) == (0, [0.5, 1.0, 1.5])
    assert (seen.terminals_at, seen.left_at, seen.error_code) == ([1.5], 3.5, None)
    seen.check_prefix([jpeg(fill=seq) for seq in (1, 2, 3)], is_whole=True)
    sink.check()


@pytest.mark.parametrize("at", ["open", 1, 2, "finish", "leave"])
async def test_a_stalling_sink_waits_at_its_place(autojump_clock: MockClock, at: Place) -> None:
    """It waits for ever, or until it is released, at one place."""
    for_ever = StallingSink(at=at)
    with trio.move_on_after(1000) as scope:
        await run_capture(for_ever)
    assert scope.cancelled_caught
    assert for_ever.stalled_at == [0]
    released = StallingSink(at=at, delay_s=1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_capture, released)
        await trio.sleep(50)
        released.release.set()
    assert len(released.stalled_at) == 1
    assert released.only.left_at is not None
    assert released.only.left_at >= 1050
    released.check()


@pytest.mark.parametrize("at", ["open", 1, 2, "finish", "leave"])
async def test_a_failing_sink_raises_at_its_place(autojump_clock: MockClock, at: Place) -> None:
    """It raises so many times, and what it raises is the test's choice."""
    sink = FailingSink(at=at, times=2, error=KeyError)
    for _ in range(2):
        with pytest.raises(KeyError, match="the disk is full"):
            await run_capture(sink)
    await run_capture(sink)
    assert sink.failed_at == [0, 0]
    sink.captures[-1].check()
    with pytest.raises(OSError, match="the disk is full"):
        await run_capture(FailingSink(at=at))


async def test_a_flipping_sink_works_until_it_is_told_otherwise(
    autojump_clock: MockClock,
) -> None:
    """It raises as often as it was told from the next place on, and stalls for good."""
    sink = FlippingSink()
    await run_capture(sink)
    sink.fail(1)
    with pytest.raises(OSError, match="planted at 'open'"):
        await run_capture(sink)
    await run_capture(sink)
    sink.fail()
    for _ in range(3):
        with pytest.raises(OSError, match="the disk is full"):
            await run_capture(sink)
    sink.fail(0)
    await run_capture(sink)
    sink.check()
    assert (len(sink.captures), len(sink.failed_at)) == (3, 4)
    sink.stall()
    with trio.move_on_after(1000) as scope:
        await run_capture(sink)
    assert scope.cancelled_caught


async def test_a_frame_offered_after_the_terminal_is_late(autojump_clock: MockClock) -> None:
    """Also at the same virtual time, and also when it is never taken."""
    sink = RecordingSink()
    async with sink.capture(opened()) as taker:
        await taker.finish(ended())
        with trio.CancelScope() as scope:
            scope.cancel()
            sink.delay_s = 1
            await taker.send(frame(1))
    assert sink.only.frames == []
    with pytest.raises(AssertionError, match="was sent 1 frames after its terminal"):
        sink.only.check_order()


def record(*steps: Frame | FeedClose, is_left: bool = True) -> Recorded:
    seen = Recorded(opened(), 0)
    for number, step in enumerate(steps):
        if isinstance(step, Frame):
            seen.offer()
            seen.frames.append(step)
            seen.frames_at.append(number)
        else:
            seen.terminals.append(step)
            seen.terminals_at.append(number)
    seen.left_at = 1 if is_left else None
    return seen


@pytest.mark.parametrize(
    ("seen", "problem"),
    [
        (lambda: record(), "one terminal, and has 0"),
        (lambda: record(ended(), ended()), "one terminal, and has 2"),
        (lambda: record(frame(2), ended(1, 1)), r"frames 1, 2, 3, \.\.\. and has \[2\]"),
        (lambda: record(frame(2), frame(1), ended(2, 2)), r"has \[2, 1\]"),
        (lambda: record(ended(1, 1), frame(1)), "after its terminal"),
        (lambda: record(frame(1), ended(2, 2)), r"took \(1, 200\) .* told \(2, 400\)"),
        (lambda: record(frame(1), ended(1, 1, 199)), r"took \(1, 200\) .* told \(1, 199\)"),
        (lambda: record(frame(1), ended(0, 1)), r"\(1, 200\) forwarded, of only \(0, 0\)"),
        (lambda: record(frame(1), ended(2, 1)), "ended cleanly with"),
        (lambda: record(ended(), is_left=False), "never left"),
    ],
)
def test_a_check_names_what_it_found(seen: Callable[[], Recorded], problem: str) -> None:
    """Each broken promise is told by itself, with the capture's name."""
    with pytest.raises(AssertionError, match=f"capture cap-1 .*{problem}"):
        seen().check()


def test_a_prefix_is_in_order_and_byte_for_byte() -> None:
    """A prefix passes, another picture does not, nor more than was sent."""
    one, two = jpeg(fill=1), jpeg(fill=2)
    record().check_prefix([one])
    record(frame(1)).check_prefix([one, two])
    for seen, sent, is_whole in (
        (record(frame(1)), [two], False),
        (record(frame(1), frame(2)), [one], False),
        (record(frame(1)), [one, two], True),
    ):
        with pytest.raises(AssertionError, match="cap-1"):
            seen.check_prefix(sent, is_whole=is_whole)


def test_only_is_one() -> None:
    """`only` does not choose."""
    with pytest.raises(AssertionError, match="one capture, not 0"):
        _ = RecordingSink().only


# --- the authority --------------------------------------------------------------------------


async def test_an_authority_answers_one_after_the_other(autojump_clock: MockClock) -> None:
    """The last answer is for ever; each question is recorded."""
    answers: list[Answer] = [ACTIVE, "down", ValueError("foreign"), "odd", CLOSED]
    authority = ScriptedAuthority(answers, delay_s=1)
    assert await authority.check("ada", "s-1") is ACTIVE
    with pytest.raises(AuthorityUnreachable):
        await authority.check("ada", "s-1")
    with pytest.raises(ValueError, match="foreign"):
        await authority.check("bob", "s-2")
    with pytest.raises(UnusableAnswer):
        await authority.check("bob", "s-2")
    assert [await authority.check("ada", "s-1") for _ in range(2)] == [CLOSED, CLOSED]
    assert authority.asked_at == [0, 1, 2, 3, 4, 5]
    assert authority.asked[2] == ("bob", "s-2")


@pytest.mark.parametrize("answer", ["down", CLOSED])
async def test_an_authority_flips_at_its_time(
    autojump_clock: MockClock, answer: Answer
) -> None:
    """The time counts from the first question."""
    authority = ScriptedAuthority(flip_to=answer, flip_s=10)
    await trio.sleep(100)
    assert await authority.check("ada", "s-1") is ACTIVE
    await trio.sleep(9.99)
    assert await authority.check("ada", "s-1") is ACTIVE
    await trio.sleep(0.01)
    if answer is CLOSED:
        assert await authority.check("ada", "s-1") is CLOSED
    else:
        with pytest.raises(AuthorityUnreachable):
            await authority.check("ada", "s-1")


async def test_an_authority_flips_when_told_and_stalls(autojump_clock: MockClock) -> None:
    """`flip` counts for everything from now on."""
    authority = ScriptedAuthority([ACTIVE, ACTIVE], flip_to=ACTIVE)
    authority.flip(CLOSED)
    assert await authority.check("ada", "s-1") is CLOSED
    authority.flip("stall")
    with trio.move_on_after(1000) as scope:
        await authority.check("ada", "s-1")
    assert scope.cancelled_caught


# --- the peer -------------------------------------------------------------------------------


async def test_a_deaf_peer_reads_so_many_bytes(autojump_clock: MockClock) -> None:
    """What it reads gets out, the rest waits until this end is closed."""
    ours, theirs = stream_pair()
    deaf = DeafPeer(ours, reads_bytes=5)
    await deaf.wait_send_all_might_not_block()
    await deaf.send_all(b"abc")

    async def send(error: Any) -> None:
        with pytest.raises(error):
            await deaf.send_all(b"defg")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send, trio.ClosedResourceError)
        await trio.sleep(7)
        assert await theirs.receive_some() == b"abcde"
        await theirs.send_all(b"it still talks")
        assert await deaf.receive_some() == b"it still talks"
        await deaf.aclose()
    assert (deaf.sends, deaf.blocked_at, deaf.is_closed) == ([3, 4], 0, True)
