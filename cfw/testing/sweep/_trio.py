"""The one module that touches Trio's private names, and its self-test.

Trio decides the order of each batch of runnable tasks with a private random source, sorted
first only when a private flag is set (pytest-trio and Trio's own Hypothesis hook use the
same two names). Nothing public makes a run repeatable, so these are used here and nowhere
else. `check_trio` proves on the installed Trio that they still mean what is assumed; it runs
once per process, before the first sweep.
"""

from __future__ import annotations

import ctypes
import gc
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any, Protocol

import trio
import trio.testing

from .errors import UnsupportedTrio

_RANDOM = "_r"
_FLAG = "_ALLOW_DETERMINISTIC_SCHEDULING"


class Shuffler(Protocol):
    """Stands in for Trio's random source: decides the order of each batch."""

    def shuffle(self, batch: list[trio.lowlevel.Task]) -> None:
        """Put `batch`, which comes sorted by age, into order: the last one runs first."""


def _scheduler() -> Any:
    return import_module("trio._core._run")


@contextmanager
def batch_order(shuffler: Shuffler) -> Iterator[None]:
    """Let `shuffler` decide the order of each batch of every `trio.run` inside."""
    module = _scheduler()
    try:
        saved = getattr(module, _RANDOM), getattr(module, _FLAG)
    except AttributeError as exc:
        raise UnsupportedTrio(trio.__version__, f"trio._core._run has no {exc.name}") from exc
    setattr(module, _RANDOM, shuffler)
    setattr(module, _FLAG, True)
    try:
        yield
    finally:
        setattr(module, _RANDOM, saved[0])
        setattr(module, _FLAG, saved[1])


def has_exited(scope: trio.CancelScope) -> bool:
    """Whether the scope's `with` block is over, so that a cancel would do nothing."""
    private: Any = scope
    return bool(private._has_been_entered and private._cancel_status is None)


def enclosing_scopes(
    scope: trio.CancelScope, below: trio.CancelScope | None = None
) -> list[trio.CancelScope] | None:
    """Every scope around an open one up to `below`, inside out; None if it is not open."""
    private: Any = scope
    status = private._cancel_status
    if status is None:
        return None
    found: list[trio.CancelScope] = []
    while (status := status.parent) is not None and status._scope is not below:
        found.append(status._scope)
    return found


def delivers_cancelled(task: trio.lowlevel.Task, reason: str) -> bool:
    """Whether the step about to run raises a `Cancelled` that carries `reason`."""
    error = getattr(getattr(task, "_next_send", None), "error", None)
    return isinstance(error, trio.Cancelled) and error.reason == reason


def keep_for_ever(tasks: list[trio.lowlevel.Task]) -> None:
    """Leak tasks that were torn out of a run, on purpose.

    Destroying their coroutines would run their `except` and `finally` blocks outside Trio,
    and a loop that swallows every exception would never end.
    """
    for task in tasks:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(task.coro))


def _collect_silently() -> None:
    """Destroy what a run that broke down left, without its last words."""
    saved = sys.unraisablehook
    sys.unraisablehook = lambda unraisable: None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            gc.collect()
    finally:
        sys.unraisablehook = saved


class _SelfTest(trio.abc.Instrument):
    """Reverses every batch and looks for one delivered `Cancelled`."""

    def __init__(self) -> None:
        self.shuffled = 0
        self.delivered = 0

    def shuffle(self, batch: list[trio.lowlevel.Task]) -> None:
        self.shuffled += 1
        batch.reverse()

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.delivered += delivers_cancelled(task, "self-test")


def check_trio() -> None:
    """Prove that this module works with the installed Trio.

    Raises:
        UnsupportedTrio: a private name is gone, or no longer does what the sweep needs.
    """
    test = _SelfTest()
    seen: list[int] = []
    scope = trio.CancelScope()
    states: list[bool] = []
    around: list[bool] = []

    async def step(number: int) -> None:
        seen.append(number)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for number in range(6):
                nursery.start_soon(step, number)
        states.append(has_exited(scope))
        with trio.CancelScope() as outer, scope:
            states.append(has_exited(scope))
            around.append((enclosing_scopes(scope) or [scope])[0] is outer)
            scope.cancel(reason="self-test")
            await trio.lowlevel.checkpoint()
        states.append(has_exited(scope))

    def need(condition: bool, what: str) -> None:
        if not condition:
            raise UnsupportedTrio(trio.__version__, what)

    broken = ""
    try:
        with batch_order(test):
            # Trio's own clock would draw its offset from the shuffler.
            trio.run(main, clock=trio.testing.MockClock(), instruments=[test])
    except (AttributeError, TypeError, trio.TrioInternalError) as exc:
        broken = f"the self-test raised {exc!r}: {exc.__cause__!r}"
    if broken:
        _collect_silently()
        raise UnsupportedTrio(trio.__version__, broken)
    need(test.shuffled > 0, f"{_RANDOM}.shuffle is not called for a batch")
    need(seen == list(range(6)), f"the order of a batch is not ours to choose: {seen}")
    need(states == [False, False, True], f"an exited scope is not recognised: {states}")
    need(around == [True], "the scope around another is not recognised")
    need(test.delivered == 1, "a delivered Cancelled is not recognised")
