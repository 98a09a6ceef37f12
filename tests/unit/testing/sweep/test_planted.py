"""Bugs planted in tiny scenarios: each is found, by the name of the invariant it breaks."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
import trio
import trio.lowlevel
import trio.testing

from cfw.testing.sweep import SweepFailure, World, run_sweep


def found(scenario: Any, at: str | tuple[str, ...] = "scope", **settings: Any) -> SweepFailure:
    """Sweep a scenario that must fail; the failure."""
    with pytest.raises(SweepFailure) as caught:
        run_sweep(scenario, at=at, **settings)
    return caught.value


class Gate:
    """Counts who is inside; entering and leaving are synchronous."""

    def __init__(self, world: World) -> None:
        self.inside = 0
        world.track("gate", self, state=lambda gate: gate.inside, expect=0)

    def enter(self) -> None:
        self.inside += 1

    def leave(self) -> None:
        self.inside -= 1


class Stream:
    """Closes with a checkpoint, as real streams do."""

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


async def await_in_finally(world: World) -> None:
    gate = Gate(world)
    with trio.CancelScope() as scope:
        world.expose("scope", scope)
        gate.enter()
        try:
            await trio.sleep(1)
        finally:
            await trio.lowlevel.checkpoint()
            gate.leave()


async def release_outside_finally(world: World) -> None:
    gate = Gate(world)
    with trio.CancelScope() as scope:
        world.expose("scope", scope)
        gate.enter()
        await trio.sleep(1)
        gate.leave()


async def checkpoint_between_acquire_and_try(world: World) -> None:
    limiter = world.track("gate", trio.CapacityLimiter(1))
    with trio.CancelScope() as scope:
        world.expose("scope", scope)
        await limiter.acquire()
        await trio.lowlevel.checkpoint()
        try:
            await trio.sleep(1)
        finally:
            limiter.release()


@pytest.mark.parametrize(
    "scenario",
    [await_in_finally, release_outside_finally, checkpoint_between_acquire_and_try],
    ids=lambda scenario: scenario.__name__,
)
def test_leaks_break_the_tracked_resource(scenario: Any) -> None:
    """What is not given back at some instant shows under the resource's name."""
    failure = found(scenario)
    assert failure.invariants == ("gate",)
    assert "not 0" in str(failure)


def test_right_version_passes() -> None:
    """The same with a finally around everything passes every point."""

    async def scenario(world: World) -> None:
        gate = Gate(world)
        with trio.CancelScope() as scope:
            world.expose("scope", scope)
            gate.enter()
            try:
                await trio.sleep(1)
            finally:
                gate.leave()

    assert run_sweep(scenario, at="scope").complete


async def close_twice(world: World) -> None:
    stream = world.track("stream closed once", Stream())
    with trio.CancelScope() as scope:
        world.expose("scope", scope)
        try:
            await trio.sleep(1)
            await stream.aclose()
        except trio.Cancelled:
            with trio.CancelScope(shield=True):
                await stream.aclose()
            raise


async def close_never(world: World) -> None:
    stream = world.track("stream closed once", Stream())
    with trio.CancelScope() as scope:
        world.expose("scope", scope)
        await trio.sleep(1)
        await stream.aclose()
        return
    assert scope.cancelled_caught


@pytest.mark.parametrize("scenario", [close_twice, close_never])
def test_closes_are_counted(scenario: Any) -> None:
    """Cancelled during its close a stream is closed twice, or before it never."""
    failure = found(scenario)
    assert failure.invariant == "stream closed once"
    assert "times closed" in str(failure)


class Slow:
    """Waits before it is closed; `forceful` as Trio asks of streams, closed in any case."""

    def __init__(self, forceful: bool = False) -> None:
        self.done = False
        self.forceful = forceful

    async def aclose(self) -> None:
        try:
            await trio.sleep(1)
            self.done = True
        finally:
            self.done |= self.forceful


class SlowWithFlag(Slow):
    """Says itself whether it is closed."""

    @property
    def is_closed(self) -> bool:
        return self.done


