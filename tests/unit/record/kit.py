"""Captures to record, without a worker."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cfw.record._capture import CaptureWriter, Written
from cfw.recording import FORMATS, Format
from schemas import ErrorCode, FeedAbort, FeedClose, FeedFrame, FeedOpened, Timestamp
from tests.pictures import draw

START_NS = Timestamp.parse("2026-05-04T10:20:30Z").ns
MS = 1_000_000
PICTURES = tuple(draw(32, 24, seed) for seed in range(1, 9))


def header(capture_id: str, **fields: Any) -> dict[str, Any]:
    """What every message of the feed has."""
    return {
        "schema_version": "1.0.0",
        "record_id": str(uuid.uuid4()),
        "user_id": "ada",
        "capture_id": capture_id,
        "timestamp": Timestamp.from_ns(START_NS),
        "timestamp_ingest": Timestamp.from_ns(START_NS),
    } | fields


def opened(capture_id: str = "c1", **fields: Any) -> FeedOpened:
    """How a capture begins."""
    own = header(capture_id, **fields)
    rest = {
        "session_id": "s1",
        "timestamp_start": own["timestamp"],
        "fps_target": 15,
        "width": 640,
        "height": 480,
        "encoding": "jpeg",
    }
    return FeedOpened(**(rest | own))


def frame(seq: int, jpeg: bytes, capture_id: str = "c1", **fields: Any) -> FeedFrame:
    """A frame; its event time is of a rig whose rate is not quite even."""
    event_ns = START_NS + seq * 66_666_667 + (seq % 3) * 1_234_567
    own = header(
        capture_id,
        seq=seq,
        byte_length=len(jpeg),
        timestamp_frame=Timestamp.from_ns(event_ns),
        timestamp_ingest=Timestamp.from_ns(event_ns + 5 * MS),
    )
    return FeedFrame(**(own | fields))


def counts(jpegs: Sequence[bytes]) -> dict[str, int]:
    """What a terminal counts of these."""
    size = sum(map(len, jpegs))
    return {
        "frames_accepted": len(jpegs),
        "bytes_accepted": size,
        "frames_forwarded": len(jpegs),
        "bytes_forwarded": size,
    }


def closed(jpegs: Sequence[bytes], capture_id: str = "c1", **fields: Any) -> FeedClose:
    """A clean end."""
    end = Timestamp.from_ns(START_NS + 10_000 * MS)
    own = header(capture_id, timestamp_end=end, timestamp_ingest=end)
    return FeedClose(**(own | counts(jpegs) | fields))


def aborted(jpegs: Sequence[bytes], capture_id: str = "c1", **fields: Any) -> FeedAbort:
    """The end of a capture whose rig has left."""
    own = header(capture_id, error_code=ErrorCode.CLIENT_DISCONNECTED)
    return FeedAbort(**(own | counts(jpegs) | fields))


def frames(jpegs: Sequence[bytes], capture_id: str = "c1") -> list[tuple[FeedFrame, bytes]]:
    """Frames from the first on."""
    return [(frame(seq, jpeg, capture_id), jpeg) for seq, jpeg in enumerate(jpegs, 1)]


def begin(
    folder: Path, *formats: Format, name: tuple[str, ...] = ("s1", "one"), **fields: Any
) -> CaptureWriter:
    """A recording that has opened; in all formats, unless they are named."""
    return CaptureWriter(folder, name, opened(**fields), formats or FORMATS)


def record(
    folder: Path, *formats: Format, jpegs: Sequence[bytes] = PICTURES, **fields: Any
) -> Written:
    """A whole recording."""
    writer = begin(folder, *formats, **fields)
    writer.add_all(frames(jpegs))
    return writer.finish(closed(jpegs))


def flip(path: Path, at: int) -> None:
    """Turn one bit of a file around."""
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)
