"""The JPEG probe: real encoders' files pass, everything else is named for what it lacks."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from cfw.jpeg import NotAJpeg, _walk, probe
from tests.factories import jpeg


def encoded(width: int, height: int, **options: object) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (width, height), (200, 30, 90)).save(out, "JPEG", **options)
    return out.getvalue()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"progressive": True},
        {"quality": 5, "optimize": True},
        {"restart_marker_rows": 1},
        {"exif": b"Exif\x00\x00MM\x00*\x00\x00\x00\x08" + encoded(8, 8)},
        {"icc_profile": bytes(70_000)},
    ],
    ids=["baseline", "progressive", "optimised", "restarts", "thumbnail", "long segments"],
)
def test_what_an_encoder_writes_is_a_jpeg_of_its_size(options: dict[str, object]) -> None:
    """Baseline, progressive, with restarts, thumbnails and long metadata."""
    assert probe(encoded(64, 33, **options)) == (64, 33)


@pytest.mark.parametrize("padding", [b"", b"\x00" * 9, b"\xff\xff", b"\r\n", b" \x00\r\n"])
def test_padding_behind_the_image_is_tolerated(padding: bytes) -> None:
    """Cameras fill images up; that is no reason to refuse them."""
    assert probe(jpeg() + padding) == (640, 480)


def test_fill_bytes_before_a_marker_are_skipped() -> None:
    """T.81 B.1.1.2 allows any number of FF before a marker."""
    data = jpeg()
    assert probe(data[:2] + b"\xff\xff\xff" + data[2:]) == (640, 480)


@pytest.mark.parametrize(
    ("data", "lack"),
    [
        (b"", "SOI"),
        (b"\x89PNG\r\n\x1a\n", "SOI"),
        (b"\xff\xd8", "EOI"),
        (jpeg()[:-1], "EOI"),
        (jpeg() + b"x", "EOI"),
        (b"\xff\xd8\xff\xd9", "SOFn"),
        (b"\xff\xd8\xff\xda\x00\x04ab\xff\xd9", "SOFn"),
        (b"\xff\xd8\xff\xc4\x00\x04ab\xff\xd9", "SOFn"),
        (b"\xff\xd8abcd\xff\xd9", "marker is missing"),
        (b"\xff\xd8\xff\xe0\x00\x01\xff\xd9", "does not fit"),
        (b"\xff\xd8\xff\xe0\xff\xff\xff\xd9", "does not fit"),
        (b"\xff\xd8\xff\xc0\x00\x04ab\xff\xd9", "wrong length"),
        (jpeg(width=0), "no width"),
        (jpeg(height=0), "no width"),
    ],
)
def test_what_is_no_jpeg_is_named_for_what_it_lacks(data: bytes, lack: str) -> None:
    """Each way of not being a JPEG has its own words."""
    with pytest.raises(NotAJpeg, match=lack):
        probe(data)


@pytest.mark.fuzz
@given(st.binary(max_size=64), st.integers(0, 34))
def test_any_bytes_give_a_size_or_not_a_jpeg(noise: bytes, cut: int) -> None:
    """The probe raises nothing else, whatever it is fed."""
    for data in (noise, b"\xff\xd8" + noise + b"\xff\xd9", jpeg()[:cut] + noise + b"\xff\xd9"):
        try:
            width, height = probe(data)
        except NotAJpeg:
            continue
        assert width > 0
        assert height > 0


def test_every_cut_of_an_image_is_refused() -> None:
    """An image that lacks its tail never passes."""
    data = encoded(16, 16)
    for end in range(len(data)):
        with pytest.raises(NotAJpeg):
            probe(data[:end])


@st.composite
def nearly_jpegs(draw: st.DrawFn) -> bytes:
    """Images with bytes changed, cut out and put in, and with padding behind them."""
    data = bytearray(draw(st.sampled_from(IMAGES)))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(data)))
        new = draw(st.binary(max_size=3) | st.sampled_from(TELLING))
        data[at : at + draw(st.integers(0, 3))] = new
    return bytes(data) + draw(st.sampled_from([b"", b"", b"\xff\xd9", b"\x00\xff\r\n "]))


IMAGES = [
    jpeg(),
    jpeg(width=65_535, height=1),
    encoded(16, 16)[:200] + b"\xff\xd9",
    encoded(64, 33, progressive=True),
    b"\xff\xd8\xff\x01\xff\xd0\xff\xff\xff\xc1\x00\x0b\x08\x00\x21\x00\x40\x01\x01\x11\x00\xff\xd9",
]
TELLING = [bytes([0xFF, marker]) for marker in (0x00, 0x01, *range(0xC0, 0x100))]


@pytest.mark.fuzz
@given(nearly_jpegs() | st.binary(max_size=64))
def test_the_compiled_probe_says_what_the_pure_one_says(data: bytes) -> None:
    """The same size of whatever is an image, and none of what is not, at every cut."""
    native = pytest.importorskip("cfw._native")
    for cut in {len(data), len(data) // 2, max(0, len(data) - 1)}:
        part = data[:cut]
        try:
            size = _walk(part)
        except NotAJpeg:
            size = None
        assert native.jpeg_size(part) == size
