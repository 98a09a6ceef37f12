"""The raw kit: a rig by hand, over any stream, and what it was told.

It shares nothing with `cfw.testing.rigs`, the kit that users get: what both had in common would
be wrong in the toolkit and in its tests at once. Frames are built and read by the definition in
`tests.unit.wire.peer`, messages are the dicts of `tests.factories`; nothing here checks what it
sends, and nothing answers by itself. `tests/unit/testing/test_kits.py` holds both kits to the
same conversations.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Sequence
from typing import Any

import attrs

from schemas import CaptureAbort, ErrorCode, parse_output
from tests.factories import close_fields, jpeg, meta_fields, open_fields
from tests.unit.wire.peer import Peer, binary, split_frames, text


@attrs.define
class Ending:
    """What a rig was told at the end.

    Attributes:
        aborts: the abort messages; one at most, of a worker that is right.
        code: of the close frame; None if none came.
        reason: likewise.
        is_cut: the last bytes are a part of a frame.
    """

    aborts: list[CaptureAbort]
    code: int | None
    reason: str
    is_cut: bool = False

    @classmethod
    def parse(cls, data: bytes) -> Ending:
        """Take apart what came behind the answer to the handshake."""
        frames, rest = split_frames(data)
        return attrs.evolve(ending_of(frames), is_cut=bool(rest))

    @property
    def receipt(self) -> dict[str, int]:
        assert self.code == 1000, self
        assert not self.aborts, self
        receipt: dict[str, int] = json.loads(self.reason)
        return receipt

    @property
    def error_code(self) -> ErrorCode | None:
        """What was told as the reason, by the abort or else by the close frame."""
        if self.aborts:
            return self.aborts[0].error_code
        word = self.reason.partition(":")[0]
        return ErrorCode(word) if word in list(ErrorCode) else None


def ending_of(frames: Sequence[tuple[int, bytes]]) -> Ending:
    """What was told, of frames as `parse_frames` has them."""
    aborts, code, reason = [], None, ""
    for first, payload in frames:
        assert code is None, "something follows the close frame"
        if first == 0x88:
            code = struct.unpack("!H", payload[:2])[0]
            reason = payload[2:].decode()
        elif first == 0x81:
            aborts.append(parse_output(payload))
    return Ending(aborts, code, reason)


def encode(message: dict[str, Any] | bytes | str) -> bytes:
    """A message in one frame: dicts as JSON text, bytes as binary."""
    if isinstance(message, bytes):
        return binary(message)
    return text(message if isinstance(message, str) else json.dumps(message))


@attrs.define
class Rig:
    """One connection to a worker, by whatever stream; it does only what it is told.

    Args:
        peer: the far end of the connection.
        capture_id: what `open`, `frame` and `close` carry.
        now: tells the instant that they carry; None leaves those of `tests.factories`, near the
            start of the virtual clock.

    Attributes:
        seq: of the last frame.
    """

    peer: Peer
    capture_id: str = "cap-1"
    now: Callable[[], str] | None = None
    seq: int = 0

    @property
    def stream(self) -> Any:
        return self.peer.stream

    @property
    def received(self) -> bytearray:
        """What has come and was not read yet."""
        return self.peer.received

    async def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        await self.peer.send(data)

    async def say(self, *messages: dict[str, Any] | bytes | str) -> None:
        """Send messages in one write: dicts as JSON text, bytes as binary."""
        await self.send(b"".join(map(encode, messages)))

    async def open(self, **fields: Any) -> None:
        """Send a `capture.open`."""
        await self.say(open_fields(**self._with("timestamp_start", fields)))

    def messages(
        self, seq: int | None = None, data: bytes | None = None, **fields: Any
    ) -> tuple[dict[str, Any], bytes]:
        """Make a frame: metadata and picture.

        Args:
            seq: None for the next.
            data: None for a small picture.
            fields: of its `capture.frame_meta`, instead of those that are right.
        """
        self.seq = self.seq + 1 if seq is None else seq
        data = jpeg() if data is None else data
        fields = self._with("timestamp_frame", fields)
        return meta_fields(self.seq, len(data), **fields), data

    async def frame(
        self, seq: int | None = None, data: bytes | None = None, **fields: Any
    ) -> None:
        """Send a frame, as `messages` makes it."""
        await self.say(*self.messages(seq, data, **fields))

    async def close(self, **fields: Any) -> None:
        """Send a `capture.close`."""
        await self.say(close_fields(**self._with("timestamp_end", fields)))

    async def ending(self) -> Ending:
        """Read to the end of what the worker says; nothing may follow its close frame."""
        ending = Ending.parse(await self.peer.read_rest())
        assert not ending.is_cut, ending
        return ending

    def _with(self, instant: str, fields: dict[str, Any]) -> dict[str, Any]:
        standard: dict[str, Any] = {"capture_id": self.capture_id}
        if self.now is not None:
            standard |= {"timestamp": self.now(), instant: self.now()}
        return standard | fields