@pytest.mark.parametrize("kind", [Slow, SlowWithFlag])
def test_a_close_that_is_broken_off_leaves_the_resource_open(kind: Any) -> None:
    """Begun is not finished: a Cancelled in `aclose` is a leak, unless it really closed."""

    async def scenario(world: World, forceful: bool, read: bool) -> None:
        stream = kind(forceful)
        with trio.CancelScope() as scope:
            world.expose("scope", scope)
            try:
                await trio.lowlevel.cancel_shielded_checkpoint()
            finally:
                closed = (lambda stream: stream.done) if read else None
                await world.track("stream", stream, closed=closed).aclose()

    for read in (False, True):
        failure = found(scenario, params=[{"forceful": False, "read": read}])
        assert failure.invariants == ("stream",)
        assert "Cancelled ended its close" in str(failure)
    run_sweep(scenario, at="scope", params=[{"forceful": True, "read": True}])
    if kind is SlowWithFlag:
        run_sweep(scenario, at="scope", params=[{"forceful": True, "read": False}])


def test_streams_of_trio_close_when_their_close_is_cancelled() -> None:
    """Their `aclose` calls `close` before it waits, so nothing is left open."""

    async def scenario(world: World) -> None:
        _, stream = trio.testing.memory_stream_pair()
        world.track("receiving", stream.receive_stream)
        with trio.CancelScope() as scope:
            world.expose("scope", scope)
            try:
                await trio.sleep(1)
            finally:
                await stream.receive_stream.aclose()

    assert run_sweep(scenario, at="scope").complete


@pytest.mark.parametrize("which", ["send", "receive"])
@pytest.mark.parametrize("left", ["clone", "clone of a clone", "itself", None])
def test_every_clone_of_a_channel_is_held_to_account(which: str, left: str | None) -> None:
    """One end left open, whichever it is, keeps the other side waiting."""

    async def scenario(world: World) -> None:
        ends = dict(zip(("send", "receive"), trio.open_memory_channel[int](1), strict=True))
        end: Any = world.track("channel", ends[which])
        clone = end.clone()
        opened = {"itself": end, "clone": clone, "clone of a clone": clone.clone()}
        await trio.lowlevel.checkpoint()
        for name, one in opened.items():
            if name != left:
                one.close()

    if left is None:
        run_sweep(scenario)
    else:
        failure = found(scenario, at=())
        assert failure.invariant == "channel"
        assert f"{which} ends left open, clones included: 1, not 0" in str(failure)


def test_item_thrown_away_by_a_clone() -> None:
    """The last receive end to close throws the buffer away, whichever it is."""

    async def scenario(world: World) -> None:
        send, receive = trio.open_memory_channel[int](10)
        world.track("nothing queued", receive)
        clone = receive.clone().clone()
        with send, clone, receive, receive.clone():
            send.send_nowait(1)
            await trio.lowlevel.checkpoint()

    assert "thrown away" in str(found(scenario, at=()))


def test_close_inside_aclose_counts_once() -> None:
    """An `aclose` that calls `close` is one close; two tasks that close are two."""

    class Both:
        def close(self) -> None:
            pass

        async def aclose(self) -> None:
            self.close()
            await trio.lowlevel.checkpoint()

    async def once(world: World) -> None:
        await world.track("closed", Both()).aclose()

    async def by_two_tasks(world: World) -> None:
        both = world.track("closed", Both())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(both.aclose)
            nursery.start_soon(both.aclose)

    run_sweep(once)
    assert found(by_two_tasks, at=()).invariant == "closed"


def test_swallowed_cancelled_at_the_end() -> None:
    """A Cancelled that never reaches its scope is found though everything ends."""

    async def scenario(world: World) -> None:
        with trio.CancelScope() as scope:
            world.expose("scope", scope)
            with suppress(BaseException):
                await trio.sleep(1)

    assert found(scenario).invariant == "cancelled-swallowed"
    run_sweep(scenario, at="scope", without=["cancelled-swallowed"])


