"""What failed so far, by root: one bug is told once, however many points it breaks."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from cfw.testing.sweep.facts import Violation
from cfw.testing.sweep.points import Point
from cfw.testing.sweep.sites import ADDRESS

#: Numbers tell places of one bug apart; only a line of code tells bugs apart.
_NUMBER = re.compile(r"(?<!\.py:)\b\d+(?:\.\d+)?\b")

Root = tuple[str, str]


def root_of(violations: tuple[Violation, ...]) -> Root:
    """The first invariant and how it is broken, without what differs from point to point."""
    first = violations[0]
    return first.invariant, _NUMBER.sub("N", ADDRESS.sub("", first.root or first.message))


@dataclass
class Found:
    """One root: its smallest point so far, and where all of its points were cut.

    Attributes:
        point: the smallest.
        violations: what that one broke.
        site: where the task it interrupts was parked.
        batches: how many batches it had.
        sites: of all its points.
        smallest: what is known of smaller points, in words.
    """

    point: Point
    violations: tuple[Violation, ...]
    site: str
    batches: int
    sites: Counter[str] = field(default_factory=Counter)
    smallest: str = ""

    @property
    def points(self) -> int:
        """How many points have failed in this way."""
        return self.sites.total()


@dataclass
class Finds:
    """The roots found so far, in the order they were found.

    Args:
        size: orders points: fewer faults, earlier parameters, schedule and instant first.
    """

    size: Callable[[Point], Any]
    roots: dict[Root, Found] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.roots)

    def note(
        self, point: Point, violations: tuple[Violation, ...], site: str, batches: int
    ) -> None:
        """Count a failing point, and keep it if it is the smallest of its root."""
        root = root_of(violations)
        found = self.roots.get(root)
        if found is None:
            found = self.roots[root] = Found(point, violations, site, batches)
        elif self.size(point) < self.size(found.point):
            found.point, found.violations = point, violations
            found.site, found.batches = site, batches
        found.sites[site] += 1
