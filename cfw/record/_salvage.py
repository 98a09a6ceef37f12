"""What a recorder has left unfinished: closed with what is whole in it, and called cut.

A frame is taken over when its bytes have the SHA-256 that `frames.csv` has of it. What is found
is written anew, in the same formats, beside the old folder, which is removed only when that has
its name for good; so a loss of power in the middle of it costs nothing.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import attrs

from cfw.record._capture import CaptureWriter, Written, give_name
from cfw.record._files import NEW, Lock, TakenError
from cfw.recording._errors import NotARecording, RecordingError
from cfw.recording._layout import (
    CAPTURE_JSON,
    FRAMES_CSV,
    PART,
    Entry,
    Format,
    Manifest,
    read_csv,
    read_manifest,
)
from cfw.recording._media import media
from cfw.recording._verify import unfinished
from schemas import SCHEMA_VERSION, FeedFrame, restate

#: Between the name and `.part`, while something is written anew.
_ANEW = ".anew"
#: Frames that are read before they are written: some megabytes.
_BATCH = 32


@attrs.frozen
class Salvaged:
    """What became of one folder.

    Args:
        part: the folder.
        written: what was made of it; None when nothing was.
        problem: why not; None when another recorder is at it, or there was nothing in it.
    """

    part: Path
    written: Written | None = None
    problem: str | None = None


def salvage_all(folder: Path) -> Iterator[Salvaged]:
    """Close what is unfinished in a folder and below; what others write is left to them."""
    for part in unfinished(folder):
        yield salvage(part, "the recorder ended before it was closed")


def salvage(part: Path, why: str) -> Salvaged:
    """Close what is unfinished in a `.part`; raises nothing.

    Args:
        part: the folder.
        why: it was not finished.
    """
    try:
        with Lock(part, is_new=False) as lock:
            return Salvaged(part, _close(part, why, lock))
    except TakenError:
        return Salvaged(part)
    except Exception as exc:  # whatever is in it, other recordings go on
        return Salvaged(part, problem=f"{type(exc).__name__}: {exc}")


def _close(part: Path, why: str, lock: Lock) -> Written | None:
    name = part.with_name(part.name.removesuffix(PART))
    if (
        name.name.endswith(_ANEW)
        and name.with_name(name.name.removesuffix(_ANEW) + PART).exists()
    ):
        _remove(part)  # begun from that one, which still has everything
        return None
    try:
        manifest = read_manifest(part)
    except NotARecording:
        if any(_has_something(path) for path in part.rglob("*")):
            raise
        _remove(part)  # it ended before it had begun
        return None
    if manifest.state != "recording":
        return Written(give_name(part, name, lock), manifest)  # only the name was missing
    if _is_done(name, manifest):
        _remove(part)
        return None
    written = _write_anew(part, name, manifest, why)
    _remove(part)
    return written


def _has_something(path: Path) -> bool:
    """Whether there is something in a file, and not only a manifest that never came to be."""
    return path.name != CAPTURE_JSON + NEW and path.is_file() and path.stat().st_size > 0


def _write_anew(part: Path, name: Path, manifest: Manifest, why: str) -> Written:
    listed: list[Entry] = []
    with suppress(FileNotFoundError):
        listed = read_csv((part / FRAMES_CSV).read_text("utf-8", "replace"))
    best = max(manifest.formats, key=lambda form: _count(part, form, listed))
    anew = name.with_name(name.name.removesuffix(_ANEW) + _ANEW)
    writer = CaptureWriter(name.parent, (anew.name,), manifest.opened, manifest.formats)
    try:
        batch: list[tuple[FeedFrame, bytes]] = []
        for entry, jpeg in _whole(part, best, listed):
            batch.append((_frame(manifest, entry, jpeg), jpeg))
            if len(batch) == _BATCH:
                writer.add_all(batch)
                batch.clear()
        writer.add_all(batch)
        writer.name = name
        return writer.finish(None, why)
    except BaseException:
        writer.discard()
        raise


def _count(part: Path, form: Format, listed: list[Entry]) -> int:
    return sum(1 for _ in _whole(part, form, listed))


def _whole(part: Path, form: Format, listed: list[Entry]) -> Iterator[tuple[Entry, bytes]]:
    """The frames that are as they are listed."""
    entries = {entry.seq: entry for entry in listed}
    with suppress(RecordingError):  # the file ends where the recorder did
        for seq, jpeg in media(part, form, listed):
            entry = None if seq is None else entries.get(seq)
            if entry is not None and hashlib.sha256(jpeg).hexdigest() == entry.sha256:
                yield entry, jpeg


def _frame(manifest: Manifest, entry: Entry, jpeg: bytes) -> FeedFrame:
    opened = manifest.opened
    return restate(
        entry,
        FeedFrame,
        schema_version=SCHEMA_VERSION,
        user_id=opened.user_id,
        capture_id=opened.capture_id,
        timestamp=entry.timestamp_frame,
        byte_length=len(jpeg),
    )


def _is_done(name: Path, manifest: Manifest) -> bool:
    """Whether it was written anew and only the old one has not been removed."""
    with suppress(RecordingError):
        return read_manifest(name).opened == manifest.opened
    return False


def _remove(part: Path) -> None:
    shutil.rmtree(part, ignore_errors=True)
