"""Make a failing point smaller: an earlier one that was left out, a plainer order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from cfw.testing.sweep.facts import Result
from cfw.testing.sweep.finds import Found, root_of
from cfw.testing.sweep.points import Point
from cfw.testing.sweep.runner import Runner
from cfw.testing.sweep.work import Work

#: How many runs may be spent on one failure.
RUNS = 100


class Shrinker:
    """Spends a bounded number of runs on one failure.

    Args:
        found: the failure; it is changed in place.
        runner: runs points.
    """

    def __init__(self, found: Found, runner: Runner) -> None:
        self._found = found
        self._runner = runner
        self._root = root_of(found.violations)
        self._left = RUNS

    def shrink(self, smaller: Sequence[Work], complete: bool) -> None:
        """Try what is smaller than the point.

        Args:
            smaller: points that were not run, the smallest first.
            complete: whether there are none such, since all points were run.
        """
        found = self._found
        tried = self._earlier(smaller)
        untried = len(smaller) - tried
        if found.point.faults:
            if complete or not untried:
                found.smallest = "smallest: no smaller point of this sweep fails in this way"
            else:
                found.smallest = f"smallest so far: {untried} smaller points were not tried"
        self._plainer()

    def _earlier(self, smaller: Sequence[Work]) -> int:
        """Take the first of the smaller points that fails alike; how many were tried."""
        for number, work in enumerate(smaller):
            if not self._left:
                return number
            if self._fails(work.point, work.batches):
                self._found.site, self._found.batches = work.site, work.batches
                return len(smaller)
        return len(smaller)

    def _plainer(self) -> None:
        """Of an order that was drawn or counted through, keep only the choices it takes."""
        found = self._found
        if found.point.schedule in ("fifo", "lifo"):
            return
        made = self._choices(found.point)
        if made is None:
            return
        before = sum(map(bool, made))
        low, high = 0, len(made)
        while low < high and self._left:
            middle = (low + high) // 2
            if self._fails(replace(found.point, schedule=made[:middle]), found.batches):
                high = middle
            else:
                low = middle + 1
        made = made[:high]
        for index in range(len(made) - 1, -1, -1):
            if made[index] and self._left:
                plain = (*made[:index], 0, *made[index + 1 :])
                if self._fails(replace(found.point, schedule=plain), found.batches):
                    made = plain
        after = sum(map(bool, made))
        if isinstance(found.point.schedule, tuple) and after < before:
            found.smallest += (
                f"{'; ' if found.smallest else ''}its order is the oldest task first but for "
                f"{after} of {before} choices"
            )

    def _choices(self, point: Point) -> tuple[int, ...] | None:
        """The choices of a failing order; None if they alone do not make it fail."""
        self._left -= 1
        made = self._run(point, self._found.batches).choices
        same = self._fails(replace(point, schedule=made), self._found.batches)
        return made if same else None

    def _fails(self, point: Point, batches: int) -> bool:
        """Whether a point fails in the same way; then it is the smallest so far."""
        self._left -= 1
        result = self._run(point, batches)
        if result.missed is not None or not result.violations:
            return False
        if root_of(result.violations) != self._root:
            return False
        if isinstance(point.schedule, tuple):
            # With the choices after those given, as a replay checks them.
            point = replace(point, schedule=result.choices)
        self._found.point, self._found.violations = point, result.violations
        return True

    def _run(self, point: Point, batches: int) -> Result:
        return self._runner.run(point, record=False, batches=batches)
