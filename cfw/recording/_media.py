"""Reading the frames of each format back."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

from cfw.recording._errors import DamagedError, library
from cfw.recording._layout import (
    TICKS,
    Entry,
    Format,
    PresentationTimes,
    jpeg_name,
    media_name,
)

#: Where an MCAP file has the pictures.
IMAGE_TOPIC: Final = "/image"
#: Where it has the messages of the capture.
MESSAGE_TOPIC: Final = "/capture"
#: Far more than a chunk has; a length that a damaged file tells is not believed beyond it.
MAX_RECORD_BYTES: Final = 256 * 1024 * 1024
#: To read formats in this order where nobody asks for one: what is quick to find a frame in.
PREFERRED: Final[tuple[Format, ...]] = ("jpeg", "mp4", "mkv", "mcap")


class Media(Protocol):
    """The frames of one format of one recording.

    `entries` are the frames that should be there; both methods raise `DamagedError` where a
    file cannot be read on.
    """

    def __iter__(self) -> Iterator[tuple[int | None, bytes]]:
        """Every picture that is there with its `seq`; None for one that has no place."""

    def one(self, entry: Entry) -> bytes:
        """The picture of one frame."""


def media(folder: Path, form: Format, entries: Sequence[Entry]) -> Media:
    """The frames of a format.

    Raises:
        FormatMissing: the library for it is not installed.
    """
    path = folder / media_name(form)
    if form == "jpeg":
        return _Pictures(path)
    if form == "mcap":
        return _Mcap(path)
    return _Container(path, entries, TICKS[form])


class _Pictures:
    def __init__(self, path: Path) -> None:
        self._path = path

    def __iter__(self) -> Iterator[tuple[int | None, bytes]]:
        try:
            names = [path.name for path in self._path.iterdir() if path.suffix == ".jpg"]
        except OSError as exc:
            raise _damaged(self._path, exc) from exc
        for name in sorted(names, key=lambda name: (len(name), name)):
            if name.startswith("."):
                continue  # what a file system or file manager of macOS puts beside it
            number = name.removesuffix(".jpg")
            seq = int(number) if number.isdecimal() else None
            is_ours = seq is not None and name == jpeg_name(seq)
            yield seq if is_ours else None, self._read(name)

    def one(self, entry: Entry) -> bytes:
        return self._read(jpeg_name(entry.seq))

    def _read(self, name: str) -> bytes:
        try:
            return (self._path / name).read_bytes()
        except OSError as exc:
            raise _damaged(self._path / name, exc) from exc


class _Container:
    """A file of Matroska or MP4; its times say which frame a picture is."""

    def __init__(self, path: Path, entries: Sequence[Entry], ticks: int) -> None:
        self._av = library("av", "av")
        self._path = path
        times = PresentationTimes(ticks)
        self._ticks = ticks
        self._times = [times.of(entry.timestamp_frame) for entry in entries]
        self._seqs = [entry.seq for entry in entries]

    def __iter__(self) -> Iterator[tuple[int | None, bytes]]:
        try:
            if self._path.stat().st_size == 0 and not self._seqs:
                return  # of a capture without frames
            with self._av.open(str(self._path), "r") as container:
                for packet in container.demux(container.streams.video[0]):
                    if packet.size:
                        yield self._seq(packet), bytes(packet)
        except (self._av.FFmpegError, OSError, IndexError) as exc:
            raise _damaged(self._path, exc) from exc

    def one(self, entry: Entry) -> bytes:
        time = self._times[bisect_left(self._seqs, entry.seq)]
        try:
            with self._av.open(str(self._path), "r") as container:
                stream = container.streams.video[0]
                offset = int(time / self._ticks / stream.time_base)
                container.seek(offset, stream=stream, backward=True)
                for packet in container.demux(stream):
                    if packet.size and self._seq(packet) == entry.seq:
                        return bytes(packet)
        except (self._av.FFmpegError, OSError, IndexError) as exc:
            raise _damaged(self._path, exc) from exc
        raise DamagedError(f"{self._path}: frame {entry.seq} is not in it")

    def _seq(self, packet: Any) -> int | None:
        if packet.pts is None:
            return None
        time = round(packet.pts * packet.time_base * self._ticks)
        place = bisect_left(self._times, time)
        is_there = place < len(self._times) and self._times[place] == time
        return self._seqs[place] if is_there else None


class _Mcap:
    def __init__(self, path: Path) -> None:
        self._reader = library("mcap.reader", "mcap")
        self._image = library("foxglove_schemas_protobuf.CompressedImage_pb2", "mcap")
        self._path = path

    def __iter__(self) -> Iterator[tuple[int | None, bytes]]:
        # From the front, as a file that has no end yet is read; without the checksums of its
        # chunks, which would take the good frames of one along with a damaged one.
        return self._images(self._reader.NonSeekingReader, None)

    def one(self, entry: Entry) -> bytes:
        for seq, jpeg in self._images(self._reader.SeekingReader, entry.timestamp_ingest.ns):
            if seq == entry.seq:
                return jpeg
        raise DamagedError(f"{self._path}: frame {entry.seq} is not in it")

    def _images(self, reader: Any, at_ns: int | None) -> Iterator[tuple[int | None, bytes]]:
        span = {} if at_ns is None else {"start_time": at_ns, "end_time": at_ns + 1}
        try:
            with self._path.open("rb") as file:
                messages = reader(file, record_size_limit=MAX_RECORD_BYTES).iter_messages(
                    topics=[IMAGE_TOPIC], log_time_order=False, **span
                )
                for _, _, message in messages:
                    yield (
                        message.sequence,
                        self._image.CompressedImage.FromString(message.data).data,
                    )
        except Exception as exc:  # that of a damaged file may be of any kind
            raise _damaged(self._path, exc) from exc


def _damaged(path: Path, exc: BaseException) -> DamagedError:
    said = exc.strerror if isinstance(exc, OSError) and exc.strerror else str(exc)
    return DamagedError(f"{path} cannot be read on: {said or type(exc).__name__}")
