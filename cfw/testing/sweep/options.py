"""What the command line says, for every sweep of a pytest session.

The pytest plugin fills this in; without pytest it holds the defaults. The engine imports
neither pytest nor the plugin.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Options:
    """Overrides for every sweep of the session.

    Attributes:
        replay: a token: run this point only. None runs the sweep.
        budget: points a sweep may run at most. None leaves it to the sweep.
        jobs: processes. None leaves it to the sweep.
        beside: how many processes sweep at the same time, this one included: they share the
            processors.
        stop_after: roots of failure after which a sweep stops. None leaves it to the sweep.
        cover: a package: count which of its awaits are cut. Empty for none.
        debug: whether a failure is raised from what the scenario raised, for a debugger.
        fork: whether long sweeps may fork. None leaves it to the sweep.
        folder: where checkpoints of long sweeps are kept. None keeps none.
        resume: whether a sweep goes on from its checkpoint.
        failed: tokens of the points that failed last, which are run first.
        progress: is told a line about a sweep under way, every second; an empty one at its end.
        live: whether what scenarios print is shown at once, from every run.
        test: the running test's node id, which its tokens carry; empty outside pytest.
        select: what names that test on the command line, from where pytest was started;
            empty if that is the node id.
        swept: the sweeps of each name that the running test has come to, by content.
        replayed: whether the running test had the sweep that the token belongs to.
    """

    replay: str | None = None
    budget: int | None = None
    jobs: int | None = None
    beside: int = 1
    stop_after: int | None = None
    cover: str = ""
    debug: bool = False
    fork: bool | None = None
    folder: Path | None = None
    resume: bool = False
    failed: tuple[str, ...] = ()
    progress: Callable[[str], None] | None = None
    live: bool = False
    test: str = ""
    select: str = ""
    swept: dict[str, list[str]] = field(default_factory=dict)
    replayed: bool = False

    def enter(self, test: str, select: str = "") -> None:
        """A test begins, or with an empty name, it is over."""
        self.test, self.select = test, select
        self.swept, self.replayed = {}, False

    def number(self, name: str, content: str) -> int:
        """Which of the test's sweeps of this name it is, from 1; equal ones are one."""
        known = self.swept.setdefault(name, [])
        if content not in known:
            known.append(content)
        return known.index(content) + 1


current = Options()
