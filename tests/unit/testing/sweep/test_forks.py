"""Points that go on from a forked run: the same verdicts, and the way there only once."""

from __future__ import annotations

import mmap
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from cfw.testing.sweep import (
    Report,
    SweepError,
    SweepFailure,
    World,
    forks,
    grid,
    options,
    run_sweep,
)
from cfw.testing.sweep._libc import gather_pages
from cfw.testing.sweep.tally import Tally
from cfw.testing.sweep.work import Answer, Work

pytestmark = [
    pytest.mark.skipif(bool(forks.obstacle()), reason=forks.obstacle()),
    pytest.mark.timeout(300),  # several sweeps are one test here, and all of it is computed
]


@pytest.fixture
def no_fork_by_chance() -> None:
    """Forks are what is tested here, and when they pay."""


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fork even where it costs more than it saves."""
    monkeypatch.setattr(forks, "FORK_S", -1)


class Shared:
    """A number that all processes add to; each write is one addition, by one at a time."""

    def __init__(self) -> None:
        self.memory = mmap.mmap(-1, 8)

    def add(self, more: int = 1) -> None:
        self.memory[:8] = (self.value + more).to_bytes(8, "little")

    @property
    def value(self) -> int:
        return int.from_bytes(self.memory[:8], "little")


async def work(world: World, *, bug: str = "", steps: int = 5) -> None:
    """Two tasks, a timeout, randomness and a lock; `bug` says what is wrong with it."""
    lock = world.track("lock", trio.Lock())
    drawn: list[float] = []

    async def beside() -> None:
        for _ in range(steps):
            await trio.sleep(0.1 * random.random())
            drawn.append(world.random.random() + random.random())

    async def worker() -> None:
        for _ in range(steps):
            await lock.acquire()
            try:
                await trio.sleep(0.1)
            except trio.Cancelled:
                if bug == "swallows" and random.random() < 0.5:
                    return
                if bug == "raises":
                    raise ValueError(round(random.random(), 3)) from None
                if bug == "coroutine":
                    trio.sleep(1)  # type: ignore[unused-coroutine]  # noqa: ASYNC105 - the bug
                raise
            finally:
                if bug != "keeps":
                    lock.release()

    with trio.CancelScope() as scope, world.expose("scope", scope):
        world.expose("wake", lambda: None)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(beside)
            nursery.start_soon(worker)
    world.check(lambda: bug != "check" or len(drawn) != steps - 1, "draws")
    world.sometimes("drawn", len(drawn) == 2)


def account(**settings: Any) -> dict[str, Any]:
    """Everything a sweep says, also of each point, but how long it took and how it was done."""
    points: list[dict[str, Any]] = []
    note = Tally.note

    def noted(tally: Tally, piece: Work, answer: Answer) -> None:
        points.append({"point": piece.point, **asdict(answer)})
        note(tally, piece, answer)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Tally, "note", noted)
        try:
            report = run_sweep(**settings)
        except SweepFailure as failure:
            report = failure.report
    said = asdict(report)
    del said["seconds"]
    for one in (said, *points):
        del one["forked"], one["unforked"]
    return said | {"points by themselves": points}


def both(scenario: Any, **settings: Any) -> dict[str, Any]:
    """Sweep with forks and without; what both say, which must be the same."""
    with_forks = account(scenario=scenario, fork=True, **settings)
    assert with_forks == account(scenario=scenario, fork=False, **settings)
    return with_forks


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("bug", ["", "swallows", "raises", "coroutine", "keeps", "check"])
def test_the_report_is_the_same_with_forks_and_without(bug: str) -> None:
    """Points, verdicts, smallest points, sites, tokens and traces, of good and of bad."""
    said = both(
        partial(work, bug=bug),
        at=["scope", "nurseries"],
        schedules=["lifo", 3],
        jobs=1 + (bug == "keeps"),
        name="work",
    )
    assert bool(said["failures"]) == bool(bug)


@pytest.mark.usefixtures("always")
def test_two_faults_are_the_same_with_forks_and_without() -> None:
    """The second is walked to from the first."""

    async def twice(world: World, rounds: int) -> None:
        lost = 0
        for number in range(rounds):
            with trio.CancelScope() as scope, world.expose(f"scope{number}", scope):
                await trio.sleep(0.1)
            lost += scope.cancelled_caught
        world.check(lambda: lost < 2, "not both")

    pairs = [("scope0", "scope1"), ("scope0", "scope0")]
    said = both(twice, pairs=pairs, params=grid(rounds=[2, 3]), stop_after=5)
    assert [failure["invariant"] for failure in said["failures"]] == ["not both"]
    assert said["failures"][0]["token"].count("=scope") == 2


@pytest.mark.usefixtures("always")
def test_stopping_at_a_failure_and_a_budget_run_the_same_points() -> None:
    """What comes after the failure that ends the sweep is not counted, though it may run."""
    for more in ({"stop_after": 1}, {"budget": 7}, {"stop_after": 1, "budget": 30, "jobs": 2}):
        both(partial(work, bug="keeps"), at="scope", name="work", **more)


def test_the_way_to_the_points_is_gone_once() -> None:
    """A long scenario forks by itself, and takes few more steps than it has points."""
    rounds = Shared()

    async def long(world: World) -> None:
        with trio.CancelScope() as scope, world.expose("scope", scope):
            for _ in range(1000):
                rounds.add()
                # As much as a step of a real program does.
                sum(range(5000))
                await trio.lowlevel.checkpoint()

    report = run_sweep(long, at="scope", schedules=["fifo"], budget=200, jobs=1)
    assert report.forked == report.ran == 200
    dry = 2 * 1000
    # Every point by itself would have gone half of the way on average.
    assert rounds.value - dry < 1000 + 2 * 200
    assert "forked 200" in report.row()


@pytest.fixture
def three_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever machine this is, and whoever tests beside; and few points are enough."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2})
    monkeypatch.setattr(options, "current", options.Options())
    monkeypatch.setattr(forks, "_SHARE", 5)


@pytest.mark.usefixtures("always", "three_processors")
@pytest.mark.parametrize(("settings", "number"), [({}, 3), ({"jobs": 1}, 1), ({"jobs": 2}, 2)])
def test_each_processor_walks_for_itself(settings: dict[str, Any], number: int) -> None:
    """As many processes as there are, unless the sweep says how many."""
    begun = Shared()

    async def program(world: World) -> None:
        begun.add()
        with trio.CancelScope() as scope, world.expose("scope", scope):
            for _ in range(50):
                await trio.sleep(1)

    report = run_sweep(program, at="scope", schedules=["fifo"], **settings)
    assert report.forked == report.ran > 5 * 16
    dry = 2
    assert begun.value == dry + number


@pytest.mark.usefixtures("always", "three_processors")
@pytest.mark.parametrize("bug", ["", "raises", "keeps"])
def test_the_report_is_that_of_one_process(bug: str) -> None:
    """In the order of the points, whoever was done first; also one that stops early."""
    one, all_ = (
        account(
            scenario=partial(work, bug=bug, steps=20),
            at=["scope", "nurseries"],
            schedules=["lifo"],
            name="work",
            **more,
        )
        for more in ({"jobs": 1}, {})
    )
    assert one == all_
    assert bool(one["failures"]) == bool(bug)


def test_processors_are_shared_with_those_beside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few points are for one process, and so is what is printed as it comes."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))
    monkeypatch.setattr(options, "current", options.Options())
    shares = [forks.walkers(points) for points in (0, 63, 64, 127, 128, 10_000)]
    assert shares == [1, 1, 1, 1, 2, 8]
    for beside, share in ((2, 4), (3, 2), (8, 1), (9, 1)):
        monkeypatch.setattr(options, "current", options.Options(beside=beside))
        assert forks.walkers(10_000) == share
    monkeypatch.setattr(options, "current", options.Options(live=True))
    assert forks.walkers(10_000) == 1


def test_a_short_scenario_does_not_fork() -> None:
    """Where the way is shorter than a fork takes, each run begins anew, in this process."""
    pids: set[int] = set()

    async def short(world: World) -> None:
        pids.add(os.getpid())
        with trio.CancelScope() as scope, world.expose("scope", scope):
            await trio.sleep(1)

    assert run_sweep(short, at="scope").forked == 0
    assert pids == {os.getpid()}


@pytest.mark.usefixtures("always")
def test_what_wakes_one_process_wakes_no_other() -> None:
    """Trio's own wake-up is in the middle of its way at every fork."""

    async def woken(world: World) -> None:
        token = trio.lowlevel.current_trio_token()
        calls: list[int] = []
        with trio.CancelScope() as scope, world.expose("scope", scope):
            for number in range(5):
                done = trio.Event()
                token.run_sync_soon(calls.append, number)
                token.run_sync_soon(done.set)
                await trio.lowlevel.checkpoint()
                await done.wait()
        await trio.lowlevel.checkpoint()
        world.check(lambda: calls == list(range(len(calls))) and bool(calls), "each once")
        world.sometimes("all", len(calls) == 5)

    assert not both(woken, at="scope", sometimes=["all"])["failures"]


