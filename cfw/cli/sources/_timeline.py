"""When frames were taken and are to be sent, over all sources of a capture."""

from __future__ import annotations

import math
import time

import attrs
import trio

from cfw.cli.sources._source import FrameSource, Shot
from schemas import Timestamp

_NS = 1_000_000_000
#: How much of what was not sent in time, such as while a worker was away, is made up for.
MOST_BEHIND_S = 1.0


@attrs.frozen
class Frame:
    """A frame, when it was taken, and when it is to be sent.

    Args:
        jpeg: the image.
        timestamp: its event time; None where it is taken when it is sent.
        due: when to send it, by Trio's clock; long past where that is at once.
    """

    jpeg: bytes
    timestamp: str | None
    due: float


class Timeline:
    """Puts the shots of sources behind each other.

    What was recorded keeps its own intervals, and what has no times is spread evenly; both are
    due against the frame before, not against now, so that delays do not add up.

    Args:
        step_s: seconds from one frame to the next, where no source says.
    """

    def __init__(self, step_s: float) -> None:
        self._step_s = step_s
        # A wall clock that is set moves no event time.
        self._epoch_ns = time.time_ns() - time.monotonic_ns()
        self._source: FrameSource | None = None
        self._due: float | None = None
        self._taken_ns: int | None = None
        self._elapsed_ns: int | None = None

    def begin(self, first: Frame) -> Frame:
        """The first frame, due now: it was read before anybody could send it.

        What was recorded begins now too; what a camera took stays where it was.
        """
        if self._due is None:
            return first
        self._due = trio.current_time()
        if self._elapsed_ns is None:
            return attrs.evolve(first, due=self._due)
        self._taken_ns = self._epoch_ns + time.monotonic_ns()
        begun = Timestamp.from_ns(self._taken_ns).text
        return attrs.evolve(first, due=self._due, timestamp=begun)

    def place(self, source: FrameSource, shot: Shot) -> Frame:
        """Say when a shot was taken and is due; they are given in their order."""
        if source is not self._source:
            self._source, self._elapsed_ns = source, None
        step_ns = round(self._step_s * _NS)
        if shot.elapsed_ns is not None:
            if self._elapsed_ns is not None:
                step_ns = max(0, shot.elapsed_ns - self._elapsed_ns)
            self._elapsed_ns = shot.elapsed_ns
        taken = self._take(shot, step_ns)
        if source.is_live:
            self._due = None
            return Frame(shot.jpeg, taken, -math.inf)
        now = trio.current_time()
        if self._due is None:
            self._due = now
        else:
            self._due = max(self._due + step_ns / _NS, now - MOST_BEHIND_S)
        return Frame(shot.jpeg, taken, self._due)

    def _take(self, shot: Shot, step_ns: int) -> str | None:
        last, now = self._taken_ns, self._epoch_ns + time.monotonic_ns()
        if shot.taken_ns is not None:
            taken = shot.taken_ns
        elif shot.elapsed_ns is not None:
            taken = now if last is None else last + step_ns
        elif last is None:
            return None  # when it is sent
        else:
            taken = now
        # Never before the last one, which the worker would refuse.
        self._taken_ns = taken if last is None else max(last, taken)
        return Timestamp.from_ns(self._taken_ns).text
