"""Faults, the instants they fire at, and the point of a sweep made of both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from cfw.testing.sweep.schedule import EXHAUSTIVE, Pct, Schedule

BEFORE = "b"
AFTER = "a"

#: In `at`: every nursery below the root, wherever it is open.
NURSERIES = "nurseries"

NURSERY_PREFIX = "nursery:"

#: In `at`: every task below the root that the program started itself, each alone.
TASKS = "tasks"

TASK_PREFIX = "task:"

#: In `at`: every way in which a call of a stream with `World.faults` can go wrong.
FAULTS = "faults"

FAULT_PREFIX = "fault:"

#: What in `at` stands for many, and how the names of these begin.
PREFIXES = {NURSERIES: NURSERY_PREFIX, TASKS: TASK_PREFIX, FAULTS: FAULT_PREFIX}


@dataclass(frozen=True, slots=True)
class Instant:
    """A moment between two steps, found by the dry run.

    Attributes:
        step: number of the step, from 1, counted over all tasks below the root.
        when: `"b"` before the step (its operation is over, the task has not seen the
            result) or `"a"` after it (the task is parked, and is aborted where it waits).
        hash: rolling number of all positions up to here.
        exposed: names that can be fired here.
        picked: how many choices the schedule had made.
        task: name of the task that steps.
        site: where that task is parked.
    """

    step: int
    when: str
    hash: int
    exposed: tuple[str, ...]
    picked: int
    task: str
    site: str


@dataclass(frozen=True, slots=True)
class Fault:
    """One name fired at one instant; `hash` is what the prefix must look like."""

    name: str
    step: int
    when: str
    hash: int


@dataclass(frozen=True, slots=True)
class Point:
    """One run: which parameters, which schedule, which faults.

    Attributes:
        params: index into the sweep's list of parameter sets.
        schedule: where the order of batches comes from.
        faults: none for a run without injection, two for a pair.
    """

    params: int
    schedule: Schedule
    faults: tuple[Fault, ...] = ()


def when_text(when: str) -> str:
    """`before` or `after`."""
    return "before" if when == BEFORE else "after"


def select(names: tuple[str, ...], wanted: str) -> tuple[str, ...]:
    """The exposed names that `wanted`, an entry of `at`, stands for."""
    if prefix := PREFIXES.get(wanted):
        return tuple(name for name in names if name.startswith(prefix))
    return (wanted,) if wanted in names else ()


def size_of(point: Point, schedules: Sequence[Schedule]) -> tuple[Any, ...]:
    """The measure of the smallest point: faults, parameters, schedule, instant.

    Args:
        point: is measured.
        schedules: of the sweep, the plainest first.
    """
    plain: Schedule = point.schedule
    made: tuple[int, ...] = ()
    if isinstance(plain, tuple):
        made, plain = plain, EXHAUSTIVE
    if isinstance(plain, Pct):
        plain = replace(plain, steps=0)
    order = schedules.index(plain) if plain in schedules else -1
    others = sum(map(bool, made)), made
    instants = [(fault.step, fault.when != BEFORE) for fault in point.faults]
    return len(point.faults), point.params, order, others, instants
