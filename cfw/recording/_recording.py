"""Reading one recording."""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import Any, overload

from cfw.recording._errors import DamagedError, NotARecording, UnfinishedError, library
from cfw.recording._layout import (
    CAPTURE_JSON,
    JPEG_FOLDER,
    PART,
    Entry,
    Format,
    Manifest,
    clock_offset_ms,
    read_manifest,
)
from cfw.recording._media import PREFERRED, media
from schemas import FeedOpened, Terminal, Timestamp


class Frame:
    """One frame of a recording.

    Attributes:
        seq: its place in the capture; the first is 1.
        timestamp: event time, by the rig's clock, to the nanosecond and as it was written.
        timestamp_ingest: when the worker had it, by the worker's clock.
    """

    def __init__(self, entry: Entry, load: Callable[[], bytes]) -> None:
        self.seq = entry.seq
        self.timestamp = entry.timestamp_frame
        self.timestamp_ingest = entry.timestamp_ingest
        self._entry = entry
        self._load = load

    @property
    def jpeg(self) -> bytes:
        """The JPEG, byte for byte as the rig sent it; read when it is asked for.

        Raises:
            DamagedError: it is not there, or is not what was recorded.
        """
        jpeg = self._load()
        if hashlib.sha256(jpeg).hexdigest() != self._entry.sha256:
            raise DamagedError(f"frame {self.seq} is not what was recorded")
        return jpeg

    @property
    def array(self) -> Any:
        """The picture, uint8, height x width x 3 (RGB), or height x width where it is grey.

        Raises:
            DamagedError: as for `jpeg`.
            FormatMissing: numpy is not installed.
        """
        numpy = library("numpy", "numpy")
        image = library("PIL.Image", "numpy")
        with image.open(BytesIO(self.jpeg), "r") as picture:
            return numpy.asarray(picture if picture.mode == "L" else picture.convert("RGB"))

    def __repr__(self) -> str:
        return f"<frame {self.seq} of {self.timestamp}>"


