"""From bytes to messages: an incremental RFC 6455 frame decoder for a server.

Pure: bytes go in, facts come out. It knows no stream, no task and no clock, so every
split of the same bytes gives the same facts.
"""

import codecs
import sys
from struct import Struct
from typing import Final, Literal

import attrs

from cfw.wire._pure import Bytes
from cfw.wire.errors import InvalidPayload, MessageTooBig, ProtocolFault, WireViolation

try:
    from cfw.wire._native import Payload, take_messages, unmask
except ImportError:
    from cfw.wire._pure import Payload, take_messages, unmask

_CONTINUATION: Final = 0x0
_TEXT: Final = 0x1
_FIN: Final = 0x80
_CLOSE: Final = 0x88

#: The whole grammar of a first byte: which ones may begin a frame between messages, and
#: which ones inside a fragmented message. Anything else is explained by `_explain`.
_BETWEEN: Final = frozenset({0x01, 0x02, 0x81, 0x82, 0x88, 0x89, 0x8A})
_INSIDE: Final = frozenset({0x00, 0x80, 0x88, 0x89, 0x8A})

#: Section 7.4: the codes that may stand in a close frame; 3000-4999 are free to use.
_CLOSE_CODES: Final = frozenset({1000, 1001, 1002, 1003, *range(1007, 1015)})

_LENGTH_16: Final = Struct("!H")
_LENGTH_64: Final = Struct("!Q")

#: A message in more fragments than this must have this many bytes in each, on average: an
#: empty fragment is six bytes to send and some microseconds to decode.
MANY_FRAGMENTS: Final = 1000
FRAGMENT_BYTES: Final = 16
#: One call decodes so many frames: some milliseconds of tiny ones, whatever a read has brought.
FRAMES_AT_ONCE: Final = 512


@attrs.frozen
class PeerClose:
    """The peer's close frame.

    Args:
        code: close code; None when the frame carried none.
        reason: the reason; empty when there was none.
        raw: the frame as it came, still masked.
    """

    code: int | None
    reason: str
    raw: bytes