def test_swallowed_though_a_scope_around_it_is_cancelled_later() -> None:
    """What happens after the scope was left excuses nothing that happened before."""

    async def scenario(world: World) -> None:
        with trio.CancelScope() as outer:
            with trio.CancelScope() as scope:
                world.expose("scope", scope)
                with suppress(BaseException):
                    await trio.sleep(1)
            outer.cancel()
            await trio.lowlevel.checkpoint()

    assert found(scenario).invariants == ("cancelled-swallowed",)


def test_swallowed_though_a_scope_around_it_is_cancelled_before() -> None:
    """A scope around it that is cancelled too takes a Cancelled, but only one that comes."""

    async def scenario(world: World) -> None:
        with trio.CancelScope() as outer, trio.CancelScope() as scope:
            world.expose("scope", scope)
            with suppress(BaseException):
                await trio.sleep(1)
            if world.injected:
                outer.cancel()

    assert found(scenario).invariants == ("cancelled-swallowed",)


def test_swallowed_by_one_of_two_tasks() -> None:
    """A sibling's Cancelled that comes back does not excuse the one that does not."""

    async def swallowing() -> None:
        with suppress(trio.Cancelled):
            await trio.sleep(1)

    async def scenario(world: World) -> None:
        with trio.CancelScope() as scope:
            world.expose("scope", scope)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.sleep, 1)
                nursery.start_soon(swallowing)

    failure = found(scenario)
    assert failure.invariants == ("cancelled-swallowed",)
    assert "swallowing#3, parked at tests/unit/testing/sweep/test_planted.py" in str(failure)
    assert "sleep#2, parked" not in failure.failures[0].message


def test_swallowed_though_the_scope_ends_with_an_error() -> None:
    """An error that has nothing to do with the Cancelled does not stand for it."""

    async def scenario(world: World) -> None:
        with suppress(ValueError), trio.CancelScope() as scope:
            world.expose("scope", scope)
            with suppress(BaseException):
                await trio.sleep(1)
            raise ValueError

    assert found(scenario).invariants == ("cancelled-swallowed",)


async def replaced_by_an_error() -> None:
    try:
        await trio.sleep(1)
    finally:
        raise ValueError


async def waits_again_and_passes_on_the_first() -> None:
    try:
        await trio.sleep(1)
    except trio.Cancelled:
        with suppress(trio.Cancelled):
            await trio.sleep(1)
        raise


async def shielded_with_a_deadline() -> None:
    try:
        await trio.lowlevel.cancel_shielded_checkpoint()
    finally:
        # Entered when all is cancelled, it takes the reason over; then it is on its own.
        with trio.move_on_after(1) as grace:
            grace.shield = True
            await trio.sleep_forever()


async def shield_of_its_own_at_the_end() -> None:
    with trio.CancelScope() as own:
        try:
            await trio.sleep(1)
        finally:
            own.shield = True
            await trio.sleep(1)


async def own_timeout_first() -> None:
    with trio.move_on_after(1):
        try:
            await trio.sleep(2)
        finally:
            await trio.lowlevel.cancel_shielded_checkpoint()
            await trio.sleep(1)


async def dropped_and_cancelled_again() -> None:
    with suppress(BaseException):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep, 1)
    # What the child raised is lost, and Trio cancels this one when it goes on.
    await trio.sleep(1)


async def group_passed_on() -> None:
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(replaced_by_an_error)
            nursery.start_soon(trio.sleep, 1)
            await trio.sleep(1)
    except* ValueError:
        pass


