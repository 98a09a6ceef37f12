"""`cfw send`: be a rig."""

from __future__ import annotations

import json
import math
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import Any, TypeAlias

import attrs
import click
import trio

from cfw.cli._streams import OutputError, put_result
from cfw.cli.access import Access, accessed
from cfw.cli.left_out import LeftOut
from cfw.cli.mjpeg import SourceError
from cfw.cli.sources import Frames, is_endless
from cfw.cli.termination import Termination
from cfw.client import Capture, CaptureAborted, CaptureError, ConnectionLost, open_capture
from cfw.printable import printable
from schemas import SchemaError

#: Called behind every frame.
_Report: TypeAlias = Callable[[Capture], None]


#: For the receipt of a capture that SIGTERM has ended: what the worker may take for it.
CLOSE_S = 10.0
#: What `cfw send pattern:` sends when it is not told how much.
PATTERN_FRAMES = 75


@attrs.frozen(kw_only=True)
class _Request:
    """What the command line asks for."""

    url: str
    sources: tuple[str, ...]
    user: str
    session: str
    fps: int
    capture_id: str
    width: int | None
    height: int | None
    frames: int | None
    access: Access


@attrs.define(slots=False, eq=False)
class _SourceBroke(CaptureError):
    """A source could not be read to its end when frames had been sent already.

    The capture is not closed then, so that nobody takes it for whole.

    Args:
        detail: what went wrong.
        frames: how many the worker was sent.
        bytes: of those together.
    """

    detail: str
    frames: int
    bytes: int

    def __str__(self) -> str:
        frames = "1 frame" if self.frames == 1 else f"{self.frames} frames"
        return f"{self.detail} (after {frames}; the capture was not closed)"


@click.command()
@click.argument("url", metavar="WS_URL")
@click.argument("sources", metavar="SOURCE...", nargs=-1, required=True)
@click.option("--user", required=True, metavar="ID", help="Who sends.")
@click.option("--session", required=True, metavar="ID", help="The session that lets them.")
@click.option(
    "--fps",
    type=click.IntRange(min=1),
    default=15,
    show_default=True,
    help="Frames a second: declared, and kept to unless SOURCE is '-'.",
)
@click.option("--capture-id", metavar="ID", help="Name of the capture.  [default: a UUID]")
@click.option(
    "--width", type=click.IntRange(min=1), help="Declared width.  [default: the first JPEG's]"
)
@click.option(
    "--height",
    type=click.IntRange(min=1),
    help="Declared height.  [default: the first JPEG's]",
)
@click.option(
    "--frames",
    type=click.IntRange(min=1),
    help="Stop after so many frames.  [default: 75 for an endless pattern:]",
)
@click.option("--no-progress", is_flag=True, help="Show no progress bar.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object as the result.")
@accessed
def send(no_progress: bool, as_json: bool, capture_id: str | None, **options: Any) -> None:
    """Send one capture and print its receipt.

    WS_URL is the worker's, for example ws://127.0.0.1:8765. Each SOURCE is a JPEG or MJPEG
    file, a directory of *.jpg, '-' for MJPEG on standard input (sent as it comes), or
    pattern:[WIDTHxHEIGHT][?frames=N], a test picture. They are sent one after the other;
    event times are now.

    SIGTERM ends it with exit code 143. A capture of standard input is then closed with what
    it has; one of files, like any after Ctrl-C, is left open, as it is not whole.
    """
    sources = options["sources"]
    if options["frames"] is None and len(sources) == 1 and is_endless(sources[0]):
        # It would only ever end in an abort; 5 s at 15 frames a second show enough.
        options["frames"] = PATTERN_FRAMES
    request = _Request(
        capture_id=str(uuid.uuid4()) if capture_id is None else capture_id, **options
    )
    termination = Termination(CLOSE_S if _is_live(request) else 0)
    left_out = LeftOut()
    try:
        with _progress(request, is_wanted=not no_progress) as report:
            capture = trio.run(
                _send, request, report, termination, left_out, strict_exception_groups=True
            )
    except (SourceError, SchemaError, ValueError) as exc:
        raise click.UsageError(printable(str(exc))) from None
    except CaptureError as exc:
        _tell(left_out)
        if as_json:
            result = _failure(request, exc) | _counts(left_out)
            with suppress(OutputError):  # the error below is what matters
                click.echo(printable(json.dumps(result)))
        raise click.ClickException(printable(str(exc))) from None
    _tell(left_out)
    receipt = None if capture is None else capture.receipt
    if capture is None or receipt is None:
        termination.exit_if_asked()
    assert capture is not None
    assert receipt is not None
    if as_json:
        result = {"capture_id": capture.capture_id, **attrs.asdict(receipt), "close_code": 1000}
        put_result(json.dumps(result | _counts(left_out)))
    else:
        put_result(
            f"{capture.capture_id}: the worker has {receipt.frames} frames, "
            f"{receipt.bytes} bytes"
        )
    termination.exit_if_asked()


