"""`WS /feed`: the captures of the hub as messages, for programs and browsers.

Text `capture.opened`, then for each frame text `capture.frame` and one binary message with
the JPEG, then text `capture.close` or `capture.abort`. `?capture_id=` narrows it to one
capture; `?mode=lossless` (the default) gives every frame and makes captures wait for the
reader, `?mode=live` gives the newest frame of each and never does: while the worker is busy
it gives fewer frames, down to one a second (see `_pace`).

It closes with 1001 when the worker stops, and with 1008, saying why, when the request is
wrong or a lossless reader was too slow.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import cast, get_args

import attrs
import trio
from starlette.responses import JSONResponse
from starlette.websockets import WebSocket

from cfw.admin._pace import LivePace
from cfw.admin.hosts import is_from_elsewhere
from cfw.sinks.hub import Hub, Mode, SubscriberTooSlow, Subscription
from cfw.state import Frame
from schemas import FeedOpened, SchemaError, to_json

#: For the reader to answer the close frame, so that it is not lost in a reset.
CLOSE_ANSWER_S = 1.0
#: RFC 6455, section 5.5: a control frame carries 125 bytes, two of which are the code.
_MAX_REASON_BYTES = 123


def feed_endpoint(hub: Hub | None) -> Callable[[WebSocket], Awaitable[None]]:
    """The handler of `/feed`.

    Args:
        hub: where to subscribe; None when the sink of this worker is another one.
    """
    pace = LivePace()

    async def feed(websocket: WebSocket) -> None:
        if is_from_elsewhere(websocket):
            await websocket.send_denial_response(
                JSONResponse({"error": "pages of another origin may not read the feed"}, 403)
            )
            return
        # Subscribed before the handshake is answered: who has it misses nothing from then on.
        with _subscribe(websocket, hub) as subscription:
            # Accepted even if wrong: a refused handshake has no reason a browser could read.
            await websocket.accept()
            async with trio.open_nursery() as nursery:
                is_gone = trio.Event()
                nursery.start_soon(_watch, websocket, is_gone, nursery.cancel_scope)
                code, reason = await _tell(websocket, subscription, pace)
                await websocket.close(code, _fit(reason))
                with trio.move_on_after(CLOSE_ANSWER_S):
                    await is_gone.wait()
                nursery.cancel_scope.cancel()

    return feed


async def _watch(websocket: WebSocket, is_gone: trio.Event, scope: trio.CancelScope) -> None:
    """Ignore what the reader sends, and notice when it leaves."""
    while (await websocket.receive())["type"] != "websocket.disconnect":
        pass
    is_gone.set()
    scope.cancel()


@contextmanager
def _subscribe(websocket: WebSocket, hub: Hub | None) -> Iterator[Subscription | str]:
    """What the query asks for, or why it cannot be had."""
    mode = websocket.query_params.get("mode", "lossless")
    capture_id = websocket.query_params.get("capture_id")
    problem = _problem(mode, capture_id)
    if problem is not None:
        yield problem
    elif hub is None:
        yield "this worker's sink is not hub:, so it has no feed"
    else:
        with hub.subscribe(capture_id=capture_id, mode=cast(Mode, mode)) as subscription:
            yield subscription


def _problem(mode: str, capture_id: str | None) -> str | None:
    if mode not in get_args(Mode):
        return f"mode must be one of {', '.join(get_args(Mode))}"
    if capture_id is not None:
        field = attrs.fields(FeedOpened).capture_id
        assert field.validator is not None
        try:
            field.validator(None, field, capture_id)
        except SchemaError as exc:
            return str(exc)
    return None


async def _tell(
    websocket: WebSocket, subscription: Subscription | str, pace: LivePace
) -> tuple[int, str]:
    """Send the feed for as long as there is one; answers how to close."""
    if isinstance(subscription, str):
        return 1008, subscription
    is_live = websocket.query_params.get("mode") == "live"
    try:
        with pace.viewer() if is_live else nullcontext():
            await _send_items(websocket, subscription, pace if is_live else None)
    except SubscriberTooSlow as exc:
        return 1008, str(exc)
    return 1001, "the worker is shutting down"


async def _send_items(
    websocket: WebSocket, subscription: Subscription, pace: LivePace | None
) -> None:
    async for item in subscription:
        if isinstance(item, Frame):
            await websocket.send_text(to_json(item.feed_message()))
            await websocket.send_bytes(item.data)
            if pace is not None:
                await pace.rest()
        else:
            await websocket.send_text(to_json(item))


def _fit(reason: str) -> str:
    return reason.encode("ascii", "replace")[:_MAX_REASON_BYTES].decode()
