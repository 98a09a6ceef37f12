"""A recorded conversation, cut at every byte in every way that a network cuts one.

    for cut in bytecuts(conversation):           # str(cut) is "eof@123", for Cut.parse
        ours, theirs = stream_pair()
        nursery.start_soon(serve, ours)
        await cut.play(theirs)

| kind | what is played |
|---|---|
| `eof` | the bytes before the offset, then the end of the sending half |
| `reset` | the bytes before the offset, then a reset |
| `stall` | the bytes before the offset, then nothing; the stream stays open |
| `split` | all of it in two writes |
| `trickle` | all of it, some bytes from the offset on in writes of one byte |
| `flip` | all of it, one bit of one byte inverted |
| `insert` | all of it, one byte too many before the offset |
| `delete` | all of it but one byte |

It needs Trio and the standard library, and nothing of cfw but the streams of its sweeps.
"""

from __future__ import annotations

import re
import socket
import struct
import sys
from collections.abc import Iterable, Iterator
from typing import Literal, TypeAlias, get_args

import attrs
import trio

from cfw.testing.sweep.streams import MemoryStream, stream_pair

__all__ = ["KINDS", "Cut", "Kind", "MemoryStream", "Recorder", "bytecuts", "stream_pair"]

Kind: TypeAlias = Literal[
    "eof", "reset", "stall", "split", "trickle", "flip", "insert", "delete"
]
KINDS: tuple[Kind, ...] = get_args(Kind)
#: Longer than any frame header of the usual protocols, so that each is split everywhere.
TRICKLE_BYTES = 16

_TEXT = re.compile(r"([a-z]+)@([0-9]+)(?::([0-9]+))?")
#: Least, most and meaning of a detail.
_DETAILS = {
    "trickle": (1, sys.maxsize, "how many bytes come one by one"),
    "flip": (0, 7, "which bit is inverted"),
    "insert": (0, 255, "which byte is inserted"),
}


@attrs.frozen
class Cut:
    """One way to cut one conversation; `str` gives a text that `Cut.parse` reads back.

    Args:
        kind: what happens.
        offset: before which byte, counted from 0; for flip and delete, to which.
        detail: the number of bytes of a trickle, the bit of a flip, the byte of an insert;
            None for the other kinds.
        conversation: what would have been sent.

    Raises:
        ValueError: there is no such cut of this conversation.
    """

    kind: Kind
    offset: int
    detail: int | None
    conversation: bytes = attrs.field(repr=False)

    def __attrs_post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"no kind of cut is named {self.kind!r}; there are {KINDS}")
        if self.offset not in _offsets(self.kind, len(self.conversation)):
            raise ValueError(f"{self} is outside of these {len(self.conversation)} bytes")
        if self.kind not in _DETAILS:
            if self.detail is not None:
                raise ValueError(f"{self}: {self.kind} takes no detail")
            return
        least, most, meaning = _DETAILS[self.kind]
        if self.detail is None or not least <= self.detail <= most:
            raise ValueError(f"{self}: {self.kind} needs a detail that says {meaning}")

    def __str__(self) -> str:
        detail = "" if self.detail is None else f":{self.detail}"
        return f"{self.kind}@{self.offset}{detail}"

    @classmethod
    def parse(cls, text: str, conversation: bytes) -> Cut:
        """Read what `str` of a cut has written, such as `eof@123` or `flip@7:3`.

        Raises:
            ValueError: it is no cut, or none of this conversation.
        """
        match = _TEXT.fullmatch(text)
        if match is None:
            raise ValueError(f"a cut reads KIND@OFFSET or KIND@OFFSET:DETAIL, not {text!r}")
        kind, offset, detail = match.groups()
        return cls(kind, int(offset), None if detail is None else int(detail), conversation)  # type: ignore[arg-type]

    @property
    def writes(self) -> list[bytes]:
        """What is sent, one item for each write."""
        data, at = self.conversation, self.offset
        match self.kind:
            case "split":
                return [data[:at], data[at:]]
            case "trickle":
                slow = [data[i : i + 1] for i in range(at, min(at + self._detail, len(data)))]
                return [part for part in (data[:at], *slow, data[at + self._detail :]) if part]
            case "flip":
                return [data[:at] + bytes([data[at] ^ 1 << self._detail]) + data[at + 1 :]]
            case "insert":
                return [data[:at] + bytes([self._detail]) + data[at:]]
            case "delete":
                return [data[:at] + data[at + 1 :]]
            case _:
                return [data[:at]] if at else []

    @property
    def _detail(self) -> int:
        assert self.detail is not None
        return self.detail

    async def play(self, stream: trio.abc.Stream, *, pause_s: float = 0.001) -> bool:
        """Play the cut conversation into a stream.

        Args:
            stream: anything of Trio's. An `eof` closes it whole if it has no halves; a
                `reset` is one on a `MemoryStream` and on TCP, elsewhere a forceful close.
            pause_s: seconds between two writes, virtual ones under a virtual clock.

        Returns:
            False when the other side left before everything was sent.

        Cancellation: what is left is not sent; the stream stays open.
        """
        try:
            for number, data in enumerate(self.writes):
                if number:
                    await trio.sleep(pause_s)
                await stream.send_all(data)
            if self.kind == "eof" and isinstance(stream, trio.abc.HalfCloseableStream):
                await stream.send_eof()
            elif self.kind == "eof":
                await stream.aclose()
            elif self.kind == "reset":
                await _reset(stream)
        except trio.BrokenResourceError:
            return False
        return True


def bytecuts(
    conversation: bytes,
    kinds: Iterable[Kind] = KINDS,
    *,
    stride: int = 1,
    every_bit: bool = False,
) -> Iterator[Cut]:
    """Make every cut of a conversation, kind by kind.

    Args:
        conversation: the bytes one side sends, as a `Recorder` has them.
        kinds: which ways to cut.
        stride: 1 cuts at every offset, n at every n-th.
        every_bit: flip each bit of a byte, in 8 cuts; else one bit that its offset chooses.

    Raises:
        ValueError: a kind or the stride is none; raised by the first cut.
    """
    for kind in kinds:
        for offset in _offsets(kind, len(conversation))[::stride]:
            details: Iterable[int | None] = [None]
            if kind == "trickle":
                details = [TRICKLE_BYTES]
            elif kind == "flip":
                details = range(8) if every_bit else [offset % 8]
            elif kind == "insert":
                details = [offset * 37 % 256]
            for detail in details:
                yield Cut(kind, offset, detail, conversation)


def _offsets(kind: Kind, length: int) -> range:
    if kind == "split":
        return range(1, length)
    return range(length + 1 if kind in ("eof", "reset", "stall", "insert") else length)


async def _reset(stream: trio.abc.Stream) -> None:
    if isinstance(stream, MemoryStream):
        stream.reset()
    elif isinstance(stream, trio.SocketStream):
        # Closing with a linger time of 0 sends RST instead of FIN.
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await stream.aclose()
    else:
        await trio.aclose_forcefully(stream)


class Recorder(trio.abc.Stream):
    """Passes everything on to a stream and keeps what was sent: a conversation for `bytecuts`.

    Args:
        stream: closed with the recorder.

    Attributes:
        sent: all bytes given to `send_all`.
    """

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.sent = bytearray()
        self._stream = stream

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Record, and send."""
        self.sent += data
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        """Pass the question on."""
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """Receive."""
        return await self._stream.receive_some(max_bytes)

    async def aclose(self) -> None:
        """Close the stream."""
        await self._stream.aclose()
