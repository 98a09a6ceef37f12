"""A scenario that broke an invariant: what the developer reads, and what a test asserts on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .points import BEFORE, NURSERY_PREFIX

if TYPE_CHECKING:
    from .report import Report


@dataclass(frozen=True)
class Failure:
    """One failing point, the first of its kind.

    Attributes:
        invariant: the first invariant that did not hold.
        invariants: all of them.
        message: what the oracle said of each, one per line.
        site: where the interrupted task was parked; empty without a fault.
        token: replays this point.
        details: the whole story, for people.
        others: how many later points failed in the same way.
    """

    invariant: str
    invariants: tuple[str, ...]
    message: str
    site: str = ""
    token: str = ""
    details: str = ""
    others: int = 0


@dataclass
class SweepFailure(AssertionError):
    """At least one point of a sweep broke an invariant.

    Attributes:
        failures: the first failing point of each kind, in the order of the sweep.
        report: what the sweep had covered when it ended.
        command: replays a point, with its token in place of `{token}`.
    """

    failures: tuple[Failure, ...]
    report: Report
    command: str = "{token}"

    def __post_init__(self) -> None:
        super().__init__(self.failures)

    # A dataclass that compares by value has no hash, and pytest keys on exceptions.
    __hash__ = AssertionError.__hash__

    @property
    def invariant(self) -> str:
        """Name of the first broken invariant of the first failing point."""
        return self.failures[0].invariant

    @property
    def invariants(self) -> tuple[str, ...]:
        """Every invariant that any of the failing points broke, each once."""
        names = (name for failure in self.failures for name in failure.invariants)
        return tuple(dict.fromkeys(names))

    @property
    def token(self) -> str:
        """Replays the first failing point; empty if the failure has no point."""
        return self.failures[0].token

    def __str__(self) -> str:
        parts = []
        for number, failure in enumerate(self.failures, 1):
            head = (
                f"[{number}/{len(self.failures)}] invariant {failure.invariant!r} does not hold"
            )
            text = [head, failure.message]
            if failure.details:
                text.append(failure.details)
            if failure.others:
                text.append(f"{failure.others} more points fail in the same way")
            if failure.token:
                text.append(f"replay: {self.command.replace('{token}', failure.token)}")
            parts.append("\n".join(text))
        return "\n\n".join([*parts, self.report.row()])


def when_text(when: str) -> str:
    """`before` or `after`."""
    return "before" if when == BEFORE else "after"


def fault_kind(name: str) -> str:
    """The fault's name without what differs from place to place, to group failures."""
    return NURSERY_PREFIX.rstrip(":") if name.startswith(NURSERY_PREFIX) else name
