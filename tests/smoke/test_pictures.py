"""Pictures as cameras and phones really write them, through a `cfw serve` of its own."""

from __future__ import annotations

import json

import pytest
import trio
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from cfw.client import open_capture, open_feed
from schemas import FeedClose
from tests.factories import jpeg
from tests.pictures import (
    APPLE_DOUBLE,
    LEFTOVER,
    MP4,
    draw,
    multi_picture,
    with_segment,
    with_spurious_marker,
)
from tests.smoke.test_serve_command import process
from tests.smoke.worker import meta, opening

PLAIN = draw(64, 48)
FRAMES = [
    PLAIN,
    PLAIN + LEFTOVER,
    PLAIN + MP4,
    multi_picture(PLAIN, draw(8, 8)),
    multi_picture(PLAIN, draw(8, 8)) + LEFTOVER * 9,
    with_segment(PLAIN, 0xE1, b"... http://ns.google.com/photos/1.0/camera/") + LEFTOVER * 9,
    with_spurious_marker(PLAIN),
    PLAIN,
]


async def test_frames_are_forwarded_as_they_came() -> None:
    """With all that trails the picture; a consumer reads the same bytes."""
    read: list[bytes] = []
    with process() as (_, ready), trio.fail_after(30):
        async with open_feed(ready["admin"]) as feed:
            async with open_capture(
                ready["capture"], user_id="ada", session_id="s-1", width=64, height=48, fps=15
            ) as capture:
                for frame in FRAMES:
                    await capture.send_frame(frame)
            async for message, data in feed:
                if data is not None:
                    read.append(data)
                if isinstance(message, FeedClose):
                    break
    assert read == FRAMES
    assert capture.receipt is not None
    assert capture.receipt.bytes == sum(map(len, FRAMES))


@pytest.mark.parametrize(
    ("frame", "told"),
    [
        (jpeg() + bytes(4097), "4097 bytes follow its EOI"),
        (jpeg()[:-2] + LEFTOVER, "no EOI"),
        (APPLE_DOUBLE, "does not begin with SOI"),
    ],
)
def test_what_is_no_picture_is_named(frame: bytes, told: str) -> None:
    """In the abort, with what is allowed."""
    with process() as (_, ready), connect(ready["capture"], proxy=None) as ws:
        for message in (opening(), meta(1, len(frame)), frame):
            ws.send(message)
        abort = json.loads(ws.recv(timeout=10))
        with pytest.raises(ConnectionClosed):
            ws.recv(timeout=10)
    assert abort["error_code"] == "protocol_violation"
    assert told in abort["detail"]
