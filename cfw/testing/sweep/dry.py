"""Runs without a fault: what a scenario does by itself, and that it does it again."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field, replace

from cfw.testing.sweep.errors import NondeterminismError
from cfw.testing.sweep.facts import Result
from cfw.testing.sweep.points import Instant, Point
from cfw.testing.sweep.run import DRY_BATCHES
from cfw.testing.sweep.runner import Runner
from cfw.testing.sweep.schedule import Pct, Schedule
from cfw.testing.sweep.story import difference
from cfw.testing.sweep.tally import Tally
from cfw.testing.sweep.watch import Record
from cfw.testing.sweep.work import Answer, Work


@dataclass
class Dry:
    """What the runs without a fault showed for one parameter set and schedule."""

    params: int
    schedule: Schedule
    record: Record
    batches: int

    @property
    def instants(self) -> list[Instant]:
        """Where faults can be fired."""
        return self.record.instants


@dataclass
class DryRuns:
    """Those of one sweep.

    Attributes:
        runner: makes them.
        tally: is told what they showed.
        known: those that passed.
        step_s: seconds that a step takes without being recorded, at best.
    """

    runner: Runner
    tally: Tally
    known: dict[tuple[int, Schedule], Dry] = field(default_factory=dict)
    step_s: float = math.inf

    def run(self, index: int, schedule: Schedule) -> Dry | None:
        """Run without a fault twice; None if the scenario fails by itself.

        Raises:
            NondeterminismError: the second run took other steps.
        """
        schedule = self._drawn(index, schedule)
        point, report = Point(index, schedule), self.runner.report
        begin = time.perf_counter()
        one = self.runner.run(point, record=True, batches=DRY_BATCHES)
        assert one.record is not None
        # To record costs about as much again.
        step_s = (time.perf_counter() - begin) / 2 / max(1, len(one.record.steps))
        self.step_s = min(self.step_s, step_s)
        two = self.same_again(point, one.record)
        answer = Answer()
        answer.add(point, replace(one, violations=()))
        self.tally.note(Work(point, "", DRY_BATCHES), answer)
        report.steps = max(report.steps, len(one.record.steps))
        report.ties += one.record.ties
        if one.violations or two.violations:
            violations = one.violations or two.violations
            self.tally.finds.note(point, violations, "", DRY_BATCHES)
            report.sampled = "no faults where the run without one failed"
            return None
        dry = self.known[index, schedule] = Dry(index, schedule, one.record, one.batches)
        return dry

    def same_again(self, point: Point, record: Record) -> Result:
        """Run without a fault for the second time.

        Raises:
            NondeterminismError: it took other steps than the first time.
        """
        again = self.runner.run(point, record=True, batches=DRY_BATCHES)
        assert again.record is not None
        where = difference(record, again.record)
        if where is not None:
            raise NondeterminismError("two dry runs took different steps", where)
        return again

    def diverged(self, point: Point, missed: str) -> NondeterminismError:
        """Why a fault that a dry run promised an instant did not find it."""
        where = None
        dry = self.known.get((point.params, point.schedule))
        if dry is not None:
            plain = Point(point.params, point.schedule)
            again = self.runner.run(plain, record=True, batches=DRY_BATCHES)
            assert again.record is not None
            where = difference(dry.record, again.record)
        return NondeterminismError(
            f"a run left the steps of its dry run: {missed}",
            where or f"It happened on the way to {point.faults}.",
        )

    def _drawn(self, index: int, schedule: Schedule) -> Schedule:
        """Priorities with the number of steps they are drawn for; others as they are."""
        if not isinstance(schedule, Pct):
            return schedule
        known = [dry for (params, _), dry in self.known.items() if params == index]
        if known:
            return replace(schedule, steps=len(known[0].record.steps))
        result = self.runner.run(Point(index, "fifo"), record=True, batches=DRY_BATCHES)
        assert result.record is not None
        return replace(schedule, steps=max(1, len(result.record.steps)))
