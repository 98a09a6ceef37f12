"""Ingest time: what the worker holds every event time and deadline against."""

from __future__ import annotations

from collections.abc import Callable

import trio

from cfw.limits import NS_PER_S


class IngestClock:
    """The wall clock at the start, plus what Trio's clock has counted since.

    Args:
        wall_clock: nanoseconds since 1970 UTC; read once.

    Attributes:
        epoch_ns: ingest time when Trio's clock was at 0.
        trio_now: seconds by Trio's clock, without looking for the clock each time.
    """

    def __init__(self, wall_clock: Callable[[], int]) -> None:
        self.trio_now = trio.lowlevel.current_clock().current_time
        self.epoch_ns = wall_clock() - round(self.trio_now() * NS_PER_S)

    def now(self) -> int:
        """Ingest time now, nanoseconds since 1970 UTC."""
        return self.epoch_ns + round(self.trio_now() * NS_PER_S)

    def trio_time(self, instant: int) -> float:
        """An ingest time by Trio's clock, in seconds; may fall short by a nanosecond."""
        return (instant - self.epoch_ns) / NS_PER_S
