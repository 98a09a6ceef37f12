"""What rigs send is what servers are to read."""

from __future__ import annotations

import pytest

from cfw.bench.frames import (
    ALBUM_BYTES,
    BINARY,
    TEXT,
    Album,
    message,
    picture,
    stamped_tail,
)
from cfw.bench.peers.checks import TAIL_BYTES, stamp_of
from cfw.jpeg import probe
from cfw.wire.decoder import Decoder


@pytest.mark.parametrize("size", [100, 125, 126, 65_535, 65_536, 300_001])
def test_the_load_is_masked_and_reads_as_what_it_was(size: int) -> None:
    """Headers of all three lengths; the mask is not zero, so servers have to unmask."""
    decoder = Decoder(max_text_bytes=1_000_000, max_binary_bytes=1_000_000)
    data = picture(size)
    sent = message(BINARY, data)
    assert data not in sent
    decoder.feed(sent + message(TEXT, b"{}"))
    assert decoder.messages == [data, "{}"]


@pytest.mark.parametrize("size", [1_000, 1_001, 1_002, 1_003])
def test_a_stamp_survives_the_mask_wherever_it_begins(size: int) -> None:
    """The end of a frame is exchanged after masking; it is still a JPEG and tells the time."""
    decoder = Decoder(max_text_bytes=1, max_binary_bytes=10_000)
    decoder.feed(message(BINARY, picture(size))[:-TAIL_BYTES] + stamped_tail(size, 123_456_789))
    (data,) = decoder.messages
    assert isinstance(data, bytes)
    assert len(data) == size
    assert probe(data) == (640, 480)
    assert stamp_of(data) == 123_456_789
    assert stamp_of(picture(size)) == 0


@pytest.mark.parametrize("size", [100, 30_000, 300_000])
def test_no_two_frames_of_an_album_are_the_same(size: int) -> None:
    """They are masked JPEGs of the size asked for, also where the album begins again."""
    album = Album(size)
    frames = []
    for at in (0, None, ALBUM_BYTES - size):
        album._at = album._at if at is None else at
        decoder = Decoder(max_text_bytes=1, max_binary_bytes=size)
        decoder.feed(b"".join(album.next_body()) + stamped_tail(size, 1))
        frames += decoder.messages
    assert {len(frame) for frame in frames} == {size}
    assert {probe(frame) for frame in frames if isinstance(frame, bytes)} == {(640, 480)}
    assert len(set(frames)) == 3
    assert len(b"".join(album.next_body())) == len(message(BINARY, picture(size))) - TAIL_BYTES