@pytest.mark.parametrize(
    "body",
    [
        replaced_by_an_error,
        waits_again_and_passes_on_the_first,
        shielded_with_a_deadline,
        shield_of_its_own_at_the_end,
        own_timeout_first,
        dropped_and_cancelled_again,
        group_passed_on,
    ],
    ids=lambda body: body.__name__,
)
@pytest.mark.parametrize("in_a_child", [False, True], ids=["", "in a child"])
def test_a_cancellation_that_is_honoured_is_not_swallowed(body: Any, in_a_child: bool) -> None:
    """Passed on, turned into the error of a cleanup, or shielded from: all is well."""

    async def scenario(world: World) -> None:
        with suppress(ValueError, ExceptionGroup), trio.CancelScope() as scope:
            world.expose("scope", scope)
            if not in_a_child:
                await body()
            else:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(body)

    assert run_sweep(scenario, at=["scope", "nurseries"] if in_a_child else "scope").complete


def test_swallowed_cancelled_in_a_loop() -> None:
    """A loop that swallows every Cancelled never ends, and cannot be stopped either."""

    async def scenario(world: World) -> None:
        with trio.CancelScope() as scope:
            world.expose("scope", scope)
            while True:
                try:
                    await trio.sleep(1)
                    break
                except BaseException:
                    pass

    failure = found(scenario, schedules=["fifo"], stop_after=1)
    assert failure.invariant == "finished"
    assert "looping" in str(failure)
    assert "did not stop when told to" in str(failure)


def test_cancelled_that_escapes_its_scope() -> None:
    """A Cancelled kept and raised again outside its scope is named as such."""

    async def scenario(world: World) -> None:
        kept = None
        with trio.CancelScope() as scope:
            world.expose("scope", scope)
            try:
                await trio.sleep(1)
            except trio.Cancelled as exc:
                kept = exc
                raise
        if kept is not None:
            raise kept

    assert found(scenario).invariant == "cancelled-escaped"


def test_teardown_that_waits_for_ever() -> None:
    """A shielded wait without a deadline is over its heal time, and stopped for good."""

    async def scenario(world: World) -> None:
        with trio.CancelScope() as scope:
            world.expose("scope", scope)
            try:
                await trio.sleep(1)
            except trio.Cancelled:
                with trio.CancelScope(shield=True):
                    await trio.sleep_forever()

    failure = found(scenario, heal=5, stop_after=1)
    assert failure.invariant == "finished"
    assert "5 virtual seconds after the last fault" in str(failure)
    assert "sleep_forever" in str(failure)


def test_slow_teardown_within_heal_passes() -> None:
    """Heal time counts from the fault; a teardown with a deadline below it passes."""

    async def scenario(world: World) -> None:
        with trio.CancelScope() as scope:
            world.expose("scope", scope)
            try:
                await trio.sleep(100)
            except trio.Cancelled:
                with trio.move_on_after(4) as grace:
                    grace.shield = True
                    await trio.sleep_forever()
                raise

    run_sweep(scenario, at="scope", heal=5)
    assert found(scenario, heal=3, stop_after=1).invariant == "finished"


def test_task_left_behind() -> None:
    """A system task that outlives the scenario is a task left."""

    async def scenario(world: World) -> None:
        trio.lowlevel.spawn_system_task(trio.sleep_forever, name="forgotten")
        await trio.lowlevel.checkpoint()

    failure = found(scenario, at=())
    assert failure.invariant == "tasks"
    assert "forgotten" in str(failure)


def test_coroutine_never_awaited() -> None:
    """A teardown that forgets its await is a warning, and a warning is a failure."""

    async def scenario(world: World) -> None:
        with trio.CancelScope() as scope:
            world.expose("scope", scope)
            try:
                await trio.sleep(1)
            except trio.Cancelled:
                Stream().aclose()  # type: ignore[unused-coroutine]
                raise

    failure = found(scenario)
    assert failure.invariant == "warning"
    assert "never awaited" in str(failure)


def test_exception_in_a_finaliser() -> None:
    """What `__del__` raises nobody sees, but the sweep does."""

    class Broken:
        itself: Broken

        def __del__(self) -> None:
            raise OSError("in __del__")

    async def scenario(world: World) -> None:
        world.expose("action", lambda: None)
        broken = Broken()
        broken.itself = broken
        await trio.lowlevel.checkpoint()

    failure = found(scenario, at="action")
    assert failure.invariant == "unraisable"
    assert "in __del__" in str(failure)


