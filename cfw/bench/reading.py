"""What reading the metadata of one frame costs: the worker's way beside those of libraries."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

import attrs
import orjson

from cfw import code_in_use
from schemas import (
    SCHEMA_VERSION,
    CaptureFrameMeta,
    Timestamp,
    parse_input,
    to_json,
)

#: Reads one text.
Way: TypeAlias = Callable[[str], object]

#: What is read in turn, as one rig writes it; so many that no cache holds them all.
_TEXTS: Final = 2_000
_EPOCH_NS: Final = 1_777_891_230_000_000_000
_FRAME_NS: Final = 66_666_667


def texts() -> list[str]:
    """Metadata of a rig at 15 frames a second."""
    frames = []
    for seq in range(1, _TEXTS + 1):
        now = Timestamp.from_ns(_EPOCH_NS + seq * _FRAME_NS)
        frames.append(
            CaptureFrameMeta(
                schema_version=SCHEMA_VERSION,
                record_id=str(uuid.uuid4()),
                user_id="ada",
                capture_id="capture-1",
                timestamp=now,
                seq=seq,
                timestamp_frame=now,
                byte_length=30_000,
            )
        )
    return [*map(to_json, frames)]


def ways() -> Mapping[str, Way]:
    """Each way to read a frame's metadata, the worker's first.

    Raises:
        ImportError: msgspec is not installed.
    """
    from cfw.bench.peers.structs import decode_untimed

    names = [field.name for field in attrs.fields(CaptureFrameMeta) if field.name != "event"]

    def with_instants(text: str) -> object:
        meta: Any = decode_untimed(text)
        return Timestamp.parse(meta.timestamp), Timestamp.parse(meta.timestamp_frame), meta

    def with_message(text: str) -> object:
        meta: Any = decode_untimed(text)
        return CaptureFrameMeta(**{name: getattr(meta, name) for name in names})

    return {
        f"the worker ({code_in_use()}): rules, instants, attrs": parse_input,
        "orjson and cattrs: the same": lambda text: parse_input(text.encode()),
        "msgspec: rules": decode_untimed,
        "msgspec: rules, and the instants": with_instants,
        "msgspec: rules, instants, attrs": with_message,
        "orjson alone: nothing is checked": orjson.loads,
    }


def cost_us(way: Way, frames: list[str], seconds: float) -> float:
    """CPU time of one text, in microseconds.

    Args:
        seconds: that are measured, at least.
    """
    count, began = 0, time.process_time()
    while (used := time.process_time() - began) < seconds:
        for text in frames:
            way(text)
        count += len(frames)
    return used / count * 1e6
