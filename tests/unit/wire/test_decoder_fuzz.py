"""The decoder against any split, and against wsproto.

`CFW_FUZZ_EXAMPLES` sets the number of examples of each property; 60 by default.
"""

import enum
import os
import struct
from collections.abc import Iterator

import attrs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from wsproto import events, frame_protocol
from wsproto.connection import Connection, ConnectionType

from cfw.wire import Decoder
from tests.unit.wire.peer import close, frame

pytestmark = pytest.mark.fuzz

EXAMPLES = int(os.environ.get("CFW_FUZZ_EXAMPLES", "60"))
PROFILE = settings(
    max_examples=EXAMPLES,
    deadline=None,
    # Each example decodes some kilobytes with wsproto, in Python.
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

NO_LIMIT = 1 << 63

masks = st.binary(min_size=4, max_size=4)
sizes = st.one_of(st.integers(0, 200), st.sampled_from([125, 126, 127, 5000, 65535, 65536]))
texts = st.one_of(st.text(max_size=60), sizes.map(lambda size: "é" * (size // 2)))
binaries = st.one_of(st.binary(max_size=60), sizes.map(lambda size: bytes(range(256)) * 257))
controls = st.builds(
    lambda first, payload, key: frame(first, payload, key=key),
    st.sampled_from([0x89, 0x8A]),
    st.binary(max_size=125),
    masks,
)


@attrs.frozen
class Sent:
    """Valid frames, and what they say."""

    data: bytes
    messages: list[str | bytes]
    control: bytes


@st.composite
def sent(draw: st.DrawFn) -> Sent:
    """Any sequence of messages, cut into fragments with control frames between."""
    data, control = b"", b""
    messages = draw(st.lists(st.one_of(texts, binaries), max_size=5))
    for message in messages:
        payload = message.encode() if isinstance(message, str) else message
        cuts = sorted(draw(st.lists(st.integers(0, len(payload)), max_size=4)))
        first = 0x01 if isinstance(message, str) else 0x02
        for start, end in zip([0, *cuts], [*cuts, len(payload)], strict=True):
            is_last = end == len(payload) and start == (cuts[-1] if cuts else 0)
            between = draw(st.lists(controls, max_size=2))
            control += b"".join(between)
            data += b"".join(between)
            data += frame(first | (0x80 if is_last else 0), payload[start:end], key=draw(masks))
            first = 0
            if is_last:
                break
    return Sent(data, messages, control)


@st.composite
def splits(draw: st.DrawFn, data: bytes) -> list[bytes]:
    """Cut `data` anywhere, into pieces that may be empty."""
    cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=12)))
    return [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]


def decode(chunks: list[bytes], limit: int = NO_LIMIT) -> Decoder:
    decoder = Decoder(max_text_bytes=limit, max_binary_bytes=limit)
    for chunk in chunks:
        decoder.feed(chunk)
    return decoder


@PROFILE
@given(st.data())
def test_any_split_gives_the_same(data: st.DataObject) -> None:
    """Valid frames give their messages and control frames, however they are cut."""
    valid = data.draw(sent())
    decoder = decode(data.draw(splits(valid.data)))
    assert decoder.messages == valid.messages
    assert decoder.control == valid.control
    assert not decoder.is_over
    assert not decoder.in_message


@attrs.define
class Found:
    """What a decoder made of some bytes, in a form two decoders share."""

    messages: list[str | bytes] = attrs.Factory(list)
    pings: list[bytes] = attrs.Factory(list)
    close: tuple[int | None, str] | None = None
    error_code: int | None = None


def by_cfw(chunks: list[bytes]) -> Found:
    decoder = decode(chunks)
    found = Found(decoder.messages)
    control = bytes(decoder.control)
    while control:
        size = 6 + (control[1] & 0x7F)
        found.pings.append(bytes(b ^ control[2 + i % 4] for i, b in enumerate(control[6:size])))
        control = control[size:]
    if decoder.close is not None:
        found.close = decoder.close.code, decoder.close.reason
    if decoder.error is not None:
        found.error_code = decoder.error.close_code
    return found


def by_wsproto(chunks: list[bytes]) -> Found:
    connection = Connection(ConnectionType.SERVER)
    found = Found()
    parts: list[str | bytes] = []
    for chunk in chunks:
        connection.receive_data(chunk)
        for event in connection.events():
            if isinstance(event, events.Message):
                parts.append(event.data)
                if event.message_finished:
                    found.messages.append(type(parts[0])().join(parts))  # type: ignore[arg-type]
                    parts = []
            elif isinstance(event, events.Ping | events.Pong):
                found.pings.append(bytes(event.payload))
            elif isinstance(event, events.CloseConnection):
                # wsproto reports a fault as if the peer had closed; its state tells.
                if connection.state.name == "REMOTE_CLOSING":
                    code = None if event.code == 1005 else int(event.code)
                    found.close = code, event.reason or ""
                else:
                    found.error_code = int(event.code)
                return found
    return found


#: The differences allowed, each with its reason. They concern only when a fault shows, not
#: whether: the bytes below complete any header, after which both must agree.
#:
#: 1. Input that ends inside a header: cfw refuses the first two bytes (reserved bits, the
#:    mask bit, a bad continuation) before the rest of the header has come, wsproto behind it.
#: 2. Input that ends between a length and its mask: wsproto refuses a length that is not
#:    minimal before the mask has come, cfw when the header is whole.
#: 3. Input that ends inside a control frame or behind the header of a continuation without
#:    a message: wsproto waits for payload first, cfw does not.
REST_OF_A_HEADER = bytes(14)


@pytest.fixture(autouse=True, scope="module")
def bad_gateway() -> Iterator[None]:
    """4. The close code 1014, which IANA has registered and wsproto does not know yet."""
    known = [(reason.name, reason.value) for reason in frame_protocol.CloseReason]
    codes = enum.IntEnum("CloseReason", [*known, ("BAD_GATEWAY", 1014)])  # type: ignore[misc]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(frame_protocol, "CloseReason", codes)
        yield


def check_same(chunks: list[bytes]) -> None:
    ours, theirs = by_cfw(chunks), by_wsproto(chunks)
    if (ours.error_code is None) != (theirs.error_code is None):
        chunks = [*chunks, REST_OF_A_HEADER]
        ours, theirs = by_cfw(chunks), by_wsproto(chunks)
    assert ours == theirs
    assert ours == by_cfw([b"".join(chunks)])


closes = st.one_of(
    st.just(close()),
    st.builds(
        close,
        st.one_of(st.integers(0, 65535), st.integers(998, 1017), st.integers(2998, 5001)),
        st.binary(max_size=123),
    ),
)


@PROFILE
@given(st.data())
def test_valid_frames_as_wsproto(data: st.DataObject) -> None:
    """Valid messages and a close frame, valid or not, mean the same to wsproto."""
    stream = data.draw(sent()).data + data.draw(st.one_of(st.just(b""), closes))
    check_same(data.draw(splits(stream)))


@PROFILE
@given(st.data())
def test_mutated_frames_as_wsproto(data: st.DataObject) -> None:
    """Valid frames with bytes changed, cut out or put in fail at the same place."""
    stream = bytearray(data.draw(sent()).data + data.draw(closes))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(stream)))
        cut = data.draw(st.integers(0, 3))
        stream[at : at + cut] = data.draw(st.binary(max_size=3))
    check_same(data.draw(splits(bytes(stream))))


