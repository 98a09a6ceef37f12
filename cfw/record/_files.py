"""Writing so that a loss of power leaves all of a file or none of it, and whose a folder is."""

from __future__ import annotations

import errno
import os
import sys
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from cfw.recording._layout import LOCK

if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int) -> None:
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


#: Behind the name of a file whose text is to be replaced, as long as it is written.
NEW = ".new"
#: What locking says when another process was first.
_TAKEN = frozenset({errno.EWOULDBLOCK, errno.EACCES, errno.EDEADLK})


class TakenError(OSError):
    """Another recorder is at it."""


class Lock:
    """A folder belongs to this process; the system lets go of it when the process ends.

    Args:
        folder: in which a file is locked.
        is_new: no other may have been at it before.

    Raises:
        TakenError: another process has it.
        OSError: the file cannot be made.
    """

    def __init__(self, folder: Path, *, is_new: bool) -> None:
        path = folder / LOCK
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0)
        try:
            self._descriptor = os.open(path, flags | (os.O_EXCL if is_new else 0), 0o644)
        except FileExistsError as exc:
            raise TakenError(f"another recorder is at {folder}") from exc
        try:
            _lock(self._descriptor)
        except OSError as exc:
            os.close(self._descriptor)
            if exc.errno not in _TAKEN:
                raise
            raise TakenError(f"another recorder is at {folder}") from exc

    def release(self) -> None:
        """Let others have the folder. Again, it does nothing."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Lock:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()


class NewFile:
    """A file that was not there. Nothing waits in this process, and a write is all or raises.

    What libav and mcap write to.

    Args:
        path: its name.

    Raises:
        OSError: it cannot be made, `FileExistsError` if it is there.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("xb+", buffering=0)

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Write all of it; a disk that is nearly full takes a part before it refuses."""
        rest = memoryview(data)
        while rest:
            rest = rest[self._file.write(rest) :]
        return len(data)

    def read(self, size: int = -1) -> bytes:
        """From where the file stands."""
        return self._file.read(size) or b""

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go to a place in it."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """Where it stands."""
        return self._file.tell()

    def flush(self) -> None:
        """Nothing waits."""

    def finish(self) -> None:
        """Wait until the disk has it, and close."""
        os.fsync(self._file.fileno())
        self._file.close()

    def close(self) -> None:
        """Close. Again, it does nothing."""
        self._file.close()


def make_folders(path: Path) -> None:
    """Make a folder and those above it; what is new is in its parent for good."""
    if path.is_dir():
        return
    make_folders(path.parent)
    with suppress(FileExistsError):  # another recorder was quicker
        path.mkdir()
    sync_folder(path.parent)


def sync_file(path: Path) -> None:
    """Wait until the disk has what was written to a file."""
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(path: Path) -> None:
    """Wait until the disk has the names in a folder; Windows knows no such thing."""
    if sys.platform == "win32":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_text(path: Path, text: str) -> None:
    """Put a text into a file; whoever looks finds the old one or the new one, whole."""
    new = path.with_name(path.name + NEW)
    with new.open("w", encoding="utf-8", newline="\n") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
    sync_folder(path.parent)
