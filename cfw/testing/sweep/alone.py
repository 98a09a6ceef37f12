"""One task cancelled alone, and what its wait leaves behind for the others.

Trio cancels scopes, not tasks; a program that wants to cancel one task opens a scope around
what it runs, and so it is done here, for each task that the program itself starts.

The others may then wait for ever with good reason: nobody brings any more what they wait for.
So that alone is no finding. A finding follows from what Trio asks of every wait, and of every
library on it: a wait that is cancelled was none. A task is cancelled while it waits somewhere
in the code under test, and its end wakes nobody else. Once nothing goes on any more without
time going by, the program is run again, and the same task is cancelled as that very wait
begins, when it has done the same work. What another task could do there by that time, it must
be able to do here. If it is still where it was when the task was cancelled, in a wait that no
deadline ends, then the cancelled wait left something behind that holds it up. The same is asked
again where at last everybody waits and nothing can wake anybody: who waits for ever must do so
there, too.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from types import FrameType
from typing import Any

import trio

from cfw.testing.sweep._trio import (
    cancelled_for,
    deadline_of,
    is_ended,
    is_scheduled,
    waits_for_children,
)
from cfw.testing.sweep.points import BEFORE, TASK_PREFIX, Fault
from cfw.testing.sweep.sites import await_frames, in_scope, is_plumbing, park_site, task_name
from cfw.testing.sweep.world import World

Task = trio.lowlevel.Task


@dataclass(frozen=True, slots=True)
class Left:
    """Tasks that did not move after one was cancelled as it waited.

    Attributes:
        faults: the same, but for the last, which cancels that wait as it begins.
        name: of the last fault.
        site: where the task waited that was cancelled.
        time: virtual time of the cancellation.
        now: how many steps each of the others has made, and where it waits, at that time.
        for_ever: the same where nothing can wake anybody any more.
    """

    faults: tuple[Fault, ...]
    name: str
    site: str
    time: float
    now: Mapping[str, tuple[int, str]]
    for_ever: Mapping[str, tuple[int, str]]

    def behind(self, reached: Reached) -> tuple[str, str] | None:
        """A task that was farther where the wait had hardly been; its name and where it waits.

        Args:
            reached: how far each task is there.
        """
        for waiting, farther in (self.now, reached.then), (self.for_ever, reached.in_the_end):
            for name, (steps, site) in waiting.items():
                if farther.get(name, 0) > steps:
                    return name, site
        return None


@dataclass(frozen=True, slots=True)
class Reached:
    """How many steps each task has made that nobody has cancelled.

    Attributes:
        then: by the virtual time that was asked for.
        in_the_end: when the run was over, or nothing could wake anybody.
    """

    then: dict[str, int]
    in_the_end: dict[str, int]


class Alone:
    """The tasks of one run that can be cancelled alone; how far everybody has come.

    Args:
        world: knows the program, which says what tasks it has started itself.
        own: every task below the root, by number.
        until: virtual time at which to look how far everybody is; None for not before one of
            the tasks was cancelled.
    """

    def __init__(self, world: World, own: Mapping[Task, int], until: float | None) -> None:
        self._world = world
        self._own = own
        self._scopes: dict[Task, trio.CancelScope] = {}
        self._steps: dict[str, int] = {}
        # Where each task began to wait: step, and number of the way there.
        self._began: dict[int, tuple[int, int]] = {}
        self._cancelled: set[str] = set()
        self._until = until
        self._before: dict[Task, int] = {}
        self._then: dict[str, int] = {}
        self.is_cut = False
        self.left: Left | None = None
        self.reached: Reached | None = None

    # Tasks

    def spawned(self, task: Task, frame: FrameType | None) -> None:
        """Put a scope around what a task runs, if the program's own code has started it.

        Args:
            task: has not begun yet.
            frame: the innermost one.
        """
        while frame is not None and is_plumbing(frame.f_code.co_filename):
            frame = frame.f_back
        if frame is not None and self._world._program.has_started(task, frame):
            scope = self._scopes[task] = trio.CancelScope()
            wrapped: Any = in_scope(scope, task.coro)
            task.coro = wrapped

    def available(self) -> Iterator[tuple[str, trio.CancelScope]]:
        """What can be fired now, and what that cancels."""
        for task, scope in self._scopes.items():
            if task in self._own and self._world._program.is_under_way():
                yield TASK_PREFIX + self._name(task), scope

    def exited(self, task: Task) -> None:
        """Forget a task that is over."""
        self._scopes.pop(task, None)

    def _name(self, task: Task) -> str:
        return task_name(task, self._own[task])

    # Steps

    def steps(self, task: Task, step: int, number: int, is_cancelled: bool) -> None:
        """Count a step that begins.

        Args:
            task: makes it.
            step: its number.
            number: of the way there.
            is_cancelled: whether it raises a `Cancelled`.
        """
        name = self._name(task)
        self._steps[name] = self._steps.get(name, 0) + 1
        self._began[self._own[task]] = step, number
        if is_cancelled and is_ended(task):
            self._cancelled.add(name)

    def look(self, now: float) -> None:
        """See who has not moved, when time goes on for the first time."""
        if self._until is None or now <= self._until:
            return
        self._until = None
        self._then = self._going_on()
        # Whom the cancelled task held up by other means is woken by its end, and may now do so.
        if self.left is not None and all(map(self._is_still, self._before)):
            self.left = replace(self.left, now=self._held_up())

    def end(self) -> None:
        """See who waits for ever: the run is over, or nothing but its end will come."""
        self.look(math.inf)
        self.reached = Reached(self._then, self._going_on())
        if self.left is not None and all(map(_waits_for_ever, self._own)):
            self.left = replace(self.left, for_ever=self._held_up())

    def _held_up(self) -> dict[str, tuple[int, str]]:
        return {
            self._name(task): (self._steps.get(self._name(task), 0), park_site(task))
            for task in self._own
            if self._is_held_up(task)
        }

    def _going_on(self) -> dict[str, int]:
        """How far those are that nobody has cancelled."""
        steps = self._steps.items()
        return {name: count for name, count in steps if name not in self._cancelled}

    def _is_still(self, task: Task) -> bool:
        """Whether a task waits where it did, and if it is to go on, then since time does."""
        woken = is_scheduled(task) and cancelled_for(task) is None
        if task not in self._own or woken:
            return False
        return self._steps.get(self._name(task), 0) == self._before[task]

    def _is_held_up(self, task: Task) -> bool:
        """Whether a task still waits in the code under test, and no deadline will end that.

        One that waits for tasks of its own is held up by nothing else.
        """
        return (
            task in self._before
            and not is_scheduled(task)
            and (task in self._scopes or self._world._program.may_be_held_up(task))
            and deadline_of(task) == math.inf
            and not waits_for_children(task)
            and self._waits_in_code(task)
        )

    def _waits_in_code(self, task: Task) -> bool:
        """Whether a task waits in something that the program calls, beyond Trio itself."""
        innermost = None
        for frame, _ in await_frames(task):
            if not is_plumbing(frame.f_code.co_filename):
                innermost = frame
        return innermost is not None and not self._world._program.is_own(innermost)

    # Faults

    def cut(self, scope: trio.CancelScope, faults: tuple[Fault, ...]) -> None:
        """Note that a fault has cancelled a scope, which may be that of a task.

        Args:
            scope: was cancelled just now.
            faults: all up to this one.
        """
        for task, known in self._scopes.items():
            if known is scope:
                self.is_cut = True
                if self._is_comparable(task, faults):
                    self._note(task, faults)

    def _is_comparable(self, task: Task, faults: tuple[Fault, ...]) -> bool:
        """Whether the same wait can be cancelled as it begins, with nothing else different."""
        if self._until is not None or self.left is not None:
            return False
        began = self._began.get(self._own[task])
        # What had its result already was not cancelled; what waits for children has worked on.
        waited = cancelled_for(task) is not None
        if (
            began is None
            or not waited
            or waits_for_children(task)
            or not self._waits_in_code(task)
        ):
            return False
        return len(faults) < 2 or faults[-2].step < began[0]

    def _note(self, task: Task, faults: tuple[Fault, ...]) -> None:
        step, number = self._began[self._own[task]]
        self._until = time = trio.current_time()
        first = Fault(faults[-1].name, step, BEFORE, number)
        self.left = Left((*faults[:-1], first), first.name, park_site(task), time, {}, {})
        self._before = {
            other: self._steps.get(self._name(other), 0)
            for other in self._own
            if other is not task
        }


def _waits_for_ever(task: Task) -> bool:
    return not is_scheduled(task) and deadline_of(task) == math.inf
