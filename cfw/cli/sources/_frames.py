"""From what is named on the command line to its frames, one source after the other."""

from __future__ import annotations

import io
import math
import os
import stat
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import trio

from cfw.cli.left_out import LeftOut
from cfw.cli.mjpeg import SourceError
from cfw.cli.sources._cameras import is_camera, open_camera
from cfw.cli.sources._files import DirectorySource, StreamSource, list_images, open_path
from cfw.cli.sources._fit import STALL_S, Fit
from cfw.cli.sources._pattern import open_pattern
from cfw.cli.sources._source import (
    ACCEPTED,
    DEFAULT_MAX_FRAME_BYTES,
    FrameSource,
    Reading,
    Shot,
)
from cfw.cli.sources._timeline import Frame, Timeline
from cfw.cli.sources._urls import is_url, open_url
from cfw.cli.sources._video import is_video, open_video
from cfw.jpeg import probe

#: What is declared where no source has a rate and nobody asks for one.
DEFAULT_FPS = 15


def open_source(
    spec: str,
    *,
    width: int = 640,
    height: int = 480,
    fps: float = DEFAULT_FPS,
    max_frame_bytes: int = DEFAULT_MAX_FRAME_BYTES,
    stdin_fd: int = 0,
    left_out: LeftOut | None = None,
    fit: Fit | None = None,
    stall_s: float = STALL_S,
) -> FrameSource:
    """Return the source that `spec` names; files and cameras are opened at the first frame.

    Args:
        spec: a file of one or more JPEG images, a directory (its `*.jpg` and `*.jpeg` in
            natural order), `-` (MJPEG on standard input), a video file, `camera:` or
            `camera:N` or a device, `rtsp://`, `http://` (MJPEG), or
            `pattern:[WIDTHxHEIGHT][?frames=N]` (a test picture, endless without N).
        width: of the test picture if the spec gives none, in pixels.
        height: of the test picture if the spec gives none, in pixels.
        fps: frames per second of the test picture.
        max_frame_bytes: the largest image read from a file, pipe or camera.
        stdin_fd: the file descriptor that `-` stands for.
        left_out: counts what is read and given to nobody; None if nobody wants to know.
        fit: what frames of cameras and videos are made to fit; None takes them as they are.
        stall_s: seconds that a camera may send nothing.

    Raises:
        SourceError: there is no such source; the reason says which are accepted.
    """
    reading = Reading(
        max_frame_bytes,
        LeftOut() if left_out is None else left_out,
        Fit() if fit is None else fit,
        stall_s,
    )
    if spec == "-":
        if os.isatty(stdin_fd):
            raise SourceError(
                spec, None, "standard input is a terminal; pipe in: ffmpeg -i INPUT -f mjpeg -"
            )
        return StreamSource(
            spec, lambda: io.FileIO(stdin_fd, "rb", closefd=False), reading, is_live=True
        )
    if spec.startswith("pattern:"):
        return open_pattern(spec, width, height, fps)
    if is_camera(spec):
        return open_camera(spec, reading)
    if is_url(spec):
        return open_url(spec, reading)
    return _open_file(spec, reading)


