"""Each way in which a naive sweep passes without having tested anything."""

from __future__ import annotations

import gc
import logging
import os
import random
import signal
import socket
import sys
import threading
import time
import warnings
from collections.abc import AsyncIterator, Iterator
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from cfw.testing.sweep import (
    InstrumentError,
    RealIOError,
    SweepFailure,
    World,
    grid,
    run_sweep,
)
from cfw.testing.sweep import watch as watch_module


async def one_scope(world: World) -> None:
    with trio.CancelScope() as scope:
        world.expose("scope", scope)
        await trio.sleep(1)


def test_an_instrument_that_raises_is_no_pass(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Trio drops a raising instrument after a log line; the sweep raises after the run."""

    def broken(task: trio.lowlevel.Task) -> None:
        raise RuntimeError("planted")

    monkeypatch.setattr(watch_module, "position", broken)
    with pytest.raises(InstrumentError, match="planted"):
        run_sweep(one_scope, at="scope")
    assert not caplog.records


def test_an_instrument_of_the_scenario_that_raises_is_a_failure() -> None:
    """What Trio only logs about others' instruments is a broken invariant, not a line."""

    class Bad(trio.abc.Instrument):
        def after_task_step(self, task: trio.lowlevel.Task) -> None:
            raise RuntimeError("planted")

    async def scenario(world: World) -> None:
        trio.lowlevel.add_instrument(Bad())
        await trio.lowlevel.checkpoint()

    with pytest.raises(SweepFailure) as caught:
        run_sweep(scenario)
    assert caught.value.invariant == "trio-log"
    assert logging.getLogger("trio.abc.Instrument").propagate


def test_an_action_that_raises_is_a_failure() -> None:
    """A fault that did not do its job must not count as survived."""

    async def scenario(world: World) -> None:
        world.expose("action", lambda: 1 / 0)
        await trio.lowlevel.checkpoint()

    with pytest.raises(SweepFailure) as caught:
        run_sweep(scenario, at="action")
    assert caught.value.invariant == "action"
    assert "ZeroDivisionError" in str(caught.value)


async def ticks() -> AsyncIterator[int]:
    try:
        while True:
            yield 1
            await trio.lowlevel.checkpoint()
    finally:
        await trio.lowlevel.checkpoint()


def test_abandoned_async_generator_is_a_warning_not_a_step() -> None:
    """Its finaliser runs in a system task: found as a warning, and not counted as ours."""

    async def abandoning(world: World) -> None:
        async for _ in ticks():
            break
        for _ in range(5):
            await trio.lowlevel.checkpoint()

    async def closing(world: World) -> None:
        for _ in range(5):
            await trio.lowlevel.checkpoint()

    with pytest.raises(SweepFailure) as caught:
        run_sweep(abandoning, schedules=["fifo"])
    assert caught.value.invariant == "warning"
    assert "Async generator" in str(caught.value)
    assert caught.value.report.steps == run_sweep(closing, schedules=["fifo"]).steps


def test_shielded_tail_is_not_a_swallowed_cancellation() -> None:
    """A shield to the end leaves `cancelled_caught` False, and nothing was swallowed."""
    caught = set()

    async def scenario(world: World) -> None:
        with trio.CancelScope() as scope:
            world.expose("scope", scope)
            with trio.CancelScope(shield=True):
                await trio.sleep(1)
        if world.injected:
            caught.add(scope.cancelled_caught)

    run_sweep(scenario, at="scope")
    assert caught == {False}


def test_cancellation_taken_by_a_scope_around_it_is_not_swallowed() -> None:
    """When the scope around is cancelled as well, it takes the Cancelled of the inner one."""

    async def scenario(world: World) -> None:
        with trio.CancelScope() as outer:
            world.expose("outer", outer)
            with trio.CancelScope() as inner:
                world.expose("inner", inner)
                try:
                    await trio.sleep(1)
                finally:
                    if world.params:
                        outer.cancel()

    run_sweep(scenario, pairs=[("inner", "outer"), ("outer", "inner")])

    async def by_itself(world: World, by_itself: bool) -> None:
        await scenario(world)

    run_sweep(by_itself, at="inner", params=grid(by_itself=[True]))


def test_nursery_exit_passes_on_a_cancellation_and_makes_none() -> None:
    """Leaving an empty nursery is a schedule point: a cancel there is not delivered."""
    outcomes = {}

    async def scenario(world: World) -> None:
        with trio.CancelScope() as scope:
            world.expose("scope", scope)
            async with trio.open_nursery():
                pass
        if world.injections:
            outcomes[world.injections[0].step] = scope.cancelled_caught

    run_sweep(scenario, at="scope", schedules=["fifo"])
    assert outcomes
    assert not any(outcomes.values())


def test_no_steps_of_a_primitive_are_assumed() -> None:
    """Primitives that take different numbers of steps are all swept to their end."""

    async def scenario(world: World, primitive: Any) -> None:
        with trio.CancelScope() as scope:
            world.expose("scope", scope)
            await primitive()

    async def send_and_receive() -> None:
        send, receive = trio.open_memory_channel(1)
        await send.send(1)
        await receive.receive()

    async def lockstep() -> None:
        one, two = trio.testing.lockstep_stream_pair()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(one.send_all, b"xy")
            await two.receive_some(1)
            await two.receive_some(1)

    reports = [
        run_sweep(scenario, at="scope", schedules=["fifo"], params=grid(primitive=[primitive]))
        for primitive in (trio.lowlevel.checkpoint, send_and_receive, lockstep)
    ]
    assert len({report.points for report in reports}) == 3
    assert all(report.complete for report in reports)


async def two_sleepers(world: World, first: float) -> None:
    order: list[str] = []

    async def sleeper(name: str, *naps: float) -> None:
        for nap in naps:
            await trio.sleep(nap)
        order.append(name)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(sleeper, "long", 1.0)
        nursery.start_soon(sleeper, "naps", first, 0.5)
    world.check(lambda: None, "nothing")
    world.sometimes("naps first", order[0] == "naps")
    world.sometimes("long first", order[0] == "long")


def test_equal_virtual_times_are_reported_and_come_apart() -> None:
    """Tasks woken at one virtual time are counted as ties; schedules and pace part them."""
    tied = run_sweep(two_sleepers, schedules=["fifo", "lifo"], params=grid(first=[0.5]))
    assert tied.ties > 0
    assert f"ties {tied.ties}" in tied.row()
    paced = run_sweep(two_sleepers, schedules=["fifo"], params=grid(first=[0.4, 0.6]))
    assert paced.ties == 0
    assert paced.never_reached == ()


def test_collector_is_off_during_a_run_and_back_after() -> None:
    """No collection happens at a moment of its own choosing, and nothing stays changed."""
    states = []

    async def scenario(world: World) -> None:
        states.append(gc.isenabled())
        await trio.lowlevel.checkpoint()

    hook, filters = sys.unraisablehook, list(warnings.filters)
    random.seed(5)
    expected = random.Random(5).random()
    run_sweep(scenario)
    assert states
    assert not any(states)
    assert gc.isenabled()
    assert sys.unraisablehook is hook
    assert warnings.filters == filters
    assert random.random() == expected


def test_randomness_is_the_same_in_every_run() -> None:
    """The world's generator and the global one start alike in each run."""
    drawn = set()

    async def scenario(world: World) -> None:
        drawn.add((world.random.random(), random.random()))
        await trio.lowlevel.checkpoint()

    run_sweep(scenario, schedules=["fifo", 3])
    assert len(drawn) == 1


def test_sweep_inside_a_run_is_refused() -> None:
    """`trio.run` does not nest; the error says so and nothing is left patched."""

    async def main() -> None:
        run_sweep(one_scope)

    with pytest.raises(RuntimeError, match="inside"):
        trio.run(main)
    run_sweep(one_scope, at="scope")


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("where", ["scenario", "action", "check", "state"])
def test_an_exit_the_code_asks_for_is_a_finding(error: type[BaseException], where: str) -> None:
    """Nothing a run raises stops the sweep; it fails with a token that replays it."""

    def leave() -> None:
        raise error(3)

    async def child() -> None:
        await trio.lowlevel.checkpoint()
        if where == "scenario":
            leave()

    async def scenario(world: World) -> None:
        world.expose("action", leave if where == "action" else lambda: None)
        if where == "check":
            world.check(leave)
        if where == "state":
            world.track("state", world, state=lambda _: leave())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(child)

    with pytest.raises(SweepFailure) as caught:
        run_sweep(scenario, at="action")
    names = {"scenario": "exception", "action": "action", "check": "leave", "state": "state"}
    assert caught.value.invariant == names[where]
    assert error.__name__ in str(caught.value)
    with pytest.raises(SweepFailure) as again:
        run_sweep(scenario, replay=caught.value.token)
    assert again.value.invariant == caught.value.invariant


@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize("kept", [False, True], ids=["let through", "swallowed"])
def test_ctrl_c_of_a_person_ends_the_sweep(kept: bool, jobs: int) -> None:
    """The signal counts, even when the scenario catches what it raises."""
    handler = signal.getsignal(signal.SIGINT)
    here, runs = os.getpid(), []

    async def scenario(world: World) -> None:
        runs.append(1)
        world.expose("action", lambda: None)
        await trio.lowlevel.checkpoint()
        if len(runs) == 2:
            with suppress(BaseException) if kept else nullcontext():
                os.kill(here, signal.SIGINT)
                for _ in range(1000):
                    pass
        for _ in range(20):
            await trio.lowlevel.checkpoint()

    with pytest.raises(KeyboardInterrupt):
        run_sweep(scenario, at="action", jobs=jobs)
    assert len(runs) == 2
    assert signal.getsignal(signal.SIGINT) is handler
    run_sweep(one_scope, at="scope")


def test_ctrl_c_ends_a_sweep_in_two_processes_that_is_under_way(tmp_path: Path) -> None:
    """The parent waits for its workers then, and hears the signal."""

    async def scenario(world: World) -> None:
        world.expose("action", lambda: None)
        if world.params and os.getpid() != here:
            # By the first of all processes: a second time would be meant for what comes next.
            with suppress(FileExistsError):
                (tmp_path / "pressed").touch(exist_ok=False)
                os.kill(here, signal.SIGINT)
        for _ in range(20):
            await trio.lowlevel.checkpoint()

    async def run(world: World, many: int) -> None:
        await scenario(world)

    here = os.getpid()
    with pytest.raises(KeyboardInterrupt):
        run_sweep(run, at="action", jobs=2, params=grid(many=[1, 2]))


@pytest.fixture
def fork_hooks() -> Iterator[list[str]]:
    """A lock that is held around each fork, as `logging` holds its own; Ctrl-C comes inside.

    A hook cannot be taken away again: it does nothing once the test is over.
    """
    said: list[str] = []
    lock, here = threading.Lock(), os.getpid()

    def take() -> None:
        if said is _hooked[0] and os.getpid() == here:
            lock.acquire()
            os.kill(here, signal.SIGINT)
            said.append("taken")

    def give_back() -> None:
        if said is _hooked[0] and os.getpid() == here:
            os.kill(here, signal.SIGINT)
            said.append("given back")
            lock.release()

    _hooked[0] = said
    os.register_at_fork(before=take, after_in_parent=give_back)
    yield said
    _hooked[0] = None


_hooked: list[list[str] | None] = [None]


def test_ctrl_c_at_a_fork_leaves_no_lock_held(fork_hooks: list[str]) -> None:
    """What a hook around a fork raises is lost: neither lock nor Ctrl-C is."""

    async def scenario(world: World) -> None:
        world.expose("action", lambda: None)
        for _ in range(20):
            await trio.lowlevel.checkpoint()

    with pytest.raises(KeyboardInterrupt):
        run_sweep(scenario, at="action", jobs=2, params=grid() * 2)
    assert fork_hooks[:2] == ["taken", "given back"]
    assert fork_hooks.count("taken") == fork_hooks.count("given back")


def test_ctrl_c_breaks_off_nothing_that_comes_to_an_end() -> None:
    """A log line that is being written is written, and the sweep ends behind it."""
    written = []

    class Slow(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            os.kill(os.getpid(), signal.SIGINT)
            for _ in range(1000):
                pass
            written.append(record.getMessage())

    logger = logging.Logger("sweep")
    logger.addHandler(Slow())

    async def scenario(world: World) -> None:
        world.expose("action", lambda: None)
        logger.warning("one")
        await trio.lowlevel.checkpoint()
        logger.warning("two")

    with pytest.raises(KeyboardInterrupt):
        run_sweep(scenario, at="action")
    assert written == ["one"]


def test_ctrl_c_again_breaks_off_what_does_not_come_to_an_end() -> None:
    """Code that never gives way is ended by the second one."""

    async def scenario(world: World) -> None:
        await trio.lowlevel.checkpoint()
        os.kill(os.getpid(), signal.SIGINT)
        until = time.monotonic() + 0.2
        while time.monotonic() < until:
            pass
        os.kill(os.getpid(), signal.SIGINT)
        while True:
            pass

    with pytest.raises(KeyboardInterrupt):
        run_sweep(scenario)
    run_sweep(one_scope, at="scope")


def test_ctrl_c_wins_over_a_finding() -> None:
    """A sweep that fails while it is being ended does not go on to the next test."""

    async def scenario(world: World) -> None:
        def fail() -> bool:
            os.kill(os.getpid(), signal.SIGINT)
            return False

        world.check(fail)
        await trio.lowlevel.checkpoint()

    with pytest.raises(KeyboardInterrupt):
        run_sweep(scenario)


def test_a_run_loop_that_breaks_down_is_a_failure() -> None:
    """Trio's own internal error, here by a callback, has a token like any other finding."""

    async def scenario(world: World) -> None:
        token = trio.lowlevel.current_trio_token()
        world.expose("action", lambda: token.run_sync_soon(lambda: 1 / 0))
        await trio.sleep(1)

    with pytest.raises(SweepFailure) as caught:
        run_sweep(scenario, at="action")
    assert caught.value.invariant == "trio-broken"
    assert "ZeroDivisionError" in str(caught.value)
    with pytest.raises(SweepFailure) as again:
        run_sweep(scenario, replay=caught.value.token)
    assert again.value.invariant == "trio-broken"


def test_an_abort_function_that_raises_is_a_failure() -> None:
    """It is the code under test that raises in a cancel, not the engine."""

    def abort(raise_cancel: Any) -> trio.lowlevel.Abort:
        raise OSError("in abort")

    async def scenario(world: World) -> None:
        with trio.CancelScope() as scope:
            world.expose("scope", scope)
            task = trio.lowlevel.current_task()
            deadline = trio.current_time() + 1
            trio.lowlevel.spawn_system_task(wake, task, deadline)
            await trio.lowlevel.wait_task_rescheduled(abort)

    async def wake(task: trio.lowlevel.Task, deadline: float) -> None:
        await trio.sleep_until(deadline)
        trio.lowlevel.reschedule(task)

    with pytest.raises(SweepFailure) as caught:
        run_sweep(scenario, at="scope")
    assert caught.value.invariant == "action"
    assert "OSError('in abort')" in str(caught.value)
    assert caught.value.token


async def use_a_socket() -> None:
    one, two = (trio.socket.from_stdlib_socket(end) for end in socket.socketpair())
    with one, two:
        await one.send(b"x")


async def use_a_descriptor() -> None:
    one, two = socket.socketpair()
    with one, two:
        await trio.lowlevel.wait_writable(one)


async def use_a_thread() -> None:
    await trio.to_thread.run_sync(int)


async def use_a_process() -> None:
    await trio.run_process([sys.executable, "--version"])


async def use_a_signal() -> None:
    with trio.open_signal_receiver(signal.SIGTERM):
        await trio.lowlevel.checkpoint()


async def use_a_foreign_thread() -> None:
    token = trio.lowlevel.current_trio_token()
    thread = threading.Thread(target=suppressing, args=[token.run_sync_soon, int])
    thread.start()
    thread.join()
    await trio.lowlevel.checkpoint()


def suppressing(fn: Any, *args: Any) -> None:
    with suppress(Exception):
        fn(*args)


@pytest.mark.parametrize(
    "use",
    [
        use_a_socket,
        use_a_descriptor,
        use_a_thread,
        use_a_process,
        use_a_signal,
        use_a_foreign_thread,
    ],
    ids=lambda use: use.__name__,
)
@pytest.mark.parametrize("when", ["always", "after a fault", "in a system task"])
def test_what_is_not_virtual_is_refused(use: Any, when: str) -> None:
    """Its instants would not repeat; the refusal says where, and cannot be swallowed."""

    async def quietly() -> None:
        with suppress(Exception):
            await use()

    async def scenario(world: World) -> None:
        world.expose("action", lambda: None)
        if when == "in a system task":
            trio.lowlevel.spawn_system_task(quietly)
        await trio.sleep(1)
        if when == "always" or (when == "after a fault" and world.injected):
            await quietly()

    for jobs in (1, 2):
        with pytest.raises(RealIOError, match="stream_pair") as caught:
            run_sweep(scenario, at="action", jobs=jobs, params=grid() * 9)
        where = "suppressing" if use is use_a_foreign_thread else use.__name__
        assert where in caught.value.where


async def test_real_io_works_beside_a_sweep() -> None:
    """The doors are closed for the scenario alone, and open again afterwards."""
    await trio.to_thread.run_sync(run_sweep, one_scope)
    await use_a_thread()
    await use_a_socket()


def hide_by_level() -> None:
    logging.getLogger("trio.abc.Instrument").setLevel(100)


def hide_by_disable() -> None:
    logging.disable()


def hide_by_flag() -> None:
    logging.getLogger("trio.abc.Instrument").disabled = True


def hide_by_filter() -> None:
    logging.getLogger("trio.abc.Instrument").addFilter(lambda record: False)


@pytest.mark.parametrize("hide", [hide_by_level, hide_by_disable, hide_by_flag, hide_by_filter])
@pytest.mark.parametrize("inside", [False, True], ids=["before", "in the scenario"])
def test_no_setting_of_logging_hides_what_trio_logs(hide: Any, inside: bool) -> None:
    """An application that silences logging must not silence the finding."""

    class Bad(trio.abc.Instrument):
        def after_task_step(self, task: trio.lowlevel.Task) -> None:
            raise RuntimeError("planted")

    async def scenario(world: World) -> None:
        if inside:
            hide()
        trio.lowlevel.add_instrument(Bad())
        await trio.lowlevel.checkpoint()

    logger = logging.getLogger("trio.abc.Instrument")
    saved = logger.level, logger.disabled, logger.filters[:]
    try:
        if not inside:
            hide()
        with pytest.raises(SweepFailure) as caught:
            run_sweep(scenario)
    finally:
        logger.level, logger.disabled, logger.filters = saved
        logging.disable(logging.NOTSET)
    assert caught.value.invariant == "trio-log"
    assert not {"handle", "isEnabledFor"} & set(vars(logger))


def warned(category: type[Warning], *filters: tuple[Any, ...]) -> list[str]:
    """The invariants that break when every fault warns at one place, under these filters."""

    async def scenario(world: World) -> None:
        world.expose("action", lambda: warnings.warn("one two", category, stacklevel=2))
        await trio.lowlevel.checkpoint()

    with warnings.catch_warnings():
        warnings.resetwarnings()
        for one in filters:
            warnings.filterwarnings(*one)
        try:
            run_sweep(scenario, at="action", stop_after=9)
        except SweepFailure as found:
            failure = found
        else:
            return []
    # None of them is hidden by the one before it.
    assert sum(1 + one.others for one in failure.failures) == failure.report.points
    return list(failure.invariants)


@pytest.mark.parametrize("category", [ResourceWarning, RuntimeWarning])
def test_warnings_of_leaks_are_failures_under_any_general_filter(
    category: type[Warning],
) -> None:
    """Ignored, made an error or shown once: a leak is a leak; one message can be excused."""
    assert warned(category) == ["warning"]
    assert warned(category, ("ignore",)) == ["warning"]
    assert warned(category, ("ignore", "", category)) == ["warning"]
    assert warned(category, ("error",)) == ["warning"]
    assert warned(category, ("once",)) == ["warning"]
    assert warned(category, ("ignore", "one .*", category)) == []


def test_other_warnings_are_judged_by_the_filters_in_force() -> None:
    """Shown is a failure, at every point; ignored is none; an error is raised in place."""
    assert warned(UserWarning) == ["warning"]
    assert warned(UserWarning, ("default",)) == ["warning"]
    assert warned(UserWarning, ("once",)) == ["warning"]
    assert warned(UserWarning, ("ignore", "", UserWarning)) == []
    assert warned(UserWarning, ("error", "", UserWarning)) == ["action"]


def test_a_check_that_only_returns_false_fails() -> None:
    """A condition without `assert` must not pass for want of an exception."""

    async def scenario(world: World) -> None:
        world.check(lambda: 1 > 2, "predicate")

    with pytest.raises(SweepFailure) as caught:
        run_sweep(scenario)
    assert caught.value.invariant == "predicate"

    async def check() -> None:
        raise AssertionError

    with pytest.raises(TypeError, match="synchronous"):
        World().check(check)


def test_world_refuses_what_it_cannot_fire_or_check() -> None:
    """Asynchronous actions, taken and reserved names, and objects with nothing to check."""

    async def asynchronous() -> None:
        raise AssertionError

    world = World()
    world.expose("scope", trio.CancelScope())
    refused: list[tuple[str, Any, type[Exception]]] = [
        ("async", asynchronous, TypeError),
        ("number", 3, TypeError),
        ("scope", trio.CancelScope(), ValueError),
        ("nurseries", trio.CancelScope(), ValueError),
        ("nursery:x", trio.CancelScope(), ValueError),
    ]
    for name, thing, error in refused:
        with pytest.raises(error):
            world.expose(name, thing)
    with pytest.raises(TypeError, match="pass state="):
        world.track("plain", object())
    world.withdraw("scope")
    world.withdraw("scope")
    assert world.exposed_names() == ()
    assert world.injected is None
    assert world.elapsed is None


def test_world_knows_what_fired_and_how_long_it_took() -> None:
    """After the run, checks read the fault, its time, and the virtual time taken."""
    seen = []

    async def scenario(world: World) -> None:
        world.check(lambda: seen.append((world.injected, world.elapsed)), "collect")
        await one_scope(world)

    run_sweep(scenario, at="scope", schedules=["fifo"])
    assert seen[0] == (None, 1.0)
    assert ("scope", 0.0) in seen
    assert ("scope", 1.0) in seen


def test_collector_looks_at_one_run_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """What existed before a run is hidden from the collection after it, and comes back."""
    looked_at = []
    collect = gc.collect

    def counting() -> int:
        looked_at.append(len(gc.get_objects()))
        return collect()

    before = gc.get_freeze_count()
    heap = len(gc.get_objects())
    monkeypatch.setattr(gc, "collect", counting)
    run_sweep(one_scope, at="scope")
    assert max(looked_at) < heap / 2
    assert gc.get_freeze_count() <= before


def test_a_name_tracked_twice_is_refused() -> None:
    """The second one would replace the first, which nothing would hold to account."""
    world = World()
    limiter = world.track("slot", trio.CapacityLimiter(1))
    with pytest.raises(ValueError, match="'slot' is tracked already"):
        world.track("slot", trio.CapacityLimiter(1))
    assert world._tracked["slot"].verdict() is None
    limiter.acquire_on_behalf_of_nowait("somebody")
    assert world._tracked["slot"].verdict() is not None


def test_pairs_under_the_exhaustive_schedule_are_refused() -> None:
    """They would not be run, and the report would say complete."""
    for schedules in (["exhaustive"], ["fifo", "exhaustive"]):
        with pytest.raises(ValueError, match="pairs are not swept under"):
            run_sweep(one_scope, pairs=[("scope", "scope")], schedules=schedules)


def test_a_pair_given_twice_is_run_once() -> None:
    """The same points twice prove no more."""

    async def scenario(world: World) -> None:
        world.expose("one", lambda: None)
        world.expose("two", lambda: None)
        await trio.sleep(1)

    once = run_sweep(scenario, pairs=[("one", "two")], schedules=["fifo"])
    twice = run_sweep(scenario, pairs=[("one", "two")] * 2, schedules=["fifo"])
    assert (twice.points, twice.runs) == (once.points, once.runs)


@pytest.mark.parametrize("frozen", [False, True])
def test_what_the_caller_has_frozen_stays_frozen(frozen: bool) -> None:
    """There is no way to unfreeze only one's own."""
    assert gc.get_freeze_count() == 0
    if frozen:
        gc.freeze()
    before = gc.get_freeze_count()
    try:
        run_sweep(one_scope, at="scope")
        # A frozen object may go, but none is added or given back.
        assert gc.get_freeze_count() <= before
        assert gc.get_freeze_count() >= before * 0.9
    finally:
        gc.unfreeze()


def test_a_failing_dry_run_is_not_complete() -> None:
    """No fault was fired, so nothing was covered."""

    async def scenario(world: World) -> None:
        await one_scope(world)
        raise ValueError

    with pytest.raises(SweepFailure) as caught:
        run_sweep(scenario, at="scope")
    report = caught.value.report
    assert (report.points, report.complete) == (0, False)
    assert "without one failed" in report.sampled
