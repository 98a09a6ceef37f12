"""Batch orders of a scenario without a fault, spread over processes.

The exhaustive schedule of a sweep goes through them in one process, since it aims faults from
each. Here the tree of orders is cut into subtrees, by the choices made first.
"""

from __future__ import annotations

import gc
import math
import time
from functools import partial

from cfw.testing.sweep import Report
from cfw.testing.sweep.config import Config, make_config
from cfw.testing.sweep.facts import Scenario
from cfw.testing.sweep.jobs import in_order
from cfw.testing.sweep.points import Point
from cfw.testing.sweep.run import DRY_BATCHES, run_once
from cfw.testing.sweep.work import Work, perform

#: Choices that are made in advance: enough subtrees to keep all processes busy.
DEPTH = 5


def every_order(scenario: Scenario, *, name: str, fixed: int, jobs: int) -> Report:
    """Run the scenario in every order Trio may run its tasks in.

    Args:
        scenario: takes a World.
        name: in the table.
        fixed: so many choices stay as they are in the first order; then the report says how
            many orders there are in all. 0 runs every one.
        jobs: processes.

    Raises:
        AssertionError: an invariant did not hold; the choices of the order are told.
    """
    config = make_config(scenario, name=name)
    began = time.perf_counter()
    report = Report(name, schedules=("exhaustive",))
    gc.collect()
    gc.freeze()  # else what exists already is looked through after every run
    try:
        total = math.prod(_arities(config, ()))
        trees = _subtrees(config, (0,) * fixed, fixed + DEPTH, total)
        for answer in in_order(trees, partial(perform, config), jobs):
            report.orders += answer.runs
            assert not answer.cut_short, f"more orders than the {total} of the first one's tree"
            for point, violations in answer.failed:
                raise AssertionError(f"in the order {point.schedule}: {violations}")
    finally:
        gc.unfreeze()
    if fixed:
        report.sampled = f"bounded: {report.orders} of {total}"
    report.runs = report.orders
    report.seconds = time.perf_counter() - began
    return report


def _subtrees(config: Config, start: tuple[int, ...], depth: int, bound: int) -> list[Work]:
    starts = [start]
    while len(starts[0]) < depth:
        starts = [
            (*choices, choice)
            for choices in starts
            for choice in range(_arities(config, choices)[len(choices)])
        ]
    return [Work(Point(0, choices), "", DRY_BATCHES, tree=bound) for choices in starts]


def _arities(config: Config, choices: tuple[int, ...]) -> tuple[int, ...]:
    """Out of how many each choice is made, in the order that begins with these."""
    return run_once(config.settings, {}, choices).arities
