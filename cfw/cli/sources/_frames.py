"""From what is named on the command line to its frames, one source after the other."""

from __future__ import annotations

import io
import os
import stat
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import trio

from cfw.cli.left_out import LeftOut
from cfw.cli.mjpeg import SourceError
from cfw.cli.sources._files import DirectorySource, StreamSource, list_images, open_path
from cfw.cli.sources._pattern import open_pattern
from cfw.cli.sources._source import ACCEPTED, DEFAULT_MAX_FRAME_BYTES, FrameSource, Reading
from cfw.jpeg import probe


def open_source(
    spec: str,
    *,
    width: int = 640,
    height: int = 480,
    fps: float = 15,
    max_frame_bytes: int = DEFAULT_MAX_FRAME_BYTES,
    stdin_fd: int = 0,
    left_out: LeftOut | None = None,
) -> FrameSource:
    """Return the source that `spec` names; files are opened at the first frame.

    Args:
        spec: a file of one or more JPEG images, a directory (its `*.jpg` and `*.jpeg` in
            natural order), `-` (MJPEG on standard input) or
            `pattern:[WIDTHxHEIGHT][?frames=N]` (a test picture, endless without N).
        width: of the test picture if the spec gives none, in pixels.
        height: of the test picture if the spec gives none, in pixels.
        fps: frames per second of the test picture.
        max_frame_bytes: the largest image read from a file or pipe.
        stdin_fd: the file descriptor that `-` stands for.
        left_out: counts what is read and given to nobody; None if nobody wants to know.

    Raises:
        SourceError: there is no such source; the reason says which are accepted.
    """
    reading = Reading(max_frame_bytes, LeftOut() if left_out is None else left_out)
    if spec == "-":
        if os.isatty(stdin_fd):
            raise SourceError(
                spec, None, "standard input is a terminal; pipe in: ffmpeg -i INPUT -f mjpeg -"
            )
        return StreamSource(spec, lambda: io.FileIO(stdin_fd, "rb", closefd=False), reading)
    if spec.startswith("pattern:"):
        return open_pattern(spec, width, height, fps)
    path = Path(spec)
    try:
        is_directory = stat.S_ISDIR(path.stat().st_mode)
        paths = list_images(path) if is_directory else []
    except (OSError, ValueError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else str(exc)
        raise SourceError(spec, None, f"{reason}; {ACCEPTED}") from exc
    if not is_directory:
        return open_path(spec, path, reading)
    if not paths:
        raise SourceError(spec, None, f"the directory holds no *.jpg or *.jpeg; {ACCEPTED}")
    return DirectorySource(spec, paths, reading)


class Frames:
    """The frames of several sources, one after the other.

        async with Frames(["a.jpg", "-"]) as frames:
            print(frames.width, frames.height)
            async for jpeg in frames: ...

    Entering reads the first frame, which gives the size for `capture.open`; it comes first
    in the iteration all the same. A later frame may have another size. One task iterates.

    Args:
        specs: as for `open_source`; `-` at most once.
        width: as for `open_source`.
        height: as for `open_source`.
        fps: as for `open_source`.
        max_frame_bytes: as for `open_source`.
        stdin_fd: as for `open_source`.
        left_out: as for `open_source`.

    Raises:
        SourceError: at once for a source that is not there, on entering or in the iteration
            for one that cannot be read or holds no JPEG image.

    Cancellation: safe at any point. A cancelled step loses no frame, and leaving waits for
    nobody: not for a silent pipe either.
    """

    def __init__(
        self,
        specs: Sequence[str],
        *,
        width: int = 640,
        height: int = 480,
        fps: float = 15,
        max_frame_bytes: int = DEFAULT_MAX_FRAME_BYTES,
        stdin_fd: int = 0,
        left_out: LeftOut | None = None,
    ) -> None:
        if not specs:
            raise SourceError("no source", None, ACCEPTED)
        if list(specs).count("-") > 1:
            raise SourceError("-", None, "standard input can be read once only")
        left_out = LeftOut() if left_out is None else left_out
        self._sources = deque(
            open_source(
                spec,
                width=width,
                height=height,
                fps=fps,
                max_frame_bytes=max_frame_bytes,
                stdin_fd=stdin_fd,
                left_out=left_out,
            )
            for spec in specs
        )
        self._first: bytes | None = None
        self._size = (0, 0)

    @property
    def width(self) -> int:
        """Pixels of the first frame; 0 before entering."""
        return self._size[0]

    @property
    def height(self) -> int:
        """Pixels of the first frame; 0 before entering."""
        return self._size[1]

    async def __aenter__(self) -> Frames:
        try:
            name = self._sources[0].name
            self._first = await self._next_frame()
            if self._first is None:
                raise SourceError(name, None, "there is no frame")
            self._size = probe(self._first)
        except BaseException:
            self._close()
            raise
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._close()

    def __aiter__(self) -> Frames:
        return self

    async def __anext__(self) -> bytes:
        if self._first is not None:
            await trio.lowlevel.checkpoint()
            frame, self._first = self._first, None
            return frame
        following = await self._next_frame()
        if following is None:
            raise StopAsyncIteration
        return following

    async def _next_frame(self) -> bytes | None:
        while self._sources:
            frame = await self._sources[0].next_frame()
            if frame is not None:
                return frame
            self._sources.popleft().close()
        return None

    def _close(self) -> None:
        self._first = None
        while self._sources:
            self._sources.popleft().close()
