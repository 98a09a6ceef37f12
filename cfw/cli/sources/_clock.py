"""A camera's clock, mapped to wall time once, and the frames that are missing."""

from __future__ import annotations

from collections import deque
from statistics import median

#: A camera's first frames come late, all at once, from its own buffer: the newest of them has
#: waited least, and tells best how the camera's clock stands to ours.
SETTLE_NS = 500_000_000
#: Further apart than any buffer holds frames, two clocks are not those that they were.
JUMP_NS = 5_000_000_000
#: A host's clock read by a driver lies before the frame's arrival by less than this.
_SAME_CLOCK_NS = 2_000_000_000


class DeviceClock:
    """Maps a camera's times to ours, by the least delay among its first frames.

    Args:
        epoch_ns: wall time when our monotonic clock was 0; read once, so that a wall clock
            that is set moves no event time.
    """

    def __init__(self, epoch_ns: int) -> None:
        self._epoch_ns = epoch_ns
        self._offset_ns: int | None = None
        self._first_ns: int | None = None
        self._last_ns = -(2**63)
        self.is_settled = False
        self._jumps = 0

    def hear(self, device_ns: int | None, arrived_ns: int) -> None:
        """Learn from one frame; nothing is learnt once the mapping is settled.

        Args:
            device_ns: the camera's time of the frame; None if it gives none.
            arrived_ns: our monotonic time when it came.
        """
        if self.is_settled:
            return
        if self._first_ns is None:
            self._first_ns = arrived_ns
        self.is_settled = arrived_ns - self._first_ns >= SETTLE_NS
        if device_ns is None:
            return
        delay = arrived_ns - device_ns
        if 0 <= delay < _SAME_CLOCK_NS:
            self._offset_ns, self.is_settled = 0, True  # it is ours already
        else:
            self._offset_ns = min(delay, delay if self._offset_ns is None else self._offset_ns)

    def settle(self) -> None:
        """Keep what was learnt, as no more comes, or the camera has no clock."""
        self.is_settled = True

    def pop_jumps(self) -> int:
        """How often the camera's clock has jumped since this was asked last."""
        jumps, self._jumps = self._jumps, 0
        return jumps

    def taken(self, device_ns: int | None, arrived_ns: int) -> int:
        """Wall time of a frame, in nanoseconds; never before that of the last."""
        at = arrived_ns
        if device_ns is not None and self._offset_ns is not None:
            at = device_ns + self._offset_ns
            if abs(at - arrived_ns) > JUMP_NS:
                self._jumps += 1
                self._offset_ns = max(arrived_ns, self._last_ns) - device_ns
                at = device_ns + self._offset_ns
        self._last_ns = max(self._last_ns, at)
        return self._epoch_ns + self._last_ns


class GapCounter:
    """Counts the frames that are missing between those that came, by their times.

    A camera may change its rate, as in dim light, so that a gap is measured by what the
    intervals before it were.
    """

    def __init__(self) -> None:
        self._intervals: deque[int] = deque(maxlen=15)
        self._last_ns: int | None = None

    def missing_before(self, at_ns: int | None) -> int:
        """How many frames are missing before the one of this time."""
        last, self._last_ns = self._last_ns, at_ns
        if last is None or at_ns is None or at_ns <= last:
            return 0
        interval = at_ns - last
        usual = median(self._intervals) if len(self._intervals) >= 5 else None
        self._intervals.append(interval)
        if usual is None or interval < 1.5 * usual:
            return 0
        return round(interval / usual) - 1


class SequenceCounter:
    """The same for a driver that numbers what it took from the camera, in 32 bits."""

    def __init__(self) -> None:
        self._last: int | None = None

    def missing_before(self, number: int) -> int:
        """How many frames are missing before this one."""
        last, self._last = self._last, number
        step = 1 if last is None else (number - last) % 2**32
        # Backwards: the driver has begun to count anew.
        return step - 1 if 1 <= step < 2**31 else 0