def _is_live(request: _Request) -> bool:
    return "-" in request.sources


def _tell(left_out: LeftOut) -> None:
    for sentence in left_out.sentences():
        click.echo(printable(sentence), err=True)


def _counts(left_out: LeftOut) -> dict[str, Any]:
    counts = left_out.counts()
    return {"left_out": counts} if counts else {}


def _failure(request: _Request, exc: CaptureError) -> dict[str, Any]:
    result: dict[str, Any] = {"capture_id": request.capture_id, "error_code": None}
    if isinstance(exc, CaptureAborted):
        return result | {"error_code": exc.code.value} | attrs.asdict(exc)
    if isinstance(exc, ConnectionLost | _SourceBroke):
        return result | attrs.asdict(exc)
    return result


async def _send(
    request: _Request,
    report: _Report,
    termination: Termination,
    left_out: LeftOut | None = None,
) -> Capture | None:
    """Send the capture; None if SIGTERM has cut it off."""
    sizes = {"width": request.width, "height": request.height}
    given = {name: size for name, size in sizes.items() if size is not None}
    sent: Capture | None = None
    with termination.heard():
        async with (
            Frames(request.sources, fps=request.fps, left_out=left_out, **given) as frames,
            open_capture(
                request.url,
                user_id=request.user,
                session_id=request.session,
                capture_id=request.capture_id,
                width=request.width or frames.width,
                height=request.height or frames.height,
                fps=request.fps,
                source="cfw send",
                token=request.access.token,
                ssl_context=request.access.ssl_context,
            ) as capture,
        ):
            with termination.first if _is_live(request) else nullcontext():
                await _send_frames(request, frames, capture, report)
        sent = capture
    return sent


async def _send_frames(
    request: _Request, frames: Frames, capture: Capture, report: _Report
) -> None:
    start = trio.current_time()
    most = math.inf if request.frames is None else request.frames
    # Asked before the next frame is read: a pipe may not have one for a long time.
    while capture.frames_sent < most:
        try:
            jpeg = await anext(frames)
        except StopAsyncIteration:
            break
        except SourceError as exc:
            sent = (capture.frames_sent, capture.bytes_sent)
            raise _SourceBroke(str(exc), *sent) from exc
        if not _is_live(request):
            # Against the start, not the last frame, so that delays do not add up.
            await trio.sleep_until(start + capture.frames_sent / request.fps)
        await capture.send_frame(jpeg)
        report(capture)


@contextmanager
def _progress(request: _Request, *, is_wanted: bool) -> Iterator[_Report]:
    """A progress bar on standard error, if that is a terminal."""
    if not (is_wanted and sys.stderr.isatty()):
        yield lambda capture: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[told]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("sending", total=request.frames, told="")
        start = time.monotonic()

        def report(capture: Capture) -> None:
            elapsed = time.monotonic() - start
            rate = (capture.frames_sent - 1) / elapsed if elapsed > 0 else 0
            told = f"{capture.frames_sent} frames  {_size(capture.bytes_sent)}  {rate:.1f} fps"
            progress.update(task, completed=capture.frames_sent, told=told)

        yield report


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.0f} kB"
