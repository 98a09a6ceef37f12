"""A flood of events is no flood of log lines."""

from __future__ import annotations

import trio

#: The same complaint is logged this often at most.
COMPLAIN_EVERY_S = 1.0


class Throttle:
    """Keeps a flood of events from being a flood of log lines.

    The first is written at once; those within `COMPLAIN_EVERY_S` are counted, for the next
    line to tell.
    """

    def __init__(self) -> None:
        self._silent_until = float("-inf")
        self._unwritten = 0

    def unwritten(self) -> int | None:
        """How many events to tell of beside this one; None when it is not to be written."""
        now = trio.current_time()
        if now < self._silent_until:
            self._unwritten += 1
            return None
        self._silent_until = now + COMPLAIN_EVERY_S
        unwritten, self._unwritten = self._unwritten, 0
        return unwritten
