"""What the answers of a sweep add up to: failures by root, and what was reached and asked."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from functools import partial

from cfw.testing.sweep.config import Config
from cfw.testing.sweep.finds import Finds
from cfw.testing.sweep.points import size_of
from cfw.testing.sweep.report import Report
from cfw.testing.sweep.work import Answer, Work


@dataclass
class Tally:
    """The sum of all answers so far.

    Attributes:
        config: of the sweep.
        report: is kept up to date.
        finds: the failures.
        entered: scopes by name, and whether a run entered one of that name.
        asked: by parameter set, runs that were asked each of the scenario's own invariants.
    """

    config: Config
    report: Report
    finds: Finds = field(init=False)
    entered: dict[str, bool] = field(default_factory=dict)
    asked: defaultdict[int, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    # By parameter set: runs that could have been asked any.
    _judged: Counter[int] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.finds = Finds(partial(size_of, schedules=self.config.schedules))

    def note(self, work: Work, answer: Answer) -> None:
        """Add what became of a piece of work."""
        report = self.report
        report.forked += answer.forked
        report.unforked = answer.unforked or report.unforked
        for name, reached in answer.sometimes.items():
            report.sometimes[name] = report.sometimes.get(name, False) or reached
        for name, entered in answer.entered.items():
            self.entered[name] = self.entered.get(name, False) or entered
        self.asked[work.point.params].update(answer.asked)
        self._judged[work.point.params] += answer.judged
        report.cuts.update(answer.cuts)
        for point, violations in answer.failed:
            self.finds.note(point, violations, work.site, work.batches)

    def is_full(self) -> bool:
        """Whether enough is broken, so that the sweep stops."""
        if len(self.finds) < self.config.stop_after:
            return False
        self.report.sampled = self.report.sampled or "stopped at the failures"
        return True

    def not_asked(self) -> dict[str, int]:
        """Runs that were over before they registered an invariant that others did."""
        missing: Counter[str] = Counter()
        for index, asked in self.asked.items():
            for name, runs in asked.items():
                missing[name] += self._judged[index] - runs
        return {name: runs for name, runs in sorted(missing.items()) if runs}
