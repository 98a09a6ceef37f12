"""Cancel at every instant, replay what was found: cancellation sweeps for Trio.

Trio promises that a cancellation lands cleanly wherever it lands; a sweep tries all the
places. A scenario (an async function) runs once without a fault, to count its steps. Then
it runs once for every instant at which a cancellation, or any other exposed action, can
take effect, and after each run an oracle is asked whether the invariants hold.

    from cfw.testing.sweep import World, sweep

    @sweep(at=["connection"])
    async def test_connection(world: World) -> None: ...

A pass is complete over the instants of the given scenario, schedules and parameters. It
says nothing about inputs that were not given or the timing of real I/O. `SWEEP.md` beside
this package starts from nothing. Only Trio is needed; no other part of cfw is imported.
"""

from __future__ import annotations

from cfw.testing.sweep.api import run_sweep, sweep
from cfw.testing.sweep.config import SweepOptions, grid
from cfw.testing.sweep.errors import (
    InstrumentError,
    NondeterminismError,
    RealIOError,
    StaleToken,
    SweepError,
    TokenError,
    UnsupportedTrio,
)
from cfw.testing.sweep.failure import Failure
from cfw.testing.sweep.oracle import DEFAULT_INVARIANTS
from cfw.testing.sweep.report import Report
from cfw.testing.sweep.schedule import Pct, pct
from cfw.testing.sweep.streams import MemoryStream, stream_pair
from cfw.testing.sweep.tokens import Token
from cfw.testing.sweep.verdict import SweepFailure
from cfw.testing.sweep.world import Injection, World

__all__ = [
    "DEFAULT_INVARIANTS",
    "Failure",
    "Injection",
    "InstrumentError",
    "MemoryStream",
    "NondeterminismError",
    "Pct",
    "RealIOError",
    "Report",
    "StaleToken",
    "SweepError",
    "SweepFailure",
    "SweepOptions",
    "Token",
    "TokenError",
    "UnsupportedTrio",
    "World",
    "grid",
    "pct",
    "run_sweep",
    "stream_pair",
    "sweep",
]
