"""A recorder swept: what it has told is on the disk, and nothing half-written is called whole.

The recorder and its files are the real ones; the feed and the disk are ours. What can be fired:
`recorder` (it is cancelled, and its process ends), `stop` (it is told to end), `lost` (the feed
is), `full` (the disk is), `refused` (it takes one thing not), `killed` and `dies` (its process
ends, between two pieces of work or in the middle of one). Another recorder of the same folder
follows, which has room.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

from cfw.client import ConnectionLost
from cfw.record import Listener, Recorder, Written
from cfw.record._capture import CaptureWriter
from cfw.recording import Format, verify_all
from cfw.recording import open as open_recording
from cfw.recording._verify import unfinished
from cfw.testing.sweep import SweepFailure, World, grid, run_sweep, sweep
from cfw.testing.sweep.report import record
from schemas import FeedFrame, FeedOpened
from tests.planted import Change, planted
from tests.sweep.disk import LOSSES, WORK_S, Disk, Loss
from tests.sweep.mutants import hunt, summary
from tests.sweep.other_mutants import OF_THE_RECORDER, WRITING
from tests.unit.record.kit import PICTURES, closed, frames, opened

pytestmark = pytest.mark.skipif(
    sys.platform != "linux",
    reason="what a disk has for good is read by /dev/fd, as Linux has it",
)

JPEGS = PICTURES[:3]
PACE_S = 0.004
FAULTS = ("recorder", "stop", "lost", "full", "refused", "killed")
REACHED = ("all whole", "told as cut", "closed by the next", "could not be written")
CONTAINERS: list[Format] = ["mkv", "mp4", "mcap"]
#: More than any piece of work has.
OPERATIONS = 20
#: Two frames wait, the third finds no room.
ROOM_BYTES = 2 * (2_000 + max(map(len, JPEGS)))


class Feed:
    """Two captures, one begun while the other runs; behind a loss, the rest of them."""

    def __init__(self) -> None:
        self._items = [(opened("a"), None), *frames(JPEGS, "a"), (closed(JPEGS, "a"), None)]
        other = [(opened("b"), None), *frames(JPEGS, "b"), (closed(JPEGS, "b"), None)]
        for at, item in enumerate(other):
            self._items.insert(2 * at + 1, item)
        self._begun: dict[str, FeedOpened] = {}
        self._is_lost = False

    def lose(self) -> None:
        self._is_lost = True

    @asynccontextmanager
    async def opening(self) -> AsyncIterator[Feed]:
        await trio.lowlevel.checkpoint()
        # Who joins is told of the captures that run.
        self._items = [(each, None) for each in self._begun.values()] + self._items
        self._is_lost = False
        yield self

    def __aiter__(self) -> Feed:
        return self

    async def __anext__(self) -> tuple[Any, bytes | None]:
        await trio.sleep(PACE_S)
        if self._is_lost:
            raise ConnectionLost("the worker has gone")
        if not self._items:
            await trio.sleep_forever()
        message, jpeg = self._items.pop(0)
        if isinstance(message, FeedOpened):
            self._begun[message.capture_id] = message
        elif not isinstance(message, FeedFrame):
            self._begun.pop(message.capture_id)
        return message, jpeg


class Heard(Listener):
    """What a recorder tells."""

    def __init__(self) -> None:
        self.began_ids: list[str] = []
        self.written: list[Written] = []
        self.failures: list[str] = []

    def began(self, opened: FeedOpened) -> None:
        self.began_ids.append(opened.capture_id)

    def ended(self, written: Written) -> None:
        self.written.append(written)

    def failed(self, capture_id: str, part: Path | None, reason: str) -> None:
        self.failures.append(capture_id)


@attrs.define
class Found:
    """A recording, as it is on the disk in the end."""

    capture_id: str
    state: str
    problems: list[str]
    jpegs: list[bytes]


@attrs.define
class Seen:
    """One run, as the oracle sees it.

    Attributes:
        form: that the recordings have.
        first: the recorder that is disturbed.
        heard: what each recorder has told.
        loss: what is left of a process that ended.
        returned: whether the first has ended by itself.
        parts: how many recordings it had left unfinished then.
        kept: the frames of which it knew that the disk has them, by capture.
        found: every finished recording, by its path.
        left: what is unfinished behind the last one.
        is_closed: whether one of them has gone through all that was left.
    """

    world: World
    form: Format
    loss: Loss
    first: Recorder | None = None
    heard: list[Heard] = attrs.Factory(list)
    returned: bool = False
    parts: int = 0
    kept: dict[str, set[bytes]] = attrs.Factory(dict)
    found: dict[Path, Found] = attrs.Factory(dict)
    left: list[Path] = attrs.Factory(list)
    is_closed: bool = False

    @property
    def fired(self) -> set[str]:
        return {injection.name for injection in self.world.injections}


async def recording(
    world: World,
    *,
    form: Format = "jpeg",
    loss: Loss = "process",
    operations: int = 0,
    reach: Collection[str] = (),
) -> None:
    """Record two captures beside one that was left, be disturbed, and begin again.

    Args:
        world: what the sweep fires and asks.
        form: that the recordings have.
        loss: what is left of a process that ended.
        operations: of the disk, until a process dies that is told to.
        reach: properties that must be true in some run: of REACHED.
    """
    seen = Seen(world, form, loss)
    for name, check in INVARIANTS.items():
        world.check(partial(check, seen), name)
    disk = Disk(lambda: world.expose("dies", lambda: disk.die(operations)))
    with tempfile.TemporaryDirectory() as name, disk.used():
        folder = Path(name)
        leave_one_unfinished(folder, form)
        disk.restart(folder, "process")  # by another one
        async with trio.open_nursery() as nursery:
            nursery.start_soon(disk.run)
            await record_disturbed(seen, folder, disk)
            await trio.sleep(10 * WORK_S)  # what was left behind in a thread goes on
            seen.parts = len(unfinished(folder))
            while not seen.is_closed:
                disk.restart(folder, loss)
                await close_the_rest(seen, folder, disk)
            nursery.cancel_scope.cancel()
        look(seen, folder)
    told = [each.manifest.state for heard in seen.heard for each in heard.written]
    reached = {
        "all whole": told.count("whole") == 2,
        "told as cut": "cut" in [each.manifest.state for each in seen.heard[0].written[1:]],
        "closed by the next": any(each.written for each in seen.heard[1:]),
        "could not be written": seen.heard[0].failures,
    }
    for name in reach:
        world.sometimes(name, reached[name])


def leave_one_unfinished(folder: Path, form: Format) -> None:
    """What a recorder of before has left."""
    writer = CaptureWriter(folder, ("s1", "left"), opened("left"), (form,))
    writer.add_all(frames(JPEGS, "left"))
    writer.abandon()


async def record_disturbed(seen: Seen, folder: Path, disk: Disk) -> None:
    """Record until two captures have ended, or something is fired."""
    world, feed = seen.world, Feed()
    seen.heard.append(Heard())
    seen.first = Recorder(
        folder,
        listener=seen.heard[0],
        captures=2,
        room_bytes=ROOM_BYTES,
        pattern="s1/{capture_id}",
        formats=(seen.form,),
    )
    reading = trio.CancelScope()
    actions: dict[str, Callable[[], object]] = {
        "stop": reading.cancel,
        "lost": feed.lose,
        "full": disk.fill,
        "refused": disk.refuse_one,
        "killed": disk.die,
    }
    for name, action in actions.items():
        world.expose(name, action)
    async with as_process(disk):
        with watched(seen), trio.CancelScope() as scope:
            world.expose("recorder", scope)
            await seen.first.run(feed.opening, reading=reading)
            seen.returned = True
    for name in actions:
        world.withdraw(name)


async def close_the_rest(seen: Seen, folder: Path, disk: Disk) -> None:
    """Begin once more, and stop at once."""
    seen.heard.append(Heard())
    reading = trio.CancelScope()
    reading.cancel()
    async with as_process(disk):
        await Recorder(folder, listener=seen.heard[-1]).run(Feed().opening, reading=reading)
        seen.is_closed = True


@asynccontextmanager
async def as_process(disk: Disk) -> AsyncIterator[None]:
    """Until it has done its work, or dies."""

    async def end() -> None:
        await disk.died.wait()
        nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(end)
        yield
        nursery.cancel_scope.cancel()


@contextmanager
def watched(seen: Seen) -> Iterator[None]:
    """Keep the frames that a recorder knows to be written."""
    add_all = CaptureWriter.add_all

    def add(writer: CaptureWriter, batch: Any) -> None:
        add_all(writer, batch)
        kept = seen.kept.setdefault(writer.opened.capture_id, set())
        kept.update(jpeg for _, jpeg in batch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CaptureWriter, "add_all", add)
        yield


def look(seen: Seen, folder: Path) -> None:
    """What is on the disk in the end."""
    seen.left = unfinished(folder)
    for verdict in verify_all(folder):
        if verdict.path in seen.left:
            continue
        problems = [each for each in verdict.problems if not each.startswith("cut: ")]
        capture_id, state, jpegs = "", "none", []
        if verdict.manifest is not None:
            capture_id = verdict.manifest.opened.capture_id
            state = verdict.manifest.state
        if not problems:
            jpegs = [each.jpeg for each in open_recording(verdict.path)]
        seen.found[verdict.path] = Found(capture_id, state, problems, jpegs)


# --- what must hold ---------------------------------------------------------------------------

Check = Callable[[Seen], None]
INVARIANTS: dict[str, Check] = {}


def invariant(check: Check) -> Check:
    """Ask this of every run, by the function's name."""
    INVARIANTS[check.__name__] = check
    return check


