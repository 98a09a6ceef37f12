"""The sweep itself: dry runs, then every point in a fixed order, then the verdict."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial

from .config import Config
from .errors import NondeterminismError, StaleToken
from .facts import Result, Violation
from .failure import Failure, SweepFailure
from .jobs import in_order
from .points import Instant, Point, select
from .report import Report
from .run import DRY_BATCHES, run_once
from .schedule import EXHAUSTIVE, Schedule, schedule_text
from .story import difference, tell
from .tokens import Token
from .watch import Record
from .work import MIN_BATCHES, Answer, Work, faults_at, orders, perform, spread


@dataclass
class _Dry:
    """What the runs without a fault showed for one parameter set and schedule."""

    params: int
    schedule: Schedule
    record: Record
    batches: int

    @property
    def instants(self) -> list[Instant]:
        return self.record.instants


@dataclass
class _Found:
    """A kind of failure: its first point, and how many more."""

    point: Point
    violations: tuple[Violation, ...]
    site: str
    others: int = 0


@dataclass
class Engine:
    """One sweep, from the first dry run to the verdict."""

    config: Config
    report: Report
    _found: dict[tuple[str, str], _Found] = field(default_factory=dict)
    _exposed: set[str] = field(default_factory=set)
    _dry: dict[tuple[int, Schedule], _Dry] = field(default_factory=dict)

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
        with _measured(report), _frozen():
            singles = self._singles()
            firsts = self._sample(singles)
            seconds = self._perform(firsts)
            if not self._full():
                self._perform(self._sample(seconds))
            if EXHAUSTIVE in config.schedules:
                for index in range(len(config.params)):
                    if not self._full():
                        self._exhaustive(index)
            failures = [self._explain(found) for found in self._found.values()]
        failures += self._never()
        report.failures = tuple(failures)
        if failures:
            raise SweepFailure(report.failures, report)
        return report

    def replay(self, text: str) -> Report:
        """Run the point of a token, and nothing else.

        Raises:
            SweepFailure: it fails, as it did when the token was made or in another way.
            TokenError: the token belongs elsewhere or is stale; nothing was fired.
        """
        __tracebackhide__ = True
        token = Token.parse(text)
        token.check(self.config.name, self.config.params)
        report, point = self.report, token.point
        report.schedules = (schedule_text(point.schedule),)
        with _measured(report), _frozen():
            result = self._run(point, record=True, batches=DRY_BATCHES)
            if result.missed is not None:
                raise StaleToken(
                    f"stale token: {result.missed}; the code changed since it was made. "
                    "Nothing else was run in its place."
                )
        report.points = report.ran = 1
        report.sampled = "replay of one point"
        if result.violations:
            failure = self._failure(point, result.violations, "", result, True, 0)
            report.failures = (failure,)
            raise SweepFailure(report.failures, report)
        return report

    # Points

    def _singles(self) -> list[Work]:
        """Dry runs, and every point of one fault."""
        config = self.config
        work: list[Work] = []
        for index in range(len(config.params)):
            for schedule in config.schedules:
                if schedule == EXHAUSTIVE:
                    continue
                dry = self._dry_run(index, schedule)
                if dry is not None:
                    work += self._aim(dry)
        return work

    def _aim(self, dry: _Dry) -> Iterator[Work]:
        bound = max(MIN_BATCHES, 20 * dry.batches)
        for wanted in self.config.firsts:
            record = any(first == wanted for first, _ in self.config.pairs)
            for instant in dry.instants:
                names = select(instant.exposed, wanted)
                self.report.not_exposed += not names
                self._exposed.update([wanted] if names else [])
                for name in names:
                    point = Point(dry.params, dry.schedule, faults_at(instant, name))
                    yield Work(point, instant.site, bound, record)

    def _aim_second(self, work: Work, answer: Answer) -> Iterator[Work]:
        """Every second fault after a first one that the scenario survived."""
        if answer.failed:
            return
        first = work.point.faults[0].name
        for name, wanted in self.config.pairs:
            if not select((first,), name):
                continue
            for instant in answer.instants:
                names = select(instant.exposed, wanted)
                self.report.not_exposed += not names
                self._exposed.update([wanted] if names else [])
                for second in names:
                    faults = faults_at(instant, second, work.point.faults)
                    point = replace(work.point, faults=faults)
                    yield Work(point, instant.site, work.batches)

    def _sample(self, work: list[Work]) -> list[Work]:
        """All of the work, or as much of it as the budget allows, evenly spread."""
        self.report.points += len(work)
        if self.config.budget is None:
            return work
        left = max(0, self.config.budget - self.report.ran)
        if len(work) > left:
            self.report.sampled = f"budget of {self.config.budget}"
        return spread(work, left)

    # Runs

    def _run(self, point: Point, *, record: bool, batches: int) -> Result:
        self.report.runs += 1
        params = self.config.params[point.params]
        return run_once(
            self.config.settings,
            params,
            point.schedule,
            point.faults,
            record=record,
            batches=batches,
        )

    def _dry_run(self, index: int, schedule: Schedule) -> _Dry | None:
        """Run without a fault twice; None if the scenario fails by itself."""
        point = Point(index, schedule)
        one = self._run(point, record=True, batches=DRY_BATCHES)
        two = self._run(point, record=True, batches=DRY_BATCHES)
        assert one.record is not None
        assert two.record is not None
        where = difference(one.record, two.record)
        if where is not None:
            raise NondeterminismError("two dry runs took different steps", where)
        self._note(Work(point, "", 0), Answer(failed=[], sometimes=one.sometimes))
        self.report.steps = max(self.report.steps, len(one.record.steps))
        self.report.ties += one.record.ties
        if one.violations or two.violations:
            self._fail(point, one.violations or two.violations, "")
            return None
        dry = self._dry[index, schedule] = _Dry(index, schedule, one.record, one.batches)
        return dry

    def _perform(self, work: list[Work]) -> list[Work]:
        """Do the work until it is done or enough is broken; what to do next for pairs."""
        following: list[Work] = []
        # The plan itself would be looked through after every run.
        gc.freeze()
        answers = in_order(work, partial(perform, self.config), self.config.jobs)
        with closing(answers):
            for piece, answer in zip(work, answers, strict=True):
                self.report.ran += 1
                self.report.runs += answer.runs
                self._note(piece, answer)
                if piece.record:
                    following += self._aim_second(piece, answer)
                if self._full():
                    break
        return following

    def _exhaustive(self, index: int) -> None:
        """All orders without a fault, then each fault under all orders of what follows it."""
        config, report = self.config, self.report
        bound = config.orders
        if config.budget is not None:
            bound = min(bound, max(1, config.budget - report.ran))
        whole = Work(Point(index, ()), "", DRY_BATCHES, record=True, tree=bound)
        pieces: dict[tuple[object, ...], Work] = {}
        used = 0
        for point, result in orders(config, whole):
            if result is None:
                report.sampled = f"bound of {bound} orders"
                break
            assert result.record is not None
            used += 1
            report.orders += 1
            report.runs += 1
            report.steps = max(report.steps, len(result.record.steps))
            answer = Answer(sometimes=result.sometimes)
            if result.violations:
                answer.failed.append((point, result.violations))
            self._note(whole, answer)
            if self._full():
                return
            dry = _Dry(index, result.choices, result.record, result.batches)
            for piece, instant in self._aim_tree(dry):
                key = (piece.point.schedule, piece.point.faults, instant)
                pieces.setdefault(key, piece)
        self._perform_trees(
            [replace(piece, tree=bound) for piece in pieces.values()], bound - used
        )

    def _aim_tree(self, dry: _Dry) -> Iterator[tuple[Work, Instant]]:
        for wanted in self.config.at:
            for instant in dry.instants:
                names = select(instant.exposed, wanted)
                self.report.not_exposed += not names
                self._exposed.update([wanted] if names else [])
                assert isinstance(dry.schedule, tuple)
                made = dry.schedule[: instant.picked]
                for name in names:
                    point = Point(dry.params, made, faults_at(instant, name))
                    yield Work(point, instant.site, max(MIN_BATCHES, 20 * dry.batches)), instant

    def _perform_trees(self, work: list[Work], left: int) -> None:
        self.report.points += len(work)
        answers = in_order(work, partial(perform, self.config), self.config.jobs)
        with closing(answers):
            for piece, answer in zip(work, answers, strict=True):
                left -= answer.runs
                if left < 0 or answer.cut_short:
                    self.report.sampled = f"bound of {self.config.orders} orders"
                    return
                self.report.ran += 1
                self.report.runs += answer.runs
                self._note(piece, answer)
                if self._full():
                    return

    # Verdict

    def _full(self) -> bool:
        if len(self._found) < self.config.stop_after:
            return False
        self.report.sampled = self.report.sampled or "stopped at the failures"
        return True

    def _note(self, work: Work, answer: Answer) -> None:
        for name, reached in answer.sometimes.items():
            known = self.report.sometimes.get(name, False)
            self.report.sometimes[name] = known or reached
        if answer.missed is not None:
            self._diverged(work, answer.missed)
        for point, violations in answer.failed:
            self._fail(point, violations, work.site)

    def _fail(self, point: Point, violations: tuple[Violation, ...], site: str) -> None:
        key = violations[0].invariant, site
        if key in self._found:
            self._found[key].others += 1
        else:
            self._found[key] = _Found(point, violations, site)

    def _diverged(self, work: Work, missed: str) -> None:
        """Say why a fault that the dry run promised an instant did not find it."""
        point = work.point
        where = None
        dry = self._dry.get((point.params, point.schedule))
        if dry is not None:
            again = self._run(
                Point(point.params, point.schedule), record=True, batches=DRY_BATCHES
            )
            assert again.record is not None
            where = difference(dry.record, again.record)
        raise NondeterminismError(
            f"a run left the steps of its dry run: {missed}",
            where or f"It happened on the way to {point.faults}.",
        )

    def _explain(self, found: _Found) -> Failure:
        """Run a failing point once more, recorded, to tell its story."""
        batches = max(MIN_BATCHES, 20 * self._longest())
        result = self._run(found.point, record=True, batches=batches)
        names = [item.invariant for item in result.violations]
        same = found.violations[0].invariant in names
        return self._failure(
            found.point, found.violations, found.site, result, same, found.others
        )

    def _longest(self) -> int:
        return max((dry.batches for dry in self._dry.values()), default=0)

    def _failure(
        self,
        point: Point,
        violations: tuple[Violation, ...],
        site: str,
        result: Result,
        reproduced: bool,
        others: int,
    ) -> Failure:
        params = self.config.params[point.params]
        assert result.record is not None
        return Failure(
            violations[0].invariant,
            tuple(dict.fromkeys(item.invariant for item in violations)),
            "\n".join(f"{item.invariant}: {item.message}" for item in violations),
            site,
            str(Token.of(self.config.name, point, params)),
            tell(point, params, result.record, reproduced),
            others,
        )

    def _never(self) -> Iterator[Failure]:
        """What was promised and never came; not asked of a sweep that stopped early."""
        if self._found:
            return
        wanted = dict.fromkeys([*self.config.firsts, *(pair[1] for pair in self.config.pairs)])
        for name in wanted:
            if name not in self._exposed and not (
                self.report.sampled and name not in self.config.at
            ):
                yield _plain(f"exposed:{name}", "was never exposed at any instant")
        if self.report.complete:
            for name in self.report.never_reached:
                yield _plain(f"sometimes:{name}", "was never true in any run")


def _plain(invariant: str, what: str) -> Failure:
    name = invariant.partition(":")[2]
    return Failure(invariant, (invariant,), f"{name!r} {what}")


@contextmanager
def _measured(report: Report) -> Iterator[None]:
    start = time.perf_counter()
    try:
        yield
    finally:
        report.seconds += time.perf_counter() - start


@contextmanager
def _frozen() -> Iterator[None]:
    """Hide what exists already from the collector: it runs after every single run."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
