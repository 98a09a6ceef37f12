"""What a worker says of itself when it lets a rig in: two headers of the handshake."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import attrs
import orjson

from schemas._time import Timestamp
from schemas.errors import MOST_INTEGER

#: One compact JSON object with the fields of `WorkerLimits`.
LIMITS_HEADER = "Cfw-Limits"
#: The worker's clock when it answered.
TIME_HEADER = "Cfw-Time"


def _is_seconds(_: Any, field: attrs.Attribute[Any], value: Any) -> None:
    if type(value) not in (int, float) or not 0 < value <= MOST_INTEGER:
        raise ValueError(f"{field.name} must be a number of seconds, not {value!r}")


def _is_count(_: Any, field: attrs.Attribute[Any], value: Any) -> None:
    if type(value) is not int or not 0 < value <= MOST_INTEGER:
        raise ValueError(f"{field.name} must be an integer of at least 1, not {value!r}")


@attrs.frozen(kw_only=True)
class WorkerLimits:
    """The most that one capture may reach at a worker; each may be reached and not passed.

    Args:
        max_duration_s: seconds of a capture, by the worker's clock and by event times.
        max_fps: frames a second that `capture.open` may ask for.
        max_width: of a picture, in pixels.
        max_height: of a picture, in pixels.
        max_pixels: width times height of a picture.
        max_frames: frames of a capture.
        max_frame_bytes: bytes of one frame.
        max_total_bytes: bytes of a capture's frames together.
        idle_s: seconds from one `capture.frame_meta` to the next, or to the close.

    Raises:
        ValueError: one is no number above 0.
    """

    max_duration_s: float = attrs.field(validator=_is_seconds)
    max_fps: int = attrs.field(validator=_is_count)
    max_width: int = attrs.field(validator=_is_count)
    max_height: int = attrs.field(validator=_is_count)
    max_pixels: int = attrs.field(validator=_is_count)
    max_frames: int = attrs.field(validator=_is_count)
    max_frame_bytes: int = attrs.field(validator=_is_count)
    max_total_bytes: int = attrs.field(validator=_is_count)
    idle_s: float = attrs.field(validator=_is_seconds)

    @classmethod
    def parse(cls, text: str | bytes) -> WorkerLimits:
        """Read the value of the header; fields that are not known are ignored.

        Raises:
            ValueError: it is none, or lacks a field.
        """
        found = orjson.loads(text)
        if type(found) is not dict:
            raise ValueError("not a JSON object")
        names = [field.name for field in attrs.fields(cls)]
        if missing := [name for name in names if name not in found]:
            raise ValueError(f"{missing[0]} is missing")
        return cls(**{name: found[name] for name in names})


@attrs.frozen
class Greeting:
    """What a worker says when it lets a rig in.

    Args:
        limits: of its captures; None when it tells none, as workers before 0.3 do.
        time: its clock when it answered; None likewise.
    """

    limits: WorkerLimits | None
    time: Timestamp | None

    @classmethod
    def of(cls, headers: Iterable[tuple[bytes, bytes]]) -> Greeting:
        """Read it from the headers of an answer; what cannot be read counts as not told."""
        values = {name.lower(): value for name, value in headers}
        limits = time = None
        with suppress(KeyError, ValueError):
            limits = WorkerLimits.parse(values[LIMITS_HEADER.lower().encode()])
        with suppress(KeyError, ValueError):
            time = Timestamp.parse(values[TIME_HEADER.lower().encode()].decode())
        return cls(limits, time)

    def headers(self) -> list[tuple[bytes, bytes]]:
        """It as the headers of an answer."""
        headers = []
        if self.limits is not None:
            limits = orjson.dumps(attrs.asdict(self.limits))
            headers.append((LIMITS_HEADER.encode(), limits))
        if self.time is not None:
            headers.append((TIME_HEADER.encode(), self.time.text.encode()))
        return headers
