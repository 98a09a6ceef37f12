"""The rig's clock, and how far it is from the worker's."""

from __future__ import annotations

import time

import attrs
import trio

from schemas import Timestamp

_NS_PER_S = 1_000_000_000


class RigClock:
    """The wall clock at the start, plus what Trio's clock has counted since.

    The worker refuses frames that go back in time; a wall clock does when it is set.
    """

    def __init__(self) -> None:
        self._epoch_ns = time.time_ns() - round(trio.current_time() * _NS_PER_S)

    def now_ns(self) -> int:
        """Nanoseconds since 1970 UTC."""
        return self._epoch_ns + round(trio.current_time() * _NS_PER_S)

    def now(self) -> Timestamp:
        """The same as the time of a message."""
        return Timestamp.from_ns(self.now_ns())

    def trio_time(self, ns: int) -> float:
        """When Trio's clock shows this instant of the rig's."""
        return (ns - self._epoch_ns) / _NS_PER_S


@attrs.frozen
class ClockOffset:
    """The rig's clock minus the worker's, in nanoseconds; positive when the rig is ahead.

    The worker wrote its time `T` between the rig's request at `asked` and the answer at
    `answered`, so that `asked - T <= offset <= answered - T`, whatever the way took.

    Args:
        min_ns: it is at least this.
        max_ns: it is at most this.
    """

    min_ns: int
    max_ns: int

    @classmethod
    def between(cls, asked_ns: int, answered_ns: int, time: Timestamp) -> ClockOffset:
        """What one answer says."""
        # What the digits of the worker leave open counts as well.
        return cls(asked_ns - time.ns - time.step_ns, answered_ns - time.ns)

    @property
    def middle_ns(self) -> int:
        """The best guess."""
        return (self.min_ns + self.max_ns) // 2

    @property
    def width_ns(self) -> int:
        """How much is not known of it."""
        return self.max_ns - self.min_ns

    def also(self, other: ClockOffset) -> ClockOffset:
        """What both say together; the narrower one where they contradict each other.

        They do when a clock was set in between, or drifts.
        """
        both = ClockOffset(max(self.min_ns, other.min_ns), min(self.max_ns, other.max_ns))
        if both.width_ns >= 0:
            return both
        return min(self, other, key=lambda one: one.width_ns)
