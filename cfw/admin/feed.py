"""`WS /feed`: the captures of the hub as messages, for programs and browsers.

Text `capture.opened`, then for each frame text `capture.frame` and one binary message with
the JPEG, then text `capture.close` or `capture.abort`. `?capture_id=` narrows it to one
capture; `?mode=lossless` (the default) gives every frame and makes captures wait for the
reader, `?mode=live` gives the newest frame of each and never does: while the worker is busy
it gives fewer frames, down to one a second (see `_pace`).

With `&frames=asked` a live reader gets only frames that it asks for, the newest of each capture
in one binary message (see `_rounds`, and schemas/PROTOCOL.md).

It closes with 1001 when the worker stops, and with 1008, saying why, when the request is
wrong or a lossless reader was too slow.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterable, Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import cast, get_args

import attrs
import structlog
import trio

from cfw.admin._pace import LivePace
from cfw.admin._rounds import ALLOWED, Rounds, packed
from cfw.http.messages import Answer, Handler, Opening, Request, Upgrade, problem
from cfw.sinks.hub import (
    AskedSubscription,
    FeedItem,
    Hub,
    Mode,
    SubscriberTooSlow,
    Subscription,
)
from cfw.state import Frame
from cfw.wire import (
    KeepaliveTimeout,
    MessageTimeout,
    PeerClosed,
    PeerGone,
    WebSocket,
    WireViolation,
)
from schemas import FeedOpened, SchemaError, check_field, to_json

_log: structlog.stdlib.BoundLogger = structlog.get_logger("cfw.admin")

#: Which frames are told.
FRAMES = ("all", "asked")
#: For the reader to answer the close frame, so that it is not lost in a reset.
LINGER_S = 1.0
#: What a reader sends is ignored; but in this time not more than so many frames, of messages,
#: pings and pongs together.
TALK_S = 5.0
MAX_TALK_FRAMES = 1_000


@attrs.frozen
class _End:
    """How a feed is closed.

    Args:
        code: close code.
        reason: for the reader.
        linger_s: seconds for the reader to take it, and to close too.
    """

    code: int
    reason: str = ""
    linger_s: float = LINGER_S


def feed_handler(hub: Hub | None, pace: LivePace) -> Handler:
    """What answers `/feed`.

    Args:
        hub: where to subscribe; None when the sink of this worker is another one.
        pace: of all live viewers.
    """

    async def feed(request: Request) -> Answer:
        if not request.is_websocket:
            text = "this is a WebSocket endpoint; connect with a WebSocket client"
            return problem(text, 426, {"upgrade": "websocket", "connection": "upgrade"})
        return Upgrade(partial(_serve, request.params, hub, pace))

    return feed


async def _serve(
    params: Mapping[str, str],
    hub: Hub | None,
    pace: LivePace,
    opening: Opening,
    send_stall_s: float,
) -> None:
    # Subscribed before the handshake is answered: who has it misses nothing from then on.
    with _subscribe(params, hub) as subscription:
        # Accepted even if wrong: a refused handshake has no reason a browser could read.
        async with opening as ws:
            if isinstance(subscription, str):
                end = _End(1008, subscription)
            else:
                live = pace if params.get("mode") == "live" else None
                rounds = None
                if isinstance(subscription, AskedSubscription):
                    rounds = Rounds(subscription, pace)
                end = await _run(ws, rounds or subscription, live, rounds, send_stall_s)
            await ws.close(end.code, _fit(end.reason), linger_s=end.linger_s)


@contextmanager
def _subscribe(params: Mapping[str, str], hub: Hub | None) -> Iterator[Subscription | str]:
    """What the query asks for, or why it cannot be had."""
    mode = params.get("mode", "lossless")
    capture_id, frames = params.get("capture_id"), params.get("frames", "all")
    wrong = _problem(mode, capture_id, frames)
    if wrong is not None:
        yield wrong
    elif hub is None:
        yield "this worker's sink is not hub:, so it has no feed"
    else:
        subscribing: AbstractContextManager[Subscription] = (
            hub.subscribe_asked(capture_id=capture_id)
            if frames == "asked"
            else hub.subscribe(capture_id=capture_id, mode=cast(Mode, mode))
        )
        with subscribing as subscription:
            yield subscription


def _problem(mode: str, capture_id: str | None, frames: str) -> str | None:
    if mode not in get_args(Mode):
        return f"mode must be one of {', '.join(get_args(Mode))}"
    if frames not in FRAMES:
        return f"frames must be one of {', '.join(FRAMES)}"
    if frames == "asked" and mode != "live":
        return "frames=asked needs mode=live; lossless has every frame"
    if capture_id is not None:
        try:
            check_field(FeedOpened, "capture_id", capture_id)
        except SchemaError as exc:
            return str(exc)
    return None


async def _run(
    ws: WebSocket,
    items: AsyncIterable[FeedItem | list[Frame]],
    live: LivePace | None,
    rounds: Rounds | None,
    send_stall_s: float,
) -> _End:
    """Tell the reader and listen to it, until one of them has an end."""
    end = _End(1011)

    async def run(part: Callable[[], Awaitable[_End]]) -> None:
        nonlocal end
        end = await part()
        nursery.cancel_scope.cancel()

    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run, partial(_listen, ws, rounds))
            await run(partial(_tell, ws, items, live, send_stall_s))
    except Exception:
        # The reader learns that it was not its fault, and nothing else.
        _log.exception("admin.failed")
    return end


async def _listen(ws: WebSocket, rounds: Rounds | None) -> _End:
    """Notice when the reader leaves or does nothing but send.

    What it sends is what it asks for, or is ignored where frames come unasked.
    """
    try:
        while True:
            heard, until = ws.frames_received, trio.current_time() + TALK_S
            while trio.current_time() < until:
                said = await ws.receive_batch(until=until)
                if rounds is not None and not all(map(rounds.hear, said)):
                    return _End(1008, ALLOWED)
                if ws.frames_received - heard > MAX_TALK_FRAMES:
                    text = f"over {MAX_TALK_FRAMES} frames within {TALK_S:g} s; a feed is read"
                    return _End(1008, text)
    except PeerClosed as exc:
        return _End(exc.code or 1000)
    except PeerGone:
        return _End(1000, linger_s=0)
    except (KeepaliveTimeout, MessageTimeout, WireViolation) as exc:
        return _End(exc.close_code, exc.detail)


async def _tell(
    ws: WebSocket,
    items: AsyncIterable[FeedItem | list[Frame]],
    live: LivePace | None,
    send_stall_s: float,
) -> _End:
    """Send the feed for as long as there is one and it is read."""
    try:
        # One scope for all sends: one for each shows in what a round costs.
        with trio.CancelScope() as sending, nullcontext() if live is None else live.viewer():
            async for item in items:
                sending.deadline = trio.current_time() + send_stall_s
                await _send(ws, item)
                sending.deadline = math.inf
                if live is not None and isinstance(item, Frame):
                    await live.rest()
    except SubscriberTooSlow as exc:
        # Told behind all that it has not taken yet.
        return _End(1008, str(exc), linger_s=send_stall_s)
    except PeerGone:
        return _End(1000, linger_s=0)
    if sending.cancelled_caught:
        return _End(1000, linger_s=0)
    return _End(1001, "the worker is shutting down")


async def _send(ws: WebSocket, item: FeedItem | list[Frame]) -> None:
    if isinstance(item, Frame):
        await ws.send_text(to_json(item.feed_message()))
        await ws.send_bytes(item.data)
    elif not isinstance(item, list):
        await ws.send_text(to_json(item))
    elif item:
        await ws.send_bytes(packed(item))


def _fit(reason: str) -> str:
    return reason.encode("ascii", "replace").decode()
