"""Messages and frames as the router hands them to a sink."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from cfw.sinks import CaptureSink, Sink
from cfw.sinks.hub import FeedItem
from cfw.state import Frame
from schemas import CaptureFrameMeta, ErrorCode, FeedAbort, FeedClose, FeedOpened, Timestamp

RECORD_ID = "00000000-0000-4000-8000-000000000001"
NOW = Timestamp.parse("2026-05-04T10:20:30.123456789+02:00")


def opened(capture_id: str = "cap") -> FeedOpened:
    return FeedOpened(
        schema_version="1.0.0",
        record_id=RECORD_ID,
        user_id="user",
        capture_id=capture_id,
        timestamp=NOW,
        session_id="session",
        timestamp_start=NOW,
        fps_target=15,
        width=640,
        height=480,
        encoding="jpeg",
        timestamp_ingest=NOW,
    )


def frame(seq: int, capture_id: str = "cap", data: bytes = b"\xff\xd8\xff\xd9") -> Frame:
    meta = CaptureFrameMeta(
        schema_version="1.0.0",
        record_id=RECORD_ID,
        user_id="user",
        capture_id=capture_id,
        timestamp=NOW,
        seq=seq,
        timestamp_frame=NOW,
        byte_length=len(data),
    )
    return Frame(meta=meta, data=data, ingest_ns=NOW.ns + seq)


def close(capture_id: str = "cap", frames: int = 0) -> FeedClose:
    return FeedClose(
        schema_version="1.0.0",
        record_id=RECORD_ID,
        user_id="user",
        capture_id=capture_id,
        timestamp=NOW,
        timestamp_end=NOW,
        timestamp_ingest=NOW,
        frames_accepted=frames,
        bytes_accepted=4 * frames,
        frames_forwarded=frames,
        bytes_forwarded=4 * frames,
    )


def abort(capture_id: str = "cap") -> FeedAbort:
    return FeedAbort(
        schema_version="1.0.0",
        record_id=RECORD_ID,
        user_id="user",
        capture_id=capture_id,
        timestamp=NOW,
        error_code=ErrorCode.CLIENT_DISCONNECTED,
        timestamp_ingest=NOW,
        frames_accepted=0,
        bytes_accepted=0,
        frames_forwarded=0,
        bytes_forwarded=0,
    )


def brief(item: FeedItem) -> str:
    """An item as one word: `cap+` opened, `cap3` its frame 3, `cap.` closed, `cap!` aborted."""
    if isinstance(item, Frame):
        return f"{item.meta.capture_id}{item.meta.seq}"
    return item.capture_id + {FeedOpened: "+", FeedClose: ".", FeedAbort: "!"}[type(item)]


@asynccontextmanager
async def running(sink: Sink, capture_id: str = "cap") -> AsyncIterator[CaptureSink]:
    """A capture that is closed cleanly behind the block."""
    async with sink.capture(opened(capture_id)) as capture:
        yield capture
        await capture.finish(close(capture_id))
