"""The JPEG probe: real encoders' files pass, everything else is named for what it lacks."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TypeAlias

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from cfw.jpeg import MAX_STEPS, MAX_TRAILER_BYTES, NotAJpeg, _walk, probe
from tests.factories import jpeg
from tests.pictures import with_segment

Probe: TypeAlias = Callable[[bytes], tuple[int, int]]


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


PROBES = [pytest.param(probe, id="as installed"), pytest.param(_walk, id="pure")]
MP4 = b"\x00\x00\x00\x1cftypisom\x00\x00\x02\x00isomiso2mp41\x00\x00\x20\x08mdat"
SAMSUNG = b"\x00\x00\x30\x0a\x10\x00\x00\x00MotionPhoto_Data"
XMP = b"http://ns.adobe.com/xap/1.0/\x00<x:xmpmeta "
MICRO_VIDEO = XMP + b'xmlns:GCamera="http://ns.google.com/photos/1.0/camera/"/>'
#: Scan data by the look of it, and longer than anything but a phone's trailer may be.
LONG = b"\x9c\xff\x00\x13" * 2000


@pytest.mark.parametrize("probe", PROBES)
@pytest.mark.parametrize("filler", [b"\x00", b"\xff", b"\r\n", b"\xff\xd8", b"\xd9", b"x\x9c"])
def test_at_most_4_kib_of_anything_may_trail_a_picture(probe: Probe, filler: bytes) -> None:
    """Small cameras send the rest of their buffer along; n is taken, n + 1 is not."""
    trailer = filler * (MAX_TRAILER_BYTES // len(filler) + 1)
    for data in (jpeg(), encoded(64, 33)):
        for length in (0, 1, 2, MAX_TRAILER_BYTES - 1, MAX_TRAILER_BYTES):
            assert probe(data + trailer[:length]) == _walk(data)
        with pytest.raises(NotAJpeg):
            probe(data + trailer[: MAX_TRAILER_BYTES + 1])


@pytest.mark.parametrize("probe", PROBES)
@pytest.mark.parametrize(
    ("marker", "payload", "trailer"),
    [
        (0xFE, b"", MP4 + LONG),
        (0xFE, b"", SAMSUNG + MP4 + LONG + b"SEFH" + bytes(20) + b"SEFT"),
        (0xE1, MICRO_VIDEO, LONG),
        (0xE2, b"MPF\x00II*\x00", LONG),
    ],
    ids=["MP4", "Samsung", "Google", "MPF"],
)
def test_the_trailer_of_a_phones_picture_may_be_long(
    probe: Probe, marker: int, payload: bytes, trailer: bytes
) -> None:
    """The picture or its trailer says what it is; without that word it is refused."""
    data = encoded(64, 33)
    assert len(trailer) > MAX_TRAILER_BYTES
    assert probe(with_segment(data, marker, payload) + trailer) == (64, 33)
    with pytest.raises(NotAJpeg, match=r"8000 bytes follow its EOI .* at most 4096 may"):
        probe(data + LONG)
    with pytest.raises(NotAJpeg, match="no EOI"):
        probe(with_segment(data, marker, payload)[:-2] + trailer)


@pytest.mark.parametrize("probe", PROBES)
@pytest.mark.parametrize("step", [b"\xff", b"\xff\xd0", b"\xff\xfe\x00\x02"])
def test_so_many_steps_may_lead_to_the_size(probe: Probe, step: bytes) -> None:
    """A frame of nothing else would hold every other rig up; n is taken, n + 1 is not."""
    data = jpeg()
    for steps in (MAX_STEPS - 2, MAX_STEPS - 1):
        assert probe(data[:2] + step * steps + data[2:]) == (640, 480)
    with pytest.raises(NotAJpeg, match="more than 4096 segments"):
        probe(data[:2] + step * MAX_STEPS + data[2:])


@pytest.mark.parametrize("probe", PROBES)
def test_a_thumbnail_is_not_the_end_of_a_cut_picture(probe: Probe) -> None:
    """Its EOI lies before the start of frame."""
    data = encoded(640, 480, exif=b"Exif\x00\x00MM\x00*\x00\x00\x00\x08" + encoded(8, 8))
    for end in range(2, len(data) - 1, 7):
        with pytest.raises(NotAJpeg):
            probe(data[:end])
    for marker, payload in ((0xE2, b"MPF\x00"), (0xE1, MICRO_VIDEO)):
        with pytest.raises(NotAJpeg):
            probe(with_segment(data, marker, payload)[:-2] + LONG)


@pytest.mark.parametrize("probe", PROBES)
def test_no_scan_data_is_looked_at(probe: Probe) -> None:
    """A damaged place in the scan is the decoder's matter."""
    data = encoded(64, 33)
    for spurious in (b"\xff\x3a", b"\xff\xc0", b"\xff\xe3\xff\xff", b"\xff\xd8\xff"):
        assert probe(data[:-10] + spurious + data[-10:]) == (64, 33)


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
        (jpeg()[:-2] + bytes(5000), "EOI"),
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
    """Images with bytes changed, cut out and put in, and with something behind them."""
    data = bytearray(draw(st.sampled_from(IMAGES)))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(data)))
        new = draw(st.binary(max_size=3) | st.sampled_from(TELLING))
        data[at : at + draw(st.integers(0, 3))] = new
    return bytes(data) + draw(st.sampled_from(TRAILERS))


IMAGES = [
    jpeg(),
    jpeg(width=65_535, height=1),
    encoded(16, 16)[:200] + b"\xff\xd9",
    encoded(64, 33, progressive=True),
    with_segment(with_segment(encoded(8, 8), 0xE2, b"MPF\x00"), 0xE1, MICRO_VIDEO),
    b"\xff\xd8\xff\x01\xff\xd0\xff\xff\xff\xc1\x00\x0b\x08\x00\x21\x00\x40\x01\x01\x11\x00\xff\xd9",
]
TRAILERS = [b"", b"", b"\xff\xd9", b"\x00\xff\r\n ", MP4, LONG, MP4 + LONG, LONG + b"SEFT"]
TRAILERS += [b"x" * (MAX_TRAILER_BYTES + extra) for extra in (-1, 0, 1)]
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
