"""What the process that reads a camera or a video is told, and what it tells.

A record is a line of JSON; behind that of a picture comes its JPEG.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, TypeAlias

import attrs

from cfw.cli.sources._fit import Fit

_MAX_LINE_BYTES = 65_536


@attrs.frozen(kw_only=True)
class Request:
    """What to read.

    Args:
        name: for errors.
        file: as libav has it.
        format: as libav has it; None lets it find out.
        options: of libav, in the order of preference; the first that opens counts.
        is_live: whether it is a camera, which may drop frames and waits for nobody.
        numbered: the device whose driver can be asked for frames with numbers; None if none.
        max_frame_bytes: the largest image read.
        fit: what frames may be.
    """

    name: str
    file: str
    format: str | None
    options: list[dict[str, str]]
    is_live: bool
    numbered: str | None
    max_frame_bytes: int
    fit: Fit

    def line(self) -> bytes:
        """As it is written."""
        return json.dumps(attrs.asdict(self)).encode() + b"\n"


@attrs.frozen(kw_only=True)
class Opened:
    """The source is open, and its first frame has come.

    Args:
        codec: by libav's name.
        fps: frames a second; None if it does not say.
        size: of the frames sent, in pixels.
        source_size: of the frames read.
    """

    codec: str
    fps: float | None
    size: tuple[int, int]
    source_size: tuple[int, int]


@attrs.frozen(kw_only=True)
class Picture:
    """A frame.

    Args:
        data: the JPEG.
        at_ns: by the clock of the source; None if it has none.
        arrived_ns: by the machine's monotonic clock.
    """

    data: bytes
    at_ns: int | None
    arrived_ns: int


@attrs.define(kw_only=True)
class Losses:
    """What did not become a picture since the last one, or behind it.

    Args:
        dropped: frames lost by the camera or its driver.
        skipped: frames left out to keep to the rate.
        damaged: frames that were none.
        damage: the first of those, in words.
    """

    dropped: int = 0
    skipped: int = 0
    damaged: int = 0
    damage: str = ""


@attrs.frozen
class Failed:
    """It cannot be read, or not on."""

    reason: str


Record: TypeAlias = Opened | Picture | Losses | Failed | None

_KINDS = {cls.__name__.lower(): cls for cls in (Opened, Picture, Losses, Failed)}


def encode(record: Record) -> bytes:
    """A record as it is written; None says that the source has ended."""
    if record is None:
        return b'{"kind": "end"}\n'
    fields: dict[str, Any] = attrs.asdict(record, recurse=False)
    data: bytes = fields.pop("data", b"")
    head = {"kind": type(record).__name__.lower(), "length": len(data), **fields}
    return json.dumps(head).encode() + b"\n" + data


class Decoder:
    """Bytes in, records out, whatever the chunks are."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._head: dict[str, Any] | None = None

    def feed(self, data: bytes | bytearray) -> Iterator[Record]:
        """The records that are whole now.

        Raises:
            ValueError: these are none.
        """
        self._buffer += data
        while True:
            if self._head is None:
                end = self._buffer.find(b"\n")
                if end < 0:
                    if len(self._buffer) > _MAX_LINE_BYTES:
                        raise ValueError("a line is too long")
                    return
                self._head = json.loads(self._buffer[:end])
                del self._buffer[: end + 1]
            length = self._head.get("length", 0)
            if len(self._buffer) < length:
                return
            payload = bytes(self._buffer[:length])
            del self._buffer[:length]
            fields, self._head = self._head, None
            yield _record(fields, payload)


def _record(fields: dict[str, Any], payload: bytes) -> Record:
    kind = fields.pop("kind")
    fields.pop("length", None)
    if kind == "end":
        return None
    if kind == "picture":
        fields["data"] = payload
    if kind == "opened":
        fields |= {name: tuple(fields[name]) for name in ("size", "source_size")}
    record: Record = _KINDS[kind](**fields)
    return record
