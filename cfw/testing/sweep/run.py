"""One run: a fresh world under a virtual clock, judged before it is forgotten."""

from __future__ import annotations

import gc
import random
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import trio
from trio.testing import MockClock

from cfw.testing.sweep import interrupt, oracle
from cfw.testing.sweep._trio import batch_order, keep_for_ever
from cfw.testing.sweep.alone import Left
from cfw.testing.sweep.errors import InstrumentError
from cfw.testing.sweep.facts import Enter, Facts, Noise, Result, Settings, Violation
from cfw.testing.sweep.noise import listening
from cfw.testing.sweep.points import Fault
from cfw.testing.sweep.schedule import Picker, Schedule
from cfw.testing.sweep.watch import Abandoned, Walk, Watch
from cfw.testing.sweep.world import World

#: A run without faults that takes more batches than this is called a livelock.
DRY_BATCHES = 50_000

#: A run with faults may take this many, or 20 times its dry run, before it is a livelock.
MIN_BATCHES = 10_000


def run_once(
    settings: Settings,
    params: Mapping[str, object],
    schedule: Schedule,
    faults: tuple[Fault, ...] = (),
    *,
    record: bool = False,
    batches: int = DRY_BATCHES,
    keep: bool = False,
    walk: Walk | None = None,
    until: float | None = None,
) -> Result:
    """Run the scenario once, to its end or to the end of its time, and judge it.

    Args:
        settings: of the sweep.
        params: keyword arguments of the scenario.
        schedule: the order of batches.
        faults: what to fire, in the order of their instants.
        record: keep every step and instant.
        batches: how many batches the run may take.
        keep: keep what was raised, for a debugger. Its frames keep alive what may only be seen
            when it is collected.
        walk: is asked at every instant whether to fork.
        until: virtual time at which to look how far every task has come.

    Raises:
        InstrumentError: the engine itself failed inside the run.
        RealIOError: the scenario reached outside of the run.
        KeyboardInterrupt: the person at the keyboard wants out.
    """
    noise = Noise()
    with listening(noise, record), _seeded(settings.seed):
        watch = partial(
            Watch, faults=faults, record=record, batches=batches, walk=walk, until=until
        )
        result, own = _run_and_judge(settings, params, schedule, watch, keep=keep)
        # Only now is everything the scenario left behind garbage, and its finalisers run.
        gc.collect()
    interrupt.check()
    if result.missed is not None:
        return replace(result, violations=())
    if noise.output:
        result = replace(result, output=noise.output)
    if any(item.invariant in oracle.NEVER_WITHOUT for item in result.violations):
        return result
    if more := (*oracle.judge_noise(settings, noise), *own):
        result = replace(result, violations=result.violations + more)
    left = result.left
    held_up = left is not None and bool(left.now or left.for_ever)
    if left is None or not held_up or oracle.LEFT_BEHIND in settings.without:
        return result
    return _compared(settings, params, schedule, batches, result, left)


def _compared(
    settings: Settings,
    params: Mapping[str, object],
    schedule: Schedule,
    batches: int,
    result: Result,
    left: Left,
) -> Result:
    """Judge a run by another one, in which the wait that was cancelled had hardly begun."""
    again = run_once(settings, params, schedule, left.faults, batches=batches, until=left.time)
    found = result.violations
    if again.missed is None and again.reached is not None:
        found += tuple(oracle.judge_rest(left, again.reached))
    return replace(result, violations=found, runs=1 + again.runs)


def _run_and_judge(
    settings: Settings,
    params: Mapping[str, object],
    schedule: Schedule,
    watching: Callable[..., Watch],
    *,
    keep: bool,
) -> tuple[Result, tuple[Violation, ...]]:
    world = World(params=params, heal=settings.heal, random=random.Random(settings.seed))
    watch = watching(
        world,
        Picker(schedule),
        nurseries=settings.nurseries,
        cover=settings.cover,
        tasks=settings.tasks,
    )
    facts = Facts(world, watch)
    host = settings.host or partial(_call, settings)
    host(world, partial(_enter, settings, facts))
    missed = watch.unfired()
    default: tuple[Violation, ...] = ()
    own: tuple[Violation, ...] = ()
    asked: frozenset[str] | None = None
    if missed is None:
        default = tuple(oracle.judge(settings, facts))
        if watch.stuck is None and facts.broken is None:
            own = tuple(oracle.judge_own(facts))
            asked = world.registered() - world._early
    result = Result(
        violations=default,
        missed=missed,
        picker=watch.picker,
        sometimes=dict(world._sometimes),
        asked=asked,
        early=frozenset(world._early),
        entered=world.entered(),
        batches=watch.batch,
        record=watch.record,
        cuts=watch.cuts,
        raised=tuple(facts.raised) if keep else (),
        left=watch.alone.left if watch.alone is not None else None,
        reached=watch.alone.reached if watch.alone is not None else None,
    )
    return result, own


def _call(settings: Settings, world: World, enter: Enter) -> None:
    """Call the scenario with its world and nothing around it."""
    enter(partial(settings.scenario, world, **world.params))


def _enter(
    settings: Settings,
    facts: Facts,
    main: Callable[[], Awaitable[object]],
    clock: MockClock | None = None,
    instruments: Sequence[trio.abc.Instrument] = (),
) -> None:
    """Run the main function under Trio until it is over or its time is up.

    Raises:
        InstrumentError: the engine itself failed inside the run.
        RealIOError: the program reached outside of the run.
        KeyboardInterrupt: the person at the keyboard wants out.
    """
    watch = facts.watch
    watch.clock = clock = clock or MockClock(autojump_threshold=0)
    try:
        with batch_order(watch):
            trio.run(
                _supervise,
                settings,
                facts,
                main,
                clock=clock,
                instruments=[watch, *instruments],
            )
    except trio.TrioInternalError as exc:
        if not isinstance(exc.__cause__, Abandoned):
            facts.broken = exc
        keep_for_ever(watch.alive)
    except BaseException:
        # Ctrl-C in the supervising task comes wrapped by its nursery.
        interrupt.check()
        raise
    interrupt.check()
    if watch.error is not None:
        raise InstrumentError(f"the sweep's instrument raised {watch.error!r}") from watch.error
    if watch.refused is not None:
        raise watch.refused


async def _supervise(
    settings: Settings, facts: Facts, main: Callable[[], Awaitable[object]]
) -> None:
    """Start the root task, wait for it as long as it may take, then end it."""
    watch = facts.watch
    watch.token = trio.lowlevel.current_trio_token()
    begin = trio.current_time()
    done = trio.Event()

    async def root() -> None:
        try:
            with watch.root_scope:
                await main()
        except BaseException as exc:
            facts.error = exc
        facts.world._elapsed = trio.current_time() - begin
        # The root task itself is first in `parked`.
        facts.left = watch.parked()[1:]
        watch.over()
        done.set()

    async with trio.open_nursery() as nursery:
        watch.next_is_root = True
        nursery.start_soon(root, name=settings.task_name)
        watch.limiter.deadline = begin + settings.limit
        with watch.limiter:
            await done.wait()
        if not done.is_set() and watch.end_rest():
            with trio.move_on_after(settings.heal):
                await done.wait()
        if not done.is_set():
            watch.note_stuck()
            watch.root_scope.cancel(reason="sweep: time is up")
            with trio.move_on_after(settings.heal):
                await done.wait()
            watch.abandon = not done.is_set()
            await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel(reason="sweep: the scenario is over")


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    state = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(state)
