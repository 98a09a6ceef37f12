"""The instrument and the chooser of one run: counts steps, fires faults, records.

It lives inside Trio's run loop, where an exception would remove it after one log line and
the run would "pass". So every entry catches all and keeps the first error (`error`), which
is raised after the run.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Concatenate, ParamSpec, Protocol

import trio
from trio.testing import MockClock

from cfw.testing.sweep import interrupt
from cfw.testing.sweep._trio import cancelled_for, is_visible
from cfw.testing.sweep.alone import Alone
from cfw.testing.sweep.errors import RealIOError
from cfw.testing.sweep.points import AFTER, BEFORE, NURSERY_PREFIX, Fault, Instant
from cfw.testing.sweep.schedule import Picker, Priorities
from cfw.testing.sweep.sites import caller_site, leaves, mix, park_site, position, task_name
from cfw.testing.sweep.world import Action, Injection, World

P = ParamSpec("P")
Task = trio.lowlevel.Task

_MARK = "_sweep_delivered_to"

#: Attribute of an exception that came out of a scope which a fault had cancelled.
PASSED = "_sweep_passed"

#: How long a run that was told to stop may go on before it is torn down.
GRACE_BATCHES = 500


class Abandoned(BaseException):
    """Thrown into Trio's run loop to end a run that nothing else can end."""


def _guarded(
    method: Callable[Concatenate[Watch, P], None],
) -> Callable[Concatenate[Watch, P], None]:
    def guard(watch: Watch, /, *args: P.args, **kwargs: P.kwargs) -> None:
        try:
            method(watch, *args, **kwargs)
        except BaseException as exc:
            if watch.error is None:
                watch.error = exc

    return guard


def _wake() -> None:
    """Nothing to do but to end a wait."""


def _marks(error: BaseException | None) -> tuple[dict[int, int], dict[int, int]]:
    """The tasks whose `Cancelled` is in an exception or a group of them, and the tasks of
    those that were being handled when another error was raised; each with the last step at
    which it got one."""
    passing: dict[int, int] = {}
    replaced: dict[int, int] = {}
    seen: set[int] = set()
    left = [(error, passing)]
    while left:
        one, found = left.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        if _MARK in one.__dict__:
            ordinal, step = one.__dict__[_MARK]
            found[ordinal] = max(step, found.get(ordinal, 0))
        elif not isinstance(one, BaseExceptionGroup):
            found = replaced
        left += [(one.__context__, found), (one.__cause__, found)]
        if isinstance(one, BaseExceptionGroup):
            left += [(inner, found) for inner in one.exceptions]
    return passing, replaced


@dataclass(frozen=True, slots=True)
class Step:
    """One line of the trace."""

    number: int
    task: str
    site: str
    time: float


@dataclass(slots=True)
class Fired:
    """A fault that fired; for a scope, what became of the cancellation.

    Attributes:
        delivered: the tasks that received a `Cancelled` for this scope, by ordinal, and
            their names.
        swallowed: which of them had not one of theirs on its way through the scope, or in
            the context of an exception on its way, when the scope was left.
    """

    name: str
    scope: trio.CancelScope | None = None
    delivered: dict[int, str] = field(default_factory=dict)
    swallowed: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Record:
    """What a recorded run did: every step, every instant, whom each fault met, and
    where everybody was at the last one."""

    steps: list[Step] = field(default_factory=list)
    instants: list[Instant] = field(default_factory=list)
    scene: list[str] = field(default_factory=list)
    targets: list[str] = field(default_factory=list)
    ties: int = 0


class Walk(Protocol):
    """Lets one run stand for the beginning of many."""

    def arrive(self, watch: Watch, when: str) -> None:
        """The run is at an instant; may fork, and give the child faults to fire at it."""


