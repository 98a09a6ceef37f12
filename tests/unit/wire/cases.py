"""One table of wire cases: bytes in, and all that a decoder must find in them."""

import struct

import attrs

from cfw.wire import InvalidPayload, MessageTooBig, ProtocolFault, WireViolation
from tests.unit.wire.peer import MASK, binary, close, frame, header, ping, text

MAX_TEXT_BYTES = 1000
MAX_BINARY_BYTES = 100_000


@attrs.frozen
class Case:
    """What `data` must give; `close` is (code, reason), `control` raw frames."""

    name: str
    data: bytes
    messages: list[str | bytes] = attrs.Factory(list)
    control: bytes = b""
    close: tuple[int | None, str] | None = None
    error: type[WireViolation] | None = None
    is_unfinished: bool = False

    @property
    def is_over(self) -> bool:
        return self.close is not None or self.error is not None


EURO = "€".encode()
PONG = frame(0x8A, b"unasked")

CASES = [
    Case("nothing", b""),
    Case("an empty text", text(""), [""]),
    Case("an empty binary", binary(b""), [b""]),
    Case("a text", text("meta €"), ["meta €"]),
    Case("a binary", binary(b"\xff\xd8\xff\xd9"), [b"\xff\xd8\xff\xd9"]),
    Case("a mask of zeros", frame(0x82, b"plain", key=bytes(4)), [b"plain"]),
    Case("two in a row", text("meta") + binary(b"jpeg"), ["meta", b"jpeg"]),
    Case("125 bytes", binary(b"x" * 125), [b"x" * 125]),
    Case("126 bytes", binary(b"x" * 126), [b"x" * 126]),
    Case("a length on two bytes", binary(b"ab" * 700), [b"ab" * 700]),
    Case("65535 bytes", binary(b"q" * 65535), [b"q" * 65535]),
    Case("a length on eight bytes", binary(b"w" * 65536), [b"w" * 65536]),
    Case(
        "three fragments",
        frame(0x02, b"a") + frame(0x00, b"b") + frame(0x80, b"c"),
        [b"abc"],
    ),
    Case(
        "a character split by fragments",
        frame(0x01, EURO[:1]) + frame(0x00, EURO[1:2]) + frame(0x80, EURO[2:]),
        ["€"],
    ),
    Case("empty fragments", frame(0x01) + frame(0x00) * 9 + frame(0x80), [""]),
    Case(
        "fragments large and small",
        frame(0x02, b"l" * 5000) + frame(0x80, b"s"),
        [b"l" * 5000 + b"s"],
    ),
    Case("a ping between messages", text("a") + ping(b"p") + text("b"), ["a", "b"], ping(b"p")),
    Case(
        "a ping and a pong inside a message",
        frame(0x01, b"a") + ping() + PONG + frame(0x80, b"b"),
        ["ab"],
        ping() + PONG,
    ),
    Case("a ping of 125 bytes", ping(b"p" * 125), control=ping(b"p" * 125)),
    Case("an unfinished header", text("a") + b"\x81", ["a"], is_unfinished=True),
    Case("an unfinished mask", header(0x82, 300) + MASK[:3], is_unfinished=True),
    Case("an unfinished payload", binary(b"jpeg")[:-1], is_unfinished=True),
    Case("an unfinished ping", ping(b"ping")[:-1], is_unfinished=True),
    Case("an unfinished message", frame(0x01, b"a"), is_unfinished=True),
    # Closing.
    Case("a close without a code", close(), close=(None, "")),
    Case("a close", close(1000), close=(1000, "")),
    Case("a close with a reason", close(1001, b"bye " + EURO), close=(1001, "bye €")),
    Case("a close of 125 bytes", close(4999, b"r" * 123), close=(4999, "r" * 123)),
    Case(
        "a close behind the last message", text("end") + close(1000), ["end"], close=(1000, "")
    ),
    Case("a close inside a message", frame(0x01, b"a") + close(1000), close=(1000, "")),
    Case("half a close code", frame(0x88, b"\x03"), error=ProtocolFault),
    *(
        Case(f"the close code {code}", close(code), error=ProtocolFault)
        for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535)
    ),
    *(
        Case(f"the close code {code}", close(code), close=(code, ""))
        for code in (1002, 1003, 1007, 1011, 1014, 3000, 3999, 4000)
    ),
    Case("a close reason that is not UTF-8", close(1000, b"\xff"), error=InvalidPayload),
    Case("a close reason cut in a character", close(1000, EURO[:2]), error=InvalidPayload),
    # What RFC 6455 forbids.
    *(
        Case(
            f"first byte {first:#04x}",
            text("ok") + frame(first, b"x"),
            ["ok"],
            error=ProtocolFault,
        )
        for first in (
            *b"\xc1\xa1\x91\xc9\0\x80\x08\x09\x0a",
            *range(0x83, 0x88),
            *range(0x8B, 0x90),
        )
    ),
    Case("no mask", b"\x81\x01a", error=ProtocolFault),
    Case("a ping without a mask", b"\x89\x00", error=ProtocolFault),
    Case("a text inside a message", frame(0x01, b"a") + text("b"), error=ProtocolFault),
    Case("a binary inside a message", frame(0x02, b"a") + binary(b"b"), error=ProtocolFault),
    Case(
        "a continuation after the end", frame(0x01) + frame(0x80) * 2, [""], error=ProtocolFault
    ),
    Case("a ping of 126 bytes", frame(0x89, b"p" * 126), error=ProtocolFault),
    Case("a close of 126 bytes", close(1000, b"r" * 124), error=ProtocolFault),
    Case("125 on two bytes", b"\x82\xfe\x00\x7d" + MASK, error=ProtocolFault),
    Case(
        "65535 on eight bytes",
        b"\x82\xff" + struct.pack("!Q", 65535) + MASK,
        error=ProtocolFault,
    ),
    Case(
        "a length of 2**63",
        b"\x82\xff" + struct.pack("!Q", 1 << 63) + MASK,
        error=ProtocolFault,
    ),
    # Text.
    Case(
        "text that is not UTF-8",
        text("a") + frame(0x81, b"\xc3\x28"),
        ["a"],
        error=InvalidPayload,
    ),
    Case("a surrogate", frame(0x81, b"\xed\xa0\x80"), error=InvalidPayload),
    Case("beyond the last character", frame(0x81, b"\xf4\x90\x80\x80"), error=InvalidPayload),
    Case("an over-long slash", frame(0x81, b"\xc0\xaf"), error=InvalidPayload),
    Case("text cut in a character", frame(0x81, EURO[:2]), error=InvalidPayload),
    Case(
        "fragments cut in a character",
        frame(0x01, EURO[:2]) + frame(0x80),
        error=InvalidPayload,
    ),
    Case("a bad first fragment", frame(0x01, b"\xff"), error=InvalidPayload),
    Case("bad text in an unfinished frame", frame(0x81, b"\xffabc")[:-2], error=InvalidPayload),
    # Limits; refused at the header, so no payload follows here.
    Case("a text at its limit", text("t" * MAX_TEXT_BYTES), ["t" * MAX_TEXT_BYTES]),
    Case(
        "a text over its limit",
        text("a") + header(0x81, MAX_TEXT_BYTES + 1) + MASK,
        ["a"],
        error=MessageTooBig,
    ),
    Case("a binary at its limit", binary(bytes(MAX_BINARY_BYTES)), [bytes(MAX_BINARY_BYTES)]),
    Case(
        "a binary over its limit",
        header(0x82, MAX_BINARY_BYTES + 1) + MASK,
        error=MessageTooBig,
    ),
    Case(
        "fragments over the limit",
        frame(0x01, b"t" * MAX_TEXT_BYTES) + header(0x80, 1) + MASK,
        error=MessageTooBig,
        is_unfinished=True,
    ),
    Case("the longest length", header(0x82, (1 << 63) - 1) + MASK, error=MessageTooBig),
]
