"""Starting on an instant of the worker's clock, as far as a rig knows that.

Rigs that are given the same instant and the same worker start together: each one asks the
worker for its clock, and waits until its own shows that instant. How far off it may be is
known, as half of the interval in which its clock's offset is.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

import attrs
import trio

from cfw.client._clock import ClockOffset, RigClock
from cfw.client._errors import ClockUnknown, StartMissed
from cfw.client._worker import Worker
from schemas import Timestamp

#: How often the worker is asked: the quickest answer says most.
ASKED: Final = 4
#: When the capture is opened before the start, so that the connection is there by then.
LEAD_S: Final = 2.0
#: Two clocks go apart by some parts in a million, so a long wait ends with asking again.
_ASK_AGAIN_S: Final = 30.0
_NS_PER_S: Final = 1_000_000_000

Ask: TypeAlias = Callable[[], Awaitable[Worker]]


@attrs.frozen
class FilmStart:
    """When a film was to start, and what the rig knew of that instant.

    Args:
        asked_for: the instant, by the worker's clock.
        timestamp: the same by the rig's clock, as the capture tells it: `timestamp_start`.
        offset: the rig's clock minus the worker's.
        late_s: seconds by which the rig was too late; 0 when it waited.
    """

    asked_for: Timestamp
    timestamp: Timestamp
    offset: ClockOffset
    late_s: float = 0.0

    @property
    def width_s(self) -> float:
        """It may be off by half of this, either way, in seconds."""
        return self.offset.width_ns / _NS_PER_S


async def find_start(instant: Timestamp, clock: RigClock, ask: Ask) -> FilmStart:
    """Wait until shortly before an instant, and find it on the rig's clock.

    Args:
        instant: by the worker's clock.
        clock: the rig's.
        ask: asks the worker.

    Raises:
        StartMissed: it is over already.
        ClockUnknown: the worker does not tell its clock.
        ConnectionRefused: it cannot be asked.
    """
    while True:
        offset = await _ask(ask)
        start = FilmStart(instant, Timestamp.from_ns(instant.ns + offset.middle_ns), offset)
        left_s = clock.trio_time(start.timestamp.ns) - trio.current_time()
        if left_s < 0:
            raise StartMissed(
                f"the start, {instant}, is {-left_s:.3f} s over by the worker's clock "
                f"({offset.middle_ns / _NS_PER_S:+.3f} s from here)"
            )
        if left_s <= LEAD_S + _ASK_AGAIN_S:
            await trio.sleep(max(0.0, left_s - LEAD_S))
            return start
        await trio.sleep(left_s - LEAD_S - _ASK_AGAIN_S / 2)


async def _ask(ask: Ask) -> ClockOffset:
    offset: ClockOffset | None = None
    for _ in range(ASKED):
        told = (await ask()).offset
        if told is None:
            raise ClockUnknown(
                "this worker does not tell its clock, so that no start can be agreed on: it is "
                "older than 0.3, or a proxy keeps Cfw-Time to itself"
            )
        offset = told if offset is None else offset.also(told)
    assert offset is not None
    return offset
