"""Every message of the protocol, as attrs classes that cannot hold a wrong value.

What a rig sends (`CameraFeedWorkerInput`), what the worker answers
(`CameraFeedWorkerOutput`), and what consumers of the feed read (`CameraFeedWorkerFeed`).
Each field carries its rule twice from one place: as a validator and as JSON Schema.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal, TypeAlias

import attrs

from schemas._errors import SchemaError
from schemas._time import TIMESTAMP_PATTERN, Timestamp

#: The version this package writes; it reads every 1.MINOR.PATCH.
SCHEMA_VERSION = "1.0.0"

Modality: TypeAlias = Literal["gesture", "audio", "speech", "image", "multimodal"]
_MODALITIES = ("gesture", "audio", "speech", "image", "multimodal")


class ErrorCode(StrEnum):
    """Why a capture was aborted. The values are stable."""

    PROTOCOL_VIOLATION = "protocol_violation"
    LIMIT_DURATION_EXCEEDED = "limit_duration_exceeded"
    LIMIT_FRAME_COUNT_EXCEEDED = "limit_frame_count_exceeded"
    LIMIT_RESOLUTION_EXCEEDED = "limit_resolution_exceeded"
    LIMIT_FPS_EXCEEDED = "limit_fps_exceeded"
    LIMIT_FRAME_BYTES_EXCEEDED = "limit_frame_bytes_exceeded"
    LIMIT_TOTAL_BYTES_EXCEEDED = "limit_total_bytes_exceeded"
    LIMIT_FORWARD_BUFFER_EXCEEDED = "limit_forward_buffer_exceeded"
    FORWARD_FAILED = "forward_failed"
    SESSION_INVALID = "session_invalid"
    SESSION_CLOSED = "session_closed"
    SERVER_SHUTDOWN = "server_shutdown"
    SERVER_AT_CAPACITY = "server_at_capacity"
    INTERNAL_ERROR = "internal_error"
    #: In the feed only: the rig went away in mid-capture.
    CLIENT_DISCONNECTED = "client_disconnected"
    #: In the feed only: the worker fell silent in mid-capture, and another one tells so.
    WORKER_LOST = "worker_lost"


# --- rules: each is a validator and knows its JSON Schema -----------------------------------


def shown(value: object) -> str:
    """A JSON value for an error message: at most 40 characters of it, nothing nested."""
    if isinstance(value, list | tuple):
        return "a list"
    if isinstance(value, dict):
        return "an object"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    text = repr(value[:40] if isinstance(value, str) else value)
    return text if len(text) <= 40 else text[:37] + "..."


class Rule(ABC):
    """What a field may hold, as an attrs validator; `schema` says the same as JSON Schema."""

    schema: Mapping[str, object]

    def __call__(self, _: object, attribute: attrs.Attribute[Any], value: Any) -> None:
        """Raise SchemaError, naming the field, for a value that is not allowed."""
        problem = self.problem(value)
        if problem is not None:
            raise SchemaError(attribute.name, problem)

    @abstractmethod
    def problem(self, value: Any) -> str | None:
        """What is wrong with the value and what is allowed; None when it is right."""


class _Text(Rule):
    def __init__(self, min_length: int = 0, max_length: int | None = None) -> None:
        self._min, self._max = min_length, max_length
        self.schema = {"type": "string", "minLength": min_length}
        if max_length is not None:
            self.schema["maxLength"] = max_length

    def problem(self, value: Any) -> str | None:
        if type(value) is not str:
            return f"must be a string, not {shown(value)}"
        if len(value) < self._min or (self._max is not None and len(value) > self._max):
            return f"must have {self._min} to {self._max} characters, not {len(value)}"
        return None


class _Pattern(Rule):
    def __init__(self, pattern: str, meaning: str) -> None:
        self._matches = re.compile(pattern).fullmatch
        self._meaning = meaning
        self.schema = {"type": "string", "pattern": f"^{pattern}$"}

    def problem(self, value: Any) -> str | None:
        if type(value) is str and self._matches(value) is not None:
            return None
        return f"must be {self._meaning}, not {shown(value)}"


class _OneOf(Rule):
    def __init__(self, *values: str) -> None:
        self._values = values
        self.schema = {"enum": [*map(str, values)]}

    def problem(self, value: Any) -> str | None:
        if isinstance(value, str) and value in self._values:
            return None
        return f"must be one of {', '.join(self._values)}; not {shown(value)}"


class _Integer(Rule):
    def __init__(self, minimum: int | None = None) -> None:
        self._min = minimum
        self.schema = {"type": "integer"}
        if minimum is not None:
            self.schema["minimum"] = minimum

    def problem(self, value: Any) -> str | None:
        if type(value) is not int:
            return f"must be an integer, not {shown(value)}"
        if self._min is not None and value < self._min:
            return f"must be at least {self._min}, not {value}"
        return None


class _Number(Rule):
    def __init__(self) -> None:
        self.schema = {"type": "number"}

    def problem(self, value: Any) -> str | None:
        if type(value) is int or type(value) is float:
            return None
        return f"must be a number, not {shown(value)}"


class _Instant(Rule):
    def __init__(self) -> None:
        self.schema = {"type": "string", "pattern": f"^{TIMESTAMP_PATTERN}$"}

    def problem(self, value: Any) -> str | None:
        if type(value) is Timestamp:
            return None
        if type(value) is not str:
            return f"must be an ISO 8601 string, not {shown(value)}"
        try:
            Timestamp.parse(value)
        except ValueError as exc:
            return f"is {exc}"
        return None


class _AnnotationRule(Rule):
    def __init__(self) -> None:
        self.schema = {
            "type": "object",
            "properties": {"intent": {"type": "string"}},
            "required": ["intent"],
        }

    def problem(self, value: Any) -> str | None:
        if type(value) is Annotation:
            return None
        return f'must be an object {{"intent": string}}, not {shown(value)}'


class _Optional(Rule):
    def __init__(self, rule: Rule) -> None:
        self._rule = rule
        self.schema = {"anyOf": [rule.schema, {"type": "null"}]}

    def problem(self, value: Any) -> str | None:
        return None if value is None else self._rule.problem(value)


_NAME = _Text(1, 128)
_OPTIONAL_NAME = _Optional(_NAME)
_OPTIONAL_TEXT = _Optional(_Text())
_INSTANT = _Instant()
_OPTIONAL_NUMBER = _Optional(_Number())
_COUNT = _Integer(0)
_HEX = "[0-9A-Fa-f]"
_UUID = _Pattern(f"{_HEX}{{8}}(-{_HEX}{{4}}){{3}}-{_HEX}{{12}}", "a UUID")
_VERSION_1 = _Pattern(r"1\.(0|[1-9][0-9]{0,8})\.(0|[1-9][0-9]{0,8})", "a version 1.MINOR.PATCH")
_CAPTURE_ID = _Pattern("[A-Za-z0-9._:-]{1,128}", "1 to 128 of A-Z a-z 0-9 . _ : -")


# --- converters: lenient, so that the rule behind them can name the field --------------------


def _to_timestamp(value: Timestamp | datetime | str) -> Timestamp:
    if type(value) is str:
        try:
            return Timestamp.parse(value)
        except ValueError:
            pass
    elif isinstance(value, datetime):
        return Timestamp.from_datetime(value)
    return value  # type: ignore[return-value]  # the rule refuses it


def _to_annotation(value: Annotation | Mapping[str, Any] | None) -> Annotation | None:
    if isinstance(value, dict) and type(value.get("intent")) is str:
        return Annotation(intent=value["intent"])
    return value  # type: ignore[return-value]  # the rule refuses it


def _to_error_code(value: ErrorCode | str) -> ErrorCode:
    try:
        return ErrorCode(value)
    except ValueError:
        return value  # type: ignore[return-value]  # the rule refuses it


# --- the header that every message has ------------------------------------------------------


@attrs.frozen(kw_only=True)
class _Header:
    schema_version: str = attrs.field(validator=_VERSION_1)
    record_id: str = attrs.field(validator=_UUID)
    user_id: str = attrs.field(validator=_NAME)
    capture_id: str = attrs.field(validator=_CAPTURE_ID)
    timestamp: Timestamp = attrs.field(converter=_to_timestamp, validator=_INSTANT)
    modality: Modality | None = attrs.field(
        default=None, validator=_Optional(_OneOf(*_MODALITIES))
    )
    source: str | None = attrs.field(default=None, validator=_OPTIONAL_TEXT)
    performer_id: str | None = attrs.field(default=None, validator=_OPTIONAL_TEXT)


@attrs.frozen(kw_only=True)
class Annotation:
    """What the capture is meant to show; fixed for the capture."""

    intent: str = attrs.field(validator=_Text())


@attrs.frozen(kw_only=True)
class _OpenBody(_Header):
    session_id: str = attrs.field(validator=_NAME)
    timestamp_start: Timestamp = attrs.field(converter=_to_timestamp, validator=_INSTANT)
    fps_target: int = attrs.field(validator=_Integer(1))
    width: int = attrs.field(validator=_Integer(1))
    height: int = attrs.field(validator=_Integer(1))
    encoding: Literal["jpeg"] = attrs.field(validator=_OneOf("jpeg"))
    annotation: Annotation | None = attrs.field(
        default=None, converter=_to_annotation, validator=_Optional(_AnnotationRule())
    )


@attrs.frozen(kw_only=True)
class _FrameBody(_Header):
    session_id: str | None = attrs.field(default=None, validator=_OPTIONAL_NAME)
    seq: int = attrs.field(validator=_Integer())
    timestamp_frame: Timestamp = attrs.field(converter=_to_timestamp, validator=_INSTANT)
    byte_length: int = attrs.field(validator=_Integer(1))


@attrs.frozen(kw_only=True)
class _CloseBody(_Header):
    session_id: str | None = attrs.field(default=None, validator=_OPTIONAL_NAME)
    timestamp_end: Timestamp = attrs.field(converter=_to_timestamp, validator=_INSTANT)


@attrs.frozen(kw_only=True)
class _AbortBody(_Header):
    session_id: str | None = attrs.field(default=None, validator=_OPTIONAL_NAME)
    error_code: ErrorCode = attrs.field(converter=_to_error_code, validator=_OneOf(*ErrorCode))
    detail: str | None = attrs.field(default=None, validator=_OPTIONAL_TEXT)
    seq: int | None = attrs.field(default=None, validator=_Optional(_COUNT))
    observed: float | None = attrs.field(default=None, validator=_OPTIONAL_NUMBER)
    limit: float | None = attrs.field(default=None, validator=_OPTIONAL_NUMBER)


# --- rig to worker --------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class CaptureOpen(_OpenBody):
    """The rig asks to start one bounded capture."""

    event: Literal["capture.open"] = attrs.field(
        default="capture.open", validator=_OneOf("capture.open")
    )


@attrs.frozen(kw_only=True)
class CaptureFrameMeta(_FrameBody):
    """What the next binary message is: one JPEG of exactly `byte_length` bytes."""

    event: Literal["capture.frame_meta"] = attrs.field(
        default="capture.frame_meta", validator=_OneOf("capture.frame_meta")
    )


@attrs.frozen(kw_only=True)
class CaptureClose(_CloseBody):
    """The rig has sent its last frame."""

    event: Literal["capture.close"] = attrs.field(
        default="capture.close", validator=_OneOf("capture.close")
    )


# --- worker to rig --------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class CaptureAbort(_AbortBody):
    """The worker ends the capture; `record_id` is that of the `capture.open` it answers."""

    event: Literal["capture.abort"] = attrs.field(
        default="capture.abort", validator=_OneOf("capture.abort")
    )


# --- the feed: worker to consumers ----------------------------------------------------------


@attrs.frozen(kw_only=True, slots=False)  # two bases with slots cannot be joined
class _TerminalBody:
    """What the worker found: frames and bytes that entered the forward buffer, those the sink
    has taken, and how many milliseconds the rig's clock is ahead of the worker's.
    """

    frames_accepted: int = attrs.field(validator=_COUNT)
    bytes_accepted: int = attrs.field(validator=_COUNT)
    frames_forwarded: int = attrs.field(validator=_COUNT)
    bytes_forwarded: int = attrs.field(validator=_COUNT)
    clock_offset_min_ms: float | None = attrs.field(default=None, validator=_OPTIONAL_NUMBER)
    clock_offset_max_ms: float | None = attrs.field(default=None, validator=_OPTIONAL_NUMBER)


@attrs.frozen(kw_only=True)
class FeedOpened(_OpenBody):
    """A capture has begun: the rig's `capture.open` and when the worker took it."""

    timestamp_ingest: Timestamp = attrs.field(converter=_to_timestamp, validator=_INSTANT)
    event: Literal["capture.opened"] = attrs.field(
        default="capture.opened", validator=_OneOf("capture.opened")
    )


