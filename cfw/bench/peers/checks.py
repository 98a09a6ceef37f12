"""What every peer checks: the worker's contract on messages that the peer has parsed itself.

Left out, because only the worker has them: the session authority and its re-checks, the time
limits, the abort message, the claim to a capture_id, metrics, shutdown.
"""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import Protocol
from uuid import UUID

from cfw.jpeg import NotAJpeg, probe
from cfw.limits import Limits

PATH = "/camera_feed_worker/capture"
#: The end of a frame of the load: eight bytes for the instant of sending, then EOI.
TAIL_BYTES = 10
#: The worker's limits as well, raised so that no run meets them.
RAISED: dict[str, float] = {
    "max_duration_s": 1_000_000,
    "max_frames": 100_000_000,
    "max_total_bytes": 10**15,
    "max_frame_bytes": 8_000_000,
    "max_forward_buffer_bytes": 64_000_000,
    "max_memory_bytes": 10**15,
    "max_connections": 10_000,
    "max_connections_per_address": 10_000,
}
#: The worker's times, so that no idle rig is sent away while 2 000 connect.
PATIENT: dict[str, float] = {"open_s": 3600, "idle_s": 3600, "meta_to_bytes_s": 3600}
LIMITS = Limits(**RAISED)  # type: ignore[arg-type]
#: Frames between the reader and the consumer.
QUEUE_FRAMES = LIMITS.max_forward_buffer_frames


class Refused(Exception):
    """The capture breaks the contract; the text is the reason of close frame 1008."""


class Header(Protocol):
    """The fields that all messages share, as a peer has parsed them."""

    @property
    def record_id(self) -> UUID: ...
    @property
    def user_id(self) -> str: ...
    @property
    def session_id(self) -> str | None: ...
    @property
    def capture_id(self) -> str: ...


class Opening(Header, Protocol):
    """A parsed `capture.open`."""

    @property
    def timestamp_start(self) -> datetime: ...
    @property
    def fps_target(self) -> int: ...
    @property
    def width(self) -> int: ...
    @property
    def height(self) -> int: ...


class Meta(Header, Protocol):
    """A parsed `capture.frame_meta`."""

    @property
    def seq(self) -> int: ...
    @property
    def timestamp_frame(self) -> datetime: ...
    @property
    def byte_length(self) -> int: ...


class Closing(Header, Protocol):
    """A parsed `capture.close`."""

    @property
    def timestamp_end(self) -> datetime: ...


class Capture:
    """One capture, from its opening message to its close.

    Every method raises Refused when the contract is broken.
    """

    def __init__(self, opened: Opening) -> None:
        if opened.width > LIMITS.max_width or opened.height > LIMITS.max_height:
            raise Refused("limit_resolution_exceeded")
        if opened.width * opened.height > LIMITS.max_pixels:
            raise Refused("limit_resolution_exceeded")
        if opened.fps_target > LIMITS.max_fps:
            raise Refused("limit_fps_exceeded")
        self._opened = opened
        self._record_ids = {opened.record_id}
        self._start = _instant(opened.timestamp_start)
        self._last: float | None = None
        self._pending: Meta | None = None
        self.frames = 0
        self.bytes = 0

    def meta(self, meta: Meta) -> None:
        """Take the metadata of the next frame."""
        self._same(meta)
        if self._pending is not None:
            raise Refused("protocol_violation: the bytes of the frame are missing")
        if meta.seq != self.frames + 1:
            raise Refused(f"protocol_violation: seq must be {self.frames + 1}")
        instant = _instant(meta.timestamp_frame)
        if self._last is not None and instant < self._last:
            raise Refused("protocol_violation: event time goes back")
        if meta.byte_length > LIMITS.max_frame_bytes:
            raise Refused("limit_frame_bytes_exceeded")
        if meta.seq > LIMITS.max_frames:
            raise Refused("limit_frame_count_exceeded")
        if self.bytes + meta.byte_length > LIMITS.max_total_bytes:
            raise Refused("limit_total_bytes_exceeded")
        self._last = instant
        self._pending = meta

    def frame(self, data: bytes) -> None:
        """Take the bytes of that frame."""
        meta = self._pending
        if meta is None:
            raise Refused("protocol_violation: no frame_meta before it")
        if len(data) != meta.byte_length:
            raise Refused("protocol_violation: byte_length is wrong")
        try:
            width, height = probe(data)
        except NotAJpeg as exc:
            raise Refused(f"protocol_violation: {exc}") from None
        if width > self._opened.width or height > self._opened.height:
            raise Refused("limit_resolution_exceeded")
        self._pending = None
        self.frames += 1
        self.bytes += len(data)

    def close(self, closing: Closing) -> None:
        """Take the end of the capture."""
        self._same(closing)
        end = _instant(closing.timestamp_end)
        if self._pending is not None or end < self._start or end < (self._last or end):
            raise Refused("protocol_violation: the end does not agree with the frames")
        if end - self._start > LIMITS.max_duration_s:
            raise Refused("limit_duration_exceeded")

    def receipt(self) -> str:
        """The reason of close frame 1000."""
        return json.dumps({"frames": self.frames, "bytes": self.bytes}, separators=(",", ":"))

    def _same(self, message: Header) -> None:
        opened = self._opened
        if (
            message.capture_id != opened.capture_id
            or message.user_id != opened.user_id
            or message.session_id not in (None, opened.session_id)
        ):
            raise Refused("protocol_violation: ids must stay the same")
        if message.record_id in self._record_ids:
            raise Refused("protocol_violation: record_id was used before")
        self._record_ids.add(message.record_id)


class Consumer:
    """Where frames end: what the worker's sink is.

    Args:
        is_stamped: note how long each stamped frame took to get here.
    """

    def __init__(self, is_stamped: bool = False) -> None:
        self._is_stamped = is_stamped
        self.delays_ns: list[int] = []

    def take(self, data: bytes) -> None:
        """Take a frame."""
        if self._is_stamped:
            stamp = stamp_of(data)
            if stamp:
                self.delays_ns.append(time.monotonic_ns() - stamp)


def stamp_of(data: bytes) -> int:
    """The instant that a frame carries, in nanoseconds; 0 when it was not stamped."""
    return int.from_bytes(data[-TAIL_BYTES:-2], "big")


def _instant(stamp: datetime) -> float:
    """Seconds since 1970; a time without offset is UTC."""
    instant = (stamp if stamp.tzinfo else stamp.replace(tzinfo=UTC)).timestamp()
    if abs(instant - time.time()) > LIMITS.max_clock_skew_s:
        raise Refused("protocol_violation: event time is far from the clock")
    return instant