class Decoder:
    """Takes bytes as they come and gives whole messages.

    Memory: an unfinished message holds at most nine eighths of the bytes received of it, or
    five quarters of the largest before it, and never what its header announces.

    Args:
        max_text_bytes: largest text message, in bytes of UTF-8, over all its fragments.
        max_binary_bytes: largest binary message, over all its fragments.

    Attributes:
        messages: complete messages in order; the caller takes them away.
        control: whole valid ping and pong frames in order, still masked, to be handed on;
            the caller takes them away.
        close: the peer's close frame; nothing behind it is decoded.
        error: the first violation; nothing behind it is decoded, what came before stays.
        is_behind: whole frames may be left, for a `feed` of nothing to go on with.
        frames: how many frames have come, those of no message included.
    """

    def __init__(self, *, max_text_bytes: int, max_binary_bytes: int) -> None:
        self.messages: list[str | bytes] = []
        self.control = bytearray()
        self.close: PeerClose | None = None
        self.error: WireViolation | None = None
        self.is_behind = False
        self.frames = 0
        self._max_text_bytes = min(max_text_bytes, sys.maxsize)
        self._max_binary_bytes = min(max_binary_bytes, sys.maxsize)
        # What was not decoded: an unfinished header or control frame, unless it is behind.
        self._pending = b""
        # The message being assembled.
        self._kind: Literal["text", "binary"] | None = None
        self._size = 0
        self._fragments = 0
        self._utf8 = codecs.getincrementaldecoder("utf-8")()
        # The frame being received.
        self._payload = Payload()
        self._is_final = False

    @property
    def in_message(self) -> bool:
        """Whether a message or a frame has begun and is unfinished."""
        return self._kind is not None or bool(self._pending)

    @property
    def arrived_bytes(self) -> int:
        """How much of the message that is unfinished has come; 0 between messages."""
        return 0 if self._kind is None else self._size - self._payload.missing

    @property
    def is_over(self) -> bool:
        """Whether a close frame or a violation has come: what is fed now is ignored."""
        return self.close is not None or self.error is not None

    def feed(self, data: Bytes) -> None:
        """Decode up to `FRAMES_AT_ONCE` frames; what the peer got wrong is found in `error`.

        Args:
            data: bytes in the order received; not kept.
        """
        if self.is_over:
            return
        if self._pending:
            data = self._pending + data
            self._pending = b""
            self.is_behind = False
        size = len(data)
        pos = 0
        left = FRAMES_AT_ONCE
        if self._payload.missing:
            pos = self._take_payload(data, 0)
        while self.error is None:
            if self._kind is None:
                before = len(self.messages)
                pos = take_messages(
                    data,
                    pos,
                    self.messages,
                    left,
                    self._max_text_bytes,
                    self._max_binary_bytes,
                )
                left -= len(self.messages) - before
            if not left or size - pos < 2:
                break
            left -= 1
            first = data[pos]
            length = data[pos + 1] - 0x80
            kind = self._kind
            if first not in (_BETWEEN if kind is None else _INSIDE) or length < 0:
                self._fault(_explain(first, length, inside=kind is not None))
                return
            if first >= _CLOSE:
                if length > 125:
                    self._fault("a control frame carries more than 125 bytes")
                    return
                end = pos + 6 + length
                if end > size:
                    break
                if first == _CLOSE:
                    self._take_close(bytes(data[pos:end]))
                    return
                self.control += data[pos:end]
                pos = end
                continue
            start = pos + 6
            if length > 125:
                start = pos + (8 if length == 126 else 14)
                if start > size:
                    break
                if length == 126:
                    (length,) = _LENGTH_16.unpack_from(data, pos + 2)
                    is_minimal = length > 125
                else:
                    (length,) = _LENGTH_64.unpack_from(data, pos + 2)
                    is_minimal = length > 0xFFFF
                if not is_minimal or length >> 63:
                    self._fault("a payload length is over-long or not minimal")
                    return
            elif start > size:
                break
            if kind is None:
                kind = "text" if first & 0x0F == _TEXT else "binary"
            total = self._size + length
            limit = self._max_text_bytes if kind == "text" else self._max_binary_bytes
            if total > limit:
                self.error = MessageTooBig(kind, total, limit)
                return
            self._fragments += 1
            if total < FRAGMENT_BYTES * self._fragments > FRAGMENT_BYTES * MANY_FRAGMENTS:
                self._fault(
                    f"a message comes in more than {MANY_FRAGMENTS} fragments of fewer "
                    f"than {FRAGMENT_BYTES} bytes"
                )
                return
            self._kind = kind
            self._size = total
            self._is_final = first >= _FIN
            self._payload.expect(length, bytes(data[start - 4 : start]))
            pos = self._take_payload(data, start)
        self.frames += FRAMES_AT_ONCE - left
        if self.error is None and pos < size:
            self._pending = bytes(data[pos:])
            self.is_behind = not left

    def _take_payload(self, data: Bytes, start: int) -> int:
        """Take what `data` holds of the current frame; return where that ends."""
        payload = self._payload
        end = payload.add(data, start)
        if self._kind == "text" and not self._check_text(payload.tail(end - start)):
            return end
        if not payload.missing and self._is_final:
            self._finish_message()
        return end

    def _check_text(self, piece: bytes) -> bool:
        # Decoded for the verdict only, so that bad text is refused where it turns bad.
        try:
            self._utf8.decode(piece)
        except UnicodeDecodeError as exc:
            self._bad_text(exc)
            return False
        return True

    def _finish_message(self) -> None:
        payload = self._payload.take()
        is_text = self._kind == "text"
        self._kind = None
        self._size = self._fragments = 0
        if is_text:
            self._utf8.reset()
            self._take_text(payload)
        else:
            self.messages.append(payload)

    def _take_text(self, payload: bytes) -> None:
        try:
            self.messages.append(str(payload, "utf-8"))
        except UnicodeDecodeError as exc:
            self._bad_text(exc)

    def _take_close(self, raw: bytes) -> None:
        body = unmask(raw[6:], raw[2:6])
        if not body:
            self.close = PeerClose(None, "", raw)
            return
        if len(body) == 1:
            self._fault("a close frame carries half a close code")
            return
        (code,) = _LENGTH_16.unpack_from(body)
        if code not in _CLOSE_CODES and not 3000 <= code <= 4999:
            self._fault(f"a close frame carries the close code {code}")
            return
        try:
            reason = str(body[2:], "utf-8")
        except UnicodeDecodeError as exc:
            self.error = InvalidPayload(f"a close reason is not UTF-8: {exc.reason}")
            return
        self.close = PeerClose(code, reason, raw)

    def _bad_text(self, exc: UnicodeDecodeError) -> None:
        self.error = InvalidPayload(f"a text message is not UTF-8: {exc.reason}")

    def _fault(self, detail: str) -> None:
        self.error = ProtocolFault(detail)


def _explain(first: int, length: int, *, inside: bool) -> str:
    """Name what is wrong with the first two bytes of a frame."""
    opcode = first & 0x0F
    if first & 0x70:
        return "a reserved bit is set and no extension was agreed"
    if opcode > 0xA or 0x3 <= opcode <= 0x7:
        return f"the opcode {opcode:#x} is reserved"
    if opcode >= 0x8 and not first & _FIN:
        return "a control frame is fragmented"
    if opcode == _CONTINUATION and not inside:
        return "a continuation frame has no message to continue"
    if opcode != _CONTINUATION and opcode < 0x8 and inside:
        return "a message begins inside a fragmented message"
    assert length < 0
    return "a frame from a client is not masked"