def test_exceptions_are_failures_unless_allowed() -> None:
    """`allow` names the exceptions a scenario may end with, in groups as well."""

    async def scenario(world: World) -> None:
        async with trio.open_nursery() as nursery:
            world.expose("fail", nursery.cancel_scope.cancel)
            nursery.start_soon(trio.sleep, 1)
            try:
                await trio.sleep(2)
            finally:
                if world.injected:
                    raise OSError("cut")

    failure = found(scenario, at="fail")
    assert failure.invariant == "exception"
    assert "OSError('cut')" in str(failure)
    run_sweep(scenario, at="fail", allow=[OSError])


def test_item_thrown_away_with_its_channel() -> None:
    """Closing the receive end drops what is queued; a tracked channel notices."""

    async def scenario(world: World) -> None:
        send, receive = trio.open_memory_channel(10)
        world.track("nothing queued", receive)
        with trio.CancelScope() as scope, receive, send:
            world.expose("scope", scope)
            send.send_nowait(1)
            await trio.sleep(1)
            await receive.receive()

    failure = found(scenario)
    assert failure.invariant == "nothing queued"
    assert "thrown away" in str(failure)


def test_locks_and_semaphores_are_given_back() -> None:
    """A lock still held and a semaphore short of a token are found at the end."""

    async def scenario(world: World) -> None:
        lock = world.track("lock", trio.Lock())
        semaphore = world.track("semaphore", trio.Semaphore(2))
        await semaphore.acquire()
        await lock.acquire()

    failure = found(scenario, at=())
    assert failure.invariants == ("lock", "semaphore")


def test_sometimes_never_reached() -> None:
    """A property that no run reaches fails the sweep, mentioned or only announced."""

    async def scenario(world: World) -> None:
        world.expose("action", lambda: None)
        await trio.lowlevel.checkpoint()
        world.sometimes("injected", world.injected)
        world.sometimes("impossible", False)

    failure = found(scenario, at="action", sometimes=["unheard of"])
    assert failure.invariants == ("sometimes:unheard of", "sometimes:impossible")
    assert failure.report.sometimes["injected"]
    assert "never: unheard of, impossible" in str(failure)
    # A sample that misses a state is no evidence that nothing reaches it.
    sampled = run_sweep(scenario, at="action", budget=1)
    assert sampled.unknown == sampled.never_reached != ()
    assert f"unknown: {', '.join(sampled.unknown)}" in sampled.row()
    assert "never:" not in sampled.row()


def test_one_bug_at_many_sites_is_told_once_and_hides_no_other() -> None:
    """One failure for each invariant and message; where it shows is a list beside it."""

    async def scenario(world: World) -> None:
        limiter = world.track("slots", trio.CapacityLimiter(9))
        late: list[int] = []
        world.check(lambda: not late or 1 / 0, "never late")
        with trio.CancelScope() as scope:
            world.expose("scope", scope)
            await limiter.acquire_on_behalf_of(1)
            await trio.lowlevel.checkpoint()
            await limiter.acquire_on_behalf_of(2)
            await trio.lowlevel.checkpoint()
            limiter.release_on_behalf_of(1)
            limiter.release_on_behalf_of(2)
            await trio.lowlevel.checkpoint()
            try:
                await trio.sleep(1)
            except trio.Cancelled:
                late.append(1)
                raise

    failure = found(scenario, stop_after=3)
    slots, late = failure.failures
    assert (slots.invariant, late.invariant) == ("slots", "never late")
    # With one slot taken, or two.
    assert len(slots.sites) == 4
    for one in failure.failures:
        assert sum(points for _, points in one.sites) == 1 + one.others
        assert not one.others or f"  {one.site}  " in str(failure)
    assert failure.report.complete
    first = found(scenario, stop_after=1)
    assert [one.invariant for one in first.failures] == ["slots"]
    assert "stopped at the failures" in first.report.sampled
