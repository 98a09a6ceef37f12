"""`cfw send`: be a rig."""

from __future__ import annotations

import json
import math
import sys
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, nullcontext, suppress
from typing import Any, TypeAlias

import attrs
import click
import trio

from cfw.cli._streams import OutputError, put_result
from cfw.cli.access import Access, accessed
from cfw.cli.left_out import LeftOut
from cfw.cli.mjpeg import SourceError
from cfw.cli.sources import Fit, Frames, is_endless, is_fitted, is_live, stall_within
from cfw.cli.termination import Termination
from cfw.client import (
    CaptureAborted,
    CaptureError,
    ConnectionLost,
    Film,
    FilmIncomplete,
    FilmPart,
    WorkerLimits,
    ask_worker,
    film,
)
from cfw.printable import printable
from cfw.tasks.nurseries import open_plain_nursery
from schemas import SchemaError

#: Called behind every frame.
_Report: TypeAlias = Callable[[Film], None]


#: For the receipt of a capture that a signal has ended: what the worker may take for it.
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
    fps: int | None
    capture_id: str
    width: int | None
    height: int | None
    frames: int | None
    split: bool = False
    retry_s: float | None = None
    start_at: str | None = None
    access: Access

    @property
    def is_film(self) -> bool:
        """Whether it may take more than one capture."""
        return self.split or self.retry_s is not None


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
    help="Frames a second: declared, and kept to unless SOURCE is '-'; a camera or video with "
    "more is thinned out.  [default: its own; else 15]",
)
@click.option("--capture-id", metavar="ID", help="Name of the capture.  [default: a UUID]")
@click.option(
    "--width",
    type=click.IntRange(min=1),
    help="Declared width; pictures of a camera or video are scaled to fit.  "
    "[default: the first JPEG's]",
)
@click.option(
    "--height",
    type=click.IntRange(min=1),
    help="Declared height, likewise.",
)
@click.option(
    "--frames",
    type=click.IntRange(min=1),
    help="Stop after so many frames.  [default: 75 for an endless pattern:]",
)
@click.option(
    "--split",
    is_flag=True,
    help="Go on in a new capture before this one reaches a limit of the worker.",
)
@click.option(
    "--retry",
    is_flag=True,
    help="Open another capture when one is lost with its connection or its worker.",
)
@click.option(
    "--retry-for",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="The same, and give up after so long without one.  [default: never]",
)
@click.option(
    "--start-at",
    metavar="TIME",
    help="Start on this instant of the worker's clock, such as 2026-05-04T10:20:30Z.",
)
@click.option("--no-progress", is_flag=True, help="Show no progress bar.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object as the result.")
@accessed
def send(
    no_progress: bool,
    as_json: bool,
    capture_id: str | None,
    retry: bool,
    retry_for: float | None,
    **options: Any,
) -> None:
    """Send one capture, or a film of several, and print the receipt.

    WS_URL is the worker's, for example ws://127.0.0.1:8765. Each SOURCE is a JPEG, MJPEG or
    video file (mp4, mkv, webm, avi), a directory of *.jpg, '-' for MJPEG on standard input,
    a camera of this machine (camera:, camera:1, /dev/video0; `cfw cameras` lists them), a
    network camera (rtsp://..., http://... for MJPEG), or pattern:[WIDTHxHEIGHT][?frames=N],
    a test picture. They are sent one after the other. Event times are those of the camera or
    video, begun now; of the rest, now. Cameras and videos are made to fit the worker's limits.

    Ctrl-C ends it with exit code 130, SIGTERM with 143. A capture of standard input or a camera
    is then closed with what it has, and has its receipt; one of files is left open, as it is
    not whole. A second Ctrl-C waits for nothing.

    With --split and --retry each capture is told as it ends, with --json as an object of its
    own; a second one is called CAPTURE_ID.2. No frame is sent twice: what was sent in a capture
    that was lost is counted, and makes the exit code 1.
    """
    sources = options["sources"]
    if options["frames"] is None and len(sources) == 1 and is_endless(sources[0]):
        # It would only ever end in an abort; 5 s at 15 frames a second show enough.
        options["frames"] = PATTERN_FRAMES
    request = _Request(
        capture_id=str(uuid.uuid4()) if capture_id is None else capture_id,
        retry_s=math.inf if retry and retry_for is None else retry_for,
        **options,
    )
    termination = Termination(CLOSE_S if _is_live(request) else 0, heeds_interrupts=True)
    left_out = LeftOut()
    told = _Told(request, as_json)
    try:
        with _progress(request, is_wanted=not no_progress) as report:
            sent = trio.run(
                _send,
                request,
                report,
                termination,
                left_out,
                told,
                strict_exception_groups=True,
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
    if sent is not None:
        told.sum_up(sent, left_out)
    elif termination.cause is not None:
        told.cut_off(termination.cause)
    termination.exit_if_asked()


class _Told:
    """Says what became of captures: of each of a film as it ends, of any other at the end."""

    def __init__(self, request: _Request, as_json: bool) -> None:
        self._request = request
        self._as_json = as_json
        self._sent: Film | None = None

    def start(self, sent: Film) -> None:
        """It has begun; say how well an instant to start on was met."""
        self._sent = sent
        if (start := sent.start) is not None:
            late = f", {start.late_s:.3f} s late" if start.late_s else ""
            within_ms = 500 * start.width_s
            self._say(f"started on {start.asked_for}, to within {within_ms:.1f} ms{late}")

    def part(self, part: FilmPart) -> None:
        """A capture of a film has ended."""
        if not self._request.is_film:
            return
        if part.failure is None:
            if self._as_json:
                self._print(_receipt(part))
            return
        sent = "1 frame" if part.frames_sent == 1 else f"{part.frames_sent} frames"
        self._say(
            f"{part.capture_id}: lost, {part.failure}; {sent} of it were sent and not confirmed"
        )
        if self._as_json:
            told = _failure(self._request, part.failure) | {"capture_id": part.capture_id}
            self._print(told | {"frames_sent": part.frames_sent})

    def sum_up(self, sent: Film, left_out: LeftOut) -> None:
        """All is sent and confirmed."""
        receipt = sent.receipt
        if not self._as_json:
            among = f", in {len(sent.parts)} captures" if self._request.is_film else ""
            put_result(
                f"{sent.film_id}: the worker has {receipt.frames} frames, "
                f"{receipt.bytes} bytes{among}"
            )
        elif self._request.is_film:
            self._print(_film(sent) | _counts(left_out))
        else:
            (part,) = sent.parts
            self._print(_receipt(part) | _counts(left_out))

    def cut_off(self, cause: str) -> None:
        """A signal has ended it before there was a receipt."""
        if self._sent is None:
            self._say(f"{self._request.capture_id}: ended by {cause} before a frame was sent")
            return
        count = self._sent.frames_sent - self._sent.receipt.frames
        sent = "1 frame" if count == 1 else f"{count} frames"
        self._say(
            f"{self._sent.film_id}: ended by {cause} without a receipt; {sent} of it were sent "
            "and not confirmed"
        )

    def _say(self, line: str) -> None:
        click.echo(printable(line), err=True)

    def _print(self, fields: dict[str, Any]) -> None:
        put_result(printable(json.dumps(fields)))


def _receipt(part: FilmPart) -> dict[str, Any]:
    assert part.receipt is not None
    return {"capture_id": part.capture_id, **attrs.asdict(part.receipt), "close_code": 1000}


def _film(sent: Film) -> dict[str, Any]:
    return {
        "film_id": sent.film_id,
        "captures": len(sent.parts),
        "frames_sent": sent.frames_sent,
        "bytes_sent": sent.bytes_sent,
        "frames_confirmed": sent.receipt.frames,
        "bytes_confirmed": sent.receipt.bytes,
    }


def _is_live(request: _Request) -> bool:
    return any(is_live(spec) for spec in request.sources)


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
    if isinstance(exc, FilmIncomplete):
        return {
            "film_id": request.capture_id,
            "captures": exc.captures,
            "captures_lost": len(exc.lost),
            "frames_sent": exc.frames_sent,
            "frames_confirmed": exc.frames_sent - exc.frames_lost,
            "detail": str(exc),
        }
    if isinstance(exc, ConnectionLost | _SourceBroke):
        return result | attrs.asdict(exc)
    return result | {"detail": str(exc)}


async def _send(
    request: _Request,
    report: _Report,
    termination: Termination,
    left_out: LeftOut | None = None,
    told: _Told | None = None,
) -> Film | None:
    """Send it; None if a signal has cut it off."""
    left_out = LeftOut() if left_out is None else left_out
    told = _Told(request, as_json=False) if told is None else told
    sizes = {"width": request.width, "height": request.height}
    given = {name: size for name, size in sizes.items() if size is not None}
    done: Film | None = None
    with termination.heard():
        limits = await _ask_limits(request)
        async with (
            Frames(
                request.sources,
                fps=request.fps,
                left_out=left_out,
                fit=Fit.of(limits, fps=request.fps, **given),
                stall_s=stall_within(limits),
                **given,
            ) as frames,
            _early(request, frames, left_out) as early,
            film(
                request.url,
                split=request.split,
                retry_s=request.retry_s,
                start_at=request.start_at,
                on_part=told.part,
                user_id=request.user,
                session_id=request.session,
                capture_id=request.capture_id,
                width=request.width or frames.width,
                height=request.height or frames.height,
                fps=frames.fps,
                source="cfw send",
                timestamp_start=None if request.start_at else frames.timestamp_start,
                token=request.access.token,
                ssl_context=request.access.ssl_context,
            ) as sent,
        ):
            await early.stop()
            told.start(sent)
            with termination.first if _is_live(request) else nullcontext():
                await _send_frames(request, frames, sent, report)
        done = sent
    return done


class _Early:
    """Lets frames of a live source pass that come before the start."""

    def __init__(self, frames: Frames, left_out: LeftOut) -> None:
        self._frames = frames
        self._left_out = left_out
        self._scope = trio.CancelScope()
        self._ended = trio.Event()

    async def pass_by(self) -> None:
        """Take frames until it is stopped; why there are no more, whoever sends them finds."""
        with self._scope, suppress(StopAsyncIteration, SourceError):
            while True:
                await anext(self._frames)
                self._left_out.early_images += 1
        self._ended.set()

    async def stop(self) -> None:
        """The next frame is the first that is sent."""
        self._scope.cancel()
        await self._ended.wait()


@asynccontextmanager
async def _early(request: _Request, frames: Frames, left_out: LeftOut) -> AsyncIterator[_Early]:
    early = _Early(frames, left_out)
    async with open_plain_nursery() as nursery:
        if request.start_at is not None and _is_live(request):
            nursery.start_soon(early.pass_by)
        else:
            early._ended.set()
        yield early


async def _ask_limits(request: _Request) -> WorkerLimits | None:
    """What the worker takes, where something can be made to fit it."""
    if not any(is_fitted(spec) for spec in request.sources):
        return None
    worker = await ask_worker(
        request.url, token=request.access.token, ssl_context=request.access.ssl_context
    )
    return worker.limits


async def _send_frames(request: _Request, frames: Frames, sent: Film, report: _Report) -> None:
    most = math.inf if request.frames is None else request.frames
    # Asked before the next frame is read: a pipe may not have one for a long time.
    while sent.frames_sent < most:
        try:
            frame = await anext(frames, None)
        except SourceError as exc:
            raise _SourceBroke(str(exc), sent.frames_sent, sent.bytes_sent) from exc
        for about in frames.pop_abouts():
            click.echo(printable(about), err=True)
        if frame is None:
            break
        await trio.sleep_until(frame.due)
        await sent.send_frame(frame.jpeg, frame.timestamp)
        report(sent)


@contextmanager
def _progress(request: _Request, *, is_wanted: bool) -> Iterator[_Report]:
    """A progress bar on standard error, if that is a terminal."""
    if not (is_wanted and sys.stderr.isatty()):
        yield lambda sent: None
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

        def report(sent: Film) -> None:
            elapsed = time.monotonic() - start
            rate = (sent.frames_sent - 1) / elapsed if elapsed > 0 else 0
            told = f"{sent.frames_sent} frames  {_size(sent.bytes_sent)}  {rate:.1f} fps"
            progress.update(task, completed=sent.frames_sent, told=told)

        yield report


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.0f} kB"
