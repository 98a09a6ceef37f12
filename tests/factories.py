"""Messages and pictures for tests, valid unless a field is overridden."""

from __future__ import annotations

import itertools
import json
import uuid
from typing import Any

from schemas import CaptureClose, CaptureFrameMeta, CaptureOpen, Timestamp, parse_input

#: Where the virtual wall clock starts: 2026-05-04T10:20:30Z.
START_NS = 1_777_890_030_000_000_000
SECOND = 1_000_000_000

__all__ = [
    "SECOND",
    "START_NS",
    "at",
    "close_fields",
    "header",
    "jpeg",
    "make_close",
    "make_meta",
    "make_open",
    "meta_fields",
    "open_fields",
]

_numbers = itertools.count(1)


def jpeg(size: int = 200, width: int = 640, height: int = 480, fill: int = 0x55) -> bytes:
    """What passes for a picture of so many bytes: a frame's header, a scan, and an end."""

    def segment(marker: int, body: bytes) -> bytes:
        return bytes([0xFF, marker]) + (2 + len(body)).to_bytes(2, "big") + body

    shape = height.to_bytes(2, "big") + width.to_bytes(2, "big")
    head = b"\xff\xd8" + segment(0xC0, b"\x08" + shape + b"\x03" + bytes(9))
    head += segment(0xDA, b"\x01\x01\x00\x00\x3f\x00")
    rest = size - len(head) - 2
    assert rest >= 0, "no picture is so small"
    return head + bytes([fill]) * rest + b"\xff\xd9"


def at(seconds: float) -> str:
    """The instant so many seconds after the virtual clock's start, as a rig writes it."""
    return Timestamp.from_ns(START_NS + round(seconds * SECOND)).text


def header(**fields: Any) -> dict[str, Any]:
    """What every message has."""
    return {
        "schema_version": "1.0.0",
        "record_id": str(uuid.UUID(int=next(_numbers))),
        "user_id": "ada",
        "capture_id": "cap-1",
        "timestamp": at(0),
    } | fields


def open_fields(**fields: Any) -> dict[str, Any]:
    """A `capture.open` as a rig's dict."""
    return (
        header(
            event="capture.open",
            session_id="s-1",
            timestamp_start=at(0),
            fps_target=15,
            width=640,
            height=480,
            encoding="jpeg",
        )
        | fields
    )


def meta_fields(seq: Any = 1, byte_length: Any = 200, **fields: Any) -> dict[str, Any]:
    """A `capture.frame_meta` as a rig's dict; frames are 10 ms apart."""
    return (
        header(
            event="capture.frame_meta",
            seq=seq,
            timestamp_frame=at(seq * 0.01 if type(seq) is int else 0),
            byte_length=byte_length,
        )
        | fields
    )


def close_fields(**fields: Any) -> dict[str, Any]:
    """A `capture.close` as a rig's dict."""
    return header(event="capture.close", timestamp_end=at(10)) | fields


def make_open(**fields: Any) -> CaptureOpen:
    message = parse_input(json.dumps(open_fields(**fields)))
    assert isinstance(message, CaptureOpen)
    return message


def make_meta(seq: int = 1, byte_length: int = 200, **fields: Any) -> CaptureFrameMeta:
    message = parse_input(json.dumps(meta_fields(seq, byte_length, **fields)))
    assert isinstance(message, CaptureFrameMeta)
    return message


def make_close(**fields: Any) -> CaptureClose:
    message = parse_input(json.dumps(close_fields(**fields)))
    assert isinstance(message, CaptureClose)
    return message
