"""How often live viewers of the feed get a frame: as often as captures leave time for it.

A viewer and a capture share one event loop, and to send a frame to a viewer costs about as
much as to take one from a rig. The time that the loop sleeps is what viewers may use: while
there is little of it, they rest longer between frames, and with every window in which there
is enough they rest less, until they get all frames.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import trio

__all__ = ["LONGEST_REST_S", "LivePace"]

#: How long the loop is looked at before the rest is changed.
WINDOW_S = 0.05
#: From the end of one look to the next: looking costs a busy loop a few per cent.
BETWEEN_S = 0.2
#: The same while nobody rests and more than this share is slept: looking shows in what a page
#: with many pictures costs, and a load that needs all of that takes time to come.
SELDOM_S, PLENTY = 1.0, 0.75
#: Shares of that time. A step to shorter rests costs at most half as much again as before,
#: so from above ENOUGH it cannot lead below LITTLE, and the rest comes to a standstill.
LITTLE, ENOUGH = 0.25, 0.5
_LONGER, _SHORTER = 4, 1.5
#: Viewers begin with this rest, so that many who come at once are no burden either.
FIRST_REST_S = 0.25
LONGEST_REST_S = 1.0
#: Below this no camera at a usual rate is held back; then there is no rest at all.
_NO_REST_S = 1 / 30


class LivePace(trio.abc.Instrument):
    """The rest of live viewers between two frames; while there are any, it looks at the loop.

    Attributes:
        rest_s: seconds that each of them waits before its next frame; 0 for not at all.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self.rest_s = FIRST_REST_S
        self._clock = clock
        self._viewers = 0
        self._is_looking = False
        self._look_again = self._since = self._asleep_since = 0.0
        self._slept_s = 0.0

    @contextmanager
    def viewer(self) -> Iterator[None]:
        """Count one more for as long as the block lasts."""
        if not self._viewers:
            self.rest_s = FIRST_REST_S
            self._look_again = self._clock()
        self._viewers += 1
        try:
            yield
        finally:
            self._viewers -= 1
            if not self._viewers:
                self._look_away()

    def look(self) -> None:
        """Called after each frame, or before: every now and then it looks at the loop."""
        if not self._is_looking and self._clock() >= self._look_again:
            self._is_looking = True
            self._since, self._slept_s = self._clock(), 0.0
            trio.lowlevel.add_instrument(self)

    async def rest(self) -> None:
        """Let captures have the loop. Cancellation: a checkpoint unless there is no rest."""
        self.look()
        if self.rest_s:
            await trio.sleep(self.rest_s)

    def before_io_wait(self, timeout: float) -> None:
        """Called by Trio before each look at the sockets, which is when it sleeps."""
        self._asleep_since = self._clock()

    def after_io_wait(self, timeout: float) -> None:
        """Called by Trio behind it. With tasks waiting to run it has not slept at all."""
        now = self._clock()
        if timeout > 0:
            self._slept_s += now - max(self._asleep_since, self._since)
        if now - self._since >= WINDOW_S:
            idle = self._slept_s / (now - self._since)
            self._judge(idle)
            is_at_ease = self.rest_s == 0 and idle > PLENTY
            self._look_again = now + (SELDOM_S if is_at_ease else BETWEEN_S)
            self._look_away()

    def _look_away(self) -> None:
        if self._is_looking:
            self._is_looking = False
            trio.lowlevel.remove_instrument(self)

    def _judge(self, idle: float) -> None:
        if idle < LITTLE:
            self.rest_s = min(max(self.rest_s * _LONGER, FIRST_REST_S), LONGEST_REST_S)
        elif idle > ENOUGH:
            shorter = self.rest_s / _SHORTER
            self.rest_s = shorter if shorter >= _NO_REST_S else 0.0
