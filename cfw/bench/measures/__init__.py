"""What is measured: a module for each question, with its columns and what it does to a server.

`MEASURES` lists them in the order of their tables; `run` takes them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from enum import Enum, auto

import attrs

from cfw.bench.measures import abort, flood, memory, metadata, pace, rates, rigs, viewers
from cfw.bench.rounds import Rounds
from cfw.bench.tables import Table


class Servers(Enum):
    """What a measure is taken on; those of the same kind share the processes."""

    #: Nothing has been done to them yet.
    FRESH = auto()
    SERVING = auto()
    #: They note the delays of stamped frames.
    STAMPED = auto()
    #: It starts its own, or needs none.
    OWN = auto()


@attrs.frozen
class Measure:
    """One question.

    Args:
        name: of the measure, and of its tables.
        servers: that it is taken on.
        take: asks it.
        is_usual: taken unless told otherwise.
    """

    name: str
    servers: Servers
    take: Callable[[Rounds], list[Table]]
    is_usual: bool = True


MEASURES = (
    Measure("pace", Servers.STAMPED, pace.tables),
    # A search for the most rigs takes minutes.
    Measure("rigs", Servers.STAMPED, rigs.tables, is_usual=False),
    Measure("rates", Servers.SERVING, rates.tables),
    Measure("abort", Servers.SERVING, abort.tables),
    Measure("idle", Servers.FRESH, memory.idle_tables),
    Measure("memory", Servers.OWN, memory.memory_tables),
    Measure("flood", Servers.STAMPED, flood.tables),
    Measure("viewers", Servers.SERVING, viewers.tables),
    Measure("metadata", Servers.OWN, metadata.tables),
)
NAMES = tuple(measure.name for measure in MEASURES)
USUALLY = tuple(measure.name for measure in MEASURES if measure.is_usual)


def run(names: Iterable[str], rounds: Rounds) -> list[Table]:
    """Take measures by their names.

    Returns:
        Their tables, in the order of `MEASURES`.
    """
    wanted = set(names)
    tables: list[Table] = []
    for kind in Servers:
        group = [m for m in MEASURES if m.servers is kind and m.name in wanted]
        with ExitStack() as stack:
            if group and kind is not Servers.OWN:
                is_stamped = kind is Servers.STAMPED
                stack.enter_context(rounds.serving(is_stamped=is_stamped))
            for measure in group:
                tables += measure.take(rounds)
    return sorted(tables, key=lambda table: NAMES.index(table.name))
