"""What a recording is on a disk: one folder for each capture.

    NAME/                  NAME.part/ while it is written
        capture.json       what it is, and the SHA-256 of every frame
        frames.csv         one line for each frame; while it is written, what has been written
        jpeg/000001.jpg    with format jpeg
        capture.mkv        with format mkv, and so on

`capture.json` is written twice: first with the state `recording`, when the capture opens, and
anew at the end, with the state `whole` or `cut`. A folder without `.part` is finished.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import attrs

from cfw.recording._errors import NotARecording
from schemas import (
    FeedAbort,
    FeedClose,
    FeedFrame,
    FeedOpened,
    SchemaError,
    Terminal,
    Timestamp,
    parse_feed,
    to_dict,
)

KIND: Final = "cfw.recording"
VERSION: Final = 1
CAPTURE_JSON: Final = "capture.json"
FRAMES_CSV: Final = "frames.csv"
JPEG_FOLDER: Final = "jpeg"
LOCK: Final = ".lock"
PART: Final = ".part"

Format: TypeAlias = Literal["jpeg", "mkv", "mp4", "mcap"]
FORMATS: Final[tuple[Format, ...]] = ("jpeg", "mkv", "mp4", "mcap")
State: TypeAlias = Literal["recording", "whole", "cut"]
#: Ticks of a second in which containers count. Matroska's are milliseconds to all players; of
#: MP4's, 32 bits have to hold the longest pause between two frames: 6 hours.
TICKS: Final = {"mkv": 1_000, "mp4": 90_000}
_NS = 1_000_000_000


def media_name(form: Format) -> str:
    """The file or folder of a format, within the recording."""
    return JPEG_FOLDER if form == "jpeg" else f"capture.{form}"


def jpeg_name(seq: int) -> str:
    """The picture of a frame, within its folder."""
    return f"{seq:06d}.jpg"


@attrs.frozen
class Entry:
    """What a recording knows of one frame.

    Args:
        seq: its place in the capture; the first is 1.
        record_id: of its `capture.frame_meta`.
        timestamp_frame: event time, by the rig's clock, as it was written.
        timestamp_ingest: when the worker had it, by the worker's clock.
        byte_length: of the JPEG.
        sha256: of the JPEG, in hexadecimal.
    """

    seq: int
    record_id: str
    timestamp_frame: Timestamp
    timestamp_ingest: Timestamp
    byte_length: int
    sha256: str

    @classmethod
    def of(cls, frame: FeedFrame, jpeg: bytes) -> Entry:
        """What is known of a frame of the feed."""
        return cls(
            frame.seq,
            frame.record_id,
            frame.timestamp_frame,
            frame.timestamp_ingest,
            len(jpeg),
            hashlib.sha256(jpeg).hexdigest(),
        )

    @classmethod
    def read(cls, fields: dict[str, Any]) -> Entry:
        """From `capture.json` or a line of `frames.csv`.

        Raises:
            ValueError, KeyError, TypeError: it is none.
        """
        entry = cls(
            int(fields["seq"]),
            str(fields["record_id"]),
            Timestamp.parse(fields["timestamp_frame"]),
            Timestamp.parse(fields["timestamp_ingest"]),
            int(fields["byte_length"]),
            str(fields["sha256"]),
        )
        if entry.seq < 1 or entry.byte_length < 1 or len(entry.sha256) != 64:
            raise ValueError("no frame of a recording")
        return entry

    def fields(self) -> dict[str, str | int]:
        """By the names of the columns."""
        return {
            name: value.text if isinstance(value, Timestamp) else value
            for name, value in attrs.asdict(self, recurse=False).items()
        }

    def line(self) -> str:
        """Of `frames.csv`, with its end."""
        return ",".join(map(str, self.fields().values())) + "\n"


COLUMNS: Final = tuple(field.name for field in attrs.fields(Entry))
CSV_HEAD: Final = ",".join(COLUMNS) + "\n"


def read_csv(text: str) -> list[Entry]:
    """The frames of `frames.csv`, up to a line that was not written to its end."""
    found: list[Entry] = []
    for row in csv.DictReader(io.StringIO(text[: text.rfind("\n") + 1])):
        try:
            found.append(Entry.read(row))
        except (ValueError, KeyError, TypeError):
            break
    return found


@attrs.frozen
class StoredFile:
    """A file of the recording other than a picture: its name, size and SHA-256."""

    name: str
    bytes: int
    sha256: str


@attrs.frozen(kw_only=True)
class Manifest:
    """What `capture.json` says.

    Args:
        state: `recording` until it is finished; `whole` when a terminal came and with it every
            frame that it counts; `cut` otherwise.
        cut: why it is not whole; None when it is.
        recorder: what wrote it.
        opened: how the capture began.
        terminal: how it ended; None when the recorder was not told.
        formats: that it has.
        files: of these formats, and `frames.csv`.
        frames: in order.
        sha256: of all JPEGs, one behind the other.
    """

    state: State
    cut: str | None
    recorder: str
    opened: FeedOpened
    terminal: Terminal | None = None
    formats: tuple[Format, ...] = ()
    files: tuple[StoredFile, ...] = ()
    frames: tuple[Entry, ...] = ()
    sha256: str = hashlib.sha256().hexdigest()

    @property
    def bytes(self) -> int:
        """Of all JPEGs together."""
        return sum(entry.byte_length for entry in self.frames)

    def to_json(self) -> str:
        """The text of `capture.json`, with its seal."""
        terminal = self.terminal
        counts = None if terminal is None else _counts(terminal)
        content = {
            "kind": KIND,
            "version": VERSION,
            "state": self.state,
            "cut": self.cut,
            "recorder": self.recorder,
            "recorded": {"frames": len(self.frames), "bytes": self.bytes},
            "counted_by_the_worker": counts,
            "clock_offset_ms": None if terminal is None else clock_offset_ms(terminal),
            "opened": to_dict(self.opened),
            "terminal": None if terminal is None else to_dict(terminal),
            "formats": list(self.formats),
            "files": [attrs.asdict(file) for file in self.files],
            "sha256": self.sha256,
            "frames": [entry.fields() for entry in self.frames],
        }
        return json.dumps(content | {"seal": _seal(content)}, indent=1, ensure_ascii=False)

    @classmethod
    def parse(cls, text: str, path: Path) -> Manifest:
        """Read `capture.json`.

        Raises:
            NotARecording: it is none, or of a later version, or somebody has changed it.
        """
        try:
            content = json.loads(text)
            if content["kind"] != KIND:
                raise ValueError(f"kind is not {KIND}")
            if content["version"] != VERSION:
                raise ValueError(f"version {content['version']}: a later cfw wrote it")
            if content.pop("seal") != _seal(content):
                raise ValueError("its seal is broken: it was changed after it was written")
            return cls._of(content)
        except (ValueError, KeyError, TypeError, RecursionError, SchemaError) as exc:
            problem = f"{exc.args[0]} is missing" if isinstance(exc, KeyError) else str(exc)
            raise NotARecording(f"{path} cannot be read: {problem}") from None

    @classmethod
    def _of(cls, content: dict[str, Any]) -> Manifest:
        opened = parse_feed(json.dumps(content["opened"]))
        terminal = None
        if content["terminal"] is not None:
            terminal = parse_feed(json.dumps(content["terminal"]))
        if not isinstance(opened, FeedOpened):
            raise ValueError("opened is no capture.opened")
        if not isinstance(terminal, FeedClose | FeedAbort | None):
            raise ValueError("terminal is no terminal")
        formats = tuple(form for form in FORMATS if form in content["formats"])
        return cls(
            state=content["state"],
            cut=content["cut"],
            recorder=content["recorder"],
            opened=opened,
            terminal=terminal,
            formats=formats,
            files=tuple(StoredFile(**file) for file in content["files"]),
            frames=tuple(map(Entry.read, content["frames"])),
            sha256=content["sha256"],
        )


def read_manifest(folder: Path) -> Manifest:
    """The `capture.json` of a folder.

    Raises:
        NotARecording: there is none, or it cannot be read.
    """
    path = folder / CAPTURE_JSON
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        raise NotARecording(f"{folder} is no recording: it has no {CAPTURE_JSON}") from None
    except (OSError, UnicodeDecodeError) as exc:
        raise NotARecording(f"{path} cannot be read: {exc}") from None
    return Manifest.parse(text, path)


def shortcomings(terminal: Terminal | None, frames: Sequence[Entry]) -> list[str]:
    """What these frames lack of what the terminal counts; empty when they are all.

    The terminal of an abort may count a frame less than a consumer was given: one that others
    had not taken yet is not forwarded.
    """
    found = [_missing(first, last) for first, last in holes(frames)]
    if terminal is None:
        return [*found, "the end of the capture did not come"]
    count, size = len(frames), sum(entry.byte_length for entry in frames)
    least = (terminal.frames_forwarded, terminal.bytes_forwarded)
    most = (terminal.frames_accepted, terminal.bytes_accepted)
    if isinstance(terminal, FeedClose):
        least = most = max(least, most)
    last = frames[-1].seq if frames else 0
    if last < least[0]:
        found.append(_missing(last + 1, least[0]))
    elif not found and not (least[0] <= count <= most[0] and least[1] <= size <= most[1]):
        found.append(
            f"the worker counts {_frames(least[0])}, {least[1]} bytes; "
            f"there are {_frames(count)}, {size} bytes"
        )
    return found


def holes(frames: Iterable[Entry]) -> Iterator[tuple[int, int]]:
    """The first and last number of each run of frames that are not there."""
    last = 0
    for entry in frames:
        if entry.seq > last + 1:
            yield last + 1, entry.seq - 1
        last = max(last, entry.seq)


def clock_offset_ms(terminal: Terminal) -> list[float] | None:
    """How far the rig's clock is ahead of the worker's, at least and at most."""
    low, high = terminal.clock_offset_min_ms, terminal.clock_offset_max_ms
    return None if low is None or high is None else [low, high]


class PresentationTimes:
    """The times of frames in a container: ticks since the first, each later than the last.

    Args:
        ticks: of one second.
    """

    def __init__(self, ticks: int) -> None:
        self._ticks = ticks
        self._first_ns: int | None = None
        self._last = -1

    def of(self, event: Timestamp) -> int:
        """The time of the next frame."""
        if self._first_ns is None:
            self._first_ns = event.ns
        ticks = round((event.ns - self._first_ns) * self._ticks / _NS)
        self._last = max(ticks, self._last + 1)
        return self._last


def _missing(first: int, last: int) -> str:
    return (
        f"frame {first} is missing"
        if first == last
        else f"frames {first} to {last} are missing"
    )


def _frames(count: int) -> str:
    return "1 frame" if count == 1 else f"{count} frames"


def _counts(terminal: Terminal) -> dict[str, int]:
    names = ("frames_accepted", "bytes_accepted", "frames_forwarded", "bytes_forwarded")
    return {name: getattr(terminal, name) for name in names}


def _seal(content: dict[str, Any]) -> str:
    text = json.dumps(content, separators=(",", ":"), sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()
