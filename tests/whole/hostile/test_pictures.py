"""Frames made to be slow to look at: the end of a picture is found all the same."""

from __future__ import annotations

import time

import pytest

from cfw.jpeg import NotAJpeg, probe
from tests.factories import jpeg
from tests.whole.hostile.figures import figure

pytestmark = pytest.mark.hostile

SIZE = 300_000
#: What a rig at 15 fps beside it may be late by. A busy machine takes a tenth of it.
BOUND_S = 0.15

SOF = jpeg()[2:-2]
SOS = b"\xff\xda\x00\x02"
MPF = b"\xff\xe2\x00\x06MPF\x00"
TINY = b"\xff\xe1\x00\x02"


def filled(head: bytes, filler: bytes, tail: bytes = b"") -> bytes:
    count = (SIZE - len(head) - len(tail)) // len(filler)
    return head + filler * count + tail


FRAMES = {
    "4 KiB of FF behind it": filled(b"\xff\xd8" + SOF, b"x", b"\xff\xd9" + b"\xff" * 4096),
    "no end at all, FF throughout": filled(b"\xff\xd8" + SOF + MPF + SOS, b"\xff"),
    "a phone's, segments of 4 bytes": filled(
        b"\xff\xd8" + MPF, TINY, SOF + SOS + b"\xff\xd9" + b"x" * 5000
    ),
    "fill bytes throughout": filled(b"\xff\xd8", b"\xff", SOF + b"\xff\xd9"),
    "restarts throughout": filled(b"\xff\xd8", b"\xff\xd0", SOF + b"\xff\xd9"),
    "no phone's, segments of 4 bytes": filled(
        b"\xff\xd8", TINY, SOF + SOS + b"\xff\xd9" + b"x" * 5000
    ),
    "a phone's, its end in front": filled(
        b"\xff\xd8" + MPF + SOF + SOS + b"\xff\xd9", b"\xff\xd8\xff"
    ),
}


@pytest.mark.alone
@pytest.mark.parametrize("name", FRAMES)
def test_looking_for_the_end_of_a_picture_costs_little(name: str) -> None:
    """A frame of the largest size allowed, made for that, in bounded time."""
    data = FRAMES[name]
    taken = []
    for _ in range(5):
        start = time.perf_counter()
        try:
            probe(data)
            word = "taken"
        except NotAJpeg:
            word = "refused"
        taken.append(time.perf_counter() - start)
    figure(f"one frame of 300 kB, {name}", f"{min(taken) * 1e6:.0f} us, {word}")
    assert min(taken) < BOUND_S
