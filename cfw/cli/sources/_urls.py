"""Network cameras: RTSP by PyAV, MJPEG over HTTP without it."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from cfw.cli.mjpeg import SourceError
from cfw.cli.sources._http import HttpSource
from cfw.cli.sources._media import MediaSource
from cfw.cli.sources._records import Request
from cfw.cli.sources._source import ACCEPTED, FrameSource, Reading
from cfw.cli.sources._video import check_av
from cfw.plugins import redact_url

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


def is_url(spec: str) -> bool:
    """Whether a name is a URL."""
    return _URL.match(spec) is not None


def open_url(url: str, reading: Reading) -> FrameSource:
    """A network camera.

    Raises:
        SourceError: the URL is of another kind, or PyAV is not installed for it.
    """
    name = redact_url(url)
    try:
        parts = urlsplit(url)
        is_whole = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        is_whole = False
    if not is_whole:
        raise SourceError(name, None, "the URL is malformed: SCHEME://[USER:PASSWORD@]HOST/...")
    if parts.scheme in ("http", "https"):
        return HttpSource(url, name, reading)
    if parts.scheme not in ("rtsp", "rtsps"):
        raise SourceError(name, None, f"{parts.scheme}:// is none; {ACCEPTED}")
    check_av(name)
    request = Request(
        name=name,
        file=url,
        format="rtsp",
        # TCP, as UDP loses packets and firewalls stop it; little is looked at beforehand, so
        # that the first picture is there soon.
        options=[{"rtsp_transport": "tcp", "analyzeduration": "1000000"}],
        is_live=True,
        numbered=None,
        max_frame_bytes=reading.max_frame_bytes,
        fit=reading.fit,
    )
    return MediaSource(request, reading)
