"""`cfw tap`: read the feed of a worker."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Literal, TypeAlias

import click
import trio

from cfw.cli.access import Access, accessed
from cfw.cli.termination import Termination
from cfw.client import ConnectionLost, open_feed
from cfw.plugins import OutOfReach, redact_url
from cfw.printable import printable
from schemas import FeedAbort, FeedClose, to_json

_Write: TypeAlias = Callable[[bytes], None]
#: What a shared feed counts, in words.
_LOSSES = {
    "missed": "messages were no longer on the server: this reader is slower than maxlen allows",
    "data_losses": "times the server had lost its data: reading went on with what was there",
    "expired": "captures were gone from the server before they were read to their end",
    "taken_away": "captures were given to another of the group: this reader was silent",
}


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
@accessed
def tap(
    url: str,
    capture_id: str | None,
    mode: Literal["lossless", "live"] | None,
    group: str | None,
    consumer: str | None,
    output: Literal["mjpeg", "json"],
    captures: int | None,
    access: Access,
) -> None:
    """Write captures to standard output as they come in.

    URL is a worker's admin listener, for example http://127.0.0.1:8766, or the valkey:// URL
    that a fleet of workers has as its sink. To watch:

    \b
        cfw tap http://127.0.0.1:8766 | ffplay -loglevel error -f mjpeg -
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
        if url.lower().startswith(("valkey:", "valkeys:")):
            if access.ssl_context is not None:
                raise ValueError("certificate options need the URL of an admin listener")
            feed, words = _shared_feed(url, group, consumer, capture_id, mode)
        else:
            feed, words = _feed(url, group, consumer, capture_id, mode, access)
        ended = trio.run(
            _tap, feed, words, output, captures, termination, strict_exception_groups=True
        )
    except ValueError as exc:
        raise click.UsageError(str(exc)) from None
    except (ConnectionLost, OutOfReach) as exc:
        raise click.ClickException(printable(str(exc))) from None
    termination.exit_if_asked()
    if captures is not None and ended < captures:
        raise click.ClickException(
            f"the worker closed the feed after {ended} of {captures} captures"
        )


def _feed(
    url: str,
    group: str | None,
    consumer: str | None,
    capture_id: str | None,
    mode: Literal["lossless", "live"] | None,
    access: Access,
) -> tuple[AbstractAsyncContextManager[Any], str]:
    if group or consumer:
        raise ValueError("--group and --consumer need a valkey:// URL")
    mode = mode or "lossless"
    feed = open_feed(
        url,
        capture_id=capture_id,
        mode=mode,
        token=access.token,
        ssl_context=access.ssl_context,
    )
    return feed, f"{url}, mode {mode}"


def _shared_feed(
    url: str,
    group: str | None,
    consumer: str | None,
    capture_id: str | None,
    mode: Literal["lossless", "live"] | None,
) -> tuple[AbstractAsyncContextManager[Any], str]:
    if capture_id or mode:
        raise ValueError(
            "--capture-id and --mode need the URL of an admin listener; a group shares all "
            "captures, every frame of them"
        )
    try:
        from cfw.valkey import open_valkey_feed
    except ImportError as exc:
        raise ValueError(str(exc)) from None
    feed = _processing(open_valkey_feed(url, group=group or "tap", consumer=consumer))
    return feed, f"{redact_url(url)}, group {group or 'tap'}"


@asynccontextmanager
async def _processing(opening: AbstractAsyncContextManager[Any]) -> AsyncIterator[Any]:
    """The last message has been processed too when the block comes to its end."""
    async with opening as feed:
        told = _Told(feed)
        try:
            yield told
        finally:
            told.tell()
        await feed.processed()


class _Told:
    """The messages of a shared feed; says on standard error what could not be read."""

    def __init__(self, feed: Any) -> None:
        self._feed = feed
        self._told: dict[str, int] = {}

    def __aiter__(self) -> _Told:
        return self

    async def __anext__(self) -> Any:
        found = await self._feed.__anext__()
        self.tell()
        return found

    def tell(self) -> None:
        """Say it once."""
        for name, words in _LOSSES.items():
            count = getattr(self._feed, name)
            if more := count - self._told.get(name, 0):
                click.echo(f"{more} {words}", err=True)
            self._told[name] = count
        if (count := self._feed.unreadable) != self._told.get("unreadable", 0):
            more, self._told["unreadable"] = count - self._told.get("unreadable", 0), count
            words = "things on the server could not be read and were left out, the last: "
            click.echo(printable(f"{more} {words}{self._feed.last_unreadable}"), err=True)


async def _tap(
    opening: AbstractAsyncContextManager[Any],
    words: str,
    output: Literal["mjpeg", "json"],
    captures: int | None,
    termination: Termination,
) -> int:
    """Copy the feed until it or the count of captures ends; answers how many ended."""
    write = _stdout()
    ended = 0
    with termination.heard():
        async with opening as feed:
            click.echo(f"connected to {words}; waiting for captures", err=True)
            async for message, jpeg in feed:
                data = (
                    jpeg if output == "mjpeg" else f"{printable(to_json(message))}\n".encode()
                )
                if data is not None:
                    # In a thread, which a stalled reader may hold: Ctrl-C leaves it behind.
                    await trio.to_thread.run_sync(write, data, abandon_on_cancel=True)
                if isinstance(message, FeedAbort):
                    told = f": {message.detail}" if message.detail else ""
                    line = (
                        f"capture {message.capture_id} was aborted: {message.error_code.value}"
                    )
                    click.echo(printable(line + told), err=True)
                if isinstance(message, FeedAbort | FeedClose):
                    ended += 1
                    if ended == captures:
                        break
    return ended


def _stdout() -> _Write:
    """Write to standard output, and not to a buffer over it."""
    stream = sys.stdout.buffer

    def write(data: bytes) -> None:
        stream.write(data)
        stream.flush()

    return write