@pytest.mark.usefixtures("always")
def test_nothing_begins_anew_in_the_middle_of_a_run() -> None:
    """What libraries do in a new process, such as to reseed, is not for a run that goes on."""
    told: list[int] = []
    os.register_at_fork(before=lambda: told.append(0), after_in_child=lambda: told.append(1))

    async def program(world: World) -> None:
        before = len(told)
        drawn = random.getstate()
        with trio.CancelScope() as scope, world.expose("scope", scope):
            for _ in range(5):
                await trio.sleep(1)
        world.check(lambda: len(told) == before, "nobody was told")
        world.check(lambda: random.getstate() == drawn, "nothing was reseeded")

    assert not both(program, at="scope")["failures"]


def test_memory_is_gathered_as_it_is() -> None:
    """Whether the kernel has huge pages for it or not, its content stays."""
    noted = [bytes([number % 256]) * 1000 for number in range(10_000)]
    gather_pages()
    assert noted == [bytes([number % 256]) * 1000 for number in range(10_000)]


def holds_a_file(path: Path, leave: list[Any]) -> None:
    leave.append(path.open())


def writes_a_file(path: Path, leave: list[Any]) -> None:
    path.with_name("new").write_text("")
    path.with_name("new").unlink()


def has_a_thread(path: Path, leave: list[Any]) -> None:
    go = threading.Event()
    thread = threading.Thread(target=go.wait)
    thread.start()
    leave.append((go, thread))


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize(
    ("touch", "said"),
    [
        (holds_a_file, "holds an open file"),
        (writes_a_file, "changes what outlives a run (open)"),
        (has_a_thread, "has a thread"),
    ],
)
def test_what_a_fork_would_share_ends_the_walk_and_is_said(
    touch: Callable[[Path, list[Any]], None], said: str, tmp_path: Path
) -> None:
    """Threads do not survive a fork, files have one position, folders one content."""
    path = tmp_path / "file"
    path.write_text("some text")

    async def touching(world: World) -> None:
        held: list[Any] = []
        with trio.CancelScope() as scope, world.expose("scope", scope):
            try:
                await trio.sleep(1)
                await trio.sleep(1)
                touch(path, held)
                await trio.sleep(1)
                await trio.sleep(1)
            finally:
                for one in held:
                    if isinstance(one, tuple):
                        one[0].set()
                        one[1].join()
                    else:
                        one.close()

    report = run_sweep(touching, at="scope", schedules=["fifo"])
    assert said in report.unforked
    assert f"not forked: the scenario {said}" in report.row()
    # Until then the way was gone together.
    assert 0 < report.forked < report.ran == report.points
    both(touching, at="scope")


