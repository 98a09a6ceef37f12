"""Where a capture stands, as values that nobody changes: they are replaced.

Those made for each frame are `frozen_when_typed`: the type checker refuses an assignment, and
nothing does while they run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import attrs

from cfw.errors import DomainError
from cfw.limits import Limits, Times
from schemas import CaptureFrameMeta, CaptureOpen, FeedFrame, Timestamp, restate

__all__ = [
    "Active",
    "Ending",
    "Frame",
    "Idle",
    "RecordIds",
    "State",
    "Terms",
    "frozen_when_typed",
]

# To be frozen while they run would make them more than twice as dear to make (0.31 against
# 0.14 us for three fields), and some are made for each frame.
if TYPE_CHECKING:
    from attrs import frozen as frozen_when_typed
else:
    frozen_when_typed = attrs.define(unsafe_hash=True)


@frozen_when_typed
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
        session_id: the only session in which it may open one; None for any.
    """

    limits: Limits
    times: Times
    users: frozenset[str] | None = None
    session_id: str | None = None


class RecordIds:
    """The `record_id` of every message of a capture; two are the same as UUIDs compare.

    The states of a capture share one, so that one more id costs no copy: each id is kept with
    the number of its message, and is known only to the states behind that message. Two courses
    of events that part get a copy each, so what a state says of an id never changes.

    Args:
        first: the id of message 0, the `capture.open`.
    """

    __slots__ = ("_numbers",)

    def __init__(self, first: str) -> None:
        self._numbers = {first.lower(): 0}

    def add(self, record_id: str, number: int) -> RecordIds | None:
        """The ids with that of one more message; None if a message before it had the same.

        Args:
            record_id: of that message.
            number: how many messages were accepted before it.
        """
        numbers, known = self._numbers, record_id.lower()
        # An id that is known behind this message is one of another course of events.
        if numbers.get(known, number) < number:
            return None
        # As many as there were messages: nobody else has gone on from here.
        if len(numbers) == number:
            numbers[known] = number
            return self
        other = object.__new__(RecordIds)
        other._numbers = {each: at for each, at in numbers.items() if at < number}
        other._numbers[known] = number
        return other


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
        earliest_ns: the first frame has no event time before this.
        latest_ns: a frame with an event time after this cannot be part of the capture.
        record_ids: the ids of its messages so far.
        recheck_at: when the session is due to be checked again.
        check_until: when the answer of the re-check that is under way is late; None while
            none is.
        grace_until: when the session authority has been out of reach for too long; None
            while it answers.
    """

    idle: Idle
    opened: CaptureOpen
    max_skew_ns: int
    meta_to_bytes_ns: int
    idle_ns: int
    duration_until: int
    earliest_ns: int
    latest_ns: int
    record_ids: RecordIds
    recheck_at: int
    check_until: int | None
    grace_until: int | None


@frozen_when_typed
class Active:
    """A capture is running.

    Args:
        terms: what its messages are held against.
        last: the metadata of the last frame accepted; None before the first.
        total_bytes: bytes of the frames accepted so far.
        pending: the metadata whose bytes are awaited; None when none is.
        meta_at: ingest time of the last metadata, or of what let the capture begin; later by as
            long as the rig was not read since.
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


@attrs.frozen
class Ending:
    """A time limit has ended the capture, unless its session has: that is awaited first.

    What the rig sends meanwhile changes nothing.

    Args:
        idle: the state to go back to.
        error: the limit.
        until: when the answer about the session is late, nanoseconds since 1970 UTC.
    """

    idle: Idle
    error: DomainError
    until: int


State: TypeAlias = Idle | Active | Ending