frames_of_chance = st.builds(
    lambda first, length, payload: bytes([first]) + length + payload,
    st.integers(0, 255),
    st.one_of(
        st.integers(0, 255).map(lambda length: bytes([length])),
        st.integers(0, 300).map(lambda length: b"\xfe" + struct.pack("!H", length)),
        st.integers(0, NO_LIMIT * 2 - 1).map(
            lambda length: b"\xff" + struct.pack("!Q", length)
        ),
    ),
    st.binary(max_size=20),
)


@PROFILE
@given(st.data())
def test_random_bytes_as_wsproto(data: st.DataObject) -> None:
    """Bytes of chance, half of them shaped as frames, are refused the same way."""
    stream = b"".join(data.draw(st.lists(st.one_of(frames_of_chance, st.binary(max_size=30)))))
    check_same(data.draw(splits(stream)))


@PROFILE
@given(st.data())
def test_no_bytes_raise_or_grow(data: st.DataObject) -> None:
    """Whatever comes, feeding raises nothing and a message never passes its limit."""
    stream = data.draw(st.one_of(sent().map(lambda valid: valid.data), st.binary()))
    decoder = decode(data.draw(splits(stream)), limit=100)
    sizes = [len(m.encode() if isinstance(m, str) else m) for m in decoder.messages]
    assert max(sizes, default=0) <= 100
