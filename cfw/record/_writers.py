"""One writer for each format. All of it waits for the disk: threads call it."""

from __future__ import annotations

import io
import json
from contextlib import closing
from fractions import Fraction
from pathlib import Path
from typing import Any, Final, Protocol

from PIL import Image

from cfw.record._files import NewFile, sync_file, sync_folder
from cfw.recording._errors import library
from cfw.recording._layout import TICKS, Format, PresentationTimes, jpeg_name, media_name
from cfw.recording._media import IMAGE_TOPIC, MESSAGE_TOPIC
from schemas import CameraFeedWorkerFeed, FeedFrame, FeedOpened, Terminal, json_schemas, to_json

#: Of what libav keeps to itself, this much is lost with the process at most.
_FLUSH_S = 1
#: Of an MCAP file, likewise: two frames, or some seconds of very small ones.
_CHUNK_BYTES = 64 * 1024
_OPTIONS: Final = {
    "mkv": {"cluster_time_limit": str(1000 * _FLUSH_S), "flush_packets": "1"},
    # Readable while it is written, and at its end a plain file that players can seek in.
    "mp4": {
        "movflags": "hybrid_fragmented+frag_keyframe",
        "min_frag_duration": str(1_000_000 * _FLUSH_S),
        "flush_packets": "1",
    },
}
_MUXERS: Final = {"mkv": "matroska", "mp4": "mp4"}


class MediaWriter(Protocol):
    """Writes the pictures of one capture in one format."""

    def add(self, frame: FeedFrame, jpeg: bytes) -> None:
        """Write the next frame; what then fails is for `abandon`."""

    def finish(self, terminal: Terminal | None) -> None:
        """Write the end, and wait until the disk has all of it."""

    def abandon(self) -> None:
        """Leave what is there as it is; raises nothing."""


def check_formats(formats: tuple[Format, ...]) -> None:
    """See that each can be written here.

    Raises:
        FormatMissing: a library is not installed.
    """
    for form in formats:
        if form in _MUXERS:
            library("av", "av")
        elif form == "mcap":
            library("mcap.writer", "mcap")
            library("mcap_protobuf.schema", "mcap")
            library("foxglove_schemas_protobuf.CompressedImage_pb2", "mcap")


def media_writer(folder: Path, form: Format, opened: FeedOpened) -> MediaWriter:
    """Begin a format in the folder of a recording."""
    path = folder / media_name(form)
    if form == "jpeg":
        return _Pictures(path)
    if form == "mcap":
        return _Mcap(path, opened)
    return _Container(path, form, opened)


class _Pictures:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._written: list[Path] = []
        path.mkdir()

    def add(self, frame: FeedFrame, jpeg: bytes) -> None:
        path = self._path / jpeg_name(frame.seq)
        self._written.append(path)
        with closing(NewFile(path)) as file:
            file.write(jpeg)

    def finish(self, terminal: Terminal | None) -> None:
        for path in self._written:
            sync_file(path)
        sync_folder(self._path)

    def abandon(self) -> None:
        pass


class _Container:
    """Matroska or MP4: each JPEG is a packet as it came, its event time the packet's."""

    def __init__(self, path: Path, form: Format, opened: FeedOpened) -> None:
        self._av = library("av", "av")
        self._opened = opened
        self._path = path
        self._times = PresentationTimes(TICKS[form])
        self._tick = Fraction(1, TICKS[form])
        self._duration = max(1, round(TICKS[form] / opened.fps_target))
        self._form = form
        self._file = NewFile(path)
        self._container: Any = None
        self._stream: Any = None

    def add(self, frame: FeedFrame, jpeg: bytes) -> None:
        if self._stream is None:
            self._begin(*_size(jpeg, self._opened))
        packet = self._av.Packet(jpeg)
        packet.stream = self._stream
        packet.time_base = self._tick
        packet.pts = packet.dts = self._times.of(frame.timestamp_frame)
        packet.duration = self._duration
        packet.is_keyframe = True
        self._container.mux_one(packet)

    def finish(self, terminal: Terminal | None) -> None:
        # Without a frame it has not begun: the file stays empty.
        if self._container is not None:
            self._container.close()
        self._file.finish()

    def abandon(self) -> None:
        # libav would still write its end, and a file that ends well is called whole by players.
        self._file.close()

    def _begin(self, width: int, height: int) -> None:
        self._container = self._av.open(
            self._file, "w", format=_MUXERS[self._form], options=_OPTIONS[self._form]
        )
        self._stream = self._container.add_mux_stream(
            "mjpeg",
            rate=self._opened.fps_target,
            width=width,
            height=height,
            time_base=self._tick,
        )


