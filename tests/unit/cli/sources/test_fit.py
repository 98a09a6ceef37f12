"""Pictures made to fit: sizes, bytes, rates, and JPEGs that leave their tables out."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from cfw.cli.left_out import LeftOut
from cfw.cli.mjpeg import SourceError
from cfw.cli.sources._fit import STALL_S, Fit, Fitter, Thinner, stall_within, with_tables
from cfw.client import WorkerLimits
from cfw.jpeg import probe
from tests.pictures import draw

LIMITS = WorkerLimits(
    max_duration_s=15,
    max_fps=15,
    max_width=640,
    max_height=480,
    max_pixels=307_200,
    max_frames=225,
    max_frame_bytes=300_000,
    max_total_bytes=50_000_000,
    idle_s=5,
)
MS = 1_000_000


def fitter(fit: Fit, left_out: LeftOut | None = None) -> Fitter:
    counts = LeftOut() if left_out is None else left_out
    return Fitter("cam", fit, max_frame_bytes=1_000_000, left_out=counts)


def without_tables(jpeg: bytes) -> bytes:
    """A JPEG as webcams send it: its Huffman tables are the standard's, and left out."""
    out, at = jpeg[:2], 2
    while jpeg[at + 1] != 0xDA:
        end = at + 2 + int.from_bytes(jpeg[at + 2 : at + 4], "big")
        if jpeg[at + 1] != 0xC4:
            out += jpeg[at:end]
        at = end
    return out + jpeg[at:]


# --- sizes --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((640, 480), (640, 480)),
        ((641, 480), (640, 478)),
        ((639, 479), (639, 479)),
        ((1280, 720), (640, 360)),
        ((720, 1280), (270, 480)),
        ((1, 481), (2, 480)),
        ((10_000, 1), (640, 2)),
    ],
)
def test_a_picture_keeps_its_shape_and_fits(
    size: tuple[int, int], expected: tuple[int, int]
) -> None:
    """What fits is left alone; the rest has even sides, and not more than is taken."""
    assert Fit.of(LIMITS).size(*size) == expected


@given(
    st.integers(8, 8000),
    st.integers(8, 8000),
    st.integers(64, 4000),
    st.integers(64, 4000),
    st.integers(4096, 10**7),
)
def test_no_size_is_over_a_limit(w: int, h: int, most_w: int, most_h: int, most: int) -> None:
    """Width, height and their product hold for every shape that is no line."""
    fit = Fit(max_width=most_w, max_height=most_h, max_pixels=most)
    width, height = fit.size(w, h)
    assert width <= max(2, most_w)
    assert height <= max(2, most_h)
    assert width * height <= most or 2 in (width, height)
    assert (width, height) <= (w, h) or 2 in (width, height)


def test_what_the_user_asks_for_goes_before_the_worker() -> None:
    """A worker that tells no limits bounds nothing."""
    assert Fit.of(LIMITS, width=320, fps=5).size(640, 480) == (320, 240)
    assert Fit.of(LIMITS, fps=5).max_fps == 5
    assert Fit.of(None) == Fit()
    assert Fit.of(None, width=320).size(640, 480) == (320, 240)
    assert (stall_within(LIMITS), stall_within(None)) == (4, STALL_S)


# --- JPEGs --------------------------------------------------------------------------------


def test_a_jpeg_that_fits_goes_on_to_the_byte() -> None:
    """Nothing is decoded, and what a driver pads it with is cut."""
    jpeg = draw(64, 48, quality=95)
    ours = fitter(Fit(max_width=64, max_height=48, max_frame_bytes=len(jpeg)))
    assert ours.jpeg(jpeg + bytes(500)) == jpeg
    assert (ours.source_size, ours.size) == ((64, 48), (64, 48))


def test_a_jpeg_that_is_too_large_is_scaled() -> None:
    """A decoder takes it, and it is told what it was."""
    ours = fitter(Fit(max_width=32))
    jpeg = ours.jpeg(draw(64, 48))
    assert jpeg is not None
    with Image.open(io.BytesIO(jpeg)) as picture:
        picture.load()
        assert picture.size == probe(jpeg) == (32, 24)
    assert (ours.source_size, ours.size) == ((64, 48), (32, 24))


def test_all_frames_of_a_size_become_one_size() -> None:
    """What was rounded for the first is not rounded again for the second."""
    ours = fitter(Fit(max_width=160, max_height=100))
    sizes = [probe(ours.jpeg(draw(320, 240)) or b"") for _ in range(3)]
    assert sizes == [(132, 100)] * 3


