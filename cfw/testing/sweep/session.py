"""All tests of a `pytest --sweep`: which are swept, how long it takes, each in its turn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import NoReturn, cast

import pytest

from cfw.testing.sweep import options, report
from cfw.testing.sweep.api import sweep_hosted
from cfw.testing.sweep.config import SweepOptions
from cfw.testing.sweep.errors import NondeterminismError, RealIOError, SweepError, TokenError
from cfw.testing.sweep.items import SCOPES, Suite, captures_no_more, is_async, why_not
from cfw.testing.sweep.report import Report
from cfw.testing.sweep.verdict import SweepFailure

#: The option, and what its tokens name as the sweep.
NAME = "--sweep"

#: Name of the property that says why a test was not swept.
SKIPPED = "sweep_skipped"

NEVER_WAITS = "its body never waits, so there is nothing to cut"


@dataclass
class Planned:
    """A test that is swept.

    Attributes:
        suite: runs it.
        scopes: what is cancelled, as in `at`.
        points: how many points it has; None before that is known.
        seconds: real time of a run.
        budget: points it may take; None for what the command line says.
    """

    suite: Suite
    scopes: tuple[str, ...]
    points: int | None = None
    seconds: float = 0.0
    budget: int | None = None

    def sweep(self, *, only_plan: bool = False) -> Report:
        """Sweep it, or count its points.

        Raises:
            SweepFailure: a point broke an invariant.
            SweepError: it cannot be swept.
        """
        item = self.suite.item
        chosen = SweepOptions(at=self.scopes, schedules=["fifo"], limit=1e6)
        for marker in reversed(list(item.iter_markers("sweep_with"))):
            chosen |= cast(SweepOptions, marker.kwargs)
        chosen["name"] = NAME
        if self.budget is not None:
            chosen["budget"] = self.budget
        self.suite.step_aside()
        try:
            return sweep_hosted(
                self.suite,
                item.function,
                item.nodeid,
                self.suite.plugin,
                only_plan=only_plan,
                **chosen,
            )
        except SweepFailure as failure:
            if failure.failures[0].has_fault:
                raise
            what = f"it fails without a fault: {failure.failures[0].message}"
        raise SweepError(what)


planned = pytest.StashKey[Planned]()


def scopes_of(text: str) -> tuple[str, ...]:
    """What the option's value cancels, as in `at`.

    Raises:
        pytest.UsageError: it names no scope.
    """
    names = dict.fromkeys(text.split(","))
    unknown = [name for name in names if name not in SCOPES]
    if unknown:
        wrong, known = ", ".join(unknown), ", ".join(SCOPES)
        raise pytest.UsageError(f"{NAME}={text}: {wrong!r} is none of {known}")
    return tuple(SCOPES[name] for name in names)


def choose(config: pytest.Config, items: list[pytest.Item], scopes: tuple[str, ...]) -> None:
    """Keep asynchronous tests and sweeps; say of those that cannot be swept why not."""
    keep: list[pytest.Item] = []
    for item in items:
        if is_async(item):
            keep.append(item)
            left_out = item.get_closest_marker("no_sweep")
            reason = why_not(item)
            if left_out is not None:
                reason = " ".join(["marked no_sweep", *map(str, left_out.args)])
            if reason:
                leave_out(item, reason)
                continue
            item.stash[planned] = Planned(Suite(item), scopes)
            if config.pluginmanager.hasplugin("timeout"):
                # Meant for one run. A sweep bounds each of its runs by itself.
                item.add_marker(pytest.mark.timeout(0), append=False)
        elif hasattr(getattr(item, "obj", None), "sweep_name"):
            keep.append(item)
    chosen = set(keep)
    config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
    items[:] = keep


def leave_out(item: pytest.Item, reason: str) -> None:
    """Have a test skipped, visibly."""
    item.user_properties.append((SKIPPED, reason))
    item.add_marker(pytest.mark.skip(reason=f"not swept: {reason}"))


def plan(
    items: Sequence[pytest.Item], seconds: float | None, tell: Callable[[str], None]
) -> None:
    """Count the points of all tests, say how long it will take, and share out the time.

    Args:
        items: of the session.
        seconds: that all of them may take together; None for no bound.
        tell: writes a line.
    """
    known = [item.stash[planned] for item in items if planned in item.stash]
    if not known:
        return
    tell(f"sweep: counting the points of {len(known)} tests")
    for one in known:
        _count(one)
    with suppress(Exception):
        # What fails to be torn down here fails again in its turn.
        items[0].session._setupstate.teardown_exact(items[0])
    jobs, most = options.current.jobs or 1, options.current.budget
    swept = [one for one in known if one.points]
    for one in swept:
        if most is not None:
            one.budget = most
    total, needed = sum(map(_points, swept)), sum(map(_time, swept)) / jobs
    tell(
        f"sweep: {len(swept)} tests to sweep, {len(known) - len(swept)} that cannot be; "
        f"{total} points, about {_duration(needed)}"
    )
    if seconds is not None and needed > seconds:
        _share_out(swept, seconds * jobs)
        left = sum(map(_points, swept))
        tell(f"sweep: {left} of them fit into {_duration(seconds)}, evenly spread")


def _share_out(swept: list[Planned], seconds: float) -> None:
    """Give each test an equal part of the time; what one does not need goes to longer ones."""
    for number, one in enumerate(sorted(swept, key=_time)):
        part = max(seconds, 0.0) / (len(swept) - number)
        if _time(one) > part:
            one.budget = max(1, int(part / one.seconds))
        seconds -= _time(one)


def _count(one: Planned) -> None:
    item = one.suite.item
    options.current.enter(item.nodeid)
    try:
        counted = one.sweep(only_plan=True)
    except SweepError as exc:
        leave_out(item, reason_of(exc))
    else:
        one.points, one.seconds = counted.points, counted.seconds / max(1, counted.runs)
        if not counted.points:
            leave_out(item, NEVER_WAITS)
    finally:
        options.current.enter("")
        captures_no_more(item.config)


def _points(one: Planned) -> int:
    points = one.points or 0
    return points if one.budget is None else min(points, one.budget)


def _time(one: Planned) -> float:
    return _points(one) * one.seconds


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def sweep_item(item: pytest.Function, one: Planned) -> None:
    """Sweep a test in its turn.

    Raises:
        SweepFailure: a point broke an invariant.
        TokenError: a token does not fit.
        pytest.skip.Exception: it cannot be swept.
    """
    __tracebackhide__ = True
    try:
        done = one.sweep()
    except SweepFailure as failure:
        report.record(failure.report)
        raise
    except TokenError:
        raise
    except SweepError as exc:
        _skip(item, reason_of(exc))
    if not done.points:
        _skip(item, NEVER_WAITS)
    report.record(done)


def _skip(item: pytest.Item, reason: str) -> NoReturn:
    item.user_properties.append((SKIPPED, reason))
    pytest.skip(f"not swept: {reason}")


def reason_of(error: SweepError) -> str:
    """Why a test cannot be swept, in one line."""
    if isinstance(error, RealIOError):
        return f"it uses {error.what}, at {error.where}"
    if isinstance(error, NondeterminismError):
        return f"uncontrolled nondeterminism: {error.what}. {error.where}".replace("\n", " ")
    return str(error).replace("\n", " ")
