"""Two tasks of a worker that measure what no connection can."""

from __future__ import annotations

import structlog
import trio

from cfw.limits import Times
from cfw.metrics._measures import Metrics
from cfw.sessions import SessionAuthority

#: Rare enough to cost nothing, and often enough that a stall of a frame's time is seen.
STALL_EVERY_S = 0.1

_log: structlog.stdlib.BoundLogger = structlog.get_logger("cfw.server")


async def watch_stalls(metrics: Metrics) -> None:
    """Sleep again and again, and count how late each waking was; never returns."""
    while True:
        due = trio.current_time() + STALL_EVERY_S
        await trio.sleep_until(due)
        metrics.stalls.observe(trio.current_time() - due)


async def ask_again(authority: SessionAuthority, metrics: Metrics, times: Times) -> None:
    """Repeat the check that had no answer until one comes; never returns.

    A worker that is not ready is sent no captures, and so would never ask again by itself.
    """
    while True:
        await trio.sleep(times.session_recheck_s)
        if (question := metrics.unanswered) is None:
            continue
        with trio.move_on_after(times.session_check_s):
            try:
                await authority.check(*question)
            except Exception:  # still away; the capture it failed has told so
                continue
            metrics.unanswered = None
            _log.info("session.reachable")