@attrs.frozen(kw_only=True)
class FeedFrame(_FrameBody):
    """All of a frame but its bytes, which follow as one binary message."""

    timestamp_ingest: Timestamp = attrs.field(converter=_to_timestamp, validator=_INSTANT)
    event: Literal["capture.frame"] = attrs.field(
        default="capture.frame", validator=_OneOf("capture.frame")
    )


@attrs.frozen(kw_only=True)
class FeedClose(_CloseBody, _TerminalBody):
    """Terminal of a capture that ended cleanly: every accepted frame was forwarded."""

    timestamp_ingest: Timestamp = attrs.field(converter=_to_timestamp, validator=_INSTANT)
    event: Literal["capture.close"] = attrs.field(
        default="capture.close", validator=_OneOf("capture.close")
    )


@attrs.frozen(kw_only=True)
class FeedAbort(_AbortBody, _TerminalBody):
    """Terminal of a capture that was aborted, or whose rig went away."""

    timestamp_ingest: Timestamp = attrs.field(converter=_to_timestamp, validator=_INSTANT)
    event: Literal["capture.abort"] = attrs.field(
        default="capture.abort", validator=_OneOf("capture.abort")
    )


CameraFeedWorkerInput: TypeAlias = CaptureOpen | CaptureFrameMeta | CaptureClose
CameraFeedWorkerOutput: TypeAlias = CaptureAbort
CameraFeedWorkerFeed: TypeAlias = FeedOpened | FeedFrame | FeedClose | FeedAbort
Terminal: TypeAlias = FeedClose | FeedAbort
Message: TypeAlias = CameraFeedWorkerInput | CameraFeedWorkerOutput | CameraFeedWorkerFeed
