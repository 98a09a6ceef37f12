"""`GET /captures/ID/latest.jpg` and `/captures/ID/stream.mjpg`: plain pictures, for any viewer.

What takes an address of a camera takes these: OBS, VLC, OpenCV, Home Assistant, an `<img>` of a
page of one's own. They are `live` subscribers of the hub: no capture ever waits for them, and
while the worker is busy they get fewer pictures, as the feed's viewers do (see `_pace`).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from functools import partial
from typing import Final

import trio

from cfw.admin._pace import LivePace
from cfw.http.messages import NO_STORE, Answer, Flow, Request, Response, problem
from cfw.http.routing import Route
from cfw.routes.registry import Registry
from cfw.sinks.hub import Hub, Subscription
from cfw.state import Frame
from schemas import FeedAbort, FeedClose

#: For a capture to come to its next frame; `times.idle_s` ends one that does not.
NEXT_FRAME_S: Final = 10.0
#: From one look whether a capture that the hub does not have is still there to the next.
_LOOK_S: Final = 0.1
#: No JPEG has this line: it would need a marker of it.
_BOUNDARY: Final = "cfw-frame"
#: Shown where it is asked for, and by no page of another site.
_HEADERS: Final = {
    **NO_STORE,
    "cross-origin-resource-policy": "same-origin",
    "x-content-type-options": "nosniff",
}


def picture_routes(hub: Hub | None, registry: Registry, pace: LivePace) -> tuple[Route, Route]:
    """What answers for the pictures of one capture.

    Args:
        hub: where the pictures come from; None when the sink of this worker is another one.
        registry: the captures that run.
        pace: of all live viewers.
    """

    def refusal(capture_id: str) -> Response | None:
        if hub is None:
            return problem("this worker's sink is not hub:, so it has no pictures", 404)
        if capture_id not in registry:
            return problem("no running capture has this capture_id", 404)
        return None

    async def latest(request: Request) -> Answer:
        capture_id = _capture_id(request)
        if (refused := refusal(capture_id)) is not None:
            return refused
        assert hub is not None
        with (
            hub.subscribe(capture_id=capture_id, mode="live") as subscription,
            pace.viewer(),
            trio.move_on_after(NEXT_FRAME_S),
        ):
            jpeg = await _next_jpeg(subscription)
            if jpeg is None:
                return problem("the capture ended before its next frame", 404)
            return Response(200, jpeg, {**_HEADERS, "content-type": "image/jpeg"})
        return problem(f"no frame came within {NEXT_FRAME_S:g} s", 503)

    async def stream(request: Request) -> Answer:
        capture_id = _capture_id(request)
        if (refused := refusal(capture_id)) is not None:
            return refused
        assert hub is not None
        content_type = f"multipart/x-mixed-replace; boundary={_BOUNDARY}"
        headers = {**_HEADERS, "content-type": content_type}
        return Flow(headers, partial(_parts, hub, registry, capture_id, pace))

    return (
        Route("/captures/{capture_id}/latest.jpg", latest),
        Route("/captures/{capture_id}/stream.mjpg", stream),
    )


def _capture_id(request: Request) -> str:
    return request.path.split("/")[2]


async def _parts(
    hub: Hub, registry: Registry, capture_id: str, pace: LivePace
) -> AsyncGenerator[bytes, None]:
    """The capture as parts of a multipart body, each whole with the boundary behind it.

    A viewer shows a picture once it has seen the boundary; behind the picture, it needs not
    wait for the next one.
    """
    with hub.subscribe(capture_id=capture_id, mode="live") as subscription, pace.viewer():
        # The hub has nothing yet of a capture that begins, and no more of one that is over,
        # which may be since the head was sent: of that one no end would be told.
        while not subscription.is_ready():
            if capture_id not in registry:
                return
            await trio.sleep(_LOOK_S)
        yield f"--{_BOUNDARY}\r\n".encode()
        while (jpeg := await _next_jpeg(subscription)) is not None:
            head = f"Content-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
            yield b"".join((head.encode(), jpeg, f"\r\n--{_BOUNDARY}\r\n".encode()))
            await pace.rest()


async def _next_jpeg(subscription: Subscription) -> bytes | None:
    """The next picture of the one capture subscribed to; None when it has ended."""
    async for item in subscription:
        if isinstance(item, Frame):
            return item.data
        if isinstance(item, FeedClose | FeedAbort):
            break
    return None


def is_picture(path: str) -> bool:
    """Whether a path is one of these."""
    return path.startswith("/captures/") and path.endswith((".jpg", ".mjpg"))
