"""What a capture is opened with: told once, for `open_capture` and its twin without Trio."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Required, TypedDict

import attrs

from cfw.client._encode import Color, Encoder, FrameEncoder
from cfw.client._link import check_seconds
from schemas import Annotation, Modality


class CaptureOptions(TypedDict, total=False):
    """The keyword arguments of `open_capture` and `open_capture_sync`.

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
        token: lets this client in where the worker asks for one; None sends none.
        ssl_context: for `wss://`; None checks certificates against the system's.
        headers: sent with the handshake, for example for a proxy.
        connect_timeout: seconds until the WebSocket has to be open; 10 if it is not given.
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
    token: str | None
    ssl_context: ssl.SSLContext | None
    headers: Mapping[str, str] | None
    connect_timeout: float
    close_timeout: float


def _check_seconds(_: object, attribute: attrs.Attribute[Any], value: Any) -> None:
    check_seconds(attribute.name, value)


@attrs.frozen(kw_only=True)
class Options:
    """The same with their defaults.

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
    token: str | None = attrs.field(default=None, repr=False)
    ssl_context: ssl.SSLContext | None = None
    headers: Mapping[str, str] | None = attrs.field(default=None, repr=False)
    connect_timeout: float = attrs.field(default=10, validator=_check_seconds)
    close_timeout: float = attrs.field(default=20, validator=_check_seconds)

    def encoder(self) -> FrameEncoder:
        """What makes JPEGs of this capture's arrays; see there for what it raises."""
        return FrameEncoder(
            self.width,
            self.height,
            encode=self.encode,
            quality=self.quality,
            color=self.color,
        )
