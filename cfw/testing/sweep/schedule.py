"""In which order a batch of runnable tasks runs: a schedule is a list of small numbers.

Trio runs tasks in batches and promises no order within one. A batch of m tasks takes m - 1
choices: which of m runs first, which of m - 1 next, and so on, oldest task counted as 0. So
FIFO is all zeroes, LIFO always the largest, a seed draws them, and a list replays them. The
exhaustive schedule counts through all lists like an odometer (`next_choices`).

Priorities (`Pct`) are those of probabilistic concurrency testing: Burckhardt, Kothari,
Musuvathi, Nagarakatte, "A Randomized Scheduler with Probabilistic Guarantees of Finding Bugs",
ASPLOS 2010. Here the scheduler only decides the order within a batch, so the depth of a bug is
the number of pairs of steps of one batch whose order it needs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from random import Random


@dataclass(frozen=True, slots=True)
class Pct:
    """Each task keeps a random priority, but for `depth` - 1 random steps that lower one.

    Attributes:
        depth: of the bugs it is meant for, at least 1.
        seed: of the priorities and of the steps.
        steps: how many steps the lowering ones are drawn from; 0 for as many as the run
            without a fault takes.
    """

    depth: int
    seed: int
    steps: int = 0


def pct(depth: int, seeds: Iterable[int]) -> tuple[Pct, ...]:
    """Schedules by priority, one for each seed.

    Of n tasks and k steps without a fault, each of them has a chance of at least
    1 / (n * k ** (depth - 1)) to bring about a bug of this depth, however small the chance of
    a shuffled order is.

    Args:
        depth: how many pairs of steps must come in one order each; 2 is a common bug.
        seeds: one for each schedule.

    Raises:
        ValueError: the depth is less than 1.
    """
    if depth < 1:
        raise ValueError(f"a bug needs the order of at least 1 pair of steps, not {depth}")
    return tuple(Pct(depth, seed) for seed in seeds)


#: `"fifo"`, `"lifo"`, a seed, priorities, or the choices themselves; `"exhaustive"` means all
#: lists.
Schedule = str | int | tuple[int, ...] | Pct

EXHAUSTIVE = "exhaustive"


class Picker:
    """Draws one choice after another and remembers them.

    Args:
        schedule: where the choices come from. A tuple is used up first, then the oldest
            task runs first.
    """

    __slots__ = ("_given", "_kind", "_random", "arities", "choices", "priorities")

    def __init__(self, schedule: Schedule) -> None:
        self.choices: list[int] = []
        self.arities: list[int] = []
        self._kind = schedule if isinstance(schedule, str) else ""
        self._given = schedule if isinstance(schedule, tuple) else ()
        self._random = Random(schedule) if isinstance(schedule, int) else None
        self.priorities = Priorities(schedule) if isinstance(schedule, Pct) else None

    def pick(self, arity: int, first: int = 0) -> int:
        """One number below `arity`, which is at least 2; `first` if priorities decide."""
        taken = len(self.choices)
        if self.priorities is not None:
            choice = first
        elif self._random is not None:
            choice = int(self._random.random() * arity)
        elif self._kind == "lifo":
            choice = arity - 1
        elif taken < len(self._given):
            choice = min(self._given[taken], arity - 1)
        else:
            choice = 0
        self.choices.append(choice)
        self.arities.append(arity)
        return choice


class Priorities:
    """Which task runs first, and which step lowers it to below all others."""

    __slots__ = ("_random", "_ranks", "_turns")

    def __init__(self, schedule: Pct) -> None:
        self._random = Random(schedule.seed)
        self._ranks: dict[int, float] = {}
        steps = range(1, schedule.steps + 1)
        turns = self._random.sample(steps, min(schedule.depth - 1, len(steps)))
        # Below all that is drawn for a task, and all different.
        self._turns = {step: -1.0 - number for number, step in enumerate(turns)}

    def first(self, ordinals: Sequence[int], step: int) -> int:
        """The place among these tasks of the one that takes this step."""
        for ordinal in ordinals:
            if ordinal not in self._ranks:
                self._ranks[ordinal] = self._random.random()
        if step in self._turns:
            self._ranks[ordinals[self._highest(ordinals)]] = self._turns.pop(step)
        return self._highest(ordinals)

    def _highest(self, ordinals: Sequence[int]) -> int:
        return max(range(len(ordinals)), key=lambda place: self._ranks[ordinals[place]])


def check_schedule(schedule: object) -> Schedule:
    """Refuse what is not a schedule.

    Raises:
        ValueError: it is neither "fifo", "lifo", "exhaustive", an int, nor a tuple of ints.
    """
    if isinstance(schedule, Pct):
        return schedule
    if schedule in ("fifo", "lifo", EXHAUSTIVE) and isinstance(schedule, str):
        return schedule
    if isinstance(schedule, int) and not isinstance(schedule, bool):
        return schedule
    if isinstance(schedule, tuple) and all(isinstance(item, int) for item in schedule):
        return schedule
    raise ValueError(
        f'no schedule: {schedule!r} (use "fifo", "lifo", "exhaustive", a seed or pct())'
    )


def next_choices(
    choices: Sequence[int], arities: Sequence[int], fixed: int
) -> tuple[int, ...] | None:
    """The list after `choices` in counting order, or None after the last.

    Args:
        choices: what the last run chose.
        arities: out of how many each was chosen.
        fixed: how many leading choices stay as they are.
    """
    for index in range(len(choices) - 1, fixed - 1, -1):
        if choices[index] + 1 < arities[index]:
            return (*choices[:index], choices[index] + 1)
    return None


def schedule_text(schedule: Schedule) -> str:
    """The schedule as a token and a report write it: `fifo`, `s7`, `x0.2.1`, `p2.7.80`."""
    if isinstance(schedule, str):
        return schedule
    if isinstance(schedule, Pct):
        steps = f".{schedule.steps}" if schedule.steps else ""
        return f"p{schedule.depth}.{schedule.seed}{steps}"
    if isinstance(schedule, int):
        return f"s{schedule}"
    return "x" + ".".join(map(str, schedule))


def parse_schedule(text: str) -> Schedule:
    """The reverse of `schedule_text`.

    Raises:
        ValueError: the text names no schedule.
    """
    if text.startswith("x"):
        return tuple(int(item) for item in text[1:].split(".") if item)
    if text.startswith("s"):
        return int(text[1:])
    if text.startswith("p"):
        depth, seed, steps = map(int, text[1:].split("."))
        return Pct(depth, seed, steps)
    return check_schedule(text)
