"""The end of a capture whose own end is lost."""

from __future__ import annotations

import time

from schemas import SCHEMA_VERSION, ErrorCode, FeedAbort, FeedOpened, Timestamp, restate

SOURCE = "camera_feed_worker"


def abort_of(
    opened: FeedOpened, error_code: ErrorCode, detail: str, *, frames: int, bytes: int
) -> FeedAbort:
    """Make the terminal of a capture from how it opened.

    Args:
        opened: its `capture.opened`.
        error_code: why it has ended.
        detail: the same in words.
        frames: how many are known; what its worker had accepted beside them nobody knows.
        bytes: of those.
    """
    now = Timestamp.from_ns(time.time_ns())
    return restate(
        opened,
        FeedAbort,
        schema_version=SCHEMA_VERSION,
        timestamp=now,
        source=SOURCE,
        timestamp_ingest=now,
        error_code=error_code,
        detail=detail,
        frames_accepted=frames,
        bytes_accepted=bytes,
        frames_forwarded=frames,
        bytes_forwarded=bytes,
    )
