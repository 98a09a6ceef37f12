"""What a sweep raises when it found something: its failures and what it had covered."""

from __future__ import annotations

from dataclasses import dataclass

from cfw.testing.sweep.failure import Failure
from cfw.testing.sweep.report import Report


@dataclass
class SweepFailure(AssertionError):
    """At least one point of a sweep broke an invariant.

    Attributes:
        failures: the smallest failing point of each root, in the order they were found.
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
        many = len(self.failures)
        parts = [
            f"[{number}/{many}] invariant {failure.invariant!r} does not hold\n"
            f"{failure.text(self.command)}"
            for number, failure in enumerate(self.failures, 1)
        ]
        return "\n\n".join([*parts, self.report.row()])