class _Mcap:
    """Foxglove's CompressedImage for each frame, and the messages of the capture beside it."""

    def __init__(self, path: Path, opened: FeedOpened) -> None:
        self._mcap = library("mcap.writer", "mcap")
        self._image = library("foxglove_schemas_protobuf.CompressedImage_pb2", "mcap")
        schema = library("mcap_protobuf.schema", "mcap")
        self._opened = opened
        self._file = NewFile(path)
        self._writer = self._mcap.Writer(
            self._file,
            chunk_size=_CHUNK_BYTES,
            compression=self._mcap.CompressionType.NONE,  # JPEG does not shrink
        )
        self._writer.start(profile="", library="cfw")
        self._images = self._writer.register_channel(
            topic=IMAGE_TOPIC,
            message_encoding="protobuf",
            schema_id=schema.register_schema(self._writer, self._image.CompressedImage),
            metadata={"user_id": opened.user_id, "capture_id": opened.capture_id},
        )
        self._messages = self._writer.register_channel(
            topic=MESSAGE_TOPIC,
            message_encoding="json",
            schema_id=self._writer.register_schema(
                name="cfw.CameraFeedWorkerFeed",
                encoding="jsonschema",
                data=_feed_schema(),
            ),
        )
        self._writer.add_metadata("cfw.capture", _metadata(opened))
        self._tell(opened, opened.timestamp_start.ns)

    def add(self, frame: FeedFrame, jpeg: bytes) -> None:
        seconds, nanos = divmod(frame.timestamp_frame.ns, 1_000_000_000)
        image = self._image.CompressedImage(
            frame_id=self._opened.source or self._opened.user_id, data=jpeg, format="jpeg"
        )
        image.timestamp.seconds, image.timestamp.nanos = seconds, nanos
        self._tell(frame, frame.timestamp_frame.ns, frame.seq)
        self._writer.add_message(
            self._images,
            log_time=frame.timestamp_ingest.ns,
            publish_time=frame.timestamp_frame.ns,
            sequence=frame.seq,
            data=image.SerializeToString(),
        )

    def finish(self, terminal: Terminal | None) -> None:
        if terminal is not None:
            self._tell(terminal, terminal.timestamp.ns)
        self._writer.finish()
        self._file.finish()

    def abandon(self) -> None:
        self._file.close()

    def _tell(self, message: CameraFeedWorkerFeed, at_ns: int, seq: int = 0) -> None:
        self._writer.add_message(
            self._messages,
            log_time=message.timestamp_ingest.ns,
            publish_time=at_ns,
            sequence=seq,
            data=to_json(message).encode(),
        )


def _size(jpeg: bytes, opened: FeedOpened) -> tuple[int, int]:
    """Of the picture; what the capture declares where Pillow finds none."""
    try:
        with Image.open(io.BytesIO(jpeg)) as picture:
            return picture.size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return opened.width, opened.height


def _metadata(opened: FeedOpened) -> dict[str, str]:
    told = {
        "user_id": opened.user_id,
        "session_id": opened.session_id,
        "capture_id": opened.capture_id,
        "source": opened.source,
        "modality": opened.modality,
        "performer_id": opened.performer_id,
        "intent": None if opened.annotation is None else opened.annotation.intent,
        "fps_target": str(opened.fps_target),
        "width": str(opened.width),
        "height": str(opened.height),
    }
    return {name: value for name, value in told.items() if value is not None}


def _feed_schema() -> bytes:
    return json.dumps(json_schemas()["CameraFeedWorkerFeed"]).encode()
