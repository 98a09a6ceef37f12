"""Counts and durations of one worker. Nothing here waits, locks or knows Prometheus."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal, Protocol, TypeAlias, get_args

import attrs

#: Upper bounds in seconds, from a sink in the same process to a capture's last patience.
BUCKETS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)

#: Why a connection was not let in.
Refusal: TypeAlias = Literal[
    "draining", "capacity", "address", "descriptors", "tls", "identity", "handshake"
]

#: How a check of a session can end: `unreachable` is nobody there, `unanswered` an answer that
#: says nothing about the session.
CheckResult: TypeAlias = Literal["active", "closed", "invalid", "unreachable", "unanswered"]


class Buffer(Protocol):
    """What is read of the forward buffer of a running capture, whenever somebody asks."""

    frames: int
    bytes: int
    frames_accepted: int
    bytes_accepted: int
    frames_forwarded: int
    bytes_forwarded: int

    @property
    def peak_ratio(self) -> float: ...


class Histogram:
    """Durations, counted by size.

    Its own, because a task that counts for each frame must not take a lock for each.
    """

    __slots__ = ("counts", "sum_s")

    def __init__(self) -> None:
        #: Durations in each bucket of `BUCKETS_S`, and in a last one above them.
        self.counts = [0] * (len(BUCKETS_S) + 1)
        self.sum_s = 0.0

    def observe(self, seconds: float, count: int = 1) -> None:
        """Count so many equal durations; below 0 counts as 0, for a sum must never go back."""
        if seconds < 0:
            seconds = 0.0
        self.counts[bisect_left(BUCKETS_S, seconds)] += count
        self.sum_s += count * seconds

    @property
    def count(self) -> int:
        """How many there were."""
        return sum(self.counts)


@attrs.define
class Traffic:
    """Frames and bytes that went through forward buffers."""

    frames_accepted: int = 0
    bytes_accepted: int = 0
    frames_forwarded: int = 0
    bytes_forwarded: int = 0

    def add(self, buffer: Buffer) -> None:
        """Add all that has gone through one buffer."""
        self.frames_accepted += buffer.frames_accepted
        self.bytes_accepted += buffer.bytes_accepted
        self.frames_forwarded += buffer.frames_forwarded
        self.bytes_forwarded += buffer.bytes_forwarded


@attrs.define(eq=False)
class Metrics:
    """All that one worker measures, beside what its registry knows.

    Attributes:
        connections: how many there are now.
        refused: how many were not let in, by why.
        filling: forward buffers that have passed 75 %, once for each capture.
        ingest_to_sink: from a frame's ingest time to the sink having taken it.
        aborts: from a violation being noticed to the abort message having been sent.
        stalls: how late the event loop woke up a task that slept.
        session_checks: how long the checks of sessions took, by result.
        is_authority_reachable: whether the session authority answers, as far as is known; True
            before the first check.
        unreadable: asks how many things the sink has found that it could not read.
        log_lines_lost: asks how many lines of the process's log were not written.
    """

    connections: int = 0
    refused: dict[str, int] = attrs.field(factory=lambda: dict.fromkeys(get_args(Refusal), 0))
    filling: int = 0
    ingest_to_sink: Histogram = attrs.Factory(Histogram)
    aborts: Histogram = attrs.Factory(Histogram)
    stalls: Histogram = attrs.Factory(Histogram)
    session_checks: dict[CheckResult, Histogram] = attrs.field(
        factory=lambda: {result: Histogram() for result in get_args(CheckResult)}
    )
    is_authority_reachable: bool = True
    unreadable: Callable[[], int] = int
    log_lines_lost: Callable[[], int] = int
    _buffers: set[Buffer] = attrs.field(factory=set, init=False)
    _ended: Traffic = attrs.field(factory=Traffic, init=False)

    @contextmanager
    def running(self, buffer: Buffer) -> Iterator[None]:
        """Read the buffer of a capture while it runs, and keep its totals when it is over."""
        self._buffers.add(buffer)
        try:
            yield
        finally:
            self._buffers.remove(buffer)
            self._ended.add(buffer)

    def record_check(self, result: CheckResult, seconds: float) -> None:
        """Count one check of a session."""
        self.session_checks[result].observe(seconds)

    def traffic(self) -> Traffic:
        """Frames and bytes of all captures, those that run included."""
        total = attrs.evolve(self._ended)
        for buffer in self._buffers:
            total.add(buffer)
        return total

    def buffered(self) -> tuple[int, int]:
        """Frames and bytes that wait in all forward buffers now."""
        return (
            sum(buffer.frames for buffer in self._buffers),
            sum(buffer.bytes for buffer in self._buffers),
        )

    def peak_ratio(self) -> float:
        """How full the fullest buffer of a running capture has been; 1 is full, 0 if none."""
        return max((buffer.peak_ratio for buffer in self._buffers), default=0.0)
