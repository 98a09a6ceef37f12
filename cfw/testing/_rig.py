"""A rig that says every message by hand, and what it is told."""

from __future__ import annotations

import json
import struct
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import attrs
import trio

from cfw.client import Receipt
from cfw.routes import PATH
from cfw.testing.bytecuts import MemoryStream
from schemas import SCHEMA_VERSION, CaptureAbort, ErrorCode, parse_output

_MASK = b"\x37\xfa\x21\x3d"
_TEXT, _BINARY, _CLOSE = 0x81, 0x82, 0x88


def jpeg(size: int = 200, width: int = 640, height: int = 480, fill: int = 0x55) -> bytes:
    """Make what passes for a JPEG, for a worker that decodes nothing.

    Args:
        size: bytes of all of it, at least 35.
        width: of the picture, in pixels.
        height: of the picture, in pixels.
        fill: the byte its data consists of, so that frames can be told apart; not 0xff.
    """
    frame_header = struct.pack("!HHBHHB", 0xFFC0, 17, 8, height, width, 3) + bytes(9)
    head = b"\xff\xd8" + frame_header + b"\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00"
    padding = size - len(head) - 2
    if padding < 0 or fill == 0xFF:
        raise ValueError(f"a JPEG of {size} bytes filled with {fill:#x} is none")
    return head + bytes([fill]) * padding + b"\xff\xd9"


class Raw(bytes):
    """Bytes for `Rig.say` that go out as they are, in no WebSocket frame of their own."""

    __slots__ = ()


