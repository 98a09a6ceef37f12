"""A rig's library: send one capture to a camera feed worker, or read what others send.

    async with open_capture(url, user_id="ada", session_id="s1",
                            width=640, height=480, fps=15) as capture:
        await capture.send_frame(jpeg)
    print(capture.receipt.frames)

`film` sends as many captures as it takes, within the limits of the worker and over losses.
`open_capture_sync`, `film_sync` and `open_feed_sync` are the same for a script without Trio,
and `cfw.client.aio` for asyncio. Pictures may be arrays where an encoder is installed. It needs
Trio and `schemas`, and nothing of the worker.
"""

from cfw.client._capture import Capture, open_capture
from cfw.client._clock import ClockOffset
from cfw.client._encode import FrameEncoder
from cfw.client._errors import (
    AccessDenied,
    ClockUnknown,
    ConnectionLost,
    ConnectionRefused,
    FilmIncomplete,
    LimitsUnknown,
    StartMissed,
)
from cfw.client._feed import Feed, open_feed
from cfw.client._film import Film, FilmOptions, film
from cfw.client._follow import FeedOpening, FeedOutage, follow_feed
from cfw.client._options import CaptureOptions, ConnectOptions, FeedOptions
from cfw.client._receipts import FilmPart, Receipt
from cfw.client._start import FilmStart
from cfw.client._worker import Worker, ask_worker
from cfw.client.sync import SyncCapture, SyncFeed, SyncFilm
from cfw.client.sync import film as film_sync
from cfw.client.sync import open_capture as open_capture_sync
from cfw.client.sync import open_feed as open_feed_sync
from schemas import WorkerLimits, errors
from schemas.errors import *

__all__ = [
    "AccessDenied",
    "Capture",
    "CaptureOptions",
    "ClockOffset",
    "ClockUnknown",
    "ConnectOptions",
    "ConnectionLost",
    "ConnectionRefused",
    "Feed",
    "FeedOpening",
    "FeedOptions",
    "FeedOutage",
    "Film",
    "FilmIncomplete",
    "FilmOptions",
    "FilmPart",
    "FilmStart",
    "FrameEncoder",
    "LimitsUnknown",
    "Receipt",
    "StartMissed",
    "SyncCapture",
    "SyncFeed",
    "SyncFilm",
    "Worker",
    "WorkerLimits",
    "ask_worker",
    "film",
    "film_sync",
    "follow_feed",
    "open_capture",
    "open_capture_sync",
    "open_feed",
    "open_feed_sync",
]
__all__ += errors.__all__