def test_a_jpeg_of_too_many_bytes_gets_a_lower_quality() -> None:
    """By one byte; where no quality is low enough, it is refused with what to do."""
    jpeg = draw(128, 96, quality=95)
    smaller = fitter(Fit(max_frame_bytes=len(jpeg) - 1)).jpeg(jpeg)
    assert smaller is not None
    assert len(smaller) < len(jpeg)
    assert probe(smaller) == (128, 96)
    with pytest.raises(SourceError, match=r"needs .* even at quality 30.*takes 400.*--width"):
        fitter(Fit(max_frame_bytes=400)).jpeg(jpeg)


def test_later_frames_keep_within_what_was_declared() -> None:
    """A camera that is switched to a larger size in mid-capture is scaled to the first."""
    ours = fitter(Fit())
    assert ours.jpeg(draw(32, 24)) is not None
    larger = ours.jpeg(draw(64, 48))
    assert larger is not None
    assert probe(larger) == (32, 24)
    smaller = ours.jpeg(draw(16, 12))
    assert smaller is not None
    assert probe(smaller) == (16, 12)


def test_what_is_no_image_is_counted() -> None:
    """Cut short, empty, or something else; the next one goes on."""
    left_out = LeftOut()
    ours = fitter(Fit(), left_out)
    jpeg = draw()
    assert [ours.jpeg(each) for each in (jpeg[:-20], b"", b"nothing", jpeg)] == [
        None,
        None,
        None,
        jpeg,
    ]
    assert left_out.counts() == {"damaged_images": 3}
    assert "cam" in left_out.sentences()[0]


def test_tables_that_a_webcam_leaves_out_are_put_in() -> None:
    """The picture is the same; a JPEG that has its tables stays as it is."""
    jpeg = draw(48, 32)
    bare = without_tables(jpeg)
    assert len(bare) < len(jpeg) - 400
    whole = with_tables(bare)
    assert with_tables(whole) == whole
    assert with_tables(jpeg) == jpeg
    with Image.open(io.BytesIO(whole)) as ours, Image.open(io.BytesIO(jpeg)) as theirs:
        assert ours.tobytes() == theirs.tobytes()
    assert fitter(Fit()).jpeg(bare) == whole


@given(st.binary(max_size=60))
def test_anything_may_be_asked_for_its_tables(data: bytes) -> None:
    """What is no JPEG comes back, or grows; nothing is raised, nothing is walked for ever."""
    assert len(with_tables(b"\xff\xd8" + data)) >= len(data)


# --- rates --------------------------------------------------------------------------------


def kept(thinner: Thinner, fps: float, seconds: float, jitter_ms: int = 0) -> int:
    """How many frames of a source with this rate are taken."""
    times = (
        round(number * 1e9 / fps) + (number * 7 % 3 - 1) * jitter_ms * MS
        for number in range(round(fps * seconds))
    )
    return sum(thinner.takes(at_ns) for at_ns in times)


@pytest.mark.parametrize(
    ("fps", "most", "expected"),
    [(30, 15, 150), (15, 15, 150), (15.01, 15, 150), (60, 15, 150), (25, 15, 150), (5, 15, 50)],
)
@pytest.mark.parametrize("jitter_ms", [0, 4])
def test_a_rate_is_kept_to(fps: float, most: int, expected: int, jitter_ms: int) -> None:
    """Ten seconds of it; what is about the rate asked for is taken whole."""
    assert abs(kept(Thinner(fps, most), fps, 10, jitter_ms) - expected) <= 1


def test_every_second_frame_of_twice_the_rate() -> None:
    """Evenly, from the first on, for times that begin anywhere."""
    thinner = Thinner(30, 15)
    taken = [thinner.takes(10**15 + round(n * 1e9 / 30)) for n in range(60)]
    assert taken == [True, False] * 30


def test_a_rate_that_nobody_tells_is_seen() -> None:
    """Two seconds are taken whole, then it is thinned; bursts of the right rate are not."""
    assert 170 <= kept(Thinner(None, 15), 30, 10) <= 185
    bursts = Thinner(None, 15)
    times = [(burst * 200 + n) * MS for burst in range(50) for n in range(3)]
    assert all(bursts.takes(at_ns) for at_ns in times)


def test_without_a_rate_or_times_all_are_taken() -> None:
    """There is nothing to hold them against."""
    assert kept(Thinner(60, None), 60, 2) == 120
    thinner = Thinner(60, 15)
    assert all(thinner.takes(None) for _ in range(10))
