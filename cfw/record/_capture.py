"""Writing one capture. All of it waits for the disk: threads call it, one at a time."""

from __future__ import annotations

import hashlib
import shutil
import sys
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from pathlib import Path

import attrs

from cfw import __version__
from cfw.record._files import (
    Lock,
    NewFile,
    TakenError,
    make_folders,
    replace_text,
    sync_folder,
)
from cfw.record._writers import MediaWriter, media_writer
from cfw.recording._layout import (
    CAPTURE_JSON,
    CSV_HEAD,
    FRAMES_CSV,
    LOCK,
    PART,
    Entry,
    Format,
    Manifest,
    media_name,
    shortcomings,
)
from cfw.recording._verify import hash_file
from schemas import FeedFrame, FeedOpened, Terminal

RECORDER = f"cfw {__version__}"
#: Names that are tried for one recording: NAME, NAME-2, NAME-3, ...
_MOST_NAMES = 10_000


@attrs.frozen
class Written:
    """A recording that is finished.

    Args:
        path: its folder.
        manifest: what its `capture.json` says.
    """

    path: Path
    manifest: Manifest


class CaptureWriter:
    """One recording, from its `.part` folder to its name.

    Args:
        folder: of all recordings; it is made if it is not there.
        name: the folders that lead to this one; a number is added where it exists.
        opened: how the capture began.
        formats: to write.

    Raises:
        OSError: the disk does not take it.
    """

    def __init__(
        self,
        folder: Path,
        name: tuple[str, ...],
        opened: FeedOpened,
        formats: tuple[Format, ...],
    ) -> None:
        self.opened = opened
        self._formats = formats
        self._entries: list[Entry] = []
        self._digest = hashlib.sha256()
        self._media: list[MediaWriter] = []
        make_folders(folder.joinpath(*name[:-1]))
        self.name, self.part, self._lock = _reserve(folder.joinpath(*name))
        with ExitStack() as failed:
            failed.callback(self.abandon)
            replace_text(self.part / CAPTURE_JSON, self._manifest().to_json())
            self._csv = NewFile(self.part / FRAMES_CSV)
            self._csv.write(CSV_HEAD.encode())
            for form in formats:
                self._media.append(media_writer(self.part, form, opened))
            sync_folder(self.part.parent)
            failed.pop_all()

    @property
    def frames(self) -> int:
        """How many have been written."""
        return len(self._entries)

    def add_all(self, frames: Iterable[tuple[FeedFrame, bytes]]) -> None:
        """Write frames in order. One that was written before is left out.

        Raises:
            OSError: the disk does not take one, or a library fails; nothing but `abandon` may
                follow.
        """
        for frame, jpeg in frames:
            if self._entries and frame.seq <= self._entries[-1].seq:
                continue
            for media in self._media:
                media.add(frame, jpeg)
            entry = Entry.of(frame, jpeg)
            # Behind the pictures: what is listed is there.
            self._csv.write(entry.line().encode())
            self._entries.append(entry)
            self._digest.update(jpeg)

    def finish(self, terminal: Terminal | None, cut: str | None = None) -> Written:
        """Make all of it durable, and only then give it its name.

        Args:
            terminal: how the capture ended; None if that was not told.
            cut: why it is not whole; None if it may be, which is then seen.

        Raises:
            OSError: the disk does not take it; nothing but `abandon` may follow.
        """
        for media in self._media:
            media.finish(terminal)
        self._csv.finish()
        names = (media_name(form) for form in self._formats if form != "jpeg")
        lacking = shortcomings(terminal, self._entries)
        reasons = "; ".join(filter(None, [cut, *lacking]))
        manifest = attrs.evolve(
            self._manifest(),
            state="cut" if reasons else "whole",
            cut=reasons or None,
            terminal=terminal,
            files=tuple(hash_file(self.part, name) for name in (FRAMES_CSV, *names)),
            frames=tuple(self._entries),
            sha256=self._digest.hexdigest(),
        )
        replace_text(self.part / CAPTURE_JSON, manifest.to_json())
        return Written(self._give_name(), manifest)

    def abandon(self) -> None:
        """Leave all as it is, for a later run to close; raises nothing."""
        for media in self._media:
            with suppress(Exception):
                media.abandon()
        with suppress(Exception):
            self._csv.close()
        self._lock.release()

    def discard(self) -> None:
        """Remove all of it."""
        self.abandon()
        shutil.rmtree(self.part, ignore_errors=True)

    def _manifest(self) -> Manifest:
        return Manifest(
            state="recording",
            cut=None,
            recorder=RECORDER,
            opened=self.opened,
            formats=self._formats,
        )

    def _give_name(self) -> Path:
        return give_name(self.part, self.name, self._lock)


def give_name(part: Path, name: Path, lock: Lock) -> Path:
    """Rename a finished `.part`; to `NAME-2` and so on where others were quicker.

    Args:
        part: what is finished.
        name: the name that it should get.
        lock: on it; released behind it.

    Raises:
        OSError: the disk does not take it.
    """
    if sys.platform == "win32":
        lock.release()  # it renames no folder of an open file
    for number in range(1, _MOST_NAMES):
        found = _numbered(name, number)
        if found.exists():
            continue
        try:
            part.rename(found)
        except (FileExistsError, NotADirectoryError):
            continue
        except OSError:
            if found.exists():  # not empty: that of another recorder
                continue
            raise
        sync_folder(found.parent)
        with suppress(OSError):
            (found / LOCK).unlink(missing_ok=True)
        lock.release()
        return found
    raise FileExistsError(f"there are {_MOST_NAMES} recordings of the name {name}")


def _reserve(name: Path) -> tuple[Path, Path, Lock]:
    """A name that is free, its `.part`, and the lock on that."""
    for number in range(1, _MOST_NAMES):
        found = _numbered(name, number)
        part = found.with_name(found.name + PART)
        if found.exists():
            continue
        try:
            part.mkdir()
            return found, part, Lock(part, is_new=True)
        except (FileExistsError, TakenError):
            continue
    raise FileExistsError(f"there are {_MOST_NAMES} recordings of the name {name}")


def _numbered(name: Path, number: int) -> Path:
    return name if number == 1 else name.with_name(f"{name.name}-{number}")
