"""The rig's messages as msgspec structs, for the peers that would use them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal, TypeAlias
from uuid import UUID

import msgspec

from cfw.bench.peers.checks import Refused

Id = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
CaptureId = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9._:-]{1,128}\Z")]
Version = Annotated[str, msgspec.Meta(pattern=r"^1\.[0-9]+\.[0-9]+\Z")]
RecordId = Annotated[
    str, msgspec.Meta(pattern=r"^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}\Z")
]
Positive = Annotated[int, msgspec.Meta(ge=1)]
Modality = Literal["gesture", "audio", "speech", "image", "multimodal"]


class _Header(msgspec.Struct, tag_field="event", gc=False):
    schema_version: Version
    record_id: UUID
    user_id: Id
    capture_id: CaptureId
    timestamp: datetime


class Annotation(msgspec.Struct):
    """`annotation` of an open."""

    intent: str


class Open(_Header, tag="capture.open", kw_only=True):
    """`capture.open`."""

    session_id: Id
    timestamp_start: datetime
    fps_target: Positive
    width: Positive
    height: Positive
    encoding: Literal["jpeg"]
    annotation: Annotation | None = None
    modality: Modality | None = None
    source: str | None = None
    performer_id: str | None = None


class FrameMeta(_Header, tag="capture.frame_meta", kw_only=True):
    """`capture.frame_meta`."""

    seq: int
    timestamp_frame: datetime
    byte_length: Positive
    session_id: Id | None = None
    modality: Modality | None = None
    source: str | None = None
    performer_id: str | None = None
    annotation: msgspec.UnsetType = msgspec.UNSET


class Close(_Header, tag="capture.close", kw_only=True):
    """`capture.close`."""

    timestamp_end: datetime
    session_id: Id | None = None
    modality: Modality | None = None
    source: str | None = None
    performer_id: str | None = None
    annotation: msgspec.UnsetType = msgspec.UNSET


class UntimedMeta(msgspec.Struct, tag_field="event", tag="capture.frame_meta", gc=False):
    """`capture.frame_meta` as text that the rules allow, with its instants not read yet."""

    schema_version: Version
    record_id: RecordId
    user_id: Id
    capture_id: CaptureId
    timestamp: str
    seq: int
    timestamp_frame: str
    byte_length: Positive
    session_id: Id | None = None
    modality: Modality | None = None
    source: str | None = None
    performer_id: str | None = None


decode_untimed = msgspec.json.Decoder(UntimedMeta).decode

Input: TypeAlias = Open | FrameMeta | Close
_decoder: msgspec.json.Decoder[Input] = msgspec.json.Decoder(Input)
_decode = _decoder.decode


def parse(text: str | bytes | memoryview) -> Input:
    """Read one message.

    Raises:
        Refused: it is none.
    """
    try:
        return _decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise Refused(f"protocol_violation: {exc}"[:120]) from None


def parse_open(message: object) -> Open:
    """Read the first message of a connection.

    Raises:
        Refused: it is no `capture.open`.
    """
    opened = parse(message) if isinstance(message, str | bytes) else None
    if not isinstance(opened, Open):
        raise Refused("protocol_violation: a capture begins with capture.open")
    return opened