class Recording(Sequence[Frame]):
    """The frames of one capture, in order; `cfw.recording.open` makes it.

        for frame in recording: ...
        recording[0].array, recording[-1].timestamp, recording.at("2026-05-04T10:20:30Z")

    Attributes:
        path: the folder.
        format: which of its formats is read.
        opened: what the rig said of the capture.
        terminal: how the capture ended, as the worker told; None if it was never told.
        cut: what it lacks of the capture; None when it is whole.
    """

    def __init__(self, path: Path, manifest: Manifest, form: Format) -> None:
        self.path = path
        self.format = form
        self.opened: FeedOpened = manifest.opened
        self.terminal: Terminal | None = manifest.terminal
        self.cut = manifest.cut
        self._entries = manifest.frames
        self._media = media(path, form, self._entries)

    @property
    def clock_offset_ms(self) -> tuple[float, float] | None:
        """How far the rig's clock was ahead of the worker's, at least and at most.

        None where the worker did not find out.
        """
        found = None if self.terminal is None else clock_offset_ms(self.terminal)
        return None if found is None else (found[0], found[1])

    @property
    def timestamps_ns(self) -> list[int]:
        """Event times, by the rig's clock, in nanoseconds since 1970 UTC."""
        return [entry.timestamp_frame.ns for entry in self._entries]

    def __len__(self) -> int:
        return len(self._entries)

    @overload
    def __getitem__(self, place: int) -> Frame: ...
    @overload
    def __getitem__(self, place: slice) -> list[Frame]: ...
    def __getitem__(self, place: int | slice) -> Frame | list[Frame]:
        """By place, from 0; reads nothing but what is then asked for."""
        if isinstance(place, slice):
            return [*map(self._frame, self._entries[place])]
        return self._frame(self._entries[place])

    def __iter__(self) -> Iterator[Frame]:
        """All frames in order, reading each file once.

        Raises:
            DamagedError: the file cannot be read on, or has not all of them.
        """
        if self.format == "jpeg":
            yield from map(self._frame, self._entries)
            return
        pictures = iter(self._media)
        for entry in self._entries:
            for seq, jpeg in pictures:
                if seq == entry.seq:
                    yield Frame(entry, lambda jpeg=jpeg: jpeg)  # type: ignore[misc]
                    break
            else:
                raise DamagedError(f"{self.path}: frame {entry.seq} is not in it")

    def at(self, instant: Timestamp | datetime | str) -> Frame:
        """The frame whose event time is nearest to an instant of the rig's clock.

        Args:
            instant: text is ISO 8601; without an offset it is read as UTC.

        Raises:
            ValueError: the text is no date and time.
            IndexError: there are no frames.
        """
        if isinstance(instant, str):
            instant = Timestamp.parse(instant)
        elif isinstance(instant, datetime):
            instant = Timestamp.from_datetime(instant)
        times = self.timestamps_ns
        if not times:
            raise IndexError("this recording has no frames")
        after = min(bisect_left(times, instant.ns), len(times) - 1)
        before = max(after - 1, 0)
        is_before = abs(times[before] - instant.ns) <= abs(times[after] - instant.ns)
        return self._frame(self._entries[before if is_before else after])

    def to_pandas(self) -> Any:
        """A table with a row for each frame, by `seq`; without the pictures.

        Columns: `timestamp` and `timestamp_ingest` (UTC, to the nanosecond), `byte_length`,
        `sha256`.

        Raises:
            FormatMissing: pandas is not installed.
        """
        pandas = library("pandas", "pandas")

        def times(ns: list[int]) -> Any:
            return pandas.to_datetime(pandas.Series(ns, dtype="int64"), unit="ns", utc=True)

        table = pandas.DataFrame(
            {
                "seq": [entry.seq for entry in self._entries],
                "timestamp": times(self.timestamps_ns),
                "timestamp_ingest": times([e.timestamp_ingest.ns for e in self._entries]),
                "byte_length": [entry.byte_length for entry in self._entries],
                "sha256": [entry.sha256 for entry in self._entries],
            }
        )
        return table.set_index("seq")

    def _frame(self, entry: Entry) -> Frame:
        return Frame(entry, lambda: self._media.one(entry))

    def __repr__(self) -> str:
        cut = "" if self.cut is None else f", cut: {self.cut}"
        return f"<recording {self.path}, {self.format}, {len(self)} frames{cut}>"


def open_recording(path: str | Path, *, format: Format | None = None) -> Recording:
    """Read a recording of `cfw record`.

        recording = cfw.recording.open("recordings/s1/ada-20260504T102030.123Z-c1")

    Args:
        path: its folder, or anything in it.
        format: which of its formats to read; None takes the quickest that it has.

    Raises:
        NotARecording: there is none, or its capture.json cannot be read.
        UnfinishedError: it is still written, or was when its recorder ended.
        FormatMissing: it has not this format, or its library is not installed.
    """
    folder = recording_folder(Path(path))
    if folder.name.endswith(PART):
        raise UnfinishedError(
            f"{folder} is not finished: a recorder is at it, or has ended before it was. "
            "Another run of cfw record with the folder that it is in closes it"
        )
    manifest = read_manifest(folder)
    known = [form for form in PREFERRED if form in manifest.formats]
    if format is not None and format not in known:
        raise NotARecording(f"{folder} has no {format}; it has {', '.join(known)}")
    return Recording(folder, manifest, format or known[0])


def recording_folder(path: Path) -> Path:
    """The folder of a recording, of which `path` may be a file."""
    if (path / CAPTURE_JSON).exists():
        return path
    parent = path.parent.parent if path.parent.name == JPEG_FOLDER else path.parent
    if path.is_file() and (parent / CAPTURE_JSON).exists():
        return parent
    if not path.exists():
        raise NotARecording(f"{path} is not there")
    raise NotARecording(f"{path} is no recording: it has no {CAPTURE_JSON}")