def _open_file(spec: str, reading: Reading) -> FrameSource:
    path = Path(spec)
    try:
        is_directory = stat.S_ISDIR(path.stat().st_mode)
        paths = list_images(path) if is_directory else []
    except (OSError, ValueError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else str(exc)
        raise SourceError(spec, None, f"{reason}; {ACCEPTED}") from exc
    if not is_directory:
        return open_video(spec, reading) if is_video(spec) else open_path(spec, path, reading)
    if not paths:
        raise SourceError(spec, None, f"the directory holds no *.jpg or *.jpeg; {ACCEPTED}")
    return DirectorySource(spec, paths, reading)


def is_live(spec: str) -> bool:
    """Whether a source sends when it has something, and ends when it likes."""
    return spec == "-" or is_camera(spec) or is_url(spec)


def is_fitted(spec: str) -> bool:
    """Whether frames of a source are made to fit what the worker takes."""
    return is_camera(spec) or is_url(spec) or is_video(spec)


class Frames:
    """The frames of several sources, one after the other.

        async with Frames(["a.jpg", "-"]) as frames:
            print(frames.width, frames.height)
            async for frame in frames: ...

    Entering reads the first frame, which gives the size for `capture.open`; it comes first
    in the iteration all the same. A later frame may have another size. One task iterates.

    Args:
        specs: as for `open_source`; `-` at most once.
        width: as for `open_source`.
        height: as for `open_source`.
        fps: frames a second, of what has no rate of its own; None: the default of 15.
        max_frame_bytes: as for `open_source`.
        stdin_fd: as for `open_source`.
        left_out: as for `open_source`.
        fit: as for `open_source`.
        stall_s: as for `open_source`.

    Raises:
        SourceError: at once for a source that is not there, on entering or in the iteration
            for one that cannot be read or holds no JPEG image.

    Cancellation: safe at any point. A cancelled step loses no frame, and leaving waits for
    nobody: not for a silent pipe or camera either.
    """

    def __init__(
        self,
        specs: Sequence[str],
        *,
        width: int = 640,
        height: int = 480,
        fps: float | None = None,
        max_frame_bytes: int = DEFAULT_MAX_FRAME_BYTES,
        stdin_fd: int = 0,
        left_out: LeftOut | None = None,
        fit: Fit | None = None,
        stall_s: float = STALL_S,
    ) -> None:
        if not specs:
            raise SourceError("no source", None, ACCEPTED)
        if list(specs).count("-") > 1:
            raise SourceError("-", None, "standard input can be read once only")
        left_out = LeftOut() if left_out is None else left_out
        self._fps = fps
        self._fit = Fit() if fit is None else fit
        self._sources = deque(
            open_source(
                spec,
                width=width,
                height=height,
                fps=DEFAULT_FPS if fps is None else fps,
                max_frame_bytes=max_frame_bytes,
                stdin_fd=stdin_fd,
                left_out=left_out,
                fit=fit,
                stall_s=stall_s,
            )
            for spec in specs
        )
        self._first: Frame | None = None
        self._size = (0, 0)
        self._timestamp_start: str | None = None
        self._source_fps: float | None = None
        self._abouts: list[str] = []
        self._told: FrameSource | None = None
        self._timeline = Timeline(1 / (DEFAULT_FPS if fps is None else fps))

    @property
    def width(self) -> int:
        """Pixels of the first frame; 0 before entering."""
        return self._size[0]

    @property
    def height(self) -> int:
        """Pixels of the first frame; 0 before entering."""
        return self._size[1]

    @property
    def timestamp_start(self) -> str | None:
        """When a camera took its first frame; None for what begins when it is sent."""
        return self._timestamp_start

    @property
    def fps(self) -> int:
        """Frames a second for `capture.open`: as asked for, or those of the first source."""
        if self._fps is not None:
            return math.ceil(self._fps)
        # Rounded up but for what a clock may be off: 15.0001 is 15.
        rate = math.ceil((self._source_fps or DEFAULT_FPS) - 0.01)
        return max(1, min(rate, self._fit.max_fps or rate))

    def pop_abouts(self) -> list[str]:
        """What there is to say of sources that have begun since this was asked last."""
        abouts, self._abouts = self._abouts, []
        return abouts

    async def __aenter__(self) -> Frames:
        try:
            source = self._sources[0]
            shot = await self._next_shot()
            if shot is None:
                raise SourceError(source.name, None, "there is no frame")
            self._first = self._timeline.place(self._sources[0], shot)
            self._source_fps = self._sources[0].fps
            self._size = probe(shot.jpeg)
            if self._sources[0].is_live:
                self._timestamp_start = self._first.timestamp
        except BaseException:
            await self._aclose()
            raise
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._aclose()

    def __aiter__(self) -> Frames:
        return self

    async def __anext__(self) -> Frame:
        if self._first is not None:
            await trio.lowlevel.checkpoint()
            frame, self._first = self._first, None
            return self._timeline.begin(frame)
        shot = await self._next_shot()
        if shot is None:
            raise StopAsyncIteration
        return self._timeline.place(self._sources[0], shot)

    async def _next_shot(self) -> Shot | None:
        while self._sources:
            source = self._sources[0]
            shot = await source.next_frame()
            if source.about is not None and source is not self._told:
                self._told = source
                self._abouts.append(source.about)
            if shot is not None:
                return shot
            if source.is_live and source.about is not None:
                self._abouts.append(f"{source.name}: the camera has ended the stream")
            self._sources.popleft()
            await source.aclose()
        return None

    async def _aclose(self) -> None:
        self._first = None
        while self._sources:
            await self._sources.popleft().aclose()