def raw_frame(first: int, payload: bytes = b"", length: int | None = None) -> Raw:
    """Make one masked WebSocket frame.

    Args:
        first: its first byte: 0x81 text, 0x82 binary, 0x88 close, 0x89 ping, or a wrong one.
        payload: what it carries.
        length: the length it claims; None tells the truth.
    """
    length = len(payload) if length is None else length
    if length < 126:
        header = bytes([first, 0x80 | length])
    elif length < 65_536:
        header = struct.pack("!BBH", first, 0xFE, length)
    else:
        header = struct.pack("!BBQ", first, 0xFF, length)
    # One operation on two large numbers: a loop over 300 kB would take a tenth of a second.
    size = len(payload)
    key = (_MASK * (size // 4 + 1))[:size]
    masked = int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")
    return Raw(header + _MASK + masked.to_bytes(size, "big"))


@attrs.frozen(kw_only=True)
class Ending:
    """What a rig was told, up to the last byte.

    Args:
        status: HTTP status of the answer to the handshake; None when none came.
        aborts: the abort messages; there is at most one.
        code: close code; None when no close frame came.
        reason: reason of the close frame, or body of an HTTP answer that refuses.
        is_cut: the last bytes are a part of a frame, or of an HTTP answer.
        at: when it was read to the end, in seconds of Trio's clock; None where it is
            parsed from bytes alone.
    """

    status: int | None
    aborts: tuple[CaptureAbort, ...]
    code: int | None
    reason: str
    is_cut: bool
    at: float | None = None

    @classmethod
    def parse(cls, received: bytes, *, at: float | None = None) -> Ending:
        """Take apart all bytes of a worker, from its answer to the handshake on.

        Args:
            received: what came, on whatever connection.
            at: when the end of it was read; None where nobody asks.

        Raises:
            AssertionError: something follows the close frame.
        """
        head, found, rest = received.partition(b"\r\n\r\n")
        status = int(head[9:12]) if found else None
        aborts: list[CaptureAbort] = []
        code, reason = None, ""
        is_cut = bool(head) and not found
        if status == 101:
            for first, payload in _frames(rest):
                if code is not None:
                    raise AssertionError(f"something follows the close frame: {payload!r}")
                if payload is None:
                    is_cut = True
                elif first == _CLOSE:
                    code, reason = int.from_bytes(payload[:2], "big"), payload[2:].decode()
                elif first == _TEXT:
                    aborts.append(parse_output(payload))
        elif status is not None:
            reason = rest.decode(errors="replace").strip()
        return cls(
            status=status,
            aborts=tuple(aborts),
            code=code,
            reason=reason,
            is_cut=is_cut,
            at=at,
        )

    @property
    def receipt(self) -> Receipt:
        """The receipt; AssertionError when there is none."""
        try:
            if self.code == 1000 and not self.aborts:
                return Receipt.parse(self.reason)
        except ValueError:
            pass
        raise AssertionError(f"no receipt: {self}")

    @property
    def error_code(self) -> ErrorCode | None:
        """The error code that was told, in the abort or else in the close reason."""
        if self.aborts:
            return self.aborts[0].error_code
        code = self.reason.partition(":")[0]
        return ErrorCode(code) if code in list(ErrorCode) else None

    def check_abort(self, error_code: ErrorCode | str, close_code: int | None = None) -> None:
        """There was one abort with this code, and a close frame that says the same.

        Args:
            error_code: why the capture was aborted.
            close_code: the code of the close frame; None takes any.
        """
        codes = [abort.error_code for abort in self.aborts]
        if codes != [error_code] or close_code not in (None, self.code):
            raise AssertionError(f"should be aborted with {error_code} ({close_code}): {self}")
        self.check_told()

    def check_told(self) -> None:
        """One thing was told, whole: an HTTP refusal, or a close code and at most one abort.

        An abort and the close reason agree. A close code 1000 comes with a receipt, unless it
        answers a rig that left without a capture.
        """
        is_refused = self.status is not None and self.status >= 400
        if self.is_cut or len(self.aborts) > 1 or is_refused == (self.code is not None):
            raise AssertionError(f"should have been told one thing: {self}")
        if self.aborts and not self.reason.startswith(self.aborts[0].error_code):
            raise AssertionError(f"abort and close reason should agree: {self}")
        if self.code == 1000 and self.error_code is not ErrorCode.CLIENT_DISCONNECTED:
            _ = self.receipt

    def __str__(self) -> str:
        told = f"HTTP {self.status}, " if self.status != 101 else ""
        aborts = [f"{abort.error_code}: {abort.detail}" for abort in self.aborts]
        cut = ", cut short" if self.is_cut else ""
        return f"{told}aborts {aborts}, close code {self.code} ({self.reason!r}){cut}"


class Rig:
    """One connection to a worker by hand, from `Worker.connect`; it answers no ping by itself.

    Every message is well-formed unless a field says otherwise: `rig.open(fps_target="15")`
    overrides one, `rig.open(width=...)` (the literal dots) leaves it out.

    Attributes:
        stream: this end of the connection, for `stop_reading`, `reset` or an end by hand.
        scope: cancels the worker's side of this connection alone.
        user_id, session_id, capture_id: what the messages carry; may be changed.
        sent: every byte sent, handshake included: a conversation for `bytecuts`.
        frames: every picture sent whole.
    """

    def __init__(
        self,
        number: int,
        stream: MemoryStream,
        scope: trio.CancelScope,
        now: Callable[[float], str],
    ) -> None:
        self.stream = stream
        self.scope = scope
        self.user_id, self.session_id = "ada", "s-1"
        self.capture_id = f"cap-{number}"
        self.sent = bytearray()
        self.frames: list[bytes] = []
        self._now = now
        self._number = number
        self._records = 0
        self._seq = 0
        self._received = bytearray()

    def now(self, seconds: float = 0) -> str:
        """What time it is for the worker, so many seconds later, as text."""
        return self._now(seconds)

    # --- what it says -----------------------------------------------------------------------

    def message(self, event: str, **fields: Any) -> dict[str, Any]:
        """Make the header of a message, with the fields given, for `say`."""
        self._records += 1
        header = {
            "event": event,
            "schema_version": SCHEMA_VERSION,
            "record_id": str(uuid.UUID(int=self._number << 64 | self._records)),
            "user_id": self.user_id,
            "capture_id": self.capture_id,
            "timestamp": self.now(),
        }
        return {name: value for name, value in (header | fields).items() if value is not ...}

    def open_message(self, **fields: Any) -> dict[str, Any]:
        """Make a `capture.open`."""
        standard = {
            "session_id": self.session_id,
            "timestamp_start": self.now(),
            "fps_target": 15,
            "width": 640,
            "height": 480,
            "encoding": "jpeg",
        }
        return self.message("capture.open", **(standard | fields))

    def meta_message(self, data: bytes, **fields: Any) -> dict[str, Any]:
        """Make the `capture.frame_meta` of the next picture."""
        self._seq += 1
        standard = {
            "seq": self._seq,
            "timestamp_frame": self.now(),
            "byte_length": len(data),
        }
        return self.message("capture.frame_meta", **(standard | fields))

    def close_message(self, **fields: Any) -> dict[str, Any]:
        """Make a `capture.close`."""
        return self.message("capture.close", **({"timestamp_end": self.now()} | fields))

    async def open(self, **fields: Any) -> None:
        """Send a `capture.open`."""
        await self.say(self.open_message(**fields))

    async def frame(self, data: bytes | None = None, **fields: Any) -> None:
        """Send one frame: its `capture.frame_meta` and a picture; None takes one of `jpeg`."""
        data = jpeg() if data is None else data
        await self.say(self.meta_message(data, **fields), data)
        self.frames.append(data)

    async def close(self, **fields: Any) -> None:
        """Send a `capture.close`; the connection stays open for the receipt."""
        await self.say(self.close_message(**fields))

    async def shake_hands(self, path: str = PATH, **headers: str) -> None:
        """Ask for a WebSocket and read the answer.

        Raises:
            AssertionError: the worker refused; its status and words are told.
        """
        await self.say(self.request(path, **headers))
        while b"\r\n\r\n" not in self._received and await self._read():
            pass
        if not self._received.startswith(b"HTTP/1.1 101 "):
            raise AssertionError(f"the worker refused the handshake: {await self.ending()}")

    def request(self, path: str = PATH, **headers: str) -> Raw:
        """Make the request that asks for a WebSocket; headers as `sec_websocket_key="..."`."""
        given = {name.replace("_", "-").lower(): value for name, value in headers.items()}
        lines = {
            "host": "worker",
            "upgrade": "websocket",
            "connection": "upgrade",
            "sec-websocket-key": "AAAAAAAAAAAAAAAAAAAAAA==",
            "sec-websocket-version": "13",
        } | given
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        return Raw(f"GET {path} HTTP/1.1\r\n{head}\r\n".encode())

    async def say(self, *messages: Mapping[str, Any] | str | bytes) -> None:
        """Send anything at all, in one write.

        Args:
            messages: a mapping goes as JSON text, text as a text message, bytes as a binary
                one, and `Raw` as it is.

        Raises:
            trio.BrokenResourceError: the worker has closed the connection.
        """
        data = b"".join(map(_encode, messages))
        self.sent += data
        await self.stream.send_all(data)

    # --- how it leaves ----------------------------------------------------------------------

    async def leave(self, code: int = 1000, reason: str = "") -> None:
        """Send a WebSocket close frame."""
        await self.say(raw_frame(_CLOSE, struct.pack("!H", code) + reason.encode()))

    async def vanish(self) -> None:
        """Close the connection without a word: the worker reads the end of file."""
        await self.stream.aclose()

    def reset(self) -> None:
        """Reset the connection."""
        self.stream.reset()

    def stop_reading(self) -> None:
        """Never read again: whatever the worker says next does not get out."""
        self.stream.stop_reading()

    # --- what it is told --------------------------------------------------------------------

    async def ending(self, within_s: float = 60) -> Ending:
        """Read to the end of what the worker says.

        Args:
            within_s: seconds it may take, virtual ones under a virtual clock.

        Raises:
            AssertionError: the worker has not ended the connection by then.
        """
        with trio.move_on_after(within_s) as scope:
            while await self._read():
                pass
        if scope.cancelled_caught:
            raise AssertionError(
                f"the worker has not ended the connection within {within_s:g} s; "
                f"it said {Ending.parse(bytes(self._received))}"
            )
        return Ending.parse(bytes(self._received), at=trio.current_time())

    async def _read(self) -> bool:
        try:
            data = await self.stream.receive_some()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return False
        self._received += data
        return bool(data)


def _encode(message: Mapping[str, Any] | str | bytes) -> bytes:
    match message:
        case Raw():
            return message
        case bytes():
            return raw_frame(_BINARY, message)
        case str():
            return raw_frame(_TEXT, message.encode())
        case _:
            return raw_frame(_TEXT, json.dumps(message, separators=(",", ":")).encode())


def _frames(data: bytes) -> Iterator[tuple[int, bytes | None]]:
    """The frames of a worker, none of them masked; None for one that is not whole."""
    while data:
        length, start = data[1] if len(data) > 1 else 0, 2
        if length > 125:
            start = 4 if length == 126 else 10
            length = int.from_bytes(data[2:start], "big")
        payload, is_whole = data[start : start + length], len(data) >= start + length
        yield data[0], payload if is_whole else None
        data = data[start + length :]
