"""The sweep itself: dry runs, then every point in a fixed order, then the verdict."""

from __future__ import annotations

import time
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace

from cfw.testing.sweep.answers import Answers
from cfw.testing.sweep.config import Config
from cfw.testing.sweep.dry import Dry, DryRuns
from cfw.testing.sweep.errors import CannotSweep, RealIOError
from cfw.testing.sweep.explain import Explainer
from cfw.testing.sweep.failure import Failure
from cfw.testing.sweep.finds import Found
from cfw.testing.sweep.plan import Plan, spread
from cfw.testing.sweep.points import Point
from cfw.testing.sweep.progress import Progress
from cfw.testing.sweep.promises import never_came
from cfw.testing.sweep.report import Report
from cfw.testing.sweep.run import DRY_BATCHES
from cfw.testing.sweep.runner import Runner
from cfw.testing.sweep.schedule import EXHAUSTIVE, schedule_text
from cfw.testing.sweep.shrink import Shrinker
from cfw.testing.sweep.tally import Tally
from cfw.testing.sweep.tokens import Sweep
from cfw.testing.sweep.verdict import SweepFailure
from cfw.testing.sweep.work import Answer, Work, orders


@dataclass
class Engine:
    """One sweep, from the first dry run to the verdict."""

    config: Config
    report: Report
    sweep: Sweep
    command: str
    _runner: Runner = field(init=False)
    _tally: Tally = field(init=False)
    _dry: DryRuns = field(init=False)
    _plan: Plan = field(init=False)
    _answers: Answers = field(init=False)
    _progress: Progress = field(init=False)
    _explainer: Explainer = field(init=False)

    def __post_init__(self) -> None:
        config, report = self.config, self.report
        self._runner = Runner(config, report)
        self._tally = Tally(config, report)
        self._dry = DryRuns(self._runner, self._tally)
        self._plan = Plan(config, report)
        self._answers = Answers(config, report)
        self._progress = Progress(report, self._tally.finds)
        self._explainer = Explainer(self._runner, self.sweep)

    def run(self) -> Report:
        """Run all of it.

        Raises:
            SweepFailure: a point broke an invariant, or something was never reached.
            SweepError: the sweep could not be done.
        """
        __tracebackhide__ = True
        config, report = self.config, self.report
        report.schedules = tuple(schedule_text(one) for one in config.schedules)
        report.params = len(config.params)
        report.sometimes = dict.fromkeys(config.sometimes, False)
        roots = self._tally.finds.roots
        with self._runner.under_way():
            try:
                self._run_all()
            except (CannotSweep, RealIOError) as exc:
                # Met behind a fault only. What was found before that stays found.
                if not roots:
                    raise
                report.sampled = f"stopped: {exc}"
            for found in roots.values():
                self._shrink(found)
            failures = self._failures()
            first = next(iter(roots.values()), None)
            raised = self._explainer.raised(first) if first is not None else None
        report.not_asked = self._tally.not_asked()
        failures += never_came(config, self._plan, self._tally, report)
        report.failures = tuple(failures)
        if failures:
            raise SweepFailure(report.failures, report, self.command) from raised
        return report

    def plan(self) -> Report:
        """Make the runs without a fault, to tell how many points there are.

        The report's runs and seconds are those of a few points, to tell how long all take.

        Raises:
            SweepFailure: the scenario fails by itself.
            SweepError: the sweep could not be done.
        """
        with self._runner.under_way():
            work = self._singles()
            self.report.points = len(work)
            begin = time.perf_counter()
            tried = spread(work, 3) if not self._tally.finds.roots else []
            for piece in tried:
                # What a cut alone leads to is for the sweep to tell.
                with suppress(CannotSweep, RealIOError):
                    self._runner.run(piece.point, record=False, batches=piece.batches)
            spent = time.perf_counter() - begin
            failures = self._failures()
        if failures:
            self.report.failures = tuple(failures)
            raise SweepFailure(self.report.failures, self.report, self.command)
        self.report.runs, self.report.seconds = len(tried), spent
        return self.report

    def _run_all(self) -> None:
        config, plan = self.config, self._plan
        singles = self._singles()
        firsts = plan.sample(singles)
        self._progress.begin()
        with self._answers.checkpointed(self.sweep, self._dry.known.values()):
            seconds = self._perform(firsts)
            if not self._tally.is_full():
                self._perform(plan.sample(seconds))
            if EXHAUSTIVE in config.schedules:
                for index in range(len(config.params)):
                    if not self._tally.is_full():
                        self._exhaustive(index)

    def _singles(self) -> list[Work]:
        """Dry runs, and every point of one fault."""
        work: list[Work] = []
        for index in range(len(self.config.params)):
            for schedule in self.config.schedules:
                if schedule == EXHAUSTIVE:
                    continue
                dry = self._dry.run(index, schedule)
                if dry is not None:
                    work += self._plan.singles(dry)
        return work

    def _perform(self, work: list[Work]) -> list[Work]:
        """Do the work until it is done or enough is broken; what to do next for pairs."""
        following: list[Work] = []
        # The plan itself would be looked through after every run.
        self._runner.hide_what_is()
        answers = self._answers.kept(work, self._dry.step_s)
        with closing(answers):
            for piece, answer in zip(work, answers, strict=True):
                self.report.ran += 1
                self._progress.tell()
                self.report.runs += answer.runs
                self._plan.done.add(piece.point)
                self._note(piece, answer)
                if piece.record:
                    following += self._plan.seconds(piece, answer)
                if self._tally.is_full():
                    break
        return following

    def _exhaustive(self, index: int) -> None:
        """All orders without a fault, then each fault under all orders of what follows it."""
        config, report = self.config, self.report
        bound, why = config.orders, f"bound of {config.orders} orders"
        if config.budget is not None and config.budget - report.ran < bound:
            bound, why = max(1, config.budget - report.ran), f"budget of {config.budget}"
        whole = Work(Point(index, ()), "", DRY_BATCHES, record=True, tree=bound)
        pieces: dict[tuple[object, ...], Work] = {}
        used = 0
        for point, result in orders(config, whole):
            if result is None:
                report.sampled = why
                break
            assert result.record is not None
            if not used:
                self._dry.same_again(Point(index, ()), result.record)
            used += 1
            report.orders += 1
            report.runs += 1
            report.steps = max(report.steps, len(result.record.steps))
            answer = Answer()
            answer.add(point, result)
            self._note(whole, answer)
            if self._tally.is_full():
                return
            dry = Dry(index, result.choices, result.record, result.batches)
            for piece, instant in self._plan.trees(dry):
                key = (piece.point.schedule, piece.point.faults, instant)
                pieces.setdefault(key, piece)
        left = bound - used
        # Even with nothing left one fault is tried, in one order.
        tree = max(1, left)
        self._perform_trees([replace(piece, tree=tree) for piece in pieces.values()], left, why)

    def _perform_trees(self, work: list[Work], left: int, why: str) -> None:
        """Do whole trees as long as runs are left; the last one may go over that.

        Args:
            work: the trees.
            left: runs.
            why: what bounds them, if they do not suffice.
        """
        report = self.report
        report.points += len(work)
        answers = self._answers.to(work, self._dry.step_s)
        with closing(answers):
            for done, (piece, answer) in enumerate(zip(work, answers, strict=True), 1):
                left -= answer.runs
                report.ran += 1
                report.runs += answer.runs
                self._note(piece, answer)
                over = left <= 0 and done < len(work)
                if answer.cut_short or over:
                    report.sampled = why
                if self._tally.is_full() or over:
                    return

    def _note(self, work: Work, answer: Answer) -> None:
        if answer.missed is not None:
            raise self._dry.diverged(work.point, answer.missed)
        self._tally.note(work, answer)

    def _shrink(self, found: Found) -> None:
        """Look for a smaller point that fails in the same way."""
        smaller = self._plan.smaller(found.point)
        Shrinker(found, self._runner).shrink(smaller, self.report.complete)

    def _failures(self) -> list[Failure]:
        return [self._explainer.explain(found) for found in self._tally.finds.roots.values()]
