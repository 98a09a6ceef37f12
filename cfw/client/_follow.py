"""Reading a feed for longer than its connection lasts."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeAlias

import attrs
import trio

from cfw.client._errors import AccessDenied, ConnectionLost
from cfw.client._retry import Backoff

#: Makes what one reads from: `open_feed` with its arguments, or another feed of its kind.
FeedOpening: TypeAlias = Callable[[], AbstractAsyncContextManager[Any]]


@attrs.frozen
class FeedOutage:
    """A time in which nothing of a feed could be read; as text, a line for whoever waits.

    Args:
        reason: why it was lost.
        lasted_s: until it was read again, in seconds; None while it is away.
    """

    reason: str
    lasted_s: float | None = None

    def __str__(self) -> str:
        if self.lasted_s is None:
            return f"{self.reason}; trying again"
        return (
            f"connected again after {self.lasted_s:.1f} s; what was sent meanwhile is missing"
        )


async def follow_feed(
    opening: FeedOpening,
    read: Callable[[Any], Awaitable[bool]],
    *,
    on_open: Callable[[FeedOutage | None], object],
    on_loss: Callable[[FeedOutage], object],
    is_patient: bool = False,
) -> None:
    """Read a feed, and open it again whenever it ends, until enough has been read.

        async def read(feed):
            async for message, jpeg in feed:
                ...
            return False  # not enough: go on with the next one

        opening = partial(open_feed, "http://127.0.0.1:8766")
        await follow_feed(opening, read, on_open=print, on_loss=print)

    From one attempt to the next it waits as `film` does: longer each time up to 5 s, short
    again once a feed has lasted for 5 s, and never for as long as another reader.

    Args:
        opening: makes the feed, anew each time.
        read: reads one to its end; whether that is enough.
        on_open: called when a feed is open, with how long there was none; None the first time.
        on_loss: called when a feed has ended, once until there is one again. Neither may wait.
        is_patient: wait for a worker that cannot be reached from the start, too.

    Raises:
        AccessDenied: the worker wants another token.
        ConnectionLost: it could not be reached from the start.
        Exception: what `read` raises, but for `ConnectionLost`.

    Cancellation: leaves at once.
    """
    backoff = Backoff(math.inf)
    outage: FeedOutage | None = None
    since = 0.0
    while True:
        await backoff.pause()
        opened_at: float | None = None
        loss = ConnectionLost("the worker closed the feed")
        try:
            async with opening() as feed:
                opened_at = trio.current_time()
                on_open(outage and attrs.evolve(outage, lasted_s=opened_at - since))
                outage = None
                if await read(feed):
                    return
        except AccessDenied:
            raise
        except ConnectionLost as exc:
            # A proxy may answer 404 for a worker that is away: what was there comes again.
            if opened_at is None and not is_patient:
                raise
            loss = exc
        is_patient = True
        now = trio.current_time()
        backoff.failed(loss, 0.0 if opened_at is None else now - opened_at)
        if outage is None:
            outage, since = FeedOutage(str(loss)), now
            on_loss(outage)
