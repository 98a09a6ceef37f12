"""A rig that grows slow at any instant, some bytes at a time: each deadline is met or missed.

The pace is such that the part of the conversation that a deadline is for takes a hundredth less
than that, or more. What has to come of it is reckoned from when each message began and ended.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterator
from datetime import UTC, datetime
from functools import partial
from typing import Any, Literal, TypeAlias, get_args

import attrs
import pytest
import trio

from cfw.routes import PATH
from cfw.testing.fakes import ScriptedAuthority
from cfw.testing.rigs import Ending, Raw, Rig, jpeg, raw_frame, running_worker
from cfw.testing.sweep import World, grid, sweep
from cfw.testing.sweep.report import record
from schemas import ErrorCode
from tests.sweep.mutants import hunt, summary
from tests.sweep.other_mutants import OF_THE_TIME

Deadline: TypeAlias = Literal["handshake_s", "open_s", "message_s", "meta_to_bytes_s", "idle_s"]
DEADLINES: tuple[Deadline, ...] = get_args(Deadline)

#: The deadline that is looked at.
DUE_S = 1.0
FAR_S = 1000.0
#: Some times within it, and at none of the rig's own.
RECHECK_S = 0.317
#: Between two messages.
PAUSE_S = 0.07
AT_ONCE = 16
FRAMES = 2
#: More than any other message has, so that it is the slowest.
PICTURE_BYTES = 360


@attrs.define
class Word:
    """One message of a rig, and when its first and last bytes were sent."""

    kind: str
    data: bytes
    began: float = math.inf
    ended: float = math.inf

    @property
    def pauses(self) -> int:
        """How many there are in it at the pace."""
        return math.ceil(len(self.data) / AT_ONCE) - 1


@attrs.define
class Seen:
    """One run, as the oracle sees it."""

    deadline: Deadline
    words: list[Word]
    ending: Ending | None = None

    def told(self) -> Ending:
        assert self.ending is not None
        return self.ending


def words_of(rig: Rig) -> Iterator[Word]:
    """A whole conversation."""
    yield Word("request", Raw(rig.request(PATH)))

    def text(kind: str, message: Any) -> Word:
        return Word(kind, raw_frame(0x81, json.dumps(message).encode()))

    yield text("open", rig.open_message())
    for seq in range(1, FRAMES + 1):
        picture = jpeg(PICTURE_BYTES, fill=seq)
        at = rig.now(seq / 10)
        yield text("meta", rig.meta_message(picture, timestamp_frame=at))
        yield Word("bytes", raw_frame(0x82, picture))
    yield text("close", rig.close_message(timestamp_end=rig.now(1)))


def pace_for(deadline: Deadline, words: list[Word], share: float) -> float:
    """Seconds between two parts, so that what the deadline is for takes that share of it."""
    first = {kind: next(word for word in words if word.kind == kind) for kind in _KINDS}
    request, opened, meta, data = (first[kind].pauses for kind in _KINDS)
    pauses, rest_s = {
        "handshake_s": (request, 0.0),
        "open_s": (opened, PAUSE_S),
        "message_s": (max(word.pauses for word in words[1:]), 0.0),
        "meta_to_bytes_s": (data, PAUSE_S),
        "idle_s": (data + meta, 2 * PAUSE_S),
    }[deadline]
    return (share * DUE_S - rest_s) / pauses


_KINDS = ("request", "open", "meta", "bytes")


async def talking(
    world: World,
    *,
    deadline: Deadline,
    share: float,
    recheck_s: float = FAR_S,
    reach: Collection[str] = (),
) -> None:
    """One capture, whose rig grows slow when it is told to.

    Args:
        world: what the sweep fires and asks.
        deadline: that is `DUE_S`; the others are far away.
        share: of it that is used up.
        recheck_s: how often the session is asked for, also in the middle of a message.
        reach: properties that must be true in some run.
    """
    times = dict.fromkeys((*DEADLINES, "keepalive_s", "keepalive_timeout_s"), FAR_S)
    times |= {"session_recheck_s": recheck_s, deadline: DUE_S}
    async with (
        running_worker(
            times=times,
            limits={"max_duration_s": 500.0},
            authority=ScriptedAuthority(),
            start=datetime(2026, 5, 4, tzinfo=UTC),  # messages are as long in every run
        ) as worker,
        worker.connect(handshake=False) as rig,
    ):
        seen = Seen(deadline, [*words_of(rig)])
        world.check(partial(told_when_it_is_due, seen), "told_when_it_is_due")
        every_s = pace_for(deadline, seen.words, share)
        with world.expose("slow", lambda: rig.stream.pace(AT_ONCE, every_s)):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(say_all, rig, seen.words)
                seen.ending = await rig.ending(within_s=3000)
                nursery.cancel_scope.cancel()
    reached = {"late": seen.told().code != 1000, "in time": seen.told().code == 1000}
    for name in reach:
        world.sometimes(name, reached[name])


async def say_all(rig: Rig, words: list[Word]) -> None:
    try:
        for word in words:
            word.began = trio.current_time()
            await rig.say(Raw(word.data))
            word.ended = trio.current_time()
            # The next one begins when the pace lets it, and not in the middle of a pause.
            await trio.sleep(PAUSE_S)
    except trio.BrokenResourceError:
        pass


def spans(seen: Seen) -> Iterator[tuple[Deadline, float, float]]:
    """What each deadline is for: from when to when."""
    request, opened, *rest = seen.words
    yield "handshake_s", 0.0, request.ended
    yield "open_s", request.ended, opened.ended
    for word in seen.words[1:]:
        yield "message_s", word.began, word.ended
    last = opened
    for word in rest:
        if word.kind == "bytes":
            yield "meta_to_bytes_s", last.ended, word.ended
        else:
            yield "idle_s", last.ended, word.ended
            last = word


def told_when_it_is_due(seen: Seen) -> None:
    """In time it has its receipt; else it is told which deadline it was, at that instant."""
    missed = [
        began + DUE_S
        for name, began, ended in spans(seen)
        if name == seen.deadline and ended > began + DUE_S
    ]
    told = seen.told()
    if not missed:
        assert told.receipt.frames == FRAMES, told
        return
    assert told.at is not None
    assert abs(told.at - min(missed)) < 0.005, (told.at, missed)
    if seen.deadline == "handshake_s":
        assert (told.status, "took longer than 1 s" in told.reason) == (408, True), told
    else:
        assert told.error_code is ErrorCode.PROTOCOL_VIOLATION, told
        assert f"({seen.deadline})" in told.reason, told


SHARES = [0.99, 1.01]
CASES = [
    *grid(deadline=list(DEADLINES), share=SHARES, recheck_s=[FAR_S]),
    *grid(deadline=["message_s"], share=SHARES, recheck_s=[RECHECK_S]),
]
REACHED = ("late", "in time")


@sweep(at=["slow"], params=CASES, schedules=["lifo"], budget=60, fork=False)
async def test_a_slow_rig_is_told_so_when_it_is_due(
    world: World, deadline: Deadline, share: float, recheck_s: float
) -> None:
    """Some of the instants, the youngest task first."""
    await talking(world, deadline=deadline, share=share, recheck_s=recheck_s)


@pytest.mark.sweep
@sweep(at=["slow"], params=CASES, schedules=["fifo"], sometimes=REACHED, fork=False, jobs=2)
async def test_every_deadline_and_a_rig_that_grows_slow(
    world: World, deadline: Deadline, share: float, recheck_s: float
) -> None:
    """Just inside each of them, and just outside, from every instant on."""
    await talking(world, deadline=deadline, share=share, recheck_s=recheck_s, reach=REACHED)


@pytest.mark.sweep
def test_slips_of_the_time_are_found_and_only_when_a_rig_is_slow() -> None:
    """Planted where messages are timed."""
    hunts = {mutant.name: hunt(mutant, talking) for mutant in OF_THE_TIME}
    record(summary("planted slips of the time", hunts.values()))
    assert not [why for _, why in hunts.values() if why], hunts
