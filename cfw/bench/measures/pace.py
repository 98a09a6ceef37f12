"""What a frame costs, and how long it takes, when rigs send as cameras do."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from cfw.bench.load import drive, open_rigs
from cfw.bench.plan import FRAME_BYTES, size_text
from cfw.bench.rounds import Rounds
from cfw.bench.servers import Server
from cfw.bench.tables import Column, Sample, Table, percentile

#: A frame that reaches the sink so long after its last byte was sent is late.
LATE_MS = 50.0
PACE = (
    Column("cpu_us", "CPU µs", 1, is_ratio=True),
    Column("user_us", "user", 1),
    Column("system_us", "sys", 1),
    Column("busy", "busy", 2),
    Column("p50_ms", "p50 ms", 2),
    Column("p99_ms", "p99 ms", 2),
    Column("max_ms", "max ms", 1),
    Column("late", "late"),
    Column("aborted", "abor ted"),
    Column("load_busy", "load busy", 2),
    Column("load_late_ms", "load late", 2),
)


def tables(rounds: Rounds) -> list[Table]:
    """Measure the sizes and numbers of rigs of the plan."""
    plan = rounds.plan
    found = []
    for size in plan.paced_sizes:
        for number in plan.paced_rigs:
            measure = partial(
                pace, number=number, seconds=plan.paced_s, fps=plan.fps, size=size
            )
            title = f"{number} rigs at {plan.fps:g} fps of {size_text(size)}"
            found += rounds.tables(
                "pace", title, PACE, measure, rounds.names, plan.paced_rounds
            )
    return found


def pace(
    server: Server, *, number: int, seconds: float, fps: float, size: int = FRAME_BYTES
) -> Sample:
    """Let rigs send at a pace, and see what a frame costs and how long it takes.

    CPU is counted from the second frame of each rig to the last one, so that neither opening
    nor closing captures is part of it.
    """
    rigs = open_rigs(server.port, number, size, server.trust)
    server.wait_quiet()
    server.delays_ns()
    used: list[tuple[float, float] | None] = []
    frames: list[int] = []

    def note() -> None:
        used.append(server.split_s())
        frames.append(sum(rig.frames for rig in rigs))

    began_s = min(1 / fps, seconds / 2)
    marks = [(began_s, note), (seconds, note)]
    sent = drive(rigs, seconds, fps=fps, may_abort=True, marks=marks)
    delays = [ns / 1e6 for ns in server.delays_ns()]
    return {
        **_costs(used, frames[1] - frames[0], seconds - began_s),
        # A server that looks at no frame knows no delay.
        "p50_ms": percentile(delays, 50) if delays else None,
        "p99_ms": percentile(delays, 99) if delays else None,
        "max_ms": max(delays) if delays else None,
        "late": sum(delay > LATE_MS for delay in delays) + sent.left_out if delays else None,
        "aborted": sent.aborted,
        "load_busy": sent.load_busy,
        "load_late_ms": percentile(sent.late_ms, 99),
    }


def _costs(
    used: Sequence[tuple[float, float] | None], frames: int, seconds: float
) -> dict[str, float | None]:
    """CPU of a frame, and the share of its core, between two looks at a server."""
    before, after = used
    if before is None or after is None or not frames:
        return dict.fromkeys(("cpu_us", "user_us", "system_us", "busy"))
    user, system = after[0] - before[0], after[1] - before[1]
    return {
        "cpu_us": (user + system) / frames * 1e6,
        "user_us": user / frames * 1e6,
        "system_us": system / frames * 1e6,
        "busy": (user + system) / seconds,
    }
