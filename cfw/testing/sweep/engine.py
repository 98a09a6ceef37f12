"""The sweep itself: dry runs, then every point in a fixed order, then the verdict."""

from __future__ import annotations

import gc
import math
import time
from collections import Counter, defaultdict
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial

import trio

from cfw.testing.sweep import interrupt, options
from cfw.testing.sweep._trio import hooks
from cfw.testing.sweep.calls import content_of
from cfw.testing.sweep.checkpoint import Checkpoint
from cfw.testing.sweep.config import Config
from cfw.testing.sweep.errors import (
    CannotSweep,
    NondeterminismError,
    RealIOError,
    StaleToken,
    SweepError,
)
from cfw.testing.sweep.facts import Result
from cfw.testing.sweep.failure import Failure
from cfw.testing.sweep.finds import Finds, Found
from cfw.testing.sweep.forks import obstacle, pays, perform_all
from cfw.testing.sweep.jobs import apart, in_order
from cfw.testing.sweep.points import (
    BEFORE,
    FAULT_PREFIX,
    NURSERY_PREFIX,
    TASK_PREFIX,
    Instant,
    Point,
    select,
)
from cfw.testing.sweep.report import Report
from cfw.testing.sweep.run import DRY_BATCHES, MIN_BATCHES, run_once
from cfw.testing.sweep.schedule import EXHAUSTIVE, Pct, Schedule, schedule_text
from cfw.testing.sweep.shrink import Shrinker
from cfw.testing.sweep.sites import leaves
from cfw.testing.sweep.story import difference, tell
from cfw.testing.sweep.tokens import Sweep, Token
from cfw.testing.sweep.verdict import SweepFailure
from cfw.testing.sweep.watch import Record
from cfw.testing.sweep.work import Answer, Work, faults_at, orders, perform, spread


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
class Engine:
    """One sweep, from the first dry run to the verdict."""

    config: Config
    report: Report
    sweep: Sweep
    command: str
    _finds: Finds = field(init=False)
    # Points that could be run, and those that were.
    _planned: list[Work] = field(default_factory=list)
    _done: set[Point] = field(default_factory=set)
    _exposed: set[str] = field(default_factory=set)
    # Names that some run exposed; pairs whose second some run exposed after the first.
    _seen: set[str] = field(default_factory=set)
    # Scopes by name, and whether a run entered one of that name.
    _entered: dict[str, bool] = field(default_factory=dict)
    _paired: set[tuple[str, str]] = field(default_factory=set)
    _dry: dict[tuple[int, Schedule], _Dry] = field(default_factory=dict)
    # By parameter set: runs that were asked each of the scenario's own invariants; runs that
    # could have been.
    _asked: defaultdict[int, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    _judged: Counter[int] = field(default_factory=Counter)
    _checkpoint: Checkpoint | None = None
    _known_answers: list[Answer] = field(default_factory=list)
    # Seconds on the real clock: when the points began, and when that was last told.
    _began_s: float = 0.0
    _told_s: float = field(default_factory=time.perf_counter)
    # What a step takes without being recorded, at best.
    _step_s: float = math.inf
    # What the caller has frozen could not be told apart afterwards, so it is left alone.
    _may_freeze: bool = field(default_factory=lambda: gc.get_freeze_count() == 0)

    def __post_init__(self) -> None:
        self._finds = Finds(self._size)

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
        with self._under_way():
            try:
                self._run_all()
            except (CannotSweep, RealIOError) as exc:
                # Met behind a fault only. What was found before that stays found.
                if not self._finds.roots:
                    raise
                report.sampled = f"stopped: {exc}"
            for found in self._finds.roots.values():
                self._shrink(found)
            failures = [self._explain(found) for found in self._finds.roots.values()]
            raised = self._to_debug(next(iter(self._finds.roots.values()), None))
        report.not_asked = self._not_asked()
        failures += self._never()
        report.failures = tuple(failures)
        if failures:
            raise SweepFailure(report.failures, report, self.command) from raised
        return report

    def _run_all(self) -> None:
        config = self.config
        singles = self._singles()
        firsts = self._sample(singles)
        self._began_s = time.perf_counter()
        with self._checkpointed():
            seconds = self._perform(firsts)
            if not self._full():
                self._perform(self._sample(seconds))
            if EXHAUSTIVE in config.schedules:
                for index in range(len(config.params)):
                    if not self._full():
                        self._exhaustive(index)

    def plan(self) -> Report:
        """Make the runs without a fault, to tell how many points there are.

        The report's runs and seconds are those of a few points, to tell how long all take.

        Raises:
            SweepFailure: the scenario fails by itself.
            SweepError: the sweep could not be done.
        """
        with self._under_way():
            work = self._singles()
            self.report.points = len(work)
            begin = time.perf_counter()
            tried = spread(work, 3) if not self._finds.roots else []
            for piece in tried:
                # What a cut alone leads to is for the sweep to tell.
                with suppress(CannotSweep, RealIOError):
                    self._run(piece.point, record=False, batches=piece.batches)
            spent = time.perf_counter() - begin
            failures = [self._explain(found) for found in self._finds.roots.values()]
        if failures:
            self.report.failures = tuple(failures)
            raise SweepFailure(self.report.failures, self.report, self.command)
        self.report.runs, self.report.seconds = len(tried), spent
        return self.report

    def replay(self, text: str) -> Report:
        """Run the point of a token, and nothing else.

        Raises:
            SweepFailure: it fails, as it did when the token was made or in another way.
            TokenError: the token belongs elsewhere or is stale; nothing was fired.
        """
        __tracebackhide__ = True
        token = Token.parse(text)
        self._open(token.point)
        token.check(self.sweep, self.config.params, self.config.settings)
        report, point = self.report, token.point
        report.schedules = (schedule_text(point.schedule),)
        with self._under_way():
            result = self._run(point, record=True, batches=token.batches)
            if result.missed is not None:
                raise StaleToken(
                    f"stale token: {result.missed}; the code changed since it was made. "
                    "Nothing else was run in its place."
                )
            # Without a fault nothing checks the steps on the way but the choices made.
            ordered = isinstance(point.schedule, tuple) and not point.faults
            if ordered and result.choices != point.schedule:
                raise StaleToken(
                    "stale token: the batches have other sizes now; the code changed since it "
                    "was made. The verdict on another order is none on this one."
                )
        report.points = report.ran = 1
        report.sampled = "replay of one point"
        if result.violations:
            found = Found(point, result.violations, "", token.batches)
            failure = self._failure(found, result, True)
            report.failures = (failure,)
            with self._under_way():
                raised = self._to_debug(found)
            raise SweepFailure(report.failures, report, self.command) from raised
        return report

    def _open(self, point: Point) -> None:
        """Let a token fire a nursery or a task, whatever the caller's `at` says."""
        settings = self.config.settings
        if any(fault.name.startswith(NURSERY_PREFIX) for fault in point.faults):
            settings = replace(settings, nurseries=True)
        if any(fault.name.startswith(TASK_PREFIX) for fault in point.faults):
            settings = replace(settings, tasks=True)
        self.config = replace(self.config, settings=settings)

    @contextmanager
    def _under_way(self) -> Iterator[None]:
        """Everything that is set up once for all runs."""
        with _measured(self.report), _frozen(self._may_freeze), hooks(), interrupt.heard():
            yield

    # Points

    def _singles(self) -> list[Work]:
        """Dry runs, and every point of one fault."""
        config = self.config
        work: list[Work] = []
        for index in range(len(config.params)):
            for schedule in config.schedules:
                if schedule == EXHAUSTIVE:
                    continue
                dry = self._dry_run(index, self._aimed(index, schedule))
                if dry is not None:
                    work += self._aim(dry)
        return work

    def _aimed(self, index: int, schedule: Schedule) -> Schedule:
        """Priorities with the number of steps they are drawn for; others as they are."""
        if not isinstance(schedule, Pct):
            return schedule
        known = [dry for (params, _), dry in self._dry.items() if params == index]
        if known:
            return replace(schedule, steps=len(known[0].record.steps))
        result = self._run(Point(index, "fifo"), record=True, batches=DRY_BATCHES)
        assert result.record is not None
        return replace(schedule, steps=max(1, len(result.record.steps)))

    def _aim(self, dry: _Dry) -> Iterator[Work]:
        bound = max(MIN_BATCHES, 20 * dry.batches)
        for wanted in self.config.firsts:
            record = any(first == wanted for first, _ in self.config.pairs)
            for instant, names in self._chosen(dry.instants, wanted):
                for name in names:
                    point = Point(dry.params, dry.schedule, faults_at(instant, name))
                    yield Work(point, instant.site, bound, record)

    def _chosen(
        self, instants: Sequence[Instant], wanted: str
    ) -> Iterator[tuple[Instant, tuple[str, ...]]]:
        """What an entry of `at` fires at each instant.

        A call of a stream goes wrong in each way once: whenever that is fired while the call
        begins, it comes to the same.
        """
        aimed: set[str] = set()
        for instant in instants:
            names = tuple(name for name in self._select(instant, wanted) if name not in aimed)
            aimed.update(name for name in names if name.startswith(FAULT_PREFIX))
            yield instant, names

    def _select(self, instant: Instant, wanted: str) -> tuple[str, ...]:
        """What an entry of `at` stands for at an instant, and take note of it."""
        names = select(instant.exposed, wanted)
        self._seen.update(instant.exposed)
        self._exposed.update([wanted] if names else [])
        self.report.not_exposed += not names
        return names

    def _aim_second(self, work: Work, answer: Answer) -> Iterator[Work]:
        """Every second fault after a first one that the scenario survived."""
        if answer.failed:
            return
        first = work.point.faults[0].name
        for name, wanted in self.config.pairs:
            if not select((first,), name):
                continue
            for instant, names in self._chosen(answer.instants, wanted):
                self._paired.update([(name, wanted)] if names else [])
                for second in names:
                    faults = faults_at(instant, second, work.point.faults)
                    point = replace(work.point, faults=faults)
                    yield Work(point, instant.site, work.batches)

    def _sample(self, work: list[Work]) -> list[Work]:
        """All of the work, or as much of it as the budget allows, evenly spread."""
        self.report.points += len(work)
        self._planned += work
        if self.config.budget is None:
            return work
        left = max(0, self.config.budget - self.report.ran)
        if len(work) > left:
            self.report.sampled = f"budget of {self.config.budget}"
        return spread(work, left)

    # Runs

    def _run(self, point: Point, *, record: bool, batches: int, keep: bool = False) -> Result:
        params = self.config.params[point.params]
        result = run_once(
            self.config.settings,
            params,
            point.schedule,
            point.faults,
            record=record,
            batches=batches,
            keep=keep,
        )
        self.report.runs += result.runs
        return result

    def _dry_run(self, index: int, schedule: Schedule) -> _Dry | None:
        """Run without a fault twice; None if the scenario fails by itself."""
        point = Point(index, schedule)
        begin = time.perf_counter()
        one = self._run(point, record=True, batches=DRY_BATCHES)
        assert one.record is not None
        # To record costs about as much again.
        step_s = (time.perf_counter() - begin) / 2 / max(1, len(one.record.steps))
        self._step_s = min(self._step_s, step_s)
        two = self._same_again(point, one.record)
        answer = Answer()
        answer.add(point, replace(one, violations=()))
        self._note(Work(point, "", DRY_BATCHES), answer)
        self.report.steps = max(self.report.steps, len(one.record.steps))
        self.report.ties += one.record.ties
        if one.violations or two.violations:
            self._finds.note(point, one.violations or two.violations, "", DRY_BATCHES)
            self.report.sampled = "no faults where the run without one failed"
            return None
        dry = self._dry[index, schedule] = _Dry(index, schedule, one.record, one.batches)
        return dry

    def _same_again(self, point: Point, record: Record) -> Result:
        """Run without a fault for the second time.

        Raises:
            NondeterminismError: it took other steps than the first time.
        """
        again = self._run(point, record=True, batches=DRY_BATCHES)
        assert again.record is not None
        where = difference(record, again.record)
        if where is not None:
            raise NondeterminismError("two dry runs took different steps", where)
        return again

    def _perform(self, work: list[Work]) -> list[Work]:
        """Do the work until it is done or enough is broken; what to do next for pairs."""
        following: list[Work] = []
        # The plan itself would be looked through after every run.
        if self._may_freeze:
            gc.freeze()
        answers = self._kept(work)
        with closing(answers):
            for piece, answer in zip(work, answers, strict=True):
                self.report.ran += 1
                self._tell()
                self.report.runs += answer.runs
                self._done.add(piece.point)
                self._note(piece, answer)
                if piece.record:
                    following += self._aim_second(piece, answer)
                if self._full():
                    break
        return following

    def _kept(self, work: Sequence[Work]) -> Generator[Answer, None, None]:
        """Answers that a checkpoint has, then those of the rest, which it is given."""
        known = self._known_answers[: len(work)]
        del self._known_answers[: len(work)]
        self.report.resumed += len(known)
        yield from known
        with closing(self._answers(work[len(known) :])) as answers:
            for answer in answers:
                if self._checkpoint is not None:
                    self._checkpoint.add(answer)
                yield answer

    @contextmanager
    def _checkpointed(self) -> Iterator[None]:
        """Go on from a checkpoint if that is asked for; leave one if the sweep is stopped."""
        now = options.current
        if now.folder is None:
            yield
            return
        steps = [
            (dry.params, schedule_text(dry.schedule), dry.instants[-1:])
            for dry in self._dry.values()
        ]
        content = f"{content_of(self.config)} {self.config.budget} {self.config.orders} {steps}"
        self._checkpoint = checkpoint = Checkpoint(now.folder, self.sweep, content)
        if now.resume:
            self._known_answers, self.report.anew = _taken(checkpoint.answers())
        checkpoint.begin_anew(self._known_answers)
        try:
            yield
        except SweepError:
            checkpoint.over()
            raise
        except BaseException:
            # Ctrl-C, or the time that a test may take.
            checkpoint.write()
            raise
        checkpoint.over()

    def _tell(self) -> None:
        """Say once a second how far the sweep has come."""
        now, time_s = options.current, time.perf_counter()
        if now.progress is None or time_s < self._told_s + 1:
            return
        self._told_s = time_s
        report = self.report
        gone_s = time_s - self._began_s
        fresh = max(1, report.ran - report.resumed)
        left_s = gone_s / fresh * (report.points - report.ran)
        found = f", {len(self._finds)} failures" if len(self._finds) else ""
        now.progress(
            f"{report.scenario}: {report.ran} of {report.points} points, "
            f"{fresh / gone_s:.0f} a second, about {left_s:.0f} s left{found}"
        )

    def _answers(self, work: Sequence[Work]) -> Generator[Answer, None, None]:
        """Do the work here, or in other processes if there are some or a fork pays."""
        config, report = self.config, self.report
        step_s: float | None = self._step_s
        if not config.fork or not pays(work, self._step_s):
            step_s = None
        elif why := obstacle():
            report.unforked, step_s = why, None
        if step_s is None:
            yield from in_order(work, partial(perform, config), config.jobs)
        else:
            yield from apart(work, partial(perform_all, config, step_s), config.jobs)

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
                self._same_again(Point(index, ()), result.record)
            used += 1
            report.orders += 1
            report.runs += 1
            report.steps = max(report.steps, len(result.record.steps))
            answer = Answer()
            answer.add(point, result)
            self._note(whole, answer)
            if self._full():
                return
            dry = _Dry(index, result.choices, result.record, result.batches)
            for piece, instant in self._aim_tree(dry):
                key = (piece.point.schedule, piece.point.faults, instant)
                pieces.setdefault(key, piece)
        left = bound - used
        # Even with nothing left one fault is tried, in one order.
        tree = max(1, left)
        self._perform_trees([replace(piece, tree=tree) for piece in pieces.values()], left, why)

    def _aim_tree(self, dry: _Dry) -> Iterator[tuple[Work, Instant]]:
        for wanted in self.config.at:
            for instant, names in self._chosen(dry.instants, wanted):
                assert isinstance(dry.schedule, tuple)
                made = dry.schedule[: instant.picked]
                for name in names:
                    point = Point(dry.params, made, faults_at(instant, name))
                    yield Work(point, instant.site, max(MIN_BATCHES, 20 * dry.batches)), instant

    def _perform_trees(self, work: list[Work], left: int, why: str) -> None:
        """Do whole trees as long as runs are left; the last one may go over that.

        Args:
            work: the trees.
            left: runs.
            why: what bounds them, if they do not suffice.
        """
        report = self.report
        report.points += len(work)
        answers = self._answers(work)
        with closing(answers):
            for done, (piece, answer) in enumerate(zip(work, answers, strict=True), 1):
                left -= answer.runs
                report.ran += 1
                report.runs += answer.runs
                self._note(piece, answer)
                over = left <= 0 and done < len(work)
                if answer.cut_short or over:
                    report.sampled = why
                if self._full() or over:
                    return

    # Verdict

    def _full(self) -> bool:
        if len(self._finds) < self.config.stop_after:
            return False
        self.report.sampled = self.report.sampled or "stopped at the failures"
        return True

    def _note(self, work: Work, answer: Answer) -> None:
        self.report.forked += answer.forked
        self.report.unforked = answer.unforked or self.report.unforked
        for name, reached in answer.sometimes.items():
            known = self.report.sometimes.get(name, False)
            self.report.sometimes[name] = known or reached
        for name, entered in answer.entered.items():
            self._entered[name] = self._entered.get(name, False) or entered
        self._asked[work.point.params].update(answer.asked)
        self._judged[work.point.params] += answer.judged
        self.report.cuts.update(answer.cuts)
        if answer.missed is not None:
            self._diverged(work, answer.missed)
        for point, violations in answer.failed:
            self._finds.note(point, violations, work.site, work.batches)

    def _size(self, point: Point) -> tuple[object, ...]:
        """The measure of the smallest point: faults, parameters, schedule, instant."""
        plain: Schedule = point.schedule
        made: tuple[int, ...] = ()
        if isinstance(plain, tuple):
            made, plain = plain, EXHAUSTIVE
        if isinstance(plain, Pct):
            plain = replace(plain, steps=0)
        order = self.config.schedules.index(plain) if plain in self.config.schedules else -1
        others = sum(map(bool, made)), made
        instants = [(fault.step, fault.when != BEFORE) for fault in point.faults]
        return len(point.faults), point.params, order, others, instants

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

    def _shrink(self, found: Found) -> None:
        """Look for a smaller point that fails in the same way."""
        size, done = self._finds.size, self._done
        smaller = [
            work
            for work in self._planned
            if work.point not in done and size(work.point) < size(found.point)
        ]
        smaller.sort(key=lambda work: size(work.point))
        run = partial(self._run, record=False)
        Shrinker(found, lambda point, batches: run(point, batches=batches)).shrink(
            smaller, self.report.complete
        )

    def _to_debug(self, found: Found | None) -> BaseException | None:
        """What a failure raises, with all of its frames, if a debugger wants them."""
        if found is None or not options.current.debug:
            return None
        result = self._run(found.point, record=False, batches=found.batches, keep=True)
        raised = [leaf for error in result.raised for leaf in leaves(error)]
        # Where the program itself raised, not where a nursery made a group of it.
        own = [leaf for leaf in raised if not isinstance(leaf, trio.Cancelled)]
        return next(iter(own or raised), None)

    def _explain(self, found: Found) -> Failure:
        """Run a failing point once more, recorded, to tell its story."""
        result = self._run(found.point, record=True, batches=found.batches)
        names = [item.invariant for item in result.violations]
        same = found.violations[0].invariant in names
        return self._failure(found, result, same)

    def _failure(self, found: Found, result: Result, reproduced: bool) -> Failure:
        point, violations = found.point, found.violations
        params = self.config.params[point.params]
        assert result.record is not None
        traces = dict.fromkeys(item.trace for item in result.violations if item.trace)
        return Failure(
            violations[0].invariant,
            tuple(dict.fromkeys(item.invariant for item in violations)),
            "\n".join(f"{item.invariant}: {item.message}" for item in violations),
            found.site,
            str(Token.of(self.sweep, point, params, self.config.settings, found.batches)),
            tell(point, params, result.record, reproduced),
            max(0, found.points - 1),
            tuple(found.sites.most_common()),
            "\n".join(traces),
            result.output,
            found.smallest,
            point,
            result.record,
        )

    def _not_asked(self) -> dict[str, int]:
        """Runs that were over before they registered an invariant that others did."""
        missing: Counter[str] = Counter()
        for index, asked in self._asked.items():
            for name, runs in asked.items():
                missing[name] += self._judged[index] - runs
        return {name: runs for name, runs in sorted(missing.items()) if runs}

    def _never(self) -> Iterator[Failure]:
        """What was promised and never came; not asked of a sweep that stopped early.

        A name that no run ever exposed is misspelt, also where a budget left runs out: the
        runs without a fault are all done, and what comes after a fault is tried. What else
        was not reached is unknown then.
        """
        if self._finds.roots or not self.config.strict:
            return
        config = self.config
        for name in dict.fromkeys([*config.firsts, *(second for _, second in config.pairs)]):
            known = any(select((one,), name) for one in self._seen)
            if name not in self._exposed and (name in config.firsts or not known):
                yield _plain(f"exposed:{name}", f"was never exposed at any instant{self._of()}")
        for name, entered in self._entered.items():
            if name in self._exposed and not entered:
                what = "is a cancel scope that no run ever entered: firing it did nothing"
                yield _plain(f"exposed:{name}", what)
        for first, second in config.pairs:
            if (first, second) in self._paired or not {first, second} <= self._known():
                continue
            if self.report.complete:
                yield _plain(f"exposed:{second}", f"was never exposed after {first!r} fired")
            else:
                self.report.sampled += f"; unknown whether {second!r} comes after {first!r}"
        for name in sorted({name for asked in self._asked.values() for name in asked}):
            if not any(asked[name] for asked in self._asked.values()):
                what = "was never asked: what it reads was not set yet when each run ended"
                yield _plain(f"asked:{name}", what)
        if self.report.complete:
            for name in self.report.never_reached:
                yield _plain(f"sometimes:{name}", "was never true in any run")

    def _known(self) -> set[str]:
        names = {name for pair in self.config.pairs for name in pair}
        return {name for name in names if any(select((one,), name) for one in self._seen)}

    def _of(self) -> str:
        if self.report.complete:
            return ""
        return f" of the {self.report.runs} runs that were made; {self.report.sampled}"


def _plain(invariant: str, what: str) -> Failure:
    name = invariant.partition(":")[2]
    return Failure(invariant, (invariant,), f"{name!r} {what}")


def _taken(answers: Generator[Answer, None, str]) -> tuple[list[Answer], str]:
    """All that a checkpoint has, and why it has none."""
    taken: list[Answer] = []
    while True:
        try:
            taken.append(next(answers))
        except StopIteration as end:
            return taken, end.value


@contextmanager
def _measured(report: Report) -> Iterator[None]:
    start = time.perf_counter()
    try:
        yield
    finally:
        report.seconds += time.perf_counter() - start


@contextmanager
def _frozen(wanted: bool) -> Iterator[None]:
    """Hide what exists already from the collector: it runs after every single run."""
    if not wanted:
        yield
        return
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
