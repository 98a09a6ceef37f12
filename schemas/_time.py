"""Instants as rigs write them: ISO 8601 text kept to the letter, ordered to the nanosecond."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache

import attrs

#: Calendar date, `T`, time of day, optional fraction of a second, optional offset.
TIMESTAMP_PATTERN = (
    r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2})"
    r"(?:[.,]([0-9]{1,18}))?"
    r"(Z|[+-][0-9]{2}(?::?[0-9]{2})?)?"
)
_PARTS = re.compile(TIMESTAMP_PATTERN)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND = timedelta(seconds=1)
_NS = 1_000_000_000


# The rigs of a worker write many instants of the same few seconds.
@lru_cache(maxsize=4096)
def _second(clock: str, offset: str | None) -> int:
    """Nanoseconds since 1970 UTC at the beginning of a second."""
    instant = datetime.fromisoformat(clock + (offset or "Z"))
    return ((instant - _EPOCH) // _SECOND) * _NS


# So does the worker.
@lru_cache(maxsize=64)
def _clock(seconds: int) -> str:
    """How a second is written that begins so long after 1970 UTC."""
    return (_EPOCH + seconds * _SECOND).strftime("%Y-%m-%dT%H:%M:%S")


@attrs.frozen(slots=True)
class Timestamp:
    """One instant: the text it was written as, and its place on the UTC time line.

    Two timestamps are equal when their texts are; compare `ns` to order instants.

    Args:
        text: ISO 8601, extended form, for example `2026-05-04T10:20:30.123456789+02:00`.
            Without an offset it is read as UTC.
        ns: nanoseconds since 1970-01-01T00:00:00 UTC; digits beyond the ninth are cut.
    """

    text: str
    ns: int

    @classmethod
    def parse(cls, text: str) -> Timestamp:
        """Read ISO 8601 text.

        Raises:
            ValueError: the text is not a date and a time of day in the extended form.
        """
        parts = _PARTS.fullmatch(text)
        if parts is None:
            raise ValueError(
                "not an ISO 8601 date and time such as 2026-05-04T10:20:30.123Z "
                f"(got {text[:40]!r})"
            )
        clock, fraction, offset = parts.groups()
        try:
            ns = _second(clock, offset)
        except ValueError as exc:
            raise ValueError(f"no such date and time: {exc} (got {text[:40]!r})") from None
        if fraction is not None:
            ns += int(fraction[:9].ljust(9, "0"))
        return cls(text, ns)

    @classmethod
    def from_ns(cls, ns: int) -> Timestamp:
        """Write an instant given in nanoseconds since 1970 UTC, to the nanosecond."""
        seconds, fraction = divmod(ns, _NS)
        return cls(f"{_clock(seconds)}.{fraction:09d}Z", ns)

    @classmethod
    def from_datetime(cls, instant: datetime) -> Timestamp:
        """Write a `datetime`; a naive one is read as UTC."""
        return cls.parse(instant.isoformat())

    @property
    def has_offset(self) -> bool:
        """Whether the text says which offset from UTC it has; without one it is read as UTC."""
        parts = _PARTS.fullmatch(self.text)
        return parts is not None and parts[3] is not None

    @property
    def step_ns(self) -> int:
        """One step of the last digit written, in nanoseconds; at least 1."""
        parts = _PARTS.fullmatch(self.text)
        fraction = "" if parts is None else parts[2] or ""
        return int(10 ** max(0, 9 - len(fraction)))

    def __str__(self) -> str:
        return self.text
