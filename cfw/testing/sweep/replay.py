"""One point again, as its token names it, and nothing else."""

from __future__ import annotations

from dataclasses import replace

from cfw.testing.sweep.config import Config
from cfw.testing.sweep.errors import StaleToken
from cfw.testing.sweep.explain import Explainer
from cfw.testing.sweep.facts import Result
from cfw.testing.sweep.finds import Found
from cfw.testing.sweep.points import NURSERY_PREFIX, TASK_PREFIX, Point
from cfw.testing.sweep.report import Report
from cfw.testing.sweep.runner import Runner
from cfw.testing.sweep.schedule import schedule_text
from cfw.testing.sweep.tokens import Sweep, Token
from cfw.testing.sweep.verdict import SweepFailure


def replay_token(
    text: str, config: Config, report: Report, sweep: Sweep, command: str
) -> Report:
    """Run the point of a token.

    Args:
        text: the token.
        config: of the sweep it belongs to.
        report: is filled in.
        sweep: the one it must belong to.
        command: replays, with the token in place of `{token}`.

    Raises:
        SweepFailure: it fails, as it did when the token was made or in another way.
        TokenError: the token belongs elsewhere or is stale; nothing was fired.
    """
    __tracebackhide__ = True
    token = Token.parse(text)
    point = token.point
    config = _opened(config, point)
    token.check(sweep, config.params, config.settings)
    report.schedules = (schedule_text(point.schedule),)
    runner = Runner(config, report)
    with runner.under_way():
        result = runner.run(point, record=True, batches=token.batches)
        _check(point, result)
    report.points = report.ran = 1
    report.sampled = "replay of one point"
    if result.violations:
        explainer = Explainer(runner, sweep)
        found = Found(point, result.violations, "", token.batches)
        report.failures = (explainer.tell(found, result, True),)
        with runner.under_way():
            raised = explainer.raised(found)
        raise SweepFailure(report.failures, report, command) from raised
    return report


def _opened(config: Config, point: Point) -> Config:
    """Let a token fire a nursery or a task, whatever the caller's `at` says."""
    settings = config.settings
    if any(fault.name.startswith(NURSERY_PREFIX) for fault in point.faults):
        settings = replace(settings, nurseries=True)
    if any(fault.name.startswith(TASK_PREFIX) for fault in point.faults):
        settings = replace(settings, tasks=True)
    return replace(config, settings=settings)


def _check(point: Point, result: Result) -> None:
    """Refuse a run that was none of the token's point.

    Raises:
        StaleToken: it came by other steps, or by batches of other sizes.
    """
    if result.missed is not None:
        raise StaleToken(
            f"stale token: {result.missed}; the code changed since it was made. "
            "Nothing else was run in its place."
        )
    # Without a fault nothing checks the steps on the way but the choices made.
    is_ordered = isinstance(point.schedule, tuple) and not point.faults
    if is_ordered and result.choices != point.schedule:
        raise StaleToken(
            "stale token: the batches have other sizes now; the code changed since it "
            "was made. The verdict on another order is none on this one."
        )
