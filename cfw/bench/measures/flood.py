"""What one rig that sends as fast as it can does to the delay of others."""

from __future__ import annotations

from functools import partial

from cfw.bench.load import drive, open_rigs
from cfw.bench.plan import FPS, FRAME_BYTES, size_text
from cfw.bench.rig import BenchError
from cfw.bench.rounds import Rounds
from cfw.bench.servers import Server
from cfw.bench.tables import Column, Sample, Table, percentile

FLOOD = (
    Column("p99_flooded_ms", "p99 flooded ms", 2, is_ratio=True),
    Column("p99_alone_ms", "p99 alone ms", 2),
    Column("times", "times as long", 1),
)


def tables(rounds: Rounds) -> list[Table]:
    """Measure the servers that check anything: the others know no delay."""
    plan = rounds.plan
    title = (
        f"delay of 10 rigs at {FPS:g} fps of {size_text(FRAME_BYTES)}, beside one more that "
        "sends as fast as it can"
    )
    measure = partial(flood, number=10, seconds=plan.paced_s)
    return rounds.tables("flood", title, FLOOD, measure, rounds.contracts, plan.paced_rounds)


def flood(server: Server, *, number: int, seconds: float) -> Sample:
    """See how one rig that sends as fast as it can delays the frames of others."""
    p99 = []
    for flooders in (0, 1):
        rigs = open_rigs(server.port, number, FRAME_BYTES, server.trust)
        flooding = open_rigs(server.port, flooders, FRAME_BYTES, server.trust)
        server.delays_ns()
        drive(rigs, seconds, fps=FPS, flooding=flooding)
        p99.append(percentile(_delays_ms(server), 99))
    return {"p99_alone_ms": p99[0], "p99_flooded_ms": p99[1], "times": p99[1] / p99[0]}


def _delays_ms(server: Server) -> list[float]:
    delays = [ns / 1e6 for ns in server.delays_ns()]
    if not delays:
        raise BenchError("no frame reached the sink")
    return delays