@invariant
def what_is_finished_is_sound(seen: Seen) -> None:
    """`verify` finds nothing in what has its name, but that it is cut and says so."""
    unsound = {path.name: found.problems for path, found in seen.found.items()}
    assert not any(unsound.values()), unsound


@invariant
def whole_is_whole(seen: Seen) -> None:
    """All frames, byte for byte; what is cut has some of them, in order."""
    for found in seen.found.values():
        if found.state == "whole":
            assert found.jpegs == [*JPEGS]
        else:
            rest = iter(JPEGS)
            assert all(jpeg in rest for jpeg in found.jpegs)


@invariant
def what_was_told_is_there(seen: Seen) -> None:
    """Whoever was told of a recording finds it, whatever happened then."""
    for heard in seen.heard:
        for written in heard.written:
            found = seen.found.get(written.path)
            assert found is not None, written.path.name
            manifest = written.manifest
            assert (found.state, len(found.jpegs)) == (manifest.state, len(manifest.frames))


@invariant
def each_capture_is_told_once(seen: Seen) -> None:
    """As written or as failed, by a recorder that has returned."""
    first, heard = seen.first, seen.heard[0] if seen.heard else Heard()
    if seen.returned and first is not None:
        told = [each.manifest.opened.capture_id for each in heard.written]
        told += [each for each in heard.failures if each]
        assert sorted(each for each in told if each != "left") == sorted(heard.began_ids)
        assert first.whole + first.cut + first.failed == len(heard.began_ids)


