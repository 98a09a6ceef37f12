"""What is measured beside the connections: stalls, and the way of a frame to its sink."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import trio

from cfw.limits import NS_PER_S
from cfw.metrics._measures import Histogram, Metrics
from cfw.state import Frame

#: Rare enough to cost nothing, and often enough that a stall of a frame's time is seen.
STALL_EVERY_S = 0.1


async def watch_stalls(metrics: Metrics) -> None:
    """Sleep again and again, and count how late each waking was; never returns."""
    while True:
        due = trio.current_time() + STALL_EVERY_S
        await trio.sleep_until(due)
        metrics.stalls.observe(trio.current_time() - due)


def observe_delay(
    delays: Histogram, epoch_ns: int, trio_now: Callable[[], float], frames: Sequence[Frame]
) -> None:
    """Count how long each frame took to its sink; called for all of them, so it is kept short.

    Args:
        delays: where it is counted.
        epoch_ns: ingest time when Trio's clock was at 0.
        trio_now: seconds by that clock.
        frames: those that the sink has taken just now, at least one.
    """
    now = trio_now()
    ingest_ns, count = frames[0].ingest_ns, 0
    for frame in frames:
        if frame.ingest_ns != ingest_ns:
            delays.observe(now - (ingest_ns - epoch_ns) / NS_PER_S, count)
            ingest_ns, count = frame.ingest_ns, 0
        count += 1
    delays.observe(now - (ingest_ns - epoch_ns) / NS_PER_S, count)
