"""What a scenario sees of the sweep: it exposes, tracks, and says what must hold."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from random import Random
from types import FrameType, TracebackType
from typing import Literal, TypeVar

import trio

from cfw.testing.sweep._trio import has_been_entered, has_exited
from cfw.testing.sweep.faults import Faults
from cfw.testing.sweep.points import PREFIXES
from cfw.testing.sweep.track import Tracked

T = TypeVar("T")
Action = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Injection:
    """One fault that fired.

    Attributes:
        name: what fired, as in `at`.
        step: the step it fired at, from 1.
        when: `"b"` before or `"a"` after that step.
        time: virtual seconds since the start of the run.
    """

    name: str
    step: int
    when: str
    time: float


class Program:
    """What a sweep has to know of the program that it runs; by itself, that all is its own."""

    def is_fired(self, task: trio.lowlevel.Task, depth: int) -> bool:
        """Whether a nursery, by task and depth, is one that `"nurseries"` stands for."""
        return True

    def has_started(self, task: trio.lowlevel.Task, frame: FrameType) -> bool:
        """Whether a task, started in this frame, is one that `"tasks"` stands for."""
        return True

    def is_under_way(self) -> bool:
        """Whether tasks can be cancelled now."""
        return True

    def is_own(self, frame: FrameType) -> bool:
        """Whether a frame is of the program itself, and not of the code under test."""
        return False

    def may_be_held_up(self, task: trio.lowlevel.Task) -> bool:
        """Whether it is a finding if this task waits for what a cancelled one left behind."""
        return True

    def rest(self, root: trio.CancelScope) -> trio.CancelScope | None:
        """What is cancelled where the others wait for ever, after one task was; None: nothing.

        Args:
            root: is around the whole scenario.
        """
        return root


@dataclass
class World:
    """One run of a scenario: its parameters, its faults, its invariants.

    Every run gets a new one. A scenario is an async function that takes it as its first
    argument.

    Attributes:
        params: this run's parameters, one set out of the sweep's `params`.
        heal: virtual seconds the scenario has to finish after the last fault.
        random: seeded alike in every run. The global `random` module is, too.
    """

    params: Mapping[str, object] = field(default_factory=dict)
    heal: float = 30.0
    random: Random = field(default_factory=lambda: Random(0))
    _exposed: dict[str, trio.CancelScope | Action] = field(default_factory=dict)
    _scopes: dict[str, list[trio.CancelScope]] = field(default_factory=dict)
    _faulty: dict[str, Faults] = field(default_factory=dict)
    _tracked: dict[str, Tracked] = field(default_factory=dict)
    _sometimes: dict[str, bool] = field(default_factory=dict)
    _checks: list[tuple[str, Callable[[], object]]] = field(default_factory=list)
    # Checks that read what was not yet there when they were registered, and never came.
    _early: set[str] = field(default_factory=set)
    _is_judged: bool = False
    _injections: list[Injection] = field(default_factory=list)
    # Scopes that the sweep has cancelled.
    _cut: list[trio.CancelScope] = field(default_factory=list)
    _elapsed: float | None = None
    _program: Program = field(default_factory=Program)

    @property
    def injections(self) -> tuple[Injection, ...]:
        """What has fired so far, in order."""
        return tuple(self._injections)

    @property
    def injected(self) -> str | None:
        """Name of the first fault that fired; None in a run without one, or before it."""
        return self._injections[0].name if self._injections else None

    @property
    def elapsed(self) -> float | None:
        """Virtual seconds the scenario took; None while it runs, or if it never ended."""
        return self._elapsed

    def expose(
        self, name: str, thing: trio.CancelScope | Action
    ) -> AbstractContextManager[None]:
        """Make a cancel scope, or a synchronous action, available as a fault.

        A scope stays available until its `with` block is over, an action until it is
        withdrawn. Use the result as a context manager to withdraw at the end of a block.

        Args:
            name: what `at` and `pairs` call it.
            thing: a scope, which is cancelled; or a function without arguments, called
                between two steps: it must not await, and should not raise.

        Raises:
            TypeError: the function is asynchronous.
            ValueError: the name is taken by something still available, or reserved.
        """
        if name in PREFIXES or name.startswith(tuple(PREFIXES.values())):
            raise ValueError(f"{name!r} is reserved: the sweep finds these by itself")
        if name in self.exposed_names():
            raise ValueError(f"{name!r} is exposed already; withdraw it first")
        if not isinstance(thing, trio.CancelScope):
            if inspect.iscoroutinefunction(thing):
                raise TypeError(f"{name!r} must be a synchronous function")
            if not callable(thing):
                raise TypeError(f"{name!r} is neither a cancel scope nor a function: {thing!r}")
        else:
            self._scopes.setdefault(name, []).append(thing)
        self._exposed[name] = thing
        return _Withdraw(self, name)

    def faults(self, stream: T, name: str = "stream") -> T:
        """Let each call of a stream go wrong: `"faults"` in `at` fires these, each once.

        The n-th `send_all` raises `BrokenResourceError`, is short (half of it is sent before it
        raises) or stalls for ever; the n-th `receive_some` raises, finds the end, stalls, or
        gives a single byte. What broke or stalled stays so.

        Args:
            stream: its methods are replaced on the object itself; returned as it is.
            name: of the stream, in the names of its faults.

        Raises:
            TypeError: it can neither send nor receive, or its methods cannot be replaced.
            ValueError: another stream has faults under that name.
        """
        if name in self._faulty:
            raise ValueError(f"{name!r} has faults already; give this one a name of its own")
        self._faulty[name] = Faults(name, stream, self._exposed.__setitem__, self.withdraw)
        return stream

    def withdraw(self, name: str) -> None:
        """Make `name` unavailable from here on; nothing happens if it is already."""
        self._exposed.pop(name, None)

    def track(
        self,
        name: str,
        resource: T,
        *,
        closes: Collection[int] | Literal["at least once"] | None = None,
        closed: Callable[[T], object] | None = None,
        state: Callable[[T], object] | None = None,
        expect: object = True,
    ) -> T:
        """Hold a resource to account at the end of every run, as invariant `name`.

        What is checked depends on the resource: with `state`, that `state(resource)` equals
        `expect`; a memory channel, that nothing is left in its buffer or, tracked at its
        receive end, thrown away with it, and that this end and all of its clones are closed; a
        lock, semaphore or capacity limiter, that all of it was given back; a stream, that it
        was closed at least once, and a stapled one that both of its halves were, together or
        each by itself; anything else with `aclose` or `close`, that it was closed exactly once.
        A close that was broken off, ended by an exception, counts as none, unless its own
        `close` was over, or `closed` or an attribute `closed` or `is_closed` says otherwise.

        Args:
            name: of the invariant.
            resource: the object; returned as it is.
            closes: which numbers of closes are right, or `"at least once"`; None for that
                with a stream, and for exactly one with anything else.
            closed: reads whether the resource is really closed; None to go by its attribute
                `closed` or `is_closed`, if it has one, and by how its closes ended.
            state: read at the end; None to go by the kind of resource.
            expect: what `state` must return.

        Raises:
            TypeError: there is nothing to check on such an object; pass `state`.
            RuntimeError: the run is over and judged.
            ValueError: something is tracked by that name already.
        """
        self._check_time()
        if name in self._tracked:
            raise ValueError(f"{name!r} is tracked already; give this one a name of its own")
        reader = None if state is None else lambda: state(resource)
        self._tracked[name] = Tracked.of(name, resource, closes, closed, reader, expect)
        return resource

    def sometimes(self, name: str, condition: object = True) -> None:
        """Note a state that must be reached at least once over the whole sweep.

        Args:
            name: of the property; if never true, the sweep fails with `sometimes:NAME`.
            condition: whether the state is reached now.
        """
        self._sometimes[name] = self._sometimes.get(name, False) or bool(condition)

    def check(self, fn: Callable[[], object], name: str | None = None) -> None:
        """Add an invariant: a function of plain asserts, called after the run.

        Where a run ends before a variable is set that the function reads from around it, it was
        registered too early to be asked of that run, which is counted as `not asked`.

        Args:
            fn: called without arguments, outside Trio, unless the run never finished. It
                fails if it raises, or returns False.
            name: of the invariant; None for the function's own name.

        Raises:
            TypeError: the function is asynchronous.
            RuntimeError: the run is over and judged.
        """
        self._check_time()
        if inspect.iscoroutinefunction(fn):
            raise TypeError(f"{fn!r} is called outside Trio: it must be a synchronous function")
        self._checks.append((str(name or getattr(fn, "__name__", repr(fn))), fn))

    def _check_time(self) -> None:
        if self._is_judged:
            raise RuntimeError("too late: this run is over and judged; nothing more is asked")

    def registered(self) -> frozenset[str]:
        """Names of the invariants this run has come to register so far."""
        return frozenset([*self._tracked, *(name for name, _ in self._checks)])

    def entered(self) -> dict[str, bool]:
        """For each name that stood for a scope, whether one of them was entered so far."""
        scopes = self._scopes.items()
        return {name: any(map(has_been_entered, known)) for name, known in scopes}

    def exposed_names(self) -> tuple[str, ...]:
        """What can be fired now, in the order it was exposed."""
        return tuple(
            name
            for name, thing in self._exposed.items()
            if not (isinstance(thing, trio.CancelScope) and has_exited(thing))
        )


class _Withdraw(AbstractContextManager[None]):
    def __init__(self, world: World, name: str) -> None:
        self._world = world
        self._name = name

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._world.withdraw(self._name)
