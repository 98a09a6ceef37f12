"""A scenario that broke an invariant: what the developer reads, and what a test asserts on."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any

from cfw.testing.sweep.points import Point
from cfw.testing.sweep.watch import Record


@dataclass(frozen=True)
class Failure:
    """One root: an invariant and the way in which it is broken, with its smallest point.

    Attributes:
        invariant: the first invariant that did not hold.
        invariants: all of them.
        message: what the oracle said of each, one per line.
        site: where the interrupted task was parked; empty without a fault.
        token: replays this point.
        details: the whole story, for people.
        others: how many other points failed in the same way.
        sites: where else the interrupted task was parked, and at how many points.
        trace: traceback, with causes, of what was raised; empty if nothing was.
        output: what the failing run printed and logged.
        smallest: in what sense no smaller point fails in this way; empty without a fault.
        point: what was run; None if the failure is none of a single run.
        record: of that run.
    """

    invariant: str
    invariants: tuple[str, ...]
    message: str
    site: str = ""
    token: str = ""
    details: str = ""
    others: int = 0
    sites: tuple[tuple[str, int], ...] = ()
    trace: str = ""
    output: str = ""
    smallest: str = ""
    point: Point | None = None
    record: Record | None = field(default=None, compare=False, repr=False)

    @property
    def has_fault(self) -> bool:
        """Whether something was fired in the run."""
        return self.point is not None and bool(self.point.faults)

    def to_json(self, command: str) -> dict[str, Any]:
        """What it says, as plain values.

        Args:
            command: replays it, with its token in place of `{token}`.
        """
        told = asdict(replace(self, point=None, record=None))
        del told["point"], told["record"]
        told["sites"] = [list(one) for one in self.sites]
        told["invariants"] = list(self.invariants)
        told["replay"] = command.replace("{token}", self.token) if self.token else ""
        return told

    def text(self, command: str) -> str:
        """All of it, for a terminal.

        Args:
            command: replays a point, with its token in place of `{token}`.
        """
        parts = [self.message, self.details, self.smallest]
        if self.trace:
            parts.append(f"traceback:\n{_indented(self.trace)}")
        if self.output:
            parts.append(f"output of this run:\n{_indented(self.output)}")
        if self.others:
            parts.append(f"{self.others} more points fail in the same way, parked at:")
            parts += [f"  {site or 'no fault'}  {points}x" for site, points in self.sites]
        if self.token:
            parts.append(f"replay: {command.replace('{token}', self.token)}")
        return "\n".join(part for part in parts if part)


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.rstrip().splitlines())
