"""The decoder against the table of cases, its limits, and its memory."""

import sys
from collections.abc import Iterable

import pytest

from cfw.wire import Decoder, InvalidPayload, MessageTooBig, ProtocolFault
from cfw.wire.decoder import FRAGMENT_BYTES, FRAMES_AT_ONCE, MANY_FRAGMENTS
from tests.unit.wire.cases import CASES, MAX_BINARY_BYTES, MAX_TEXT_BYTES, Case
from tests.unit.wire.peer import MASK, binary, close, frame, header, ping, text


def decode(chunks: Iterable[bytes]) -> Decoder:
    decoder = Decoder(max_text_bytes=MAX_TEXT_BYTES, max_binary_bytes=MAX_BINARY_BYTES)
    for chunk in chunks:
        feed(decoder, chunk)
    return decoder


def feed(decoder: Decoder, data: bytes) -> None:
    """Decode all of it, in as many calls as that takes."""
    decoder.feed(data)
    while decoder.is_behind:
        decoder.feed(b"")


def check(case: Case, decoder: Decoder) -> None:
    assert decoder.messages == case.messages
    assert decoder.control == case.control
    assert type(decoder.error) is (case.error or type(None))
    found = decoder.close and (decoder.close.code, decoder.close.reason)
    assert found == case.close
    assert decoder.is_over == case.is_over
    if not case.is_over:
        assert decoder.in_message == case.is_unfinished


every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


@every_case
def test_whole(case: Case) -> None:
    """Fed at once, each case gives what its row says."""
    check(case, decode([case.data]))


@every_case
@pytest.mark.parametrize("kind", [bytearray, memoryview])
def test_any_buffer(case: Case, kind: type) -> None:
    """What holds the bytes makes no difference, and is not kept."""
    buffer = bytearray(case.data)
    decoder = decode([kind(buffer)])
    buffer[:] = bytes(len(buffer))
    check(case, decoder)
    assert all(type(message) in (str, bytes) for message in decoder.messages)


@every_case
def test_byte_by_byte(case: Case) -> None:
    """Fed byte by byte, each case gives the same."""
    check(case, decode(case.data[at : at + 1] for at in range(len(case.data))))


@every_case
def test_every_split_in_two(case: Case) -> None:
    """Cut anywhere, each case gives the same; long payloads are cut near their ends."""
    size = len(case.data)
    for at in range(size):
        if at < 200 or size - at < 200:
            check(case, decode([case.data[:at], case.data[at:]]))


@every_case
@pytest.mark.parametrize("trailing", [text("trailing"), b"\x00", bytes(64), close(1000)])
def test_nothing_is_decoded_behind_the_end(case: Case, trailing: bytes) -> None:
    """Behind a close frame or a fault nothing counts, in the same read or a later one."""
    if case.is_over:
        check(case, decode([case.data + trailing]))
        check(case, decode([case.data, trailing]))


@every_case
def test_a_message_behind_is_found(case: Case) -> None:
    """Whole messages leave the decoder ready for the next one."""
    if not case.is_over and not case.is_unfinished:
        decoder = decode([case.data + text("next")])
        assert decoder.messages == [*case.messages, "next"]


def test_the_close_frame_is_kept_as_it_came() -> None:
    """The raw close frame can be handed to another decoder later."""
    raw = close(1001, b"later")
    decoder = decode([text("a") + raw[:5], raw[5:] + text("b")])
    assert decoder.close is not None
    assert decoder.close.raw == raw


@pytest.mark.parametrize("excess", [-1, 0, 1])
@pytest.mark.parametrize(
    ("first", "kind", "limit"),
    [(0x81, "text", MAX_TEXT_BYTES), (0x82, "binary", MAX_BINARY_BYTES)],
)
def test_limit_of_one_frame(first: int, kind: str, limit: int, excess: int) -> None:
    """The limit itself passes; one byte more is refused by the header alone."""
    decoder = decode([header(first, limit + excess) + MASK])
    if excess <= 0:
        assert decoder.error is None
        assert decoder.in_message
    else:
        assert isinstance(decoder.error, MessageTooBig)
        assert decoder.error.close_code == 1009
        assert (decoder.error.kind, decoder.error.observed) == (kind, limit + 1)
        assert decoder.error.limit == limit


@pytest.mark.parametrize("excess", [-1, 0, 1])
def test_limit_over_fragments(excess: int) -> None:
    """The limit holds for the sum of the fragments, at the header that passes it."""
    first = frame(0x01, b"t" * (MAX_TEXT_BYTES - 5))
    decoder = decode([first, ping(), header(0x80, 5 + excess) + MASK])
    if excess <= 0:
        assert decoder.error is None
    else:
        assert isinstance(decoder.error, MessageTooBig)
        assert decoder.error.observed == MAX_TEXT_BYTES + 1


def test_the_limit_is_in_bytes_of_utf8() -> None:
    """A character of three bytes counts three."""
    assert decode([text("€" * 333)]).error is None
    assert isinstance(decode([text("€" * 334)]).error, MessageTooBig)


