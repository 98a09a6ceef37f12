"""How soon a rig is told that it broke the contract."""

from __future__ import annotations

import time
from functools import partial

from cfw.bench.plan import FRAME_BYTES
from cfw.bench.rig import BenchError, Rig
from cfw.bench.rounds import Rounds
from cfw.bench.servers import Server
from cfw.bench.tables import Column, Sample, Table, percentile

#: Frames before the violation that an abort is measured from.
_FRAMES_BEFORE = 3
ABORT = (
    Column("p50_ms", "p50 ms", 2, is_ratio=True),
    Column("p99_ms", "p99 ms", 2, is_ratio=True),
)


def tables(rounds: Rounds) -> list[Table]:
    """Measure the servers that check anything."""
    number = rounds.plan.aborts
    title = f"from a wrong seq to the close frame, {number} captures"
    measure = partial(abort, number=number)
    return rounds.tables("abort", title, ABORT, measure, rounds.contracts)


def abort(server: Server, *, number: int) -> Sample:
    """Break the contract in the middle of a capture, and see how soon that is said."""
    took_ms = []
    for n in range(number):
        rig = Rig(server.port, n, FRAME_BYTES, server.trust)
        try:
            rig.open()
            for _ in range(_FRAMES_BEFORE):
                rig.sock.sendall(rig.next_meta() + rig.data)
            server_has_it = time.perf_counter() + 0.002
            while time.perf_counter() < server_has_it:
                pass
            began = time.perf_counter()
            rig.say(rig.meta(seq=_FRAMES_BEFORE + 7))
            end = rig.wait_end()
            took_ms.append((time.perf_counter() - began) * 1e3)
            if end.code != 1008:
                raise BenchError(f"a wrong seq was answered with {end.code} {end.reason}")
        finally:
            rig.close()
    return {"p50_ms": percentile(took_ms, 50), "p99_ms": percentile(took_ms, 99)}
