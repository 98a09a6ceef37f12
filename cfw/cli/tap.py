"""`cfw tap`: read the feed of a worker."""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Callable
from typing import Literal, TypeAlias

import click
import trio

from cfw.client import ConnectionLost, open_feed
from schemas import FeedAbort, FeedClose, to_json

_Write: TypeAlias = Callable[[bytes], None]


@click.command()
@click.argument("url", metavar="ADMIN_URL")
@click.option("--capture-id", metavar="ID", help="Only this capture.  [default: all]")
@click.option(
    "--mode",
    type=click.Choice(["lossless", "live"]),
    default="lossless",
    show_default=True,
    help="lossless: every frame, and captures wait for this reader; live: the newest ones.",
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
def tap(
    url: str,
    capture_id: str | None,
    mode: Literal["lossless", "live"],
    output: Literal["mjpeg", "json"],
    captures: int | None,
) -> None:
    """Write the captures of a worker to standard output as they come in.

    ADMIN_URL is the worker's admin listener, for example http://127.0.0.1:8766. To watch:

    \b
        cfw tap http://127.0.0.1:8766 | ffplay -loglevel error -f mjpeg -
    """
    if captures is None and capture_id is not None:
        captures = 1
    try:
        ended = trio.run(
            _tap, url, capture_id, mode, output, captures, strict_exception_groups=True
        )
    except ValueError as exc:
        raise click.UsageError(str(exc)) from None
    except BrokenPipeError:
        return  # the reader, such as a closed ffplay, has seen enough
    except ConnectionLost as exc:
        raise click.ClickException(str(exc)) from None
    if captures is not None and ended < captures:
        raise click.ClickException(
            f"the worker closed the feed after {ended} of {captures} captures"
        )


async def _tap(
    url: str,
    capture_id: str | None,
    mode: Literal["lossless", "live"],
    output: Literal["mjpeg", "json"],
    captures: int | None,
) -> int:
    """Copy the feed until it or the count of captures ends; answers how many ended."""
    write = _stdout()
    ended = 0
    async with open_feed(url, capture_id=capture_id, mode=mode) as feed:
        click.echo(f"connected to {url}, mode {mode}; waiting for captures", err=True)
        async for message, jpeg in feed:
            data = jpeg if output == "mjpeg" else f"{to_json(message)}\n".encode()
            if data is not None:
                # In a thread, which a stalled reader may hold: Ctrl-C leaves it behind.
                await trio.to_thread.run_sync(write, data, abandon_on_cancel=True)
            if isinstance(message, FeedAbort):
                told = f": {message.detail}" if message.detail else ""
                click.echo(
                    f"capture {message.capture_id} was aborted: "
                    f"{message.error_code.value}{told}",
                    err=True,
                )
            if isinstance(message, FeedAbort | FeedClose):
                ended += 1
                if ended == captures:
                    break
    return ended


def _stdout() -> _Write:
    """Write to standard output; unbuffered, as a thread left behind would hold its lock."""
    stream = sys.stdout.buffer
    try:
        fd = stream.fileno()
    except OSError:  # no file but an object in its place

        def write_to_object(data: bytes) -> None:
            stream.write(data)
            stream.flush()

        return write_to_object

    def write(data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[os.write(fd, rest) :]
            except BlockingIOError:  # made so by another process that shares it
                select.select([], [fd], [])

    return write
