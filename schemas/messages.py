"""Every message of the protocol, as attrs classes that cannot hold a wrong value.

What a rig sends (`CameraFeedWorkerInput`), what the worker answers
(`CameraFeedWorkerOutput`), and what consumers of the feed read (`CameraFeedWorkerFeed`).
Each field carries its rule twice from one place: as a validator and as JSON Schema.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal, TypeAlias

import attrs

from schemas._rules import (
    Hex,
    Instant,
    Integer,
    Number,
    OneOf,
    OrNull,
    Pattern,
    Rule,
    Text,
    shown,
)
from schemas._time import Timestamp
from schemas.errors import ErrorCode

#: The version this package writes; it reads every 1.MINOR.PATCH.
SCHEMA_VERSION = "1.0.0"

Modality: TypeAlias = Literal["gesture", "audio", "speech", "image", "multimodal"]
_MODALITIES = ("gesture", "audio", "speech", "image", "multimodal")


# --- rules ----------------------------------------------------------------------------------


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


_NAME = Text(1, 128)
_OPTIONAL_NAME = OrNull(_NAME)
_OPTIONAL_TEXT = OrNull(Text())
_INSTANT = Instant()
_OPTIONAL_NUMBER = OrNull(Number())
_COUNT = Integer(0)
_UUID = Hex(8, 4, 4, 4, 12, meaning="a UUID")
_VERSION_1 = Pattern(r"1\.(0|[1-9][0-9]{0,8})\.(0|[1-9][0-9]{0,8})", "a version 1.MINOR.PATCH")
_CAPTURE_ID = Pattern("[A-Za-z0-9._:-]{1,128}", "1 to 128 of A-Z a-z 0-9 . _ : -")


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
    modality: Modality | None = attrs.field(default=None, validator=OrNull(OneOf(*_MODALITIES)))
    source: str | None = attrs.field(default=None, validator=_OPTIONAL_TEXT)
    performer_id: str | None = attrs.field(default=None, validator=_OPTIONAL_TEXT)


@attrs.frozen(kw_only=True)
class Annotation:
    """What the capture is meant to show; fixed for the capture."""

    intent: str = attrs.field(validator=Text())


@attrs.frozen(kw_only=True)
class _OpenBody(_Header):
    session_id: str = attrs.field(validator=_NAME)
    timestamp_start: Timestamp = attrs.field(converter=_to_timestamp, validator=_INSTANT)
    fps_target: int = attrs.field(validator=Integer(1))
    width: int = attrs.field(validator=Integer(1))
    height: int = attrs.field(validator=Integer(1))
    encoding: Literal["jpeg"] = attrs.field(validator=OneOf("jpeg"))
    annotation: Annotation | None = attrs.field(
        default=None, converter=_to_annotation, validator=OrNull(_AnnotationRule())
    )


@attrs.frozen(kw_only=True)
class _FrameBody(_Header):
    session_id: str | None = attrs.field(default=None, validator=_OPTIONAL_NAME)
    seq: int = attrs.field(validator=Integer())
    timestamp_frame: Timestamp = attrs.field(converter=_to_timestamp, validator=_INSTANT)
    byte_length: int = attrs.field(validator=Integer(1))


@attrs.frozen(kw_only=True)
class _CloseBody(_Header):
    session_id: str | None = attrs.field(default=None, validator=_OPTIONAL_NAME)
    timestamp_end: Timestamp = attrs.field(converter=_to_timestamp, validator=_INSTANT)


@attrs.frozen(kw_only=True)
class _AbortBody(_Header):
    session_id: str | None = attrs.field(default=None, validator=_OPTIONAL_NAME)
    error_code: ErrorCode = attrs.field(converter=_to_error_code, validator=OneOf(*ErrorCode))
    detail: str | None = attrs.field(default=None, validator=_OPTIONAL_TEXT)
    seq: int | None = attrs.field(default=None, validator=OrNull(_COUNT))
    observed: float | None = attrs.field(default=None, validator=_OPTIONAL_NUMBER)
    limit: float | None = attrs.field(default=None, validator=_OPTIONAL_NUMBER)


# --- rig to worker --------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class CaptureOpen(_OpenBody):
    """The rig asks to start one bounded capture."""

    event: Literal["capture.open"] = attrs.field(
        default="capture.open", validator=OneOf("capture.open")
    )


@attrs.frozen(kw_only=True)
class CaptureFrameMeta(_FrameBody):
    """What the next binary message is: one JPEG of exactly `byte_length` bytes."""

    event: Literal["capture.frame_meta"] = attrs.field(
        default="capture.frame_meta", validator=OneOf("capture.frame_meta")
    )


@attrs.frozen(kw_only=True)
class CaptureClose(_CloseBody):
    """The rig has sent its last frame."""

    event: Literal["capture.close"] = attrs.field(
        default="capture.close", validator=OneOf("capture.close")
    )


# --- worker to rig --------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class CaptureAbort(_AbortBody):
    """The worker ends the capture; `record_id` is that of the `capture.open` it answers."""

    event: Literal["capture.abort"] = attrs.field(
        default="capture.abort", validator=OneOf("capture.abort")
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
        default="capture.opened", validator=OneOf("capture.opened")
    )


@attrs.frozen(kw_only=True)
class FeedFrame(_FrameBody):
    """All of a frame but its bytes, which follow as one binary message."""

    timestamp_ingest: Timestamp = attrs.field(converter=_to_timestamp, validator=_INSTANT)
    event: Literal["capture.frame"] = attrs.field(
        default="capture.frame", validator=OneOf("capture.frame")
    )


@attrs.frozen(kw_only=True)
class FeedClose(_CloseBody, _TerminalBody):
    """Terminal of a capture that ended cleanly: every accepted frame was forwarded."""

    timestamp_ingest: Timestamp = attrs.field(converter=_to_timestamp, validator=_INSTANT)
    event: Literal["capture.close"] = attrs.field(
        default="capture.close", validator=OneOf("capture.close")
    )


@attrs.frozen(kw_only=True)
class FeedAbort(_AbortBody, _TerminalBody):
    """Terminal of a capture that was aborted, or whose rig went away."""

    timestamp_ingest: Timestamp = attrs.field(converter=_to_timestamp, validator=_INSTANT)
    event: Literal["capture.abort"] = attrs.field(
        default="capture.abort", validator=OneOf("capture.abort")
    )


CameraFeedWorkerInput: TypeAlias = CaptureOpen | CaptureFrameMeta | CaptureClose
CameraFeedWorkerOutput: TypeAlias = CaptureAbort
CameraFeedWorkerFeed: TypeAlias = FeedOpened | FeedFrame | FeedClose | FeedAbort
Terminal: TypeAlias = FeedClose | FeedAbort
Message: TypeAlias = CameraFeedWorkerInput | CameraFeedWorkerOutput | CameraFeedWorkerFeed
