"""The two ends of a swept connection: a rig that can break at any time, and what it is told."""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from typing import Any

import attrs
import trio

from cfw.testing.bytecuts import MemoryStream
from cfw.wire import PeerClosed
from tests.factories import at, close_fields, jpeg, meta_fields, open_fields
from tests.raw import Ending, encode
from tests.unit.wire.peer import REQUEST, close

PICTURES = [jpeg(60, fill=seq) for seq in (1, 2, 3)]
_TEXT, _CLOSE = 0x81, 0x88


@cache
def conversation(frames: int, close_behind: bool) -> tuple[bytes, ...]:
    """What a rig writes, message by message, with the same ids in every run."""

    def message(number: int, fields: dict[str, Any]) -> bytes:
        return encode(fields | {"record_id": str(uuid.UUID(int=number))})

    writes = [REQUEST, message(1, open_fields())]
    for seq, picture in enumerate(PICTURES[:frames], 1):
        writes.append(message(seq + 1, meta_fields(seq, len(picture))) + encode(picture))
    writes.append(message(99, close_fields(timestamp_end=at(1))))
    if close_behind:
        writes.append(close(1000))
    return tuple(writes)


@attrs.define
class Rig:
    """Sends a conversation at a pace, and reads what it is told until the end.

    Attributes:
        heard: every byte it has read.
        is_gone: it has hung up, or reads no more: it cannot be told anything.
        is_mute: it sends nothing more, and stays.
        said: how many of its writes it has sent.
    """

    stream: MemoryStream
    writes: tuple[bytes, ...]
    pace_s: float
    heard: bytearray = attrs.Factory(bytearray)
    is_gone: bool = False
    is_mute: bool = False
    said: int = 0

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.listen)
            try:
                for data in self.writes:
                    if self.is_mute:
                        break
                    await self.stream.send_all(data)
                    self.said += 1
                    await trio.sleep(self.pace_s)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                pass

    async def send_all_at_once(self) -> None:
        """Say everything in one write, and end the sending half."""
        await self.stream.send_all(b"".join(self.writes))
        await self.stream.send_eof()

    async def listen(self) -> None:
        try:
            while data := await self.stream.receive_some():
                self.heard += data
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        await self.stream.aclose()

    # What can be done to it between any two steps.

    def leave(self) -> None:
        self.is_gone = True
        self.stream.close()

    def reset(self) -> None:
        self.is_gone = True
        self.stream.reset()

    def stop_reading(self) -> None:
        self.is_gone = True
        self.stream.stop_reading()

    def stop_sending(self) -> None:
        self.is_mute = True


class WatchedStream(trio.abc.HalfCloseableStream):
    """The worker's end, passed on without a checkpoint of its own.

    Attributes:
        late_sends: bytes that were to be sent when it had been closed already.
    """

    def __init__(self, stream: MemoryStream) -> None:
        self.late_sends: list[bytes] = []
        self._stream = stream

    @property
    def is_closed(self) -> bool:
        return self._stream.is_closed

    def reset(self) -> None:
        self._stream.reset()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        if self.is_closed:
            self.late_sends.append(bytes(data))
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        if self.is_closed:
            self.late_sends.append(b"")
        await self._stream.send_eof()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self._stream.receive_some(max_bytes)

    async def aclose(self) -> None:
        await self._stream.aclose()


class BareSocket:
    """What the router sees of a WebSocket, without the wire: one batch for each message."""

    held_s = 0.0
    round_trip_s = None

    def __init__(self, frames: int, transport: WatchedStream, rig: Rig) -> None:
        self._rig = rig
        self._transport = transport
        self._messages: list[str | bytes] = [json.dumps(open_fields())]
        for seq, picture in enumerate(PICTURES[:frames], 1):
            self._messages += [json.dumps(meta_fields(seq, len(picture))), picture]
        self._messages.append(json.dumps(close_fields(timestamp_end=at(1))))

    @asynccontextmanager
    async def accept(self, *_: object, **__: object) -> AsyncIterator[BareSocket]:
        self._rig.heard += b"HTTP/1.1 101 \r\n\r\n"
        try:
            yield self
        finally:
            self._transport._stream.close()

    async def receive_batch(self, *, until: float = math.inf) -> list[str | bytes]:
        await trio.lowlevel.checkpoint()
        if not self._messages:
            raise PeerClosed(1000, "")
        return [self._messages.pop(0)]

    def interrupt(self) -> None: ...

    def ping_soon(self) -> None: ...

    async def send_text(self, text: str) -> None:
        await trio.lowlevel.checkpoint()
        self._rig.heard += bytes([_TEXT, 126]) + len(text).to_bytes(2, "big") + text.encode()

    async def close(self, code: int, reason: str, *, linger_s: float) -> None:
        await trio.lowlevel.checkpoint()
        words = code.to_bytes(2, "big") + reason.encode()
        self._rig.heard += bytes([_CLOSE, len(words)]) + words


def told_by(heard: bytes) -> tuple[Ending | None, str]:
    """What the worker said behind its 101, and what is wrong with it as a conversation.

    None where the handshake was never answered.
    """
    if not heard.startswith(b"HTTP/1.1 101"):
        return None, ""
    _, found, said = heard.partition(b"\r\n\r\n")
    if not found:
        return Ending([], None, "", is_cut=True), ""
    try:
        return Ending.parse(said), ""
    except AssertionError as exc:
        return None, str(exc)
