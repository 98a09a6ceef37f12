"""How far a sweep has come, for whoever waits for it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from cfw.testing.sweep import options
from cfw.testing.sweep.finds import Finds
from cfw.testing.sweep.report import Report


@dataclass
class Progress:
    """Told once a second.

    Attributes:
        report: of the sweep.
        finds: what failed so far.
    """

    report: Report
    finds: Finds
    # Seconds on the real clock: when the points began, and when that was last told.
    _began_s: float = 0.0
    _told_s: float = field(default_factory=time.perf_counter)

    def begin(self) -> None:
        """The points begin."""
        self._began_s = time.perf_counter()

    def tell(self) -> None:
        """One more point was run."""
        now, time_s = options.current, time.perf_counter()
        if now.progress is None or time_s < self._told_s + 1:
            return
        self._told_s = time_s
        report = self.report
        gone_s = time_s - self._began_s
        fresh = max(1, report.ran - report.resumed)
        left_s = gone_s / fresh * (report.points - report.ran)
        found = f", {len(self.finds)} failures" if len(self.finds) else ""
        now.progress(
            f"{report.scenario}: {report.ran} of {report.points} points, "
            f"{fresh / gone_s:.0f} a second, about {left_s:.0f} s left{found}"
        )