class Watch(trio.abc.Instrument):
    """Instrument and chooser in one, because both count the same steps.

    Args:
        world: holds what can be fired.
        picker: decides the order of batches.
        faults: what to fire, in the order of their instants.
        record: keep a `Record`; costs about as much again as the run.
        nurseries: whether every open nursery can be fired, too.
        tasks: whether every task can be fired, too.
        until: virtual time at which to look how far every task has come; None for never.
        batches: how many batches the run may take before it is told to stop.
        cover: files whose awaits are counted when a fault cuts them.
        walk: is asked at every instant whether to fork; None for a run of its own.
    """

    def __init__(
        self,
        world: World,
        picker: Picker,
        faults: tuple[Fault, ...],
        record: bool,
        nurseries: bool,
        batches: int,
        cover: frozenset[str] = frozenset(),
        walk: Walk | None = None,
        tasks: bool = False,
        until: float | None = None,
    ) -> None:
        self.error: BaseException | None = None
        self.action_errors: list[tuple[str, BaseException]] = []
        self.refused: RealIOError | None = None
        self.token: trio.lowlevel.TrioToken | None = None
        self.clock: MockClock | None = None
        self.alive: set[Task] = set()
        self.own: dict[Task, int] = {}
        self.system: dict[Task, int] = {}
        self.next_is_root = False
        self.root_scope = trio.CancelScope()
        self.limiter = trio.CancelScope()
        self.step = 0
        self.hash = 0
        self.batch = 0
        self.picker = picker
        self.missed: str | None = None
        self.fired: list[Fired] = []
        self.stuck: list[str] | None = None
        self.looping = False
        self.abandon = False
        self.record = Record() if record else None
        self.walk = walk
        self._world = world
        self._faults = list(faults)
        self._ordinals = 0
        self._left = 0
        self._stepping = 0
        self._cancels = bool(faults) or walk is not None
        self._replaced: set[int] = set()
        self._parents: dict[int, int] = {}
        self._ended: dict[int, int] = {}
        self._nurseries = nurseries
        self._batches = batches
        self._cover = cover
        self.cuts: Counter[tuple[str, int]] = Counter()
        self._last_time = 0.0
        self._past: tuple[Fault, ...] = ()
        self.alone = Alone(world, self.own, until) if tasks else None
        self.is_rest_told = False

    # The chooser

    def shuffle(self, batch: list[Task]) -> None:
        """Order a batch: tasks that are not below the root first, then ours as picked."""
        self.batch += 1
        if self.batch > self._batches:
            self._stop_livelock()
        if self.abandon or interrupt.is_pressed():
            raise Abandoned
        try:
            self._order(batch)
        except BaseException as exc:
            self.error = self.error or exc
            raise

    def _order(self, batch: list[Task]) -> None:
        own = [task for task in batch if task in self.own]
        self._left = len(own)
        if self.record is not None:
            self._note_tie(self.record, len(own))
        order = [task for task in batch if task not in self.own]
        if self.picker.priorities is not None:
            order += self._by_priority(own, self.picker.priorities)
        else:
            while len(own) > 1:
                order.append(own.pop(self.picker.pick(len(own))))
            order += own
        batch[:] = reversed(order)

    def _by_priority(self, own: list[Task], priorities: Priorities) -> Iterator[Task]:
        for step in range(self.step + 1, self.step + 1 + len(own)):
            place = priorities.first([self.own[task] for task in own], step)
            if len(own) > 1:
                self.picker.pick(len(own), place)
            yield own.pop(place)

    def _note_tie(self, record: Record, woken: int) -> None:
        # The clock jumps at the end of an empty batch; what it wakes comes in the next.
        now = trio.current_time()
        if woken:
            record.ties += woken > 1 and now > self._last_time
            self._last_time = now

    def _stop_livelock(self) -> None:
        if self.end_rest():
            self._batches += self.batch
        elif self.stuck is None:
            self.note_stuck()
            self.looping = True
            self.root_scope.cancel(reason="sweep: too many batches")
        elif self.batch > self._batches + GRACE_BATCHES:
            self.abandon = True

    def note_stuck(self) -> None:
        """Keep where every task is parked, once."""
        if self.stuck is None:
            self.stuck = self.parked()

    def end_rest(self) -> bool:
        """Tell those to stop that wait for a task which was cancelled alone; once.

        They may wait for ever with good reason: for what that task was to bring.
        """
        if self.alone is None or not self.alone.is_cut or self.is_rest_told:
            return False
        scope = self._world._program.rest(self.root_scope)
        if scope is None:
            return False
        self.alone.end()
        self.is_rest_told = True
        scope.cancel(reason="sweep: what is left waits for the task that was cancelled")
        return True

    def over(self) -> None:
        """The scenario has come to its end."""
        if self.alone is not None and not self.is_rest_told:
            self.alone.end()

    # The instrument

    @_guarded
    def task_spawned(self, task: Task) -> None:
        self.alive.add(task)
        nursery = task.parent_nursery
        if nursery is None:
            return
        if self.next_is_root:
            self.next_is_root = False
        elif nursery.parent_task not in self.own:
            if self._stepping:
                self.system[task] = len(self.system)
            return
        self._ordinals += 1
        self.own[task] = self._ordinals
        if nursery.parent_task in self.own:
            self._parents[self._ordinals] = self.own[nursery.parent_task]
            if self.alone is not None:
                self.alone.spawned(task, sys._getframe(1))

    @_guarded
    def task_exited(self, task: Task) -> None:
        self.alive.discard(task)
        if self.alone is not None:
            self.alone.exited(task)
        self._ended[self.own.pop(task, 0)] = self.step
        self.system.pop(task, None)

    @_guarded
    def before_task_step(self, task: Task) -> None:
        self._stepping = ordinal = self.own.get(task, 0)
        if not ordinal:
            return
        self.step += 1
        if self.alone is not None:
            self.alone.look(trio.current_time())
        if self._is_on_the_way():
            self.hash = mix(mix(self.hash, ordinal), position(task))
            if self.record is not None:
                step = Step(self.step, *self._describe(task), trio.current_time())
                self.record.steps.append(step)
            self._instant(task, BEFORE, self.hash)
        error = cancelled_for(task) if self._cancels else None
        if error is not None:
            self._follow(task, ordinal, error)
        if self.alone is not None:
            self.alone.steps(task, self.step, self.hash, error is not None)

    @_guarded
    def after_task_step(self, task: Task) -> None:
        if not self._stepping:
            return
        self._left -= 1
        if self._left == 0 and self._is_on_the_way():
            self._instant(task, AFTER, mix(self.hash, position(task)))
        # Reset last: what an action spawns is the doing of the task it interrupts.
        self._stepping = 0

    @_guarded
    def before_io_wait(self, timeout: float) -> None:
        """Let time go on by itself when nobody is left who would move a program's own clock.

        Every task waits, and nothing real may wake one: this wait would never end.
        """
        clock, token = self.clock, self.token
        if clock is None or token is None or timeout <= 0 or clock.autojump_threshold == 0:
            return
        if clock.rate:
            what = "a clock that runs with real time"
            self.refused = self.refused or RealIOError(what, "MockClock(rate=...)")
        clock.autojump_threshold = 0
        # This wait has its timeout already; the next one jumps.
        token.run_sync_soon(_wake)

    # Faults

    def _is_on_the_way(self) -> bool:
        """Whether an instant is still to come at which something has to be done."""
        return bool(self._faults) or self.record is not None or self.walk is not None

    def take_over(
        self, faults: Sequence[Fault], batches: int | None = None, record: Record | None = None
    ) -> None:
        """Go on as the run of a point, in a process that was forked at its instant.

        Args:
            faults: those still to be fired.
            batches: how many the whole run may take; None leaves that as it is.
            record: keep a record from here on; None keeps none.
        """
        self._faults = list(faults)
        self._batches = batches or self._batches
        self.record = record

    def _instant(self, task: Task, when: str, number: int) -> None:
        if self.walk is not None:
            self.walk.arrive(self, when)
        faults = self._faults
        while faults and (faults[0].step, faults[0].when) == (self.step, when):
            if faults[0].hash != number:
                self.missed = f"the steps before step {self.step} are other ones"
                faults.clear()
                return
            self._fire(faults.pop(0), task)
            if self.walk is not None:
                self.walk.arrive(self, when)
                faults = self._faults
        if self.record is not None and not faults:
            name, site = self._describe(task)
            names = tuple(self._available())
            instant = Instant(
                self.step, when, number, names, len(self.picker.choices), name, site
            )
            self.record.instants.append(instant)

    def _fire(self, fault: Fault, task: Task) -> None:
        action: Action
        thing = self._available().get(fault.name)
        if thing is None:
            self.missed = f"{fault.name!r} is not exposed at step {fault.step}"
            self._faults.clear()
            return
        if self.record is not None:
            self.record.scene = self.parked()
            self.record.targets.append(", parked at ".join(self._describe(task)))
        self._past += (fault,)
        now = trio.current_time()
        self._world._injections.append(Injection(fault.name, fault.step, fault.when, now))
        self.limiter.deadline = now + self._world.heal
        if isinstance(thing, trio.CancelScope):
            self._world._cut.append(thing)
            again = any(fired.scope is thing for fired in self.fired)
            self.fired.append(Fired(fault.name, None if again else thing))
            action = partial(thing.cancel, reason=f"sweep: {fault.name}")
        else:
            self.fired.append(Fired(fault.name))
            action = thing
        try:
            action()
        except BaseException as exc:
            # The injected function, or a task's abort function that a cancel calls.
            self.action_errors.append((fault.name, exc))
        if self.alone is not None and isinstance(thing, trio.CancelScope):
            self.alone.cut(thing, self._past)

    # Where each Cancelled goes

    def _follow(self, task: Task, ordinal: int, error: trio.Cancelled) -> None:
        """Note the `Cancelled` that the step raises, and for which faults it does."""
        error.__dict__[_MARK] = ordinal, self.step
        reached = False
        for fired in self.fired:
            if fired.scope is not None and is_visible(fired.scope, task):
                fired.delivered.setdefault(ordinal, ", parked at ".join(self._describe(task)))
                reached = True
        if reached and self._cover:
            self._count_cuts(task)

    def _count_cuts(self, task: Task) -> None:
        for frame, line in task.iter_await_frames():
            file = frame.f_code.co_filename
            if file in self._cover:
                self.cuts[file, line] += 1

    @_guarded
    def scope_left(self, scope: trio.CancelScope, exc: BaseException | None) -> None:
        """Compare what was delivered for this scope with what arrives at it."""
        ours = [fired for fired in self.fired if fired.scope is scope]
        if not ours and isinstance(exc, trio.Cancelled):
            return
        passing, replaced = _marks(exc)
        # The error of a cleanup may be handled on its way; the Cancelled it replaced is over.
        self._replaced |= replaced.keys()
        for leaf in leaves(exc) if ours else ():
            leaf.__dict__[PASSED] = True
        for fired in ours:
            fired.swallowed += [
                name
                for ordinal, name in fired.delivered.items()
                if ordinal not in self._replaced and not self._came_back(ordinal, passing)
            ]

    def _came_back(self, ordinal: int, passing: dict[int, int]) -> bool:
        """Whether a task's `Cancelled` is on its way, or a later one of a task above it.

        Trio delivers again to who goes on, so that is as good: the task above dropped what
        its ended child raised, and was then told itself.
        """
        if ordinal in passing:
            return True
        ended = self._ended.get(ordinal, self.step)
        above = self._parents.get(ordinal)
        while above is not None:
            if passing.get(above, 0) > ended:
                return True
            above = self._parents.get(above)
        return False

    # The doors to what is real

    def is_inside(self) -> bool:
        """Whether the code that runs now is the scenario's, in whatever task, or a fault."""
        if self._stepping:
            return True
        return trio.lowlevel.in_trio_task() and trio.lowlevel.current_task() in self.system

    def refuse(self, what: str) -> None:
        """Raise where the scenario reaches outside, and again after the run."""
        self.refused = self.refused or RealIOError(what, caller_site())
        raise self.refused

    def unfired(self) -> str | None:
        """Why a fault did not fire where it had to, after the run; None if all did."""
        if self.missed is None and self._faults:
            fault = self._faults[0]
            self.missed = f"there is no such instant at step {fault.step}"
        return self.missed

    def _available(self) -> dict[str, trio.CancelScope | Action]:
        found = {name: self._world._exposed[name] for name in self._world.exposed_names()}
        if self._nurseries:
            for task, ordinal in self.own.items():
                for depth, nursery in enumerate(task.child_nurseries):
                    if not self._world._program.is_fired(task, depth):
                        continue
                    name = f"{NURSERY_PREFIX}{task_name(task, ordinal)}.{depth}"
                    found[name] = nursery.cancel_scope
        if self.alone is not None:
            found.update(self.alone.available())
        return found

    # For people

    def _describe(self, task: Task) -> tuple[str, str]:
        ordinal = self.own.get(task)
        if ordinal is None:
            return "a task that ended there", "its end"
        return task_name(task, ordinal), park_site(task)

    def parked(self) -> list[str]:
        """One line for every living task below the root: its name and where it is parked."""
        lines = [f"{task_name(task, n)}  {park_site(task)}" for task, n in self.own.items()]
        return lines + [f"{task.name} (system task)  {park_site(task)}" for task in self.system]
