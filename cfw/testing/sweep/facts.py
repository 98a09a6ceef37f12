"""What a sweep keeps constant, and what one run leaves behind."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import trio
from trio.testing import MockClock

from cfw.testing.sweep.alone import Left, Reached
from cfw.testing.sweep.schedule import Picker
from cfw.testing.sweep.watch import Record, Watch
from cfw.testing.sweep.world import World

Scenario = Callable[..., Awaitable[object]]


class Enter(Protocol):
    """Runs an async function once under the sweep's control; called once in each run."""

    def __call__(
        self,
        main: Callable[[], Awaitable[object]],
        clock: MockClock | None = None,
        instruments: Sequence[trio.abc.Instrument] = (),
    ) -> None:
        """Return when it is over; what it raised is judged, not passed on.

        Args:
            main: is the root task.
            clock: time of this run; None for a clock that jumps.
            instruments: that the program brings with it.
        """


#: Does what has to be done outside Trio, before and after each run, and enters it between.
Host = Callable[[World, Enter], None]


@dataclass(frozen=True, slots=True)
class Violation:
    """One invariant that did not hold.

    Attributes:
        invariant: its name.
        message: what is wrong.
        root: the same wherever the same bug shows; empty if the message is.
        trace: traceback of what was raised, if anything was, in a recorded run.
    """

    invariant: str
    message: str
    root: str = ""
    trace: str = ""


@dataclass(frozen=True)
class Settings:
    """What stays the same over all runs of a sweep.

    Attributes:
        scenario: the async function under test.
        task_name: of the root task.
        heal: virtual seconds to finish after the last fault.
        limit: virtual seconds a run may take without a fault.
        seed: of `World.random` and of the global `random` module.
        nurseries: whether every nursery below the root can be fired.
        tasks: whether every task below the root can be fired.
        allow: exceptions the scenario may end with, also inside groups.
        without: names of default invariants that are not asked.
        cover: files whose awaits are counted when a fault cuts them.
        host: calls the scenario; None if all there is to do is to call it with the world.
    """

    scenario: Scenario
    task_name: str = "scenario"
    heal: float = 30.0
    limit: float = 3600.0
    seed: int = 0
    nurseries: bool = False
    allow: tuple[type[BaseException], ...] = ()
    without: frozenset[str] = frozenset()
    cover: frozenset[str] = frozenset()
    host: Host | None = None
    tasks: bool = False


@dataclass
class Noise:
    """What Python and Trio could only warn about or log, and what the scenario printed."""

    warnings: list[warnings.WarningMessage] = field(default_factory=list)
    unraisable: list[str] = field(default_factory=list)
    logged: list[str] = field(default_factory=list)
    output: str = ""


@dataclass
class Facts:
    """A run that is over, with its live objects, for the oracle to judge.

    Attributes:
        error: what the scenario raised, or None.
        broken: what Trio's run loop itself broke down with, or None.
        left: tasks alive when the scenario had returned.
        raised: what violations were raised as.
    """

    world: World
    watch: Watch
    error: BaseException | None = None
    broken: BaseException | None = None
    left: list[str] = field(default_factory=list)
    raised: list[BaseException] = field(default_factory=list)


@dataclass(frozen=True)
class Result:
    """A run that is over, without any object of the scenario.

    Attributes:
        violations: what the oracle found, the most telling first.
        missed: why a fault did not fire; the run then proves nothing. None if all fired.
        picker: has made the choices of the schedule.
        sometimes: which properties were asked for, and whether they were reached.
        asked: names of the scenario's own invariants, those it came to register; None if the
            run never ended and nothing of its own was asked.
        early: those that could not be asked: they read what was never set.
        entered: names of exposed scopes, and whether such a scope was ever entered.
        batches: how many batches the run took.
        record: of a recorded run.
        output: what a recorded run printed and logged.
        cuts: how often the faults cut each line that is covered, by file.
        raised: what was raised, with its frames, of a run that keeps it.
        left: who did not move after one task was cancelled alone; None if everybody did.
        reached: how far each task has come, where tasks are cancelled alone.
        runs: how many it took to judge this one.
    """

    violations: tuple[Violation, ...]
    missed: str | None
    picker: Picker
    sometimes: dict[str, bool]
    asked: frozenset[str] | None
    entered: dict[str, bool]
    batches: int
    early: frozenset[str] = frozenset()
    record: Record | None = None
    output: str = ""
    cuts: Counter[tuple[str, int]] = field(default_factory=Counter)
    raised: tuple[BaseException, ...] = ()
    left: Left | None = None
    reached: Reached | None = None
    runs: int = 1

    @property
    def choices(self) -> tuple[int, ...]:
        """What the schedule picked."""
        return tuple(self.picker.choices)

    @property
    def arities(self) -> tuple[int, ...]:
        """Out of how many each was picked."""
        return tuple(self.picker.arities)


def scenario_name(scenario: Callable[..., object]) -> str:
    """Module and function, without packages and the functions it was defined in."""
    qualname: str = getattr(scenario, "__qualname__", type(scenario).__qualname__)
    module: str = getattr(scenario, "__module__", "")
    return f"{module.rpartition('.')[2]}.{qualname.rpartition('<locals>.')[2]}"
