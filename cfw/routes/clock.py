"""How far a rig's clock is from ingest time, as an interval. A diagnosis and nothing more.

The offset is the rig's clock minus the worker's ingest clock, positive when the rig is ahead.
A control message that the rig made at `T` by its own clock is read at ingest time `t`. It took
`d >= 0` to get here, and `T` is written in steps of `r`, cut (`T` is early by less than `r`) or
rounded (late by at most `r / 2`). So each message says

    T - t - r / 2  <=  offset  <  T - t + r + d

The lower end needs no assumption: the largest `T - t` of all messages counts. A message that
waited in the rig or on the way has a smaller one and changes nothing.

`d` is not known. A ping of the worker and its pong take one round trip. The upper end assumes
that the message that was fastest took no longer than the shortest round trip seen: it was sent
at once when it was made, over the same line. Then `offset <= max(T - t) + r + round trip`.
Without a round trip there is no upper end.

Why that is safe against a rig: the round trip is measured by the worker's clock alone, and a
pong counts only for a ping with the same random payload. A rig that delays its pong widens its
interval. What it writes as `timestamp` is its own word.

`r` is the finest step seen, as some libraries drop zeros at the end of a fraction.

When the figures do not hold:

- `timestamp` is not when the message was made, such as that of a recording that is sent again;
- every message waited in the rig for longer than a round trip (upper end);
- a proxy answers pings in the rig's stead: the round trip is that to the proxy (upper end);
- the rig's clock is written in coarser steps than its text has digits;
- the rig's clock is set, or drifts, during the capture: the figures are about the moment at
  which it was most ahead. 15 s at 100 parts in a million are 1.5 ms.

The worker's wall clock is read once per connection; setting it later moves no ingest time.
"""

from __future__ import annotations

import attrs

from schemas import Timestamp

_NS_PER_US = 1_000


@attrs.frozen
class ClockOffset:
    """The rig's clock minus ingest time; negative when the rig is behind.

    Args:
        min_ns: it is at least this, in nanoseconds.
        max_ns: it is at most this; None when no round trip is known.
    """

    min_ns: int
    max_ns: int | None

    @property
    def fields(self) -> dict[str, float]:
        """As the fields of a terminal, in milliseconds, rounded outwards to a microsecond."""
        fields = {"clock_offset_min_ms": self.min_ns // _NS_PER_US / 1_000}
        if self.max_ns is not None:
            fields["clock_offset_max_ms"] = -(-self.max_ns // _NS_PER_US) / 1_000
        return fields


class RigClock:
    """What the messages of one capture tell of the clock of their rig."""

    __slots__ = ("_lead_ns", "_step_ns")

    def __init__(self) -> None:
        self._lead_ns: int | None = None
        self._step_ns = 0

    def note(self, made: Timestamp, ingest_ns: int) -> None:
        """Take one message into account; called for each, so it is kept short.

        Args:
            made: its `timestamp`, by the rig's clock.
            ingest_ns: when it was read, or later, nanoseconds since 1970 UTC.
        """
        lead = made.ns - ingest_ns
        if self._lead_ns is None:
            self._lead_ns, self._step_ns = lead, made.step_ns
        elif lead > self._lead_ns:
            self._lead_ns, self._step_ns = lead, min(self._step_ns, made.step_ns)

    def offset(self, round_trip_ns: int | None) -> ClockOffset | None:
        """What is known so far.

        Args:
            round_trip_ns: the shortest round trip seen; None when there was none.

        Returns:
            None before the first message.
        """
        if self._lead_ns is None:
            return None
        least = self._lead_ns - self._step_ns // 2
        if round_trip_ns is None:
            return ClockOffset(least, None)
        return ClockOffset(least, self._lead_ns + self._step_ns + round_trip_ns)
