"""Images in files, folders and pipes; they are read in threads."""

from __future__ import annotations

import contextlib
import io
import re
import select
import threading
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import attrs
import trio

from cfw.cli.left_out import LeftOut
from cfw.cli.mjpeg import MjpegSplitter, SourceError
from cfw.cli.sources._source import Reading, Shot

_CHUNK_BYTES = 64 * 1024
_JPEG_SUFFIXES = (".jpg", ".jpeg")


class _ChunkReader:
    """Reads a file in threads; waiting can be cancelled and resumed, and loses nothing.

    Args:
        open_raw: opens the file; called in a thread, since opening a named pipe blocks.
    """

    def __init__(self, open_raw: Callable[[], io.FileIO]) -> None:
        self._open_raw = open_raw
        self._lock = threading.Lock()  # for the four below, which threads share
        self._raw: io.FileIO | None = None
        self._reading = False
        self._closed = False
        self._result: bytes | OSError | None = None
        self._arrived = trio.Event()

    async def receive(self) -> bytes:
        """Return the next bytes, at least one; empty at the end."""
        with self._lock:
            idle = self._result is None and not self._reading
            self._reading |= idle
        if idle:
            self._arrived = trio.Event()
            token = trio.lowlevel.current_trio_token()
            # Not trio.to_thread: it would either hold a cancelled caller until a camera
            # sends its next byte, or throw that byte away.
            trio.lowlevel.start_thread_soon(
                self._read, lambda outcome: self._deliver(token, outcome)
            )
        await self._arrived.wait()
        result, self._result = self._result, None
        assert result is not None
        if isinstance(result, OSError):
            raise result
        return result

    def close(self) -> None:
        """Close the file now, or as soon as the read under way has ended."""
        with self._lock:
            self._closed = True
            if not self._reading and self._raw is not None:
                self._raw.close()

    def _read(self) -> bytes | OSError:
        try:
            if self._raw is None:
                self._raw = self._open_raw()
            # Unbuffered: a thread left behind in a buffered read holds the buffer's lock,
            # and the interpreter crashes on it at exit.
            while (data := self._raw.read(_CHUNK_BYTES)) is None:
                select.select([self._raw], [], [])  # the parent made it non-blocking
        except OSError as exc:
            return exc
        return data

    def _deliver(self, token: trio.lowlevel.TrioToken, outcome: Any) -> None:
        with self._lock:
            self._result = outcome.unwrap()
            self._reading = False
            if self._closed and self._raw is not None:
                self._raw.close()
        with contextlib.suppress(trio.RunFinishedError):
            token.run_sync_soon(self._arrived.set)


class StreamSource:
    """Images in one file or pipe."""

    fps = about = None

    def __init__(
        self,
        name: str,
        open_raw: Callable[[], io.FileIO],
        reading: Reading,
        *,
        is_live: bool = False,
    ) -> None:
        self.name = name
        self.is_live = is_live
        self._reader = _ChunkReader(open_raw)
        self._splitter = MjpegSplitter(
            max_frame_bytes=reading.max_frame_bytes, name=name, left_out=reading.left_out
        )
        self._ready: deque[bytes] = deque()
        self._ended = False

    async def next_frame(self) -> Shot | None:
        await trio.lowlevel.checkpoint()
        while not self._ready and not self._ended:
            try:
                chunk = await self._reader.receive()
            except OSError as exc:
                reason = f"cannot be read: {exc.strerror or exc}"
                raise SourceError(self.name, None, reason) from exc
            if chunk:
                self._ready.extend(self._splitter.feed(chunk))
            else:
                self._ended = True
                self._reader.close()
                self._ready.extend(self._splitter.finish())
        return Shot(self._ready.popleft()) if self._ready else None

    async def aclose(self) -> None:
        self._reader.close()


class DirectorySource:
    """Images of several files, of which one is open at a time.

    Files that hold none are left out: what lies about in a folder was not asked for by name.
    """

    is_live = False
    fps = about = None

    def __init__(self, name: str, paths: Sequence[Path], reading: Reading) -> None:
        self.name = name
        self._waiting = deque(paths)
        self._reading = reading
        self._current: StreamSource | None = None
        self._current_left_out = LeftOut()
        self._has_image = False
        self._first_fault: SourceError | None = None

    async def next_frame(self) -> Shot | None:
        await trio.lowlevel.checkpoint()
        while True:
            if self._current is None:
                if not self._waiting:
                    self._check_any()
                    return None
                path = self._waiting.popleft()
                self._current_left_out = LeftOut()
                own = attrs.evolve(self._reading, left_out=self._current_left_out)
                self._current = open_path(str(path), path, own)
            try:
                frame = await self._current.next_frame()
            except SourceError as exc:
                if exc.offset is None:
                    raise  # it could not be read, so nobody knows what it holds
                self._reading.left_out.add_file(str(exc))
                self._first_fault = self._first_fault or exc
            else:
                if frame is not None:
                    self._has_image = True
                    return frame
                self._reading.left_out.absorb(self._current_left_out)
            await self._current.aclose()
            self._current = None

    def _check_any(self) -> None:
        if self._first_fault is not None and not self._has_image:
            reason = f"no file in it is a JPEG image; the first: {self._first_fault}"
            raise SourceError(self.name, None, reason) from self._first_fault

    async def aclose(self) -> None:
        self._waiting.clear()
        if self._current is not None:
            await self._current.aclose()


def open_path(name: str, path: Path, reading: Reading) -> StreamSource:
    """The images of one file, which is opened at the first."""
    return StreamSource(name, lambda: io.FileIO(path, "rb"), reading)


def list_images(directory: Path) -> list[Path]:
    """The images of a folder, in natural order."""
    found = [
        path
        for path in directory.iterdir()
        if path.suffix.lower() in _JPEG_SUFFIXES and path.is_file()
    ]
    return sorted(found, key=lambda path: (_natural_key(path.name), path.name))


def _natural_key(name: str) -> list[str | int]:
    """Sort frame2 before frame10: text and numbers alternate, so like meets like."""
    parts = re.split(r"([0-9]+)", name.casefold())
    return [int(part) if index % 2 else part for index, part in enumerate(parts)]
