"""Wake-ups that come fast are gathered: one pass of Trio's loop serves those of a window.

A pass costs as much as the frame that it is made for, and a few hundred cameras make thousands
a second. Then the process naps until `WINDOW_S` behind the last wake-up before it looks for
more, as the interrupts of a network card are moderated.

Nothing waits longer than the window, and no deadline at all: no nap lasts longer than Trio
would sleep. Whether it pays is measured in samples without naps, whose own effect would else
be taken for less to do; a core that is full has no time for naps, and gathers by itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import trio

#: Between two looks for bytes, while they are moderated: little beside the 67 ms of a frame.
WINDOW_S: Final = 0.001
#: Wake-ups a second above which it pays: they are a tenth of a core then. 100 rigs at 15 frames
#: a second make fewer, and wait for nothing.
RATE: Final = 2500
#: Fewer sockets that make so many wake-ups are no cameras but floods, to be read at once.
MANY: Final = 64
#: A core that was busy for more than this share of a sample is full.
FULL: Final = 0.9
#: A rate is measured over so many wake-ups: 26 ms of them.
SAMPLE: Final = 64
#: For how long a sample that was fast counts.
HOLD_S: Final = 0.25
#: Less of a window than this is not worth a system call.
_SPARE_S: Final = 0.00005


class Moderation(trio.abc.Instrument):
    """When the wake-ups of one `trio.run` are gathered; it is an instrument only meanwhile.

    Args:
        now: seconds by the clock of the machine, whatever Trio's is; never goes back.
        used: CPU seconds that this thread has used.
        sleep: stops this thread for so many seconds.

    Attributes:
        is_on: wake-ups are gathered.
    """

    def __init__(
        self,
        now: Callable[[], float] = time.perf_counter,
        used: Callable[[], float] = time.thread_time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.is_on = False
        self._now = now
        self._used = used
        self._sleep = sleep
        self._woken_at = 0.0
        self._begin_sample(now())

    def note(self, sockets: int) -> None:
        """Bytes have woken the process.

        Args:
            sockets: those that are watched.
        """
        if self.is_on:
            self._woken_at = now = self._now()
            if now >= self._until:
                self.stop()
                self._begin_sample(now)
            return
        self._left -= 1
        if not self._left:
            self._end_sample(self._now(), sockets)

    def stop(self) -> None:
        """Gather no more, until a sample says so."""
        if self.is_on:
            self.is_on = False
            with suppress(KeyError):  # Trio takes away one that has raised
                trio.lowlevel.remove_instrument(self)

    def before_io_wait(self, timeout: float) -> None:
        """Nap for what is left of the window, if Trio is about to sleep."""
        nap_s = min(self._woken_at + WINDOW_S - self._now(), timeout)
        if nap_s > _SPARE_S:
            self._sleep(nap_s)

    def _begin_sample(self, now: float) -> None:
        self._left = SAMPLE
        self._began = now
        self._used_before = self._used()

    def _end_sample(self, now: float, sockets: int) -> None:
        took_s = now - self._began
        is_full = self._used() - self._used_before > FULL * took_s
        if RATE * took_s >= SAMPLE or is_full or sockets < MANY:
            self._begin_sample(now)
            return
        self.is_on = True
        self._until = now + HOLD_S
        self._woken_at = now
        trio.lowlevel.add_instrument(self)
