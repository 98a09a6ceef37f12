"""In which order a batch of runnable tasks runs: a schedule is a list of small numbers.

Trio runs tasks in batches and promises no order within one. A batch of m tasks takes m - 1
choices: which of m runs first, which of m - 1 next, and so on, oldest task counted as 0. So
FIFO is all zeroes, LIFO always the largest, a seed draws them, and a list replays them. The
exhaustive schedule counts through all lists like an odometer (`next_choices`).
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

Schedule = str | int | tuple[int, ...]
"""`"fifo"`, `"lifo"`, a seed, or the choices themselves; `"exhaustive"` means all lists."""

EXHAUSTIVE = "exhaustive"


class Picker:
    """Draws one choice after another and remembers them.

    Args:
        schedule: where the choices come from. A tuple is used up first, then the oldest
            task runs first.
    """

    __slots__ = ("_given", "_kind", "_random", "arities", "choices")

    def __init__(self, schedule: Schedule) -> None:
        self.choices: list[int] = []
        self.arities: list[int] = []
        self._kind = schedule if isinstance(schedule, str) else ""
        self._given = schedule if isinstance(schedule, tuple) else ()
        self._random = Random(schedule) if isinstance(schedule, int) else None

    def pick(self, arity: int) -> int:
        """One number below `arity`, which is at least 2."""
        taken = len(self.choices)
        if self._random is not None:
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


def check_schedule(schedule: object) -> Schedule:
    """Refuse what is not a schedule.

    Raises:
        ValueError: it is neither "fifo", "lifo", "exhaustive", an int, nor a tuple of ints.
    """
    if schedule in ("fifo", "lifo", EXHAUSTIVE) and isinstance(schedule, str):
        return schedule
    if isinstance(schedule, int) and not isinstance(schedule, bool):
        return schedule
    if isinstance(schedule, tuple) and all(isinstance(item, int) for item in schedule):
        return schedule
    raise ValueError(f'no schedule: {schedule!r} (use "fifo", "lifo", "exhaustive" or a seed)')


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
    """The schedule as a token and a report write it, e.g. `fifo`, `s7`, `x0.2.1`."""
    if isinstance(schedule, str):
        return schedule
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
    return check_schedule(text)
