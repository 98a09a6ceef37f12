"""How a sweep makes runs: each is counted in its report, under what is set up once for all."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from cfw.testing.sweep import interrupt
from cfw.testing.sweep._trio import hooks
from cfw.testing.sweep.config import Config
from cfw.testing.sweep.facts import Result
from cfw.testing.sweep.points import Point
from cfw.testing.sweep.report import Report
from cfw.testing.sweep.run import run_once


@dataclass
class Runner:
    """Runs points of a sweep in this process.

    Attributes:
        config: of the sweep.
        report: its runs and seconds are counted here.
    """

    config: Config
    report: Report
    # What the caller has frozen could not be told apart afterwards, so it is left alone.
    _may_freeze: bool = field(default_factory=lambda: gc.get_freeze_count() == 0)

    @contextmanager
    def under_way(self) -> Iterator[None]:
        """What all runs need is set up, and they may be made."""
        with self._measured(), self._frozen(), hooks(), interrupt.heard():
            yield

    def run(self, point: Point, *, record: bool, batches: int, keep: bool = False) -> Result:
        """Run one point; see `run_once`."""
        result = run_once(
            self.config.settings,
            self.config.params[point.params],
            point.schedule,
            point.faults,
            record=record,
            batches=batches,
            keep=keep,
        )
        self.report.runs += result.runs
        return result

    def hide_what_is(self) -> None:
        """Hide what exists by now from the collector, which runs after every single run."""
        if self._may_freeze:
            gc.freeze()

    @contextmanager
    def _measured(self) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.report.seconds += time.perf_counter() - start

    @contextmanager
    def _frozen(self) -> Iterator[None]:
        if not self._may_freeze:
            yield
            return
        # Not collected before: that looks through all that pytest holds, for each sweep again,
        # and what is garbage by now is as well hidden from the runs as the rest.
        gc.freeze()
        try:
            yield
        finally:
            gc.unfreeze()
