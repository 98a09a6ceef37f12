"""What the reading process writes is read whatever the chunks are."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cfw.cli.sources._records import Decoder, Failed, Losses, Opened, Picture, Record, encode

RECORDS: list[Record] = [
    Opened(codec="h264", fps=29.97, size=(640, 360), source_size=(1280, 720)),
    Picture(data=b"\xff\xd8\n{}\n\xff\xd9", at_ns=None, arrived_ns=1),
    Losses(dropped=1, skipped=2, damaged=3, damage="a\nb"),
    Picture(data=bytes(range(256)) * 40, at_ns=-5, arrived_ns=2**62),
    Failed("gone"),
    None,
]
WRITTEN = b"".join(map(encode, RECORDS))


@given(st.lists(st.integers(0, len(WRITTEN)), max_size=20))
def test_any_cut_gives_the_same_records(cuts: list[int]) -> None:
    """Bytes of pictures that look like records are none."""
    decoder = Decoder()
    places = [0, *sorted(cuts), len(WRITTEN)]
    pieces = [WRITTEN[a:b] for a, b in pairwise(places)]
    assert [record for piece in pieces for record in decoder.feed(piece)] == RECORDS


def test_a_line_without_end_is_refused() -> None:
    """Whoever writes that is not our process."""
    with pytest.raises(ValueError, match="too long"):
        list(Decoder().feed(b"{" * 70_000))
