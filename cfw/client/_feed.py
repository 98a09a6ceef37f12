"""The feed of a worker: what its captures are made of, as they come in."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Unpack
from urllib.parse import urlencode

import trio
from trio_websocket import ConnectionClosed

from cfw.client._errors import ConnectionLost
from cfw.client._link import Address, Link, open_link
from cfw.client._options import FeedOptions, FeedSettings
from schemas import CameraFeedWorkerFeed, FeedFrame, SchemaError, parse_feed

FEED_PATH = "/feed"
#: Far above any frame that a worker lets through; a bound all the same.
_MAX_MESSAGE_BYTES = 64 * 1024 * 1024
#: Normal closure, and the worker going away: no more captures will come.
_CLEAN = frozenset({1000, 1001})


class Feed:
    """The messages of a feed, one after the other; `open_feed` makes it.

        async for message, jpeg in feed: ...

    `jpeg` is the image of a `FeedFrame`, and None for every other message. The iteration
    ends when the worker closes the feed (close code 1000 or 1001). One task iterates.
    """

    def __init__(self, link: Link) -> None:
        self._link = link
        self._awaiting_bytes: FeedFrame | None = None

    def __aiter__(self) -> Feed:
        return self

    async def __anext__(self) -> tuple[CameraFeedWorkerFeed, bytes | None]:
        """Wait for the next message.

        Raises:
            ConnectionLost: the connection ended otherwise, or what came is no feed.

        Cancellation: safe; a cancelled step loses no message.
        """
        if self._awaiting_bytes is None:
            message = self._parse(await self._next_message())
            if not isinstance(message, FeedFrame):
                return message, None
            self._awaiting_bytes = message
        jpeg = await self._next_message()
        frame, self._awaiting_bytes = self._awaiting_bytes, None
        if not isinstance(jpeg, bytes) or len(jpeg) != frame.byte_length:
            raise ConnectionLost(f"what came is no feed: frame {frame.seq} without its bytes")
        return frame, jpeg

    async def _next_message(self) -> str | bytes:
        try:
            return await self._link.connection.get_message()
        except ConnectionClosed as exc:
            closed = exc.reason
        code = int(closed.code) if closed is not None else 1006
        if code in _CLEAN and self._awaiting_bytes is None:
            raise StopAsyncIteration
        if code == 1006:
            raise ConnectionLost("the connection ended without a close frame")
        said = f" ({closed.reason})" if closed is not None and closed.reason else ""
        raise ConnectionLost(f"the worker closed the feed with code {code}{said}", code)

    @staticmethod
    def _parse(message: str | bytes) -> CameraFeedWorkerFeed:
        if isinstance(message, bytes):
            raise ConnectionLost("what came is no feed: bytes without a capture.frame")
        try:
            return parse_feed(message)
        except SchemaError as exc:
            raise ConnectionLost(f"what came is no feed: {exc}") from exc


def open_feed(
    url: str,
    *,
    stream: trio.abc.Stream | None = None,
    **options: Unpack[FeedOptions],
) -> AbstractAsyncContextManager[Feed]:
    """Subscribe to the captures of a worker.

    Args:
        url: where the worker's admin listener is: `http://`, `https://`, `ws://` or `wss://`.
        stream: a connection to use instead of dialling, closed with the feed; None dials.
        options: see `FeedOptions`.

    Raises:
        TypeError: there is no option of that name; at the call.
        ValueError: the URL or the timeout is none.
        AccessDenied: the worker wants another token.
        ConnectionRefused: there was no WebSocket to be had.

    Cancellation: leaves at once; the socket is closed, without a close frame.
    """
    return run_feed(url, FeedSettings(**options), stream)


@asynccontextmanager
async def run_feed(
    url: str, settings: FeedSettings, stream: trio.abc.Stream | None = None
) -> AsyncIterator[Feed]:
    """See `open_feed`."""
    address = feed_address(url, settings.capture_id, settings.mode)
    async with open_link(
        address, settings, stream=stream, max_message_bytes=_MAX_MESSAGE_BYTES
    ) as link:
        yield Feed(link)


def feed_address(url: str, capture_id: str | None, mode: str | None) -> Address:
    """The WebSocket behind the URL of an admin listener, which may have a path of its own."""
    scheme, separator, rest = url.partition("://")
    scheme = {"http": "ws", "https": "wss"}.get(scheme, scheme)
    base, _, query = rest.partition("?")
    base = base.rstrip("/")
    if not base.endswith(FEED_PATH):
        base += FEED_PATH
    asked = {"capture_id": capture_id, "mode": mode}
    pairs = [query, urlencode({k: v for k, v in asked.items() if v is not None})]
    query = "&".join(filter(None, pairs))
    return Address.parse(f"{scheme}{separator}{base}{f'?{query}' if query else ''}", FEED_PATH)
