"""Where a capture stands, as values that are never changed, only replaced."""

from __future__ import annotations

from typing import TypeAlias

import attrs

from cfw.limits import Limits, Times
from schemas import CaptureFrameMeta, CaptureOpen, FeedFrame, Timestamp, restate


@attrs.frozen
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
class Active:
    """A capture is running. All instants are ingest time, nanoseconds since 1970 UTC.

    Args:
        idle: the state to go back to; it holds the limits.
        opened: the `capture.open` that every later message must agree with.
        duration_until: when the capture has lasted too long.
        frames: frames accepted so far.
        total_bytes: bytes of the frames accepted so far.
        last_frame_ns: event time of the last frame accepted; None before the first.
        pending: the metadata whose bytes are awaited; None when none is.
        pending_until: when those bytes are late; None when none are awaited.
        idle_until: when the next metadata is late.
        recheck_at: when the session is due to be checked again.
        grace_until: when the session authority has been out of reach for too long; None
            while it answers.
    """

    idle: Idle
    opened: CaptureOpen
    duration_until: int
    frames: int
    total_bytes: int
    last_frame_ns: int | None
    pending: CaptureFrameMeta | None
    pending_until: int | None
    idle_until: int
    recheck_at: int
    grace_until: int | None

    # Two new states a frame: written out, which costs a third of `attrs.evolve`.

    def expecting(self, meta: CaptureFrameMeta, until: int, idle_until: int) -> Active:
        """This state once a frame is announced.

        Args:
            meta: what was said of the frame.
            until: when its bytes will be late.
            idle_until: when the metadata behind it will be late.
        """
        return Active(
            self.idle,
            self.opened,
            self.duration_until,
            self.frames,
            self.total_bytes,
            self.last_frame_ns,
            meta,
            until,
            idle_until,
            self.recheck_at,
            self.grace_until,
        )

    def accepting(self, meta: CaptureFrameMeta) -> Active:
        """This state once the announced frame has come."""
        return Active(
            self.idle,
            self.opened,
            self.duration_until,
            meta.seq,
            self.total_bytes + meta.byte_length,
            meta.timestamp_frame.ns,
            None,
            None,
            self.idle_until,
            self.recheck_at,
            self.grace_until,
        )


State: TypeAlias = Idle | Active
