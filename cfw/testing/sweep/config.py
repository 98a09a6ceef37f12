"""What the caller of a sweep decides, checked once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TypedDict

from cfw.testing.sweep.facts import Scenario, Settings, scenario_name
from cfw.testing.sweep.oracle import DEFAULT_INVARIANTS, NEVER_WITHOUT
from cfw.testing.sweep.points import NURSERIES, TASKS
from cfw.testing.sweep.schedule import EXHAUSTIVE, Pct, Schedule, check_schedule


@dataclass(frozen=True)
class Config:
    """A sweep, ready to run; `SweepOptions` says what the fields mean."""

    settings: Settings
    name: str
    at: tuple[str, ...]
    schedules: tuple[Schedule, ...]
    pairs: tuple[tuple[str, str], ...]
    params: list[dict[str, object]]
    sometimes: tuple[str, ...]
    stop_after: int
    orders: int
    budget: int | None
    jobs: int | None
    fork: bool = True
    # Whether a name in `at` that never comes is a failure.
    strict: bool = True

    @property
    def firsts(self) -> tuple[str, ...]:
        """Every entry that is fired on its own or first of a pair."""
        return tuple(dict.fromkeys([*self.at, *(first for first, _ in self.pairs)]))


def grid(**values: Iterable[object]) -> list[dict[str, object]]:
    """All combinations of parameter values, e.g. `grid(sink_delay=[0, 0.05])`.

    Args:
        values: for each parameter of the scenario, what it takes.
    """
    names = list(values)
    combinations = product(*(list(column) for column in values.values()))
    return [dict(zip(names, row, strict=True)) for row in combinations]


class SweepOptions(TypedDict, total=False):
    """The keyword arguments of `sweep` and `run_sweep`, all optional.

    Attributes:
        at: names of what to fire: scopes and actions the scenario exposes, and
            `"nurseries"` for every nursery below the root, `"tasks"` for every task below it,
            each alone. None by default, which leaves the runs without faults.
        schedules: orders of batches: `"fifo"`, `"lifo"`, seeds, `pct(...)`, `"exhaustive"`.
            By default `("fifo", "lifo")`.
        pairs: two entries of `at` each: the second is fired at every instant after the
            first, and right after it. Not under `"exhaustive"`.
        params: parameter sets, see `grid`. By default one empty set.
        heal: virtual seconds to finish after the last fault. 30 by default.
        limit: virtual seconds a run may take without a fault. 3600 by default.
        allow: exceptions the scenario may end with, also inside groups.
        without: default invariants not to ask, e.g. `"cancelled-swallowed"`.
        sometimes: properties that must be reached even if no run ever mentions them.
        stop_after: roots of failure after which to stop. 3 by default.
        orders: runs the exhaustive schedule may take for each parameter set; the
            fault it is at by then gets its orders finished. 5000 by default.
        budget: points to run at most, evenly spread; None for all.
        jobs: processes that share the points. None, the default, for as many as there are
            processors where points are forked, and for this one alone where they are not.
        fork: whether points of a long scenario go on from a process that was forked at their
            instant, where the platform can. True by default; the report is the same.
        seed: of `World.random` and of the global `random` module. 0 by default.
        name: of the scenario; None for module and function.
    """

    at: str | Sequence[str]
    schedules: Sequence[str | int | Pct]
    pairs: Sequence[tuple[str, str]]
    params: Sequence[Mapping[str, object]]
    heal: float
    limit: float
    allow: Sequence[type[BaseException]]
    without: Sequence[str]
    sometimes: Sequence[str]
    stop_after: int
    orders: int
    budget: int | None
    jobs: int | None
    fork: bool
    seed: int
    name: str | None


def make_config(
    scenario: Scenario,
    *,
    name: str | None = None,
    at: str | Sequence[str] = (),
    schedules: Sequence[str | int | Pct] = ("fifo", "lifo"),
    pairs: Sequence[tuple[str, str]] = (),
    params: Sequence[Mapping[str, object]] = ({},),
    heal: float = 30.0,
    limit: float = 3600.0,
    allow: Sequence[type[BaseException]] = (),
    without: Sequence[str] = (),
    sometimes: Sequence[str] = (),
    stop_after: int = 3,
    orders: int = 5000,
    budget: int | None = None,
    jobs: int | None = None,
    fork: bool = True,
    seed: int = 0,
) -> Config:
    """Fill in the defaults of `SweepOptions` and check them.

    Raises:
        ValueError: one of them makes no sense.
    """
    names = (at,) if isinstance(at, str) else tuple(at)
    unknown = set(without) - set(DEFAULT_INVARIANTS)
    if unknown:
        raise ValueError(f"no default invariants: {sorted(unknown)}; {DEFAULT_INVARIANTS}")
    needed = set(without) & set(NEVER_WITHOUT)
    if needed:
        raise ValueError(
            f"{sorted(needed)} is asked of every run: of one that did not end nothing else "
            "can be asked; raise `heal` or `limit` if it only needs longer"
        )
    if not schedules or not params:
        raise ValueError("a sweep needs at least one schedule and one parameter set")
    for value, what in ((stop_after, "stop_after"), (orders, "orders"), (jobs, "jobs")):
        if value is not None and value < 1:
            raise ValueError(f"{what} must be at least 1, not {value}")
    if budget is not None and budget < 1:
        raise ValueError(f"budget must be at least 1, not {budget}")
    if heal <= 0 or limit <= 0:
        raise ValueError("heal and limit are positive numbers of virtual seconds")
    plan = tuple(dict.fromkeys(check_schedule(schedule) for schedule in schedules))
    if pairs and EXHAUSTIVE in plan:
        raise ValueError(
            'pairs are not swept under "exhaustive": pass pairs with schedules such as "fifo", '
            '"lifo" or seeds, and give "exhaustive" a sweep of its own without pairs'
        )
    wanted = {*names, *(name for pair in pairs for name in pair)}
    title = name or scenario_name(scenario)
    settings = Settings(
        scenario,
        title.rpartition(".")[2],
        heal,
        limit,
        seed,
        NURSERIES in wanted,
        tuple(allow),
        frozenset(without),
        tasks=TASKS in wanted,
    )
    return Config(
        settings,
        title,
        names,
        plan,
        tuple(dict.fromkeys((first, second) for first, second in pairs)),
        [dict(one) for one in params],
        tuple(sometimes),
        stop_after,
        orders,
        budget,
        jobs,
        fork,
    )
