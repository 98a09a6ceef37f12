"""The rig's messages as pydantic models, for the peer that would use them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal, TypeAlias
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from cfw.bench.peers.checks import Refused

Id = Annotated[str, Field(min_length=1, max_length=128)]
CaptureId = Annotated[str, Field(pattern=r"^[A-Za-z0-9._:-]{1,128}$")]
Version = Annotated[str, Field(pattern=r"^1\.[0-9]+\.[0-9]+$")]
Positive = Annotated[int, Field(ge=1)]
Modality = Literal["gesture", "audio", "speech", "image", "multimodal"]


class _Header(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True)

    schema_version: Version
    record_id: UUID
    user_id: Id
    capture_id: CaptureId
    timestamp: datetime
    modality: Modality | None = None
    source: str | None = None
    performer_id: str | None = None


class Annotation(BaseModel):
    """`annotation` of an open."""

    intent: str


class Open(_Header):
    """`capture.open`."""

    event: Literal["capture.open"]
    session_id: Id
    timestamp_start: datetime
    fps_target: Positive
    width: Positive
    height: Positive
    encoding: Literal["jpeg"]
    annotation: Annotation | None = None


class FrameMeta(_Header):
    """`capture.frame_meta`."""

    event: Literal["capture.frame_meta"]
    seq: int
    timestamp_frame: datetime
    byte_length: Positive
    session_id: Id | None = None


class Close(_Header):
    """`capture.close`."""

    event: Literal["capture.close"]
    timestamp_end: datetime
    session_id: Id | None = None


Input: TypeAlias = Open | FrameMeta | Close
_adapter: TypeAdapter[Input] = TypeAdapter(Annotated[Input, Field(discriminator="event")])


def parse(text: str) -> Input:
    """Read one message.

    Raises:
        Refused: it is none.
    """
    try:
        return _adapter.validate_json(text)
    except ValidationError as exc:
        problem = exc.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, problem["loc"]))
        raise Refused(f"protocol_violation: {where} {problem['msg']}"[:120]) from None
