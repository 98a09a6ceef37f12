"""Whether recordings are what they say, and what the worker and the rigs say of them."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import attrs

from cfw.recording._errors import RecordingError
from cfw.recording._layout import (
    CAPTURE_JSON,
    FRAMES_CSV,
    PART,
    Entry,
    Format,
    Manifest,
    StoredFile,
    read_csv,
    read_manifest,
    shortcomings,
)
from cfw.recording._media import media
from schemas import FeedClose

_CHUNK_BYTES = 1024 * 1024


@attrs.frozen
class Receipt:
    """What a rig got: the frames and bytes that the worker confirmed to it."""

    capture_id: str
    frames: int
    bytes: int


@attrs.frozen
class Verdict:
    """What was found of one recording.

    Args:
        path: its folder.
        manifest: what its `capture.json` says; None when that cannot be read.
        problems: each of them, with what it is about; empty when everything agrees.
    """

    path: Path
    manifest: Manifest | None
    problems: tuple[str, ...]

    @property
    def is_sound(self) -> bool:
        """Whether everything agrees."""
        return not self.problems


def recordings(folder: Path) -> list[Path]:
    """The finished recordings in a folder and below, by name."""
    return sorted(path for path, files in _folders(folder) if CAPTURE_JSON in (files or ()))


def unfinished(folder: Path) -> list[Path]:
    """What recorders have not finished in a folder and below."""
    return sorted(path for path, files in _folders(folder) if files is None)


def _folders(folder: Path) -> Iterator[tuple[Path, list[str] | None]]:
    """A folder and all below, with their files; None of and nothing below what is unfinished.

    Recorders may be at work: what is renamed or goes away meanwhile is passed by.
    """
    for name, below, files in os.walk(folder):
        path = Path(name)
        is_unfinished = path.name.endswith(PART)
        if is_unfinished:
            below.clear()
        yield path, None if is_unfinished else files


def verify(path: Path, receipts: Mapping[str, Receipt] | None = None) -> Verdict:
    """Hold a recording against its own terminal, its hashes, and what the rig was told.

    Args:
        path: its folder.
        receipts: by capture_id; None looks at none.

    Raises:
        FormatMissing: a library for one of its formats is not installed: what was not read is
            not called sound.
    """
    if path.name.endswith(PART):
        return Verdict(path, None, ("not finished: it was being written",))
    try:
        manifest = read_manifest(path)
    except RecordingError as exc:
        return Verdict(path, None, (str(exc),))
    return Verdict(path, manifest, tuple(_problems(path, manifest, receipts or {})))


def verify_all(
    folder: Path, receipts: Mapping[str, Receipt] | None = None
) -> Iterator[Verdict]:
    """Every recording in a folder and below; then the receipts for which there is none.

    Raises:
        FormatMissing: as for `verify`.
    """
    missing = dict(receipts or {})
    for path in sorted({*recordings(folder), *unfinished(folder)}):
        verdict = verify(path, receipts)
        if verdict.manifest is not None:
            missing.pop(verdict.manifest.opened.capture_id, None)
        yield verdict
    for receipt in missing.values():
        problem = f"the rig of {receipt.capture_id} has a receipt and there is no recording"
        yield Verdict(folder, None, (problem,))


def read_receipts(lines: Iterable[str]) -> dict[str, Receipt]:
    """What `cfw send --json` printed, one object on a line.

    Raises:
        ValueError: a line is none.
    """
    found = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            told = json.loads(line)
            if "frames" in told:  # a failure has none
                receipt = Receipt(told["capture_id"], int(told["frames"]), int(told["bytes"]))
                found[receipt.capture_id] = receipt
        except (ValueError, KeyError, TypeError):
            raise ValueError(f"line {number} is no receipt of cfw send --json") from None
    return found


def _problems(path: Path, manifest: Manifest, receipts: Mapping[str, Receipt]) -> Iterator[str]:
    if manifest.state != "whole":
        yield f"cut: {manifest.cut}"
    else:
        yield from shortcomings(manifest.terminal, manifest.frames)
    yield from _disorder(manifest.frames)
    yield from _against_receipt(manifest, receipts.get(manifest.opened.capture_id))
    for file in manifest.files:
        yield from _file_problems(path, file)
    yield from _csv_problems(path, manifest)
    for form in manifest.formats:
        yield from _media_problems(path, form, manifest)


def _disorder(frames: Iterable[Entry]) -> Iterator[str]:
    before: Entry | None = None
    for entry in frames:
        if before is not None:
            if entry.seq <= before.seq:
                yield f"frame {entry.seq} comes behind frame {before.seq}"
            for kind in ("timestamp_frame", "timestamp_ingest"):
                if getattr(entry, kind).ns < getattr(before, kind).ns:
                    yield f"{kind} of frame {entry.seq} is before that of frame {before.seq}"
        before = entry


def _against_receipt(manifest: Manifest, receipt: Receipt | None) -> Iterator[str]:
    if receipt is None:
        return
    told = f"the rig's receipt says {receipt.frames} frames, {receipt.bytes} bytes"
    if not isinstance(manifest.terminal, FeedClose):
        yield f"{told}; the terminal that was recorded is none of a clean end"
    elif (receipt.frames, receipt.bytes) != (len(manifest.frames), manifest.bytes):
        yield f"{told}; recorded are {len(manifest.frames)} frames, {manifest.bytes} bytes"


def _file_problems(path: Path, file: StoredFile) -> Iterator[str]:
    try:
        found = hash_file(path, file.name)
    except OSError as exc:
        yield f"{file.name} cannot be read: {exc.strerror or exc}"
        return
    if found.bytes < file.bytes:
        yield f"{file.name} is cut: {found.bytes} of {file.bytes} bytes"
    elif found != file:
        yield f"{file.name} was changed: it is not what was written"


def _csv_problems(path: Path, manifest: Manifest) -> Iterator[str]:
    try:
        listed = read_csv((path / FRAMES_CSV).read_text("utf-8"))
    except (OSError, UnicodeDecodeError):
        return  # has been told as a file
    if tuple(listed) != manifest.frames:
        yield f"{FRAMES_CSV} and {CAPTURE_JSON} do not list the same frames"


def _media_problems(path: Path, form: Format, manifest: Manifest) -> Iterator[str]:
    entries = {entry.seq: entry for entry in manifest.frames}
    whole = hashlib.sha256()
    seen: set[int] = set()
    is_damaged = False
    try:
        for seq, jpeg in media(path, form, manifest.frames):
            if seq is None or seq not in entries or seq in seen:
                yield f"{form}: a picture that belongs to no frame"
                continue
            seen.add(seq)
            whole.update(jpeg)
            if problem := _frame_problem(entries[seq], jpeg):
                is_damaged = True
                yield f"{form}: {problem}"
    except RecordingError as exc:
        is_damaged = True
        yield f"{form}: {exc}"
    for seq in sorted(entries.keys() - seen):
        yield f"{form}: frame {seq} is missing"
    if not is_damaged and seen == entries.keys() and whole.hexdigest() != manifest.sha256:
        yield f"{form}: the pictures are not in the order in which they came"


def _frame_problem(entry: Entry, jpeg: bytes) -> str | None:
    if len(jpeg) != entry.byte_length:
        return f"frame {entry.seq} is cut: {len(jpeg)} of {entry.byte_length} bytes"
    if hashlib.sha256(jpeg).hexdigest() != entry.sha256:
        return f"frame {entry.seq} was changed: its SHA-256 is not what was recorded"
    return None


def hash_file(folder: Path, name: str) -> StoredFile:
    """Size and SHA-256 of a file as it is now."""
    digest, size = hashlib.sha256(), 0
    with (folder / name).open("rb") as file:
        while data := file.read(_CHUNK_BYTES):
            digest.update(data)
            size += len(data)
    return StoredFile(name, size, digest.hexdigest())
