"""How many rigs that send as cameras do a core holds."""

from __future__ import annotations

from functools import partial

from cfw.bench.load import LOAD_LATE_MS
from cfw.bench.measures.pace import LATE_MS, pace
from cfw.bench.plan import size_text
from cfw.bench.rig import BenchError
from cfw.bench.rounds import Rounds
from cfw.bench.servers import Server
from cfw.bench.tables import Column, Sample, Table

#: Where the search begins and ends, and how near it gets.
FIRST_RIGS = 64
MOST_RIGS = 4_000
STEP = 0.05
#: Fair trials that refuse a number, and its trials in all: one whose load was late is not fair.
REFUSALS = 2
TRIALS = 5
RIGS = (
    Column("rigs", "rigs", is_ratio=True),
    Column("cpu_us", "CPU µs", 1),
    Column("busy", "busy", 2),
    Column("p99_ms", "p99 ms", 2),
    Column("load_busy", "load busy", 2),
    Column("load_late_ms", "load late", 2),
)


def tables(rounds: Rounds) -> list[Table]:
    """Search for each size of the plan."""
    plan = rounds.plan
    found = []
    for size in plan.paced_sizes:
        measure = partial(most_rigs, seconds=plan.paced_s, fps=plan.fps, size=size)
        title = (
            f"rigs at {plan.fps:g} fps of {size_text(size)} that one core holds: p99 under "
            f"{LATE_MS:g} ms, no capture aborted"
        )
        found += rounds.tables(
            "rigs", title, RIGS, measure, rounds.contracts, plan.paced_rounds
        )
    return found


def most_rigs(server: Server, *, seconds: float, fps: float, size: int) -> Sample:
    """Find how many rigs a core holds, to `STEP` of their number, by bisection.

    A number that fails is tried once more, for something else may have been in its way. A
    trial whose load was late does not count either way: frames that come in bunches are
    cheaper, and wait longer.

    Raises:
        BenchError: the load was late again and again, or the server does not hold a single rig.
    """
    held, refused, best = 0, 0, None
    number = FIRST_RIGS
    while not refused or refused - held > max(held * STEP, 1):
        sample = _holds(server, number, seconds, fps, size)
        if sample is None:
            refused = number
        else:
            held, best = number, sample
        if held >= MOST_RIGS:
            break
        number = (held + refused) // 2 if refused else min(2 * held, MOST_RIGS)
        if not number:
            break
    if best is None:
        raise BenchError("it does not hold a single rig")
    return {"rigs": held, **best}


def _holds(server: Server, number: int, seconds: float, fps: float, size: int) -> Sample | None:
    """What so many rigs cost; None when they are too many."""
    refusals = 0
    for _ in range(TRIALS):
        sample = pace(server, number=number, seconds=seconds, fps=fps, size=size)
        p99_ms = sample["p99_ms"]
        if p99_ms is None:
            raise BenchError("no frame reached the sink")
        if (sample["load_late_ms"] or 0.0) > LOAD_LATE_MS:
            continue
        if p99_ms < LATE_MS and not sample["aborted"]:
            return sample
        refusals += 1
        if refusals == REFUSALS:
            return None
    raise BenchError(
        f"the load sent the frames of {number} rigs late in most of {TRIALS} trials, so "
        "nothing is known of the server: measure on a machine with nothing else to do"
    )