@invariant
def nothing_stays_unfinished(seen: Seen) -> None:
    """A recorder that returns has closed all; else the next one does."""
    assert not seen.left
    if seen.returned and not seen.fired & {"full", "refused"}:
        assert not seen.parts


@invariant
def nothing_complete_is_lost(seen: Seen) -> None:
    """What was written before a process ended is in a recording, unless the power went.

    Of a container a second may be missing, which is all that these captures have.
    """
    if seen.loss == "process" and seen.form == "jpeg":
        for capture_id, kept in seen.kept.items():
            there = [
                each.jpegs for each in seen.found.values() if each.capture_id == capture_id
            ]
            assert kept <= {jpeg for jpegs in there for jpeg in jpegs}, capture_id


@invariant
def no_room_is_kept(seen: Seen) -> None:
    """A recorder that has returned holds no frame."""
    assert not seen.returned or seen.first is None or seen.first._room.used == 0


@invariant
def left_alone_all_is_whole(seen: Seen) -> None:
    """Without a fault, both captures are."""
    if not seen.fired:
        assert seen.first is not None
        assert (seen.first.whole, seen.first.cut, seen.first.failed) == (2, 0, 0)


# --- the sweeps -------------------------------------------------------------------------------


@sweep(at=FAULTS, schedules=["lifo"], budget=60)
async def test_a_recorder_disturbed_anywhere_claims_nothing_that_is_not_so(
    world: World,
) -> None:
    """Some of the instants, the youngest task first."""
    await recording(world)


