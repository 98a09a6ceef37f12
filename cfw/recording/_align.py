"""Several cameras in one clock: which frames belong together, and how well they kept step.

Each rig stamps its frames with a clock of its own. The worker tells an interval in which that
clock was ahead of its own; its middle is taken off every event time, so that all cameras are in
the worker's clock, each to within half the width of its interval.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import overload

import attrs

from cfw.recording._recording import Frame, Recording

_NS = 1_000_000_000
_MS = 1_000_000


@attrs.frozen
class Track:
    """One camera, in the worker's clock.

    Args:
        recording: its frames.
        offset_ms: how far its clock was ahead of the worker's, at least and at most; None when
            the worker did not find out, and then its times are taken as they are.
        times_ns: of its frames, by the worker's clock.
        start_ns: when the rig says that it began, by the worker's clock.
    """

    recording: Recording
    offset_ms: tuple[float, float] | None
    times_ns: tuple[int, ...]
    start_ns: int

    @classmethod
    def of(cls, recording: Recording) -> Track:
        """A recording, with its offset taken off."""
        offset_ms = recording.clock_offset_ms
        ahead_ns = 0 if offset_ms is None else round(sum(offset_ms) / 2 * _MS)
        times_ns = tuple(ns - ahead_ns for ns in recording.timestamps_ns)
        start_ns = recording.opened.timestamp_start.ns - ahead_ns
        return cls(recording, offset_ms, times_ns, start_ns)

    @property
    def name(self) -> str:
        """Of the rig, as the report has it."""
        opened = self.recording.opened
        return opened.source or f"{opened.user_id}/{opened.capture_id}"

    @property
    def path(self) -> Path:
        """Of the recording."""
        return self.recording.path

    @property
    def width_ms(self) -> float | None:
        """Of the interval: how well its place in the worker's clock is known."""
        return None if self.offset_ms is None else self.offset_ms[1] - self.offset_ms[0]

    @property
    def intervals_ms(self) -> list[float]:
        """From each frame to the next."""
        return [(b - a) / _MS for a, b in zip(self.times_ns, self.times_ns[1:], strict=False)]

    @property
    def interval_ms(self) -> float:
        """The usual interval: the median. Of fewer than two frames, that of `fps_target`."""
        return median(self.intervals_ms or [1000 / self.recording.opened.fps_target])

    @property
    def jitter_ms(self) -> float:
        """How far an interval is off the usual one: the median, gaps left out."""
        usual = self.interval_ms
        off = [abs(each - usual) for each in self.intervals_ms if each < 1.5 * usual]
        return median(off or [0.0])

    @property
    def dropped(self) -> list[Dropped]:
        """Where frames are missing that the camera should have taken."""
        usual = self.interval_ms
        found = []
        for place, interval in enumerate(self.intervals_ms):
            count = round(interval / usual) - 1 if usual > 0 else 0
            if count > 0:
                seq = self.recording[place].seq
                found.append(Dropped(seq, self.times_ns[place], count))
        return found


@attrs.frozen
class Dropped:
    """A gap in the times of a camera.

    Args:
        after_seq: the frame before it.
        after_ns: its time, by the worker's clock.
        count: frames of the usual interval that would fit in.
    """

    after_seq: int
    after_ns: int
    count: int


class Aligned(Sequence[tuple[Frame | None, ...]]):
    """Frames of several cameras that belong together; `align` makes it.

        for left, right, top in align([a, b, c]): ...

    Each row has a frame of every camera, or None where none is near enough; the first camera
    has one in every row.

    Attributes:
        tracks: the cameras, in the worker's clock.
        tolerance_s: how far a frame may be from that of the first camera.
    """

    def __init__(
        self, tracks: Sequence[Track], rows: list[tuple[int | None, ...]], tolerance_s: float
    ) -> None:
        self.tracks = tuple(tracks)
        self.tolerance_s = tolerance_s
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, place: int) -> tuple[Frame | None, ...]: ...
    @overload
    def __getitem__(self, place: slice) -> list[tuple[Frame | None, ...]]: ...
    def __getitem__(
        self, place: int | slice
    ) -> tuple[Frame | None, ...] | list[tuple[Frame | None, ...]]:
        """By place, from 0."""
        if isinstance(place, slice):
            return [self._row(row) for row in self._rows[place]]
        return self._row(self._rows[place])

    @property
    def complete(self) -> list[tuple[Frame, ...]]:
        """The rows to which every camera has a frame."""
        rows = (self._row(row) for row in self._rows if None not in row)
        return [tuple(frame for frame in row if frame is not None) for row in rows]

    def skews_ms(self, camera: int) -> list[tuple[int, float]]:
        """By how much a camera's frames come behind those of the first, in its rows.

        Returns:
            of each row that has both: the time of the first's frame in nanoseconds, the skew.
        """
        first, other = self.tracks[0].times_ns, self.tracks[camera].times_ns
        return [
            (first[row[0]], (other[place] - first[row[0]]) / _MS)
            for row in self._rows
            if row[0] is not None and (place := row[camera]) is not None
        ]

    def _row(self, row: tuple[int | None, ...]) -> tuple[Frame | None, ...]:
        pairs = zip(self.tracks, row, strict=True)
        return tuple(None if at is None else track.recording[at] for track, at in pairs)


def align(recordings: Sequence[Recording], tolerance_s: float | None = None) -> Aligned:
    """Find the frames of several cameras that belong together.

    Args:
        recordings: one of each camera; the others are held against the first.
        tolerance_s: how far apart two frames may be, in the worker's clock; None takes half of
            the longest of the usual intervals, so that the nearest frame is always found.

    Raises:
        ValueError: there are no recordings, or the tolerance is none.
    """
    if not recordings:
        raise ValueError("there is no recording to align")
    tracks = [Track.of(recording) for recording in recordings]
    if tolerance_s is None:
        tolerance_s = max(track.interval_ms for track in tracks) / 2000
    if not math.isfinite(tolerance_s) or tolerance_s < 0:
        raise ValueError("tolerance_s must be a number of seconds, at least 0")
    first, *others = tracks
    tolerance_ns = round(tolerance_s * _NS)
    columns = [[*_nearest(first.times_ns, other.times_ns, tolerance_ns)] for other in others]
    rows = [
        (place, *(column[place] for column in columns)) for place in range(len(first.times_ns))
    ]
    return Aligned(tracks, rows, tolerance_s)


def _nearest(
    times: Sequence[int], others: Sequence[int], tolerance: int
) -> Iterator[int | None]:
    """The place of the nearest of the others; each is given once, to whom it is nearest."""
    taken: dict[int, tuple[int, int]] = {}
    for place, time in enumerate(times):
        after = bisect_left(others, time)
        near = [at for at in (after - 1, after) if 0 <= at < len(others)]
        if not near:
            continue
        at = min(near, key=lambda at: abs(others[at] - time))
        distance = abs(others[at] - time)
        if distance <= tolerance and (at not in taken or distance < taken[at][0]):
            taken[at] = (distance, place)
    given = {place: at for at, (_, place) in taken.items()}
    yield from (given.get(place) for place in range(len(times)))
