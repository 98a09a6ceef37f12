"""A piece of a sweep that can be done in any process: one point, or one tree of orders."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from cfw.testing.sweep.config import Config
from cfw.testing.sweep.errors import NondeterminismError
from cfw.testing.sweep.facts import Result, Violation
from cfw.testing.sweep.points import Instant, Point
from cfw.testing.sweep.run import run_once
from cfw.testing.sweep.schedule import next_choices


@dataclass(frozen=True)
class Work:
    """One piece.

    Attributes:
        point: what to run. For a tree, its schedule holds the choices that stay fixed.
        site: where the task interrupted last is parked, to group failures.
        batches: how many batches a run may take.
        record: keep the instants after the last fault, to aim a second one.
        tree: run the point under every order of the batches that come after its fixed
            choices, at most this many; 0 for a single run.
    """

    point: Point
    site: str
    batches: int
    record: bool = False
    tree: int = 0


@dataclass
class Answer:
    """What became of a piece of work.

    Attributes:
        runs: how many it took.
        failed: each failing point with what was violated.
        sometimes: properties, and whether a run reached them.
        asked: of how many runs each of the scenario's own invariants was asked.
        entered: names of exposed scopes, and whether such a scope was ever entered.
        judged: of how many runs any could be.
        missed: why a fault did not fire; the sweep cannot go on.
        instants: after the last fault, if asked for.
        cuts: how often each covered line was cut, by file.
        cut_short: whether a tree had more orders than it may run.
        forked: whether it went on from a run that other points share.
        unforked: why it did not, though that would have been faster.
    """

    runs: int = 0
    failed: list[tuple[Point, tuple[Violation, ...]]] = field(default_factory=list)
    sometimes: dict[str, bool] = field(default_factory=dict)
    asked: dict[str, int] = field(default_factory=dict)
    entered: dict[str, bool] = field(default_factory=dict)
    judged: int = 0
    missed: str | None = None
    instants: list[Instant] = field(default_factory=list)
    cuts: dict[tuple[str, int], int] = field(default_factory=dict)
    cut_short: bool = False
    forked: bool = False
    unforked: str = ""

    def add(self, point: Point, result: Result) -> None:
        """Account for one run."""
        self.runs += result.runs
        if result.violations:
            self.failed.append((point, result.violations))
        for name, reached in result.sometimes.items():
            self.sometimes[name] = self.sometimes.get(name, False) or reached
        for name, entered in result.entered.items():
            self.entered[name] = self.entered.get(name, False) or entered
        if result.asked is not None:
            for name in result.asked:
                self.asked[name] = self.asked.get(name, 0) + 1
            # Known by name, and asked of no run more.
            for name in result.early:
                self.asked.setdefault(name, 0)
            self.judged += 1
        self.missed = self.missed or result.missed
        for line, times in result.cuts.items():
            self.cuts[line] = self.cuts.get(line, 0) + times


def perform(config: Config, work: Work) -> Answer:
    """Do one piece of work, from the beginning."""
    if work.tree:
        answer = Answer()
        for point, result in orders(config, work):
            if result is None:
                answer.cut_short = True
            else:
                answer.add(point, result)
        return answer
    point = work.point
    result = run_once(
        config.settings,
        config.params[point.params],
        point.schedule,
        point.faults,
        record=work.record,
        batches=work.batches,
    )
    return answered(work, result)


def answered(work: Work, result: Result) -> Answer:
    """What the only run of a piece of work says."""
    answer = Answer()
    answer.add(work.point, result)
    if result.record is not None:
        answer.instants = result.record.instants
    return answer


def orders(config: Config, work: Work) -> Iterator[tuple[Point, Result | None]]:
    """Run a point under all orders of its batches, one after the other.

    Yields the point with the choices it made, and its result; None instead of a result,
    once and last, when there were more orders than `work.tree`.

    Raises:
        NondeterminismError: the same choices led to other batches than before.
    """
    fixed = work.point.schedule if isinstance(work.point.schedule, tuple) else ()
    choices: tuple[int, ...] | None = fixed
    known: tuple[int, ...] = ()
    done = 0
    while choices is not None:
        if done == work.tree:
            yield work.point, None
            return
        result = run_once(
            config.settings,
            config.params[work.point.params],
            choices,
            work.point.faults,
            record=work.record,
            batches=work.batches,
        )
        done += 1
        same = min(len(choices), len(known))
        if result.arities[:same] != known[:same]:
            raise NondeterminismError(
                "the same choices led to batches of other sizes",
                f"{known[:same]} before, {result.arities[:same]} now",
            )
        yield Point(work.point.params, result.choices, work.point.faults), result
        known = result.arities
        choices = next_choices(result.choices, result.arities, len(fixed))