@pytest.mark.usefixtures("always")
def test_a_debugger_or_a_measure_of_coverage_sees_every_run() -> None:
    """It would know nothing of what happens in a fork."""
    before = sys.gettrace()
    sys.settrace(lambda *args: None)
    try:
        report = run_sweep(work, at="scope", schedules=["fifo"])
    finally:
        sys.settrace(before)
    assert report.forked == 0
    assert "would not see" in report.unforked


@pytest.mark.usefixtures("always")
def test_a_platform_without_such_a_fork_does_without_and_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The same points, one by one."""
    monkeypatch.setattr(sys, "platform", "darwin")
    report = run_sweep(work, at="scope", schedules=["fifo"])
    assert report.forked == 0
    assert report.ran == report.points > 0
    assert "not forked: this platform has no fork" in report.row()


@pytest.mark.usefixtures("always")
def test_a_forked_run_that_dies_stops_the_sweep_and_says_so() -> None:
    """A crash of the interpreter is no verdict."""
    here = os.getpid()

    async def dies(world: World) -> None:
        with trio.CancelScope() as scope, world.expose("scope", scope):
            try:
                await trio.sleep(1)
            except trio.Cancelled:
                if os.getpid() != here:
                    os.kill(os.getpid(), signal.SIGKILL)
                raise

    with pytest.raises(SweepError, match="died without a word"):
        run_sweep(dies, at="scope")


@pytest.fixture
def pids() -> Iterator[mmap.mmap]:
    """Where processes note that they run; none may be left in the end."""
    noted = mmap.mmap(-1, 4 * 4096)
    yield noted
    numbers = [int.from_bytes(noted[at : at + 4], "little") for at in range(0, 4 * 4096, 4)]
    for number in {*numbers} - {0, os.getpid()}:
        with suppress(ProcessLookupError):
            for _ in range(500):
                os.kill(number, 0)
                time.sleep(0.01)
            os.kill(number, signal.SIGKILL)
            pytest.fail(f"process {number} was left behind")


def note(pids: mmap.mmap) -> None:
    mine = os.getpid().to_bytes(4, "little")
    if pids.find(mine) < 0:
        at = next(at for at in range(0, len(pids), 4) if pids[at : at + 4] == bytes(4))
        pids[at : at + 4] = mine


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("jobs", [1, 2])
def test_no_process_is_left_when_the_sweep_stops_early(pids: mmap.mmap, jobs: int) -> None:
    """Also not the one whose run would take for ever."""

    async def slow_after_a_while(world: World) -> None:
        note(pids)
        rounds = 0
        with trio.CancelScope() as scope, world.expose("scope", scope):
            try:
                for _ in range(60):
                    rounds += 1
                    note(pids)
                    await trio.lowlevel.checkpoint()
            except trio.Cancelled:
                note(pids)
                if rounds > 50:
                    time.sleep(1000)  # noqa: ASYNC251 - cannot be cancelled
                raise
        world.check(lambda: rounds < 20, "early")

    with pytest.raises(SweepFailure):
        run_sweep(slow_after_a_while, at="scope", schedules=["fifo"], stop_after=1, jobs=jobs)


@pytest.mark.usefixtures("always")
def test_ctrl_c_ends_the_walk_and_all_it_forked(pids: mmap.mmap) -> None:
    """The person has waited long enough."""
    here = os.getpid()

    async def interrupted(world: World) -> None:
        rounds = 0
        with trio.CancelScope() as scope, world.expose("scope", scope):
            try:
                for _ in range(60):
                    rounds += 1
                    note(pids)
                    await trio.lowlevel.checkpoint()
            except trio.Cancelled:
                note(pids)
                if rounds == 30:
                    os.kill(here, signal.SIGINT)
                    time.sleep(1000)  # noqa: ASYNC251 - cannot be cancelled
                raise

    with pytest.raises(KeyboardInterrupt):
        run_sweep(interrupted, at="scope", schedules=["fifo"])


def test_the_report_of_one_that_may_not_fork_says_nothing_of_it() -> None:
    """`fork=False` is a choice, not a hindrance."""
    report: Report = run_sweep(work, at="scope", fork=False)
    assert not report.forked
    assert not report.unforked
