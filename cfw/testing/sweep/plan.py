"""The points of a sweep in their order: what is fired where, and what the budget leaves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from cfw.testing.sweep.config import Config
from cfw.testing.sweep.dry import Dry
from cfw.testing.sweep.points import (
    FAULT_PREFIX,
    Fault,
    Instant,
    Point,
    select,
    size_of,
)
from cfw.testing.sweep.report import Report
from cfw.testing.sweep.run import MIN_BATCHES
from cfw.testing.sweep.work import Answer, Work


@dataclass
class Plan:
    """What one sweep fires.

    Attributes:
        config: of the sweep.
        report: is told how many points there are.
        exposed: entries of `at` and of pairs that some instant exposed.
        seen: names that some run exposed.
        paired: pairs whose second some run exposed after the first.
        done: points that were run.
    """

    config: Config
    report: Report
    exposed: set[str] = field(default_factory=set)
    seen: set[str] = field(default_factory=set)
    paired: set[tuple[str, str]] = field(default_factory=set)
    done: set[Point] = field(default_factory=set)
    # Points that could be run.
    _planned: list[Work] = field(default_factory=list)

    def singles(self, dry: Dry) -> Iterator[Work]:
        """Every point of one fault."""
        bound = _bound(dry)
        for wanted in self.config.firsts:
            record = any(first == wanted for first, _ in self.config.pairs)
            for instant, names in self._chosen(dry.instants, wanted):
                for name in names:
                    point = Point(dry.params, dry.schedule, _faults(instant, name))
                    yield Work(point, instant.site, bound, record)

    def seconds(self, work: Work, answer: Answer) -> Iterator[Work]:
        """Every second fault after a first one that the scenario survived."""
        if answer.failed:
            return
        first = work.point.faults[0].name
        for name, wanted in self.config.pairs:
            if not select((first,), name):
                continue
            for instant, names in self._chosen(answer.instants, wanted):
                self.paired.update([(name, wanted)] if names else [])
                for second in names:
                    faults = _faults(instant, second, work.point.faults)
                    point = replace(work.point, faults=faults)
                    yield Work(point, instant.site, work.batches)

    def trees(self, dry: Dry) -> Iterator[tuple[Work, Instant]]:
        """Every point of one fault, with the choices that were made before it."""
        bound = _bound(dry)
        for wanted in self.config.at:
            for instant, names in self._chosen(dry.instants, wanted):
                assert isinstance(dry.schedule, tuple)
                made = dry.schedule[: instant.picked]
                for name in names:
                    point = Point(dry.params, made, _faults(instant, name))
                    yield Work(point, instant.site, bound), instant

    def sample(self, work: list[Work]) -> list[Work]:
        """All of the work, or as much of it as the budget allows, evenly spread."""
        self.report.points += len(work)
        self._planned += work
        if self.config.budget is None:
            return work
        left = max(0, self.config.budget - self.report.ran)
        if len(work) > left:
            self.report.sampled = f"budget of {self.config.budget}"
        return spread(work, left)

    def smaller(self, point: Point) -> list[Work]:
        """What was planned and not run and is smaller than a point, the smallest first."""
        size = partial(size_of, schedules=self.config.schedules)
        left = [work for work in self._planned if work.point not in self.done]
        left = [work for work in left if size(work.point) < size(point)]
        return sorted(left, key=lambda work: size(work.point))

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
        self.seen.update(instant.exposed)
        self.exposed.update([wanted] if names else [])
        self.report.not_exposed += not names
        return names


def spread(work: list[Work], most: int) -> list[Work]:
    """At most `most` pieces at even distances, always the same ones."""
    if len(work) <= most:
        return work
    return [work[index * len(work) // most] for index in range(most)]


def _bound(dry: Dry) -> int:
    """How many batches a run with a fault may take."""
    return max(MIN_BATCHES, 20 * dry.batches)


def _faults(instant: Instant, name: str, before: tuple[Fault, ...] = ()) -> tuple[Fault, ...]:
    """The faults of a point that fires `name` at this instant after earlier ones."""
    return (*before, Fault(name, instant.step, instant.when, instant.hash))
