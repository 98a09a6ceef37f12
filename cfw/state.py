"""Where a capture stands, as values that are never changed, only replaced."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import attrs

from cfw.limits import Limits, Times
from schemas import CaptureFrameMeta, CaptureOpen, FeedFrame, Timestamp, restate

__all__ = ["Active", "Frame", "Idle", "State", "Terms", "value"]

# What is made for each frame is frozen for the type checker alone: to be frozen while it runs
# would make it three times as dear to make.
if TYPE_CHECKING:
    from attrs import frozen as value
else:
    value = attrs.define(unsafe_hash=True)


@value
class Frame:
    """One accepted frame.

    Args:
        meta: what the rig said of it.
        data: the JPEG, byte for byte.
        ingest_ns: when the worker had all of it, in nanoseconds since 1970 UTC.
    """

    meta: CaptureFrameMeta
    data: bytes
    ingest_ns: int

    def feed_message(self) -> FeedFrame:
        """All of the frame but its bytes, as the feed tells it."""
        return restate(self.meta, FeedFrame, timestamp_ingest=Timestamp.from_ns(self.ingest_ns))


@attrs.frozen
class Idle:
    """No capture is running on this connection.

    Args:
        limits: what a capture may cost.
        times: how long each step may take.
        users: the only users whose captures this connection may open; None for any user.
    """

    limits: Limits
    times: Times
    users: frozenset[str] | None = None


@attrs.frozen
class Terms:
    """What the messages of a running capture are held against; the same for many frames.

    All instants are ingest time, nanoseconds since 1970 UTC.

    Args:
        idle: the state to go back to; it holds the limits.
        opened: the `capture.open` that every later message must agree with.
        max_skew_ns: how far an event time may be from ingest time.
        meta_to_bytes_ns: how long bytes may take to follow their metadata.
        idle_ns: how long the next metadata may take.
        duration_until: when the capture has lasted too long.
        recheck_at: when the session is due to be checked again.
        grace_until: when the session authority has been out of reach for too long; None
            while it answers.
    """

    idle: Idle
    opened: CaptureOpen
    max_skew_ns: int
    meta_to_bytes_ns: int
    idle_ns: int
    duration_until: int
    recheck_at: int
    grace_until: int | None


@value
class Active:
    """A capture is running.

    Args:
        terms: what its messages are held against.
        last: the metadata of the last frame accepted; None before the first.
        total_bytes: bytes of the frames accepted so far.
        pending: the metadata whose bytes are awaited; None when none is.
        meta_at: ingest time of the last metadata, or of what let the capture begin.
    """

    terms: Terms
    last: CaptureFrameMeta | None
    total_bytes: int
    pending: CaptureFrameMeta | None
    meta_at: int

    @property
    def frames(self) -> int:
        """Frames accepted so far."""
        return 0 if self.last is None else self.last.seq

    @property
    def pending_until(self) -> int | None:
        """When the bytes that are awaited are late; None when none are."""
        return None if self.pending is None else self.meta_at + self.terms.meta_to_bytes_ns

    @property
    def idle_until(self) -> int:
        """When the next metadata is late."""
        return self.meta_at + self.terms.idle_ns


State: TypeAlias = Idle | Active
