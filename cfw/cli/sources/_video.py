"""Video files: which they are, and how they are read."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

from cfw.cli.mjpeg import SourceError
from cfw.cli.sources._media import MediaSource
from cfw.cli.sources._records import Request
from cfw.cli.sources._source import FrameSource, Reading

_SUFFIXES = frozenset({".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi"})


def is_video(spec: str) -> bool:
    """Whether a name is that of a video file, by its ending."""
    return Path(spec).suffix.lower() in _SUFFIXES


def open_video(spec: str, reading: Reading) -> FrameSource:
    """A video file, played at its own pace.

    Raises:
        SourceError: PyAV is not installed.
    """
    check_av(spec)
    request = Request(
        name=spec,
        # With its scheme, so that no name of a file is taken for another protocol.
        file=f"file:{os.path.abspath(spec)}",
        format=None,
        options=[{}],
        is_live=False,
        numbered=None,
        max_frame_bytes=reading.max_frame_bytes,
        fit=reading.fit,
    )
    return MediaSource(request, reading)


def check_av(name: str) -> None:
    """Raise SourceError where PyAV is needed and not installed."""
    if find_spec("av") is None:
        raise SourceError(name, None, "needs PyAV: pip install 'camera-feed-worker[av]'")
