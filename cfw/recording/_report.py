"""How well several cameras kept step, in numbers and as a drawing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from html import escape
from statistics import median

import attrs

from cfw.printable import printable
from cfw.recording._align import Aligned, Dropped, Track

_MS = 1_000_000
_MINUTE_NS = 60_000_000_000
#: Colours that people tell apart who see few, after Okabe and Ito.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP = 900, 220, 70, 20, 30
_MOST_POINTS = 2000


@attrs.frozen
class CameraReport:
    """What is told of one camera.

    Args:
        name: its source, or the user and capture.
        frames: how many there are.
        interval_ms: the usual one.
        jitter_ms: how far an interval is off it, the median.
        dropped: where frames are missing.
        offset_ms: how far its clock was ahead of the worker's, at least and at most.
        skew_ms: how far its frames come behind those of the first camera, the median; None
            where no two belong together.
        drift_ms_per_minute: how that changes; None for less than two frames.
        unmatched: frames of the first camera to which it has none.
        start_ms: how far it began behind the camera that began first, by `timestamp_start`.
        first_frame_ms: how far its first frame is behind that beginning; None without one.
    """

    name: str
    frames: int
    interval_ms: float
    jitter_ms: float
    dropped: tuple[Dropped, ...]
    offset_ms: tuple[float, float] | None
    skew_ms: float | None
    drift_ms_per_minute: float | None
    unmatched: int
    start_ms: float
    first_frame_ms: float | None


def report(aligned: Aligned) -> list[CameraReport]:
    """Skew, jitter and dropped frames of each camera."""
    return [_camera(aligned, number, track) for number, track in enumerate(aligned.tracks)]


def _camera(aligned: Aligned, number: int, track: Track) -> CameraReport:
    skews = aligned.skews_ms(number)
    began_ns = min(each.start_ns for each in aligned.tracks)
    first_ns = track.times_ns[0] if track.times_ns else None
    return CameraReport(
        name=track.name,
        frames=len(track.times_ns),
        interval_ms=track.interval_ms,
        jitter_ms=track.jitter_ms,
        dropped=tuple(track.dropped),
        offset_ms=track.offset_ms,
        skew_ms=median(skew for _, skew in skews) if skews else None,
        drift_ms_per_minute=_slope(skews),
        unmatched=len(aligned) - len(skews),
        start_ms=(track.start_ns - began_ns) / _MS,
        first_frame_ms=None if first_ns is None else (first_ns - began_ns) / _MS,
    )


def _slope(points: Sequence[tuple[int, float]]) -> float | None:
    """Of a straight line through these, for a minute."""
    if len({time for time, _ in points}) < 2:
        return None
    times = [(time - points[0][0]) / _MINUTE_NS for time, _ in points]
    middle = sum(times) / len(times)
    level = sum(value for _, value in points) / len(points)
    over = sum(
        (time - middle) * (value - level)
        for time, (_, value) in zip(times, points, strict=True)
    )
    return over / sum((time - middle) ** 2 for time in times)


def draw_svg(aligned: Aligned) -> str:
    """Intervals between frames, and skew, over time; one colour for each camera."""
    tracks = aligned.tracks
    start = min((track.times_ns[0] for track in tracks if track.times_ns), default=0)
    end = max((track.times_ns[-1] for track in tracks if track.times_ns), default=start + 1)

    def seconds(ns: int) -> float:
        return (ns - start) / 1_000_000_000

    intervals = [
        [
            (seconds(ns), value)
            for ns, value in zip(track.times_ns[1:], track.intervals_ms, strict=True)
        ]
        for track in tracks
    ]
    skews = [
        [(seconds(ns), value) for ns, value in aligned.skews_ms(number)]
        for number in range(len(tracks))
    ]
    span = max(seconds(end), 0.001)
    parts = [
        *_panel("from one frame to the next, ms", intervals, span, 0, at_zero=True),
        *_panel(f"behind {tracks[0].name}, ms", skews, span, 1, at_zero=False),
        *_legend([track.name for track in tracks]),
    ]
    height = 2 * (_HEIGHT + _TOP) + 40 + 18 * len(tracks)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" '
        'font-family="sans-serif" font-size="12">'
    )
    return "\n".join(
        [head, f'<rect width="{_WIDTH}" height="{height}" fill="white"/>', *parts, "</svg>"]
    )


def _panel(
    title: str,
    curves: Sequence[Sequence[tuple[float, float]]],
    span: float,
    row: int,
    *,
    at_zero: bool,
) -> Iterator[str]:
    values = [value for curve in curves for _, value in curve] or [0.0]
    low, high = min([0.0, *values] if at_zero else values), max(values)
    margin = max((high - low) * 0.05, 0.5)
    low, high = (low if at_zero else low - margin), high + margin
    top = _TOP + row * (_HEIGHT + _TOP)

    def x(second: float) -> float:
        return _LEFT + second / span * (_WIDTH - _LEFT - _RIGHT)

    def y(value: float) -> float:
        return top + (high - value) / (high - low) * (_HEIGHT - 30)

    yield f'<text x="{_LEFT}" y="{top - 8}">{escape(printable(title))}</text>'
    yield from _grid(x, y, span, low, high)
    for curve, colour in zip(curves, _endless(len(curves)), strict=True):
        # A long film has more points than a drawing has pixels; the far ones are kept.
        shown = sorted(_thinned(curve))
        points = " ".join(f"{x(second):.1f},{y(value):.1f}" for second, value in shown)
        yield f'<polyline points="{points}" fill="none" stroke="{colour}"/>'


def _grid(
    x: Callable[[float], float],
    y: Callable[[float], float],
    span: float,
    low: float,
    high: float,
) -> Iterator[str]:
    for part in range(5):
        value, second = low + (high - low) * part / 4, span * part / 4
        yield (
            f'<path d="M{_LEFT} {y(value):.1f}H{_WIDTH - _RIGHT}" stroke="#ddd"/>'
            f'<text x="{_LEFT - 6}" y="{y(value) + 4:.1f}" text-anchor="end">{value:.1f}</text>'
            f'<text x="{x(second):.1f}" y="{y(low) + 16:.1f}" text-anchor="middle">'
            f"{second:.1f} s</text>"
        )


def _legend(names: Sequence[str]) -> Iterator[str]:
    top = 2 * (_HEIGHT + _TOP) + 30
    for number, (name, colour) in enumerate(zip(names, _endless(len(names)), strict=True)):
        y = top + 18 * number
        yield (
            f'<path d="M{_LEFT} {y - 4}h30" stroke="{colour}" stroke-width="2"/>'
            f'<text x="{_LEFT + 38}" y="{y}">{escape(printable(name))}</text>'
        )


def _endless(count: int) -> list[str]:
    return [_COLOURS[number % len(_COLOURS)] for number in range(count)]


def _thinned(curve: Sequence[tuple[float, float]]) -> Iterator[tuple[float, float]]:
    """Of each run of points the lowest and the highest."""
    size = max(1, 2 * len(curve) // _MOST_POINTS)
    for begin in range(0, len(curve), size):
        run = curve[begin : begin + size]
        yield from {min(run, key=lambda point: point[1]), max(run, key=lambda point: point[1])}
