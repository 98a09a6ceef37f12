"""What a sweep covered, and what it did not: one row a sweep, one table a session."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from cfw.testing.sweep.failure import Failure


@dataclass
class Report:
    """The account of one sweep.

    Attributes:
        scenario: the scenario's name.
        test: what to pass to pytest to run it again.
        points: (instant, fault) combinations to run, over all parameters and schedules; none
            if nothing is fired.
        runs: of the scenario, dry runs included.
        seconds: of real time.
        schedules: in the order given.
        params: number of parameter sets.
        steps: of the longest run without a fault.
        ran: points that were run, under the exhaustive schedule in at least one order.
        not_exposed: combinations left out because the fault was not exposed there.
        ties: batches in which the clock woke several tasks at one virtual time; vary the
            pace by parameters to see them come apart.
        orders: batch orders the exhaustive schedule went through.
        sometimes: properties, and whether each was reached.
        not_asked: for each of the scenario's own invariants, how many runs ended before they
            registered it, though others with the same parameters did.
        forked: points that went on from a run they shared with others.
        unforked: why others did not, though it would have been faster; empty if there are none.
        resumed: points whose answers came from a checkpoint.
        anew: why a sweep that was to go on from one began anew; empty if it did not.
        sampled: why not everything was run; empty means complete.
        failures: the smallest failing point of each root.
        cover: the package whose awaits were counted; empty if none.
        cuts: how often the faults cut each line of it, by file.
        mutants: planted bugs caught and planted, for the caller to fill in; None if the
            caller has none.
    """

    scenario: str
    test: str = ""
    points: int = 0
    runs: int = 0
    seconds: float = 0.0
    schedules: tuple[str, ...] = ()
    params: int = 1
    steps: int = 0
    ran: int = 0
    not_exposed: int = 0
    ties: int = 0
    orders: int = 0
    sometimes: dict[str, bool] = field(default_factory=dict)
    not_asked: dict[str, int] = field(default_factory=dict)
    forked: int = 0
    unforked: str = ""
    resumed: int = 0
    anew: str = ""
    sampled: str = ""
    failures: tuple[Failure, ...] = ()
    cover: str = ""
    cuts: Counter[tuple[str, int]] = field(default_factory=Counter)
    mutants: tuple[int, int] | None = None

    @property
    def complete(self) -> bool:
        """Whether every point was run."""
        return not self.sampled

    @property
    def not_run(self) -> int:
        """Points that exist and were not run."""
        return self.points - self.ran

    @property
    def runs_per_s(self) -> float:
        """Runs per second of real time, all processes together."""
        return self.runs / self.seconds if self.seconds else 0.0

    @property
    def never_reached(self) -> tuple[str, ...]:
        """Properties that were asked for and never true; see `unknown`."""
        return tuple(name for name, reached in self.sometimes.items() if not reached)

    @property
    def unknown(self) -> tuple[str, ...]:
        """Properties that may be true in a run that was left out."""
        return self.never_reached if self.sampled else ()

    def cells(self) -> list[str]:
        """The report as cells under `HEADINGS`."""
        reached = f"{sum(self.sometimes.values())}/{len(self.sometimes)}"
        if self.never_reached:
            how = "unknown" if self.unknown else "never"
            reached += f" {how}: {', '.join(self.never_reached)}"
        orders = [f"{self.orders} orders"] if self.orders else []
        plain = [name for name in self.schedules if name != "exhaustive"]
        coverage = f"sampled ({self.sampled})" if self.sampled else "complete"
        missing = [f"{name} {runs}x" for name, runs in self.not_asked.items()]
        if missing:
            coverage += f"; not asked: {', '.join(missing)}"
        if self.resumed:
            coverage += f"; went on after {self.resumed}"
        if self.anew:
            coverage += f"; begun anew: {self.anew}"
        if self.unforked:
            coverage += f"; not forked: {self.unforked}"
        if self.cover and not self.cuts:
            coverage = f"cuts nothing of {self.cover}"
        if self.failures:
            coverage = f"FAILED {', '.join(dict.fromkeys(f.invariant for f in self.failures))}"
        return [
            self.scenario,
            f"{self.ran}/{self.points}" if self.not_run else str(self.points or "no faults"),
            str(self.runs),
            f"{self.runs_per_s:.0f}",
            " ".join([*_ranges(plain), *orders]),
            reached if self.sometimes else "-",
            "-" if self.mutants is None else "{}/{}".format(*self.mutants),
            coverage,
        ]

    def to_json(self, command: str = "{token}") -> dict[str, Any]:
        """All of it as plain values, for a file.

        Args:
            command: replays a failure, with its token in place of `{token}`.
        """
        told = asdict(replace(self, failures=(), cuts=Counter()))
        cuts = [[file, line, times] for (file, line), times in sorted(self.cuts.items())]
        failures = [one.to_json(command) for one in self.failures]
        return told | {
            "complete": self.complete,
            "runs_per_s": round(self.runs_per_s, 1),
            "cells": self.cells(),
            "cuts": cuts,
            "failures": failures,
        }

    def row(self) -> str:
        """One line that says what was covered."""
        cells = dict(zip(HEADINGS, self.cells(), strict=True))
        text = [f"{cells.pop('scenario')}: {cells.pop('coverage')}"]
        text += [f"{name} {value}" for name, value in cells.items() if value not in ("-", "")]
        extra = (
            ("steps", self.steps),
            ("parameter sets", self.params if self.params > 1 else 0),
            ("not exposed", self.not_exposed),
            ("ties", self.ties),
            ("forked", self.forked),
        )
        return "; ".join(text + [f"{name} {value}" for name, value in extra if value])


HEADINGS = (
    "scenario",
    "points",
    "runs",
    "runs/s",
    "schedules",
    "sometimes",
    "mutants",
    "coverage",
)

_session: list[Report] = []


def record(report: Report) -> Report:
    """Add a report to the table at the end of the session; `@sweep` does so by itself."""
    _session.append(report)
    return report


def drain() -> list[Report]:
    """Take what was recorded since the last call."""
    taken = _session.copy()
    _session.clear()
    return taken


def table(rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines of a table under `HEADINGS`, columns aligned.

    Args:
        rows: `Report.cells()` of each sweep.
    """
    lines = [list(HEADINGS), *(list(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADINGS))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]


def _ranges(schedules: Sequence[str]) -> list[str]:
    """Write runs of consecutive seeds as `s0-s7`."""
    out: list[str] = []
    last: int | None = None
    start = 0
    for name in schedules:
        seed = int(name[1:]) if name[:1] == "s" and name[1:].lstrip("-").isdigit() else None
        if seed is not None and last is not None and seed == last + 1:
            out[-1] = f"s{start}-s{seed}"
        else:
            out.append(name)
            start = seed if seed is not None else 0
        last = seed
    return out