def test_bad_text_is_found_before_its_message_ends() -> None:
    """Text is refused where it turns bad, though its frame goes on."""
    decoder = decode([frame(0x01, b"fine"), header(0x80, 900) + MASK])
    assert decoder.error is None
    decoder.feed(bytes([0xFF ^ MASK[0]]))
    assert isinstance(decoder.error, InvalidPayload)


def held_bytes(decoder: Decoder) -> int:
    """What an unfinished message costs, objects included."""
    return len(decoder._pending) + sys.getsizeof(decoder._payload)


def test_an_announced_length_reserves_nothing() -> None:
    """A header that announces the limit costs no memory until the bytes come."""
    decoder = decode([header(0x82, MAX_BINARY_BYTES) + MASK])
    assert held_bytes(decoder) < 200


LARGE = bytes(range(256)) * 400


@pytest.mark.parametrize("step", [1 << 10, (1 << 14) + 1, (1 << 16) + 1, 1 << 20])
def test_large_messages_come_whole_in_any_pieces(step: int) -> None:
    """Shorter, longer and equal ones, with others between them."""
    sent: list[str | bytes] = [
        LARGE,
        "meta",
        LARGE[1:],
        b"small",
        LARGE + b"longer",
        LARGE[::-1],
        LARGE * 2,
    ]
    data = b"".join(text(m) if isinstance(m, str) else binary(m) for m in sent)
    decoder = Decoder(max_text_bytes=100, max_binary_bytes=2 * len(LARGE))
    for at in range(0, len(data), step):
        decoder.feed(data[at : at + step])
    assert decoder.messages == sent
    assert not decoder.in_message


@pytest.mark.parametrize("excess", [-1, 0, 1])
def test_a_large_message_has_the_same_limit(excess: int) -> None:
    """That the next is expected to be as large as the last changes nothing in what may come."""
    decoder = Decoder(max_text_bytes=100, max_binary_bytes=len(LARGE))
    for size in (len(LARGE), len(LARGE) + excess):
        data = header(0x82, size) + MASK
        decoder.feed(data)
        if size > len(LARGE):
            assert isinstance(decoder.error, MessageTooBig)
            return
        decoder.feed(bytes(size))
    assert [len(message) for message in decoder.messages] == [len(LARGE), size]
    assert held_bytes(decoder) < 200


@pytest.mark.parametrize("size", [0, 1, FRAGMENT_BYTES - 1])
@pytest.mark.parametrize("more", [-1, 0, 1])
def test_endless_fragments_stay_bounded(size: int, more: int) -> None:
    """So many may be small; they hold little more than their bytes, and one more is refused."""
    decoder = decode([frame(0x02)])
    feed(decoder, frame(0x00, bytes(size)) * (MANY_FRAGMENTS - 1 + more))
    assert held_bytes(decoder) < MANY_FRAGMENTS * size * 1.2 + 300
    if more == 1:
        assert isinstance(decoder.error, ProtocolFault)
        assert "fragments" in str(decoder.error)
    else:
        assert decoder.error is None


def test_fragments_of_some_size_may_be_many() -> None:
    """A message in fragments of 16 bytes, the empty first among them, comes whole."""
    size = FRAGMENT_BYTES * (MAX_BINARY_BYTES // FRAGMENT_BYTES)
    pieces = [frame(0x00, bytes(FRAGMENT_BYTES))] * (size // FRAGMENT_BYTES - 1)
    last = frame(0x80, bytes(FRAGMENT_BYTES))
    decoder = decode([frame(0x02, bytes(FRAGMENT_BYTES)), *pieces[1:], last])
    assert decoder.messages == [bytes(size)]


@pytest.mark.parametrize("step", [1, 2, 3, 7, 1460])
def test_small_reads_stay_bounded(step: int) -> None:
    """A frame that trickles in holds little more than its bytes."""
    data = binary(bytes(60_000))[:-1]
    decoder = decode(data[at : at + step] for at in range(0, len(data), step))
    assert held_bytes(decoder) < 60_000 * 1.2 + 300


def test_a_ping_flood_is_taken_whole() -> None:
    """Control frames of one read are handed on as they came, and no other byte."""
    decoder = decode([ping(b"p") * 500 + text("m") + ping(b"q")])
    assert decoder.control == ping(b"p") * 500 + ping(b"q")
    assert decoder.messages == ["m"]


TINY = [text(""), binary(b"x"), ping(b""), frame(0x00, b"0123456789abcdef")]


@pytest.mark.parametrize("more", [-1, 0, 1])
@pytest.mark.parametrize("one", TINY)
def test_one_call_decodes_so_many_frames(one: bytes, more: int) -> None:
    """Tiny frames do not keep the loop, and those left come with the next call."""
    start = frame(0x02) if one[0] == 0 else ping(b"")
    data = start + one * (FRAMES_AT_ONCE - 1 + more)
    decoder, slow = (Decoder(max_text_bytes=100, max_binary_bytes=100_000) for _ in range(2))
    decoder.feed(data)
    assert decoder.is_behind == (more == 1)
    decoder.feed(b"")
    assert not decoder.is_behind
    for at in range(len(data)):
        slow.feed(data[at : at + 1])
    assert decoder.messages == slow.messages
    assert decoder.control == slow.control
    assert decoder._size == slow._size