@pytest.mark.sweep
@sweep(at=FAULTS, schedules=["fifo"], sometimes=REACHED, fork=False, jobs=2)
async def test_every_instant_of_a_recorder(world: World) -> None:
    """Cancelled, stopped, cut off, full, killed."""
    await recording(world, reach=REACHED)


@pytest.mark.sweep
@sweep(
    at=["dies"],
    params=grid(loss=list(LOSSES), operations=range(1, OPERATIONS)),
    schedules=["fifo"],
    fork=False,
    jobs=2,
)
async def test_every_operation_of_a_disk(world: World, loss: Loss, operations: int) -> None:
    """The process dies in the middle of it, or the power goes."""
    await recording(world, loss=loss, operations=operations)


@sweep(at=FAULTS, params=grid(form=CONTAINERS), schedules=["lifo"], budget=60, fork=False)
async def test_a_container_claims_nothing_that_is_not_so(world: World, form: Format) -> None:
    """What libraries write is promised to be as sound as files of our own."""
    await recording(world, form=form)


@pytest.mark.sweep
@sweep(
    at=["killed"],
    params=grid(form=CONTAINERS, loss=list(LOSSES)),
    schedules=["fifo"],
    budget=180,
    fork=False,
)
async def test_every_container_and_every_loss(world: World, form: Format, loss: Loss) -> None:
    """Its process ends, or the power does, between two pieces of work: 20 instants of each.

    In the middle of what libav writes no process can be ended: it catches whatever is raised.
    """
    await recording(world, form=form, loss=loss)


def test_a_recorder_left_alone_is_judged_too() -> None:
    """A bug that needs no fault does not get as far as the sweep."""
    second_frame_lost = Change(
        WRITING,
        "if self._entries and frame.seq <= self._entries[-1].seq:",
        "if frame.seq == 2:",
    )
    with planted(second_frame_lost), pytest.raises(SweepFailure) as caught:
        run_sweep(recording, at=(), schedules=["fifo"])
    assert "left_alone_all_is_whole" in caught.value.invariants


def test_every_invariant_of_the_recorder_has_a_mutant() -> None:
    """An oracle that nothing ever trips may be asleep; the last one is above."""
    broken = {mutant.invariant for mutant in OF_THE_RECORDER}
    assert broken == {*INVARIANTS} - {"left_alone_all_is_whole"}


@pytest.mark.sweep
def test_planted_bugs_of_the_recorder_are_found_and_only_under_a_fault() -> None:
    """A sweep that finds nothing must be one that can."""
    hunts = {one.name: hunt(one, recording) for one in OF_THE_RECORDER}
    record(summary("planted bugs of the recorder", hunts.values()))
    assert not [why for _, why in hunts.values() if why], hunts
