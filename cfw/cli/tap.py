"""`cfw tap`: read the feed of a worker."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any, Literal, TypeAlias

import click
import trio

from cfw.cli.access import Access, accessed
from cfw.cli.shared import ToldFeed, is_shared_feed
from cfw.cli.termination import Termination
from cfw.client import ConnectionLost, FeedOpening, FeedOutage, follow_feed, open_feed
from cfw.plugins import OutOfReach, redact_url
from cfw.printable import printable
from cfw.tasks.nurseries import open_plain_nursery
from schemas import FeedAbort, FeedClose, to_json

_Write: TypeAlias = Callable[[bytes], None]

#: A write that takes so many seconds holds captures up: their buffer is of about 2 s.
HELD_UP_S = 1.0


@click.command()
@click.argument("url", metavar="URL")
@click.option("--capture-id", metavar="ID", help="Only this capture.  [default: all]")
@click.option(
    "--mode",
    type=click.Choice(["lossless", "live"]),
    help="lossless: every frame, and captures wait for this reader; live: the newest ones.  "
    "[default: lossless]",
)
@click.option(
    "--group",
    metavar="NAME",
    help="With valkey://: taps of one group share the captures.  [default: tap]",
)
@click.option(
    "--consumer",
    metavar="NAME",
    help="With valkey://: a name to go on under after a restart.  [default: a new one]",
)
@click.option(
    "--format",
    "output",
    type=click.Choice(["mjpeg", "json"]),
    default="mjpeg",
    show_default=True,
    help="mjpeg: the images back to back; json: one line per message, without images.",
)
@click.option(
    "--captures",
    type=click.IntRange(min=1),
    metavar="N",
    help="Stop after so many captures.  [default: 1 with --capture-id, else at Ctrl-C]",
)
@click.option(
    "--reconnect",
    is_flag=True,
    help="Wait for a worker that went away, once it has been reached.",
)
@accessed
def tap(
    url: str,
    capture_id: str | None,
    mode: Literal["lossless", "live"] | None,
    group: str | None,
    consumer: str | None,
    output: Literal["mjpeg", "json"],
    captures: int | None,
    reconnect: bool,
    access: Access,
) -> None:
    """Write captures to standard output as they come in.

    URL is a worker's admin listener, for example http://127.0.0.1:8766, or the valkey:// URL
    that a fleet of workers has as its sink. To watch:

    \b
        cfw tap --mode live http://127.0.0.1:8766 | ffplay -loglevel error -f mjpeg -

    When the worker goes away it ends with exit code 1, unless --reconnect waits for it.
    """
    if output == "mjpeg" and sys.stdout.isatty():
        raise click.UsageError(
            "images are nothing for a terminal: write them to a file or a program, or say "
            "--format json"
        )
    termination = Termination()
    if captures is None and capture_id is not None:
        captures = 1
    try:
        is_shared = is_shared_feed(url)
        if is_shared:
            if access.ssl_context is not None:
                raise ValueError("certificate options need the URL of an admin listener")
            opening, words = _shared_feed(url, group, consumer, capture_id, mode)
        else:
            opening, words = _feed(url, group, consumer, capture_id, mode, access)
        copy = _Copy(output, captures, may_wait=mode == "live" or is_shared)
        trio.run(
            _tap, opening, words, copy, reconnect, termination, strict_exception_groups=True
        )
    except ValueError as exc:
        raise click.UsageError(str(exc)) from None
    except (ConnectionLost, OutOfReach) as exc:
        raise click.ClickException(printable(str(exc))) from None
    termination.exit_if_asked()
    if copy.is_wanted:
        so_far = "" if captures is None else f" after {copy.ended} of {captures} captures"
        raise click.ClickException(
            f"the worker closed the feed{so_far}; with --reconnect this waits for the next one"
        )


def _feed(
    url: str,
    group: str | None,
    consumer: str | None,
    capture_id: str | None,
    mode: Literal["lossless", "live"] | None,
    access: Access,
) -> tuple[FeedOpening, str]:
    if group or consumer:
        raise ValueError("--group and --consumer need a valkey:// URL")
    mode = mode or "lossless"
    opening = partial(
        open_feed,
        url,
        capture_id=capture_id,
        mode=mode,
        token=access.token,
        ssl_context=access.ssl_context,
    )
    return opening, f"{url}, mode {mode}"


def _shared_feed(
    url: str,
    group: str | None,
    consumer: str | None,
    capture_id: str | None,
    mode: Literal["lossless", "live"] | None,
) -> tuple[FeedOpening, str]:
    if capture_id or mode:
        raise ValueError(
            "--capture-id and --mode need the URL of an admin listener; a group shares all "
            "captures, every frame of them"
        )
    try:
        from cfw.valkey import open_valkey_feed
    except ImportError as exc:
        raise ValueError(str(exc)) from None
    opening = partial(open_valkey_feed, url, group=group or "tap", consumer=consumer)
    return lambda: _processing(opening()), f"{redact_url(url)}, group {group or 'tap'}"


@asynccontextmanager
async def _processing(opening: AbstractAsyncContextManager[Any]) -> AsyncIterator[Any]:
    """The last message has been processed too when the block comes to its end."""
    async with opening as feed:
        told = ToldFeed(feed)
        try:
            yield told
        finally:
            told.tell()
        await feed.processed()


class _Copy:
    """What has been copied of a feed, over all the times that it was opened.

    Args:
        output: what is written of it.
        captures: how many to copy; None for all.
        may_wait: whether no capture waits for whoever reads standard output.
    """

    def __init__(
        self, output: Literal["mjpeg", "json"], captures: int | None, *, may_wait: bool
    ) -> None:
        self.ended = 0
        self._output, self._captures, self._may_wait = output, captures, may_wait
        self._write = _stdout()
        self._writing_since: float | None = None

    @property
    def is_wanted(self) -> bool:
        """Whether there is more to come."""
        return self._captures is None or self.ended < self._captures

    async def read(self, feed: Any) -> bool:
        """Copy a feed to its end; whether all has come that is wanted."""
        async for message, jpeg in feed:
            await self._take(message, jpeg)
            if not self.is_wanted:
                return True
        return False

    async def _take(self, message: Any, jpeg: bytes | None) -> None:
        """Write a message, and say how a capture has ended that was aborted."""
        is_mjpeg = self._output == "mjpeg"
        data = jpeg if is_mjpeg else f"{printable(to_json(message))}\n".encode()
        if data is not None:
            # In a thread, which a stalled reader may hold: Ctrl-C leaves it behind.
            self._writing_since = trio.current_time()
            await trio.to_thread.run_sync(self._write, data, abandon_on_cancel=True)
            self._writing_since = None
        if isinstance(message, FeedAbort):
            told = f": {message.detail}" if message.detail else ""
            line = f"capture {message.capture_id} was aborted: {message.error_code.value}"
            click.echo(printable(line + told), err=True)
        if isinstance(message, FeedAbort | FeedClose):
            self.ended += 1

    async def watch(self) -> None:
        """Say so when captures wait for standard output, once each time."""
        told: float | None = None
        while not self._may_wait:
            await trio.sleep(HELD_UP_S / 2)
            since = self._writing_since
            if since is not None and since != told:
                if trio.current_time() - since < HELD_UP_S:
                    continue
                told = since
                click.echo(
                    f"nobody has read standard output for {HELD_UP_S:g} s: captures wait for "
                    "this reader, and are aborted when their buffer is full; to watch, use "
                    "--mode live",
                    err=True,
                )


async def _tap(
    opening: FeedOpening, words: str, copy: _Copy, reconnect: bool, termination: Termination
) -> None:
    """Copy the feed until it or the count of captures ends, or for as long as it comes back.

    Raises:
        ConnectionLost: it was lost, and is not to be waited for or never was there.
    """

    def opened(outage: FeedOutage | None) -> None:
        now = f"connected to {words}; waiting for captures"
        click.echo(now if outage is None else f"{outage}", err=True)

    def lost(outage: FeedOutage) -> None:
        click.echo(printable(f"{outage}"), err=True)

    with termination.heard():
        async with open_plain_nursery() as nursery:
            nursery.start_soon(copy.watch)
            if reconnect:
                await follow_feed(opening, copy.read, on_open=opened, on_loss=lost)
                return
            async with opening() as feed:
                opened(None)
                await copy.read(feed)


def _stdout() -> _Write:
    """Write to standard output, and not to a buffer over it."""
    stream = sys.stdout.buffer

    def write(data: bytes) -> None:
        stream.write(data)
        stream.flush()

    return write
