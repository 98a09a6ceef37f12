"""What captures and feeds are opened with: told once, for those of Trio and their twins.

The `...Options` are the keyword arguments of a call, for type checkers and whoever reads; the
`...Settings` are the same with their defaults.
"""

from __future__ import annotations

import math
import re
import ssl
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal, Required, TypedDict

import attrs

from cfw.client._encode import Color, Encoder, FrameEncoder
from schemas import Annotation, Modality

_TOKEN = re.compile(r"[!-~]+")


class ConnectOptions(TypedDict, total=False):
    """How a worker is connected to: keyword arguments of everything here that does.

    Args:
        token: lets this client in where the worker asks for one; None sends none.
        ssl_context: for `wss://`, and for `https://` to read a feed; None checks certificates
            against the system's.
        headers: sent with the handshake, for example for a proxy.
        connect_timeout: seconds until the WebSocket has to be open; 10 if it is not given.
    """

    token: str | None
    ssl_context: ssl.SSLContext | None
    headers: Mapping[str, str] | None
    connect_timeout: float


class FeedOptions(ConnectOptions, total=False):
    """The keyword arguments of `open_feed` and `open_feed_sync`, beside `ConnectOptions`.

    Args:
        capture_id: the only capture to tell of; None means all.
        mode: `lossless` gives every frame and makes captures wait for this side, which is
            cut off when it is far too slow; `live` gives the newest frames and holds up
            nobody; None leaves it to the worker.
    """

    capture_id: str | None
    mode: Literal["lossless", "live"] | None


class CaptureOptions(ConnectOptions, total=False):
    """The keyword arguments of `open_capture` and `open_capture_sync`, beside `ConnectOptions`.

    Args:
        user_id: who sends, 1 to 128 characters.
        session_id: the session that lets the user send, 1 to 128 characters.
        width: of the pictures, in pixels; none may be larger.
        height: of the pictures, in pixels; none may be larger.
        fps: frames a second that the rig means to send.
        capture_id: 1 to 128 of `A-Z a-z 0-9 . _ : -`; None makes a UUID.
        source: what sends, for example the name of a rig; None tells nothing.
        modality: what the pictures are part of; None tells nothing.
        performer_id: who is in the pictures; None tells nothing.
        annotation: what the capture is meant to show; None tells nothing.
        timestamp_start: when the capture began. Text is forwarded as it is, a `datetime` in
            ISO 8601 (a naive one is read as UTC); None means now.
        encode: what makes JPEGs of arrays: `simplejpeg`, `pillow`, or `auto`, the first of
            these that is installed. Frames that are JPEGs need none.
        quality: of those JPEGs, 1 to 100; 85 if it is not given.
        color: order of the channels in arrays, `rgb` if it is not given; OpenCV's is `bgr`.
        close_timeout: seconds from the end of the block until the receipt has to be there; 20
            if it is not given.
    """

    user_id: Required[str]
    session_id: Required[str]
    width: Required[int]
    height: Required[int]
    fps: Required[int]
    capture_id: str | None
    source: str | None
    modality: Modality | None
    performer_id: str | None
    annotation: Annotation | Mapping[str, str] | None
    timestamp_start: datetime | str | None
    encode: Encoder
    quality: int
    color: Color
    close_timeout: float


def check_seconds(_: object, attribute: attrs.Attribute[Any], value: float) -> None:
    """Raise ValueError for a number of seconds that is none."""
    if not 0 < value <= math.inf:
        raise ValueError(f"{attribute.name} must be a number of seconds above 0, not {value!r}")


@attrs.frozen(kw_only=True)
class ConnectSettings:
    """See `ConnectOptions`.

    Raises:
        ValueError: the timeout is none.
    """

    token: str | None = attrs.field(default=None, repr=False)
    ssl_context: ssl.SSLContext | None = None
    headers: Mapping[str, str] | None = attrs.field(default=None, repr=False)
    connect_timeout: float = attrs.field(default=10, validator=check_seconds)

    def sent_headers(self) -> Mapping[str, str]:
        """The headers of the handshake, with the token if there is one.

        Raises:
            ValueError: it is no token, or the headers carry one already; it is not repeated.
        """
        headers = self.headers or {}
        if self.token is None:
            return headers
        if not _TOKEN.fullmatch(self.token):
            raise ValueError(
                "a token has no spaces and only ASCII; this one is none, or is empty"
            )
        if any(name.lower() == "authorization" for name in headers):
            raise ValueError("give either a token or the header Authorization")
        return {**headers, "Authorization": f"Bearer {self.token}"}


@attrs.frozen(kw_only=True)
class FeedSettings(ConnectSettings):
    """See `FeedOptions`."""

    capture_id: str | None = None
    mode: Literal["lossless", "live"] | None = None


@attrs.frozen(kw_only=True)
class CaptureSettings(ConnectSettings):
    """See `CaptureOptions`.

    Raises:
        ValueError: a timeout is none.
    """

    user_id: str
    session_id: str
    width: int
    height: int
    fps: int
    capture_id: str | None = None
    source: str | None = None
    modality: Modality | None = None
    performer_id: str | None = None
    annotation: Annotation | Mapping[str, str] | None = None
    timestamp_start: datetime | str | None = None
    encode: Encoder = "auto"
    quality: int = 85
    color: Color = "rgb"
    close_timeout: float = attrs.field(default=20, validator=check_seconds)

    def encoder(self) -> FrameEncoder:
        """What makes JPEGs of this capture's arrays; see there for what it raises."""
        return FrameEncoder(
            self.width,
            self.height,
            encode=self.encode,
            quality=self.quality,
            color=self.color,
        )
