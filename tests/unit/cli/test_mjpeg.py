"""MJPEG streams taken apart: every good image exactly as it was, whatever is around it."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cfw.cli.left_out import LeftOut
from cfw.cli.mjpeg import MjpegSplitter, SourceError
from cfw.jpeg import MAX_STEPS, probe
from tests.pictures import (
    LEFTOVER,
    MP4,
    draw,
    multi_picture,
    segment,
    split_mjpeg,
    with_segment,
    with_spurious_marker,
)

LIMIT = 300_000
PREFIX = "accepted: JPEG images back to back"

PLAIN = draw(quality=95)
SMALL = draw(8, 8, seed=9, quality=5)
IMAGES = {
    "plain": PLAIN,
    "other": draw(40, 8, seed=5),
    "grey": SMALL,
    "progressive": draw(48, 48, seed=2, progressive=True),
    "restart markers": draw(64, 64, seed=3, restart_marker_blocks=1),
    "EXIF thumbnail": with_segment(PLAIN, 0xE1, b"Exif\0\0II*\0" + draw(8, 8, seed=4)),
    "two thumbnails": with_segment(
        with_segment(PLAIN, 0xE2, b"MPF\0" + draw(8, 16)), 0xE1, b"\xff\xd8\xff\xd9" * 3
    ),
    "comment of markers": with_segment(PLAIN, 0xFE, b"\xff\xda\xff\xd9\xff\xd8\xff"),
    "empty comment": with_segment(PLAIN, 0xFE, b""),
    "fill before markers": PLAIN[:2] + b"\xff\xff\xff" + PLAIN[2:-2] + b"\xff\xff" + PLAIN[-2:],
    "lone TEM": PLAIN[:2] + b"\xff\x01" + PLAIN[2:],
    "spurious marker": with_spurious_marker(PLAIN),
    "spurious segment": with_spurious_marker(PLAIN, b"\xff\xe3\xff\xf0"),
    "spurious SOI": with_spurious_marker(PLAIN, b"\xff\xd8\x00"),
    "spurious SOS": with_spurious_marker(PLAIN, b"\xff\xda\xff\xff"),
}
GAPS = {
    "nothing": b"",
    "zeros": b"\0" * 7,
    "fill": b"\xff" * 5,
    "line ends": b"\r\n\r\n",
    "all padding": b"\0\xff\xff\0 \t\r\n\xff",
    "multipart": b"\r\n--ffmpeg\r\nContent-type: image/jpeg\r\nContent-length: 123\r\n\r\n",
    "newlines only": b"\n--frame\nContent-Type:image/jpeg\nX-Timestamp: 1.5\n\n",
    "no boundary": b"Content-Type: image/jpeg\r\n\r\n",
    "whole answer": b"HTTP/1.0 200 OK\r\nServer: cam\r\n\r\n--b\r\n\r\n",
    "HTTP/2": b"HTTP/2 200 \r\nserver: cam\r\n\r\n--b\r\n\r\n",
    "no dashes": b"\r\nmyboundary\r\nContent-Type: image/jpeg\r\n\r\n",
    "a preamble": b"This is a stream of pictures.\r\n\r\n--b\r\n\r\n",
    "folded": b'--b\r\nContent-Type: image/jpeg;\r\n name="a.jpg"\r\n\t; q=1\r\n\r\n',
    "UTF-8": b"--b\r\nX-Place: K\xc3\xbcche \xd9\x85\r\n \xe5\x8e\xa8\r\n\r\n",
    "Latin-1": b"--b\r\nX-Place: K\xfcche\r\n\r\n",
    "a long line": b"--b\r\nX-Data: " + b"a" * 9000 + b"\r\n\r\n",
}
GARBAGE = {
    "the rest of a buffer": LEFTOVER,
    "an MP4": MP4,
    "one byte": b"\x01",
    "high bytes": b"\xaa" * 100,
    "a lone EOI": b"\xff\xd9",
    "what looks like a beginning": b"\xfe\xff\xd8\xff\x00" * 9,
    "what looks like a segment": b"\x01\xff\xd8\xff\xe1\xff\xf0abc",
    "noise": random.Random(5).randbytes(5000),
}


def every_chunking(data: bytes) -> Iterator[list[bytes]]:
    """Whole, byte by byte, in some sizes, and cut in two at every place."""
    for size in (max(1, len(data)), 1, 2, 3, 7, 64):
        yield [data[at : at + size] for at in range(0, len(data), size)]
    for at in range(len(data) + 1):
        yield [data[:at], data[at:]]


def outcome(
    chunks: Sequence[bytes], limit: int = LIMIT
) -> tuple[list[bytes], list[str], str | None]:
    """The images found, what was said of the rest, and the error."""
    images: list[bytes] = []
    left_out = LeftOut()
    try:
        for image in split_mjpeg(chunks, max_frame_bytes=limit, left_out=left_out):
            images.append(image)  # noqa: PERF402 - those before the error count
    except SourceError as exc:
        return images, left_out.sentences(), str(exc)
    return images, left_out.sentences(), None


def cut(data: bytes, cuts: Sequence[int]) -> list[bytes]:
    places = sorted({0, len(data), *(place % (len(data) + 1) for place in cuts)})
    return [data[a:b] for a, b in pairwise(places)]


# --- streams as they should be ------------------------------------------------------------


@pytest.mark.parametrize("name", IMAGES)
def test_each_kind_of_image_survives_every_chunking(name: str) -> None:
    """Between two others, so that its own end is what counts."""
    image = IMAGES[name]
    assert probe(image)
    for chunks in every_chunking(image + PLAIN):
        assert outcome(chunks) == ([image, PLAIN], [], None)


def test_the_drawn_images_are_what_their_names_say() -> None:
    """Or the tests above would prove less than they say."""
    assert b"\xff\x00" in PLAIN[PLAIN.index(b"\xff\xda") :]
    assert IMAGES["progressive"].count(b"\xff\xda") > 3
    assert all(bytes([0xFF, 0xD0 + n]) in IMAGES["restart markers"] for n in range(8))
    assert IMAGES["EXIF thumbnail"].count(b"\xff\xd8\xff") == 2


@pytest.mark.parametrize("name", GAPS)
def test_padding_and_multipart_headers_are_passed_over(name: str) -> None:
    """Before, between and behind images, as real servers write them, and without a word."""
    gap = GAPS[name]
    data = gap + SMALL + gap + SMALL + gap
    for chunks in every_chunking(data) if len(data) < 3000 else ([data], cut(data, range(99))):
        assert outcome(chunks) == ([SMALL, SMALL], [], None)


@pytest.mark.parametrize("name", GARBAGE)
def test_what_trails_an_image_is_left_out_and_counted(name: str) -> None:
    """However long it is, the image behind it is found."""
    garbage = GARBAGE[name]
    data = SMALL + garbage + PLAIN + GAPS["multipart"] + SMALL + garbage
    told = f"left out: {2 * len(garbage)} bytes behind images"
    for chunks in every_chunking(data) if len(data) < 3500 else ([data], cut(data, range(999))):
        assert outcome(chunks) == ([SMALL, PLAIN, SMALL], [told], None)


@given(
    parts=st.lists(
        st.tuples(st.sampled_from(sorted(GAPS)), st.sampled_from(sorted(IMAGES))),
        min_size=1,
        max_size=6,
    ),
    cuts=st.lists(st.integers(0, 20_000), max_size=30),
)
def test_any_images_any_gaps_any_chunks(parts: list[tuple[str, str]], cuts: list[int]) -> None:
    """The images come out, in order, byte for byte."""
    data = b"".join(GAPS[gap] + IMAGES[image] for gap, image in parts)
    assert outcome(cut(data, cuts)) == ([IMAGES[image] for _, image in parts], [], None)


@given(
    data=st.lists(
        st.one_of(
            st.sampled_from([PLAIN, SMALL, PLAIN[:40], PLAIN[-40:], *GAPS.values()]),
            st.sampled_from([multi_picture(SMALL, PLAIN), SMALL + MP4, LEFTOVER]),
            st.sampled_from(
                [b"\xff", b"\xff\xd8", b"\xff\xd8\xff", b"\xff\xd9", b"\xff\xda\0\x02", b"\0"]
            ),
            st.binary(max_size=8),
        ),
        max_size=8,
    ).map(b"".join),
    cuts=st.lists(st.integers(0, 5_000), max_size=20),
    limit=st.sampled_from([LIMIT, len(PLAIN), len(PLAIN) - 1, 50, 4]),
)
def test_any_bytes_give_the_same_answer_in_any_chunks(
    data: bytes, cuts: list[int], limit: int
) -> None:
    """Images, what was left out, or SourceError; and the chunks do not show."""
    expected = outcome([data], limit)
    assert outcome(cut(data, cuts), limit) == expected
    assert outcome([bytes([byte]) for byte in data], limit) == expected


# --- damage -------------------------------------------------------------------------------


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """An image that is cut anywhere, or lacks bytes anywhere, or bytes that never were one."""
    image = IMAGES[draw(st.sampled_from(sorted(IMAGES)))]
    at = draw(st.integers(0, len(image)))
    kind = draw(st.sampled_from(["cut", "rest", "holed", "noise"]))
    if kind == "noise":
        return draw(st.binary(max_size=200))
    if kind == "rest":
        return image[at:]
    return image[:at] + (image[at + draw(st.integers(1, 200)) :] if kind == "holed" else b"")


@given(
    parts=st.lists(
        st.tuples(st.sampled_from(sorted(GAPS)), damaged(), st.integers(1, 3)),
        min_size=1,
        max_size=5,
    ),
    cuts=st.lists(st.integers(0, 20_000), max_size=20),
)
def test_no_garbage_loses_a_whole_good_image_behind_it(
    parts: list[tuple[str, bytes, int]], cuts: list[int]
) -> None:
    """Every good image comes out, in order; what is damaged may come too if it looks whole."""
    good = IMAGES["other"]
    data = b"".join(bad + GAPS[gap] + good * count for gap, bad, count in parts)
    images, _, error = outcome(cut(data, cuts))
    assert error is None
    assert images.count(good) >= sum(count for _, _, count in parts)


@pytest.mark.parametrize("name", IMAGES)
def test_an_image_cut_at_any_byte_costs_no_other(name: str) -> None:
    """The next one directly behind the cut, where a segment's length reaches into it, too."""
    image = IMAGES[name]
    for end in range(2, len(image)):
        images, told, error = outcome([SMALL + image[:end] + PLAIN + PLAIN])
        inside = [part for part in images[1:-2] if part not in image]
        assert (images[0], images[-2:], inside, error) == (SMALL, [PLAIN, PLAIN], [], None)
        assert told, end


@pytest.mark.parametrize("name", ["plain", "progressive", "EXIF thumbnail", "restart markers"])
def test_a_cut_at_every_byte_gives_the_images_before_it(name: str) -> None:
    """Inside an image it is told with its place; between images it is an end."""
    image = IMAGES[name]
    gap = GAPS["multipart"]
    data = gap + PLAIN + gap + image
    begun = len(data) - len(image)
    for end in range(len(gap) + len(PLAIN), len(data)):
        images, told, error = outcome([data[:end]])
        assert (images, error) == ([PLAIN], None)
        if end <= begun + 1:  # a lone FF is padding
            assert told == []
        elif end == begun + 2:
            assert told == [f"left out: {len(gap) + 2} bytes behind images"]
        else:
            assert told == [
                f"left out: 1 image cut at the end; the first: MJPEG: byte {end}: "
                f"the stream ends inside the image that began at byte {begun}"
            ]
    for end in range(len(gap) + len(PLAIN)):
        images, _, error = outcome([data[:end]])
        assert images == []
        assert error is not None


@pytest.mark.parametrize("name", ["plain", "EXIF thumbnail", "restart markers"])
def test_an_image_without_its_end_is_told_from_the_next(name: str) -> None:
    """Both places are named."""
    image = IMAGES[name]
    assert outcome([PLAIN + image[:-2] + PLAIN]) == (
        [PLAIN, PLAIN],
        [
            "left out: 1 damaged image; the first: MJPEG: "
            f"byte {len(PLAIN) + len(image) - 2}: an image begins inside the one "
            f"from byte {len(PLAIN)}, which was cut short"
        ],
        None,
    )


@pytest.mark.parametrize(
    ("data", "offset", "told"),
    [
        (b"\xff\xd8\xff\xd9", 0, "holds no picture"),
        (b"\xff\xd8" + segment(0xDA, b"") + b"abc\xff\xd9", 0, "no start of frame"),
        (b"\xff\xd8" + segment(0xC0, b"") + b"\xff\xd9", 0, "holds no picture"),
        (
            b"\xff\xd8" + segment(0xC0, b"") + segment(0xDA, b"") + b"\xff\xd9",
            0,
            "wrong length",
        ),
        (b"\xff\xd8\xffab", 2, "found FF 61, which is no marker"),
        (b"\xff\xd8\xff\x00", 2, "found FF 00, which is no marker"),
        (b"\xff\xd8\xff\xbf", 2, "found FF BF, which is no marker"),
        (b"\xff\xd8\xff\xe0\x00\x01", 2, "FF E0 has the impossible length 1"),
        (b"\xff\xd8\xff\xda\x00\x00", 2, "FF DA has the impossible length 0"),
        (b"\xff\xd8" + segment(0xFE, b"x") + b"y\0", 7, "found byte 79 where a marker"),
        (
            b"\xff\xd8" + segment(0xFE, b"") * MAX_STEPS + PLAIN[2:],
            0,
            f"more than {MAX_STEPS} segments",
        ),
    ],
)
def test_what_is_wrong_inside_an_image_is_named(data: bytes, offset: int, told: str) -> None:
    """Offsets count from the start of the stream, other images included."""
    whole = PLAIN + data + SMALL
    for chunks in every_chunking(whole) if len(whole) < 3000 else ([whole],):
        images, [said], error = outcome(chunks)
        assert (images, error) == ([PLAIN, SMALL], None)
        assert f"1 damaged image; the first: MJPEG: byte {len(PLAIN) + offset}: " in said
        assert told in said


def test_each_damaged_image_of_many_is_counted() -> None:
    """Also one that directly follows another; the first is told in full."""
    header, scan = SMALL[:20] + b"?" + SMALL[21:], SMALL[:-9]
    images, told, _ = outcome([(SMALL + header + header + scan + scan) * 3 + SMALL])
    assert images == [SMALL] * 4
    assert told[0].startswith("left out: 12 damaged images; the first: MJPEG: byte ")


# --- further images -----------------------------------------------------------------------


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_multi_picture_file_is_one_frame(order: str) -> None:
    """Alone and among others; what was left out is counted."""
    file = multi_picture(PLAIN, SMALL, IMAGES["other"], order=order)
    first = file[: -len(SMALL + IMAGES["other"])]
    told = ["left out: 4 further images of a multi-picture file"]
    for chunks in ([file * 2 + SMALL], cut(file * 2 + SMALL, range(0, 9999, 7))):
        assert outcome(chunks) == ([first, first, SMALL], told, None)


def test_an_image_behind_one_that_lost_its_further_images_is_a_frame() -> None:
    """Programs copy the index of a multi-picture file and drop what it names."""
    file = multi_picture(PLAIN, SMALL)
    first = file[: -len(SMALL)]
    stream = [first, GAPS["multipart"], SMALL, first, GAPS["zeros"], SMALL]
    assert outcome([b"".join(stream)]) == ([first, SMALL, first, SMALL], [], None)


@pytest.mark.parametrize("at", range(10, 90))
def test_an_index_that_is_damaged_harms_nobody(at: int) -> None:
    """Whatever is in it, the images are frames or further ones."""
    file = multi_picture(PLAIN, SMALL)
    for byte in (0x00, 0x7F, 0xFF):
        data = file[:at] + bytes([byte]) + file[at + 1 :]
        images, _, error = outcome([data + IMAGES["other"]])
        assert error is None
        assert IMAGES["other"] in images


# --- streams that are none ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "offset", "told"),
    [
        (b"", 0, "there is no image"),
        (b"\0\0\xff\n", 4, "there is no image"),
        (b"--b\r\nContent-Type: image/jpeg\r\n\r\n", 33, "there is no image"),
        (b"hello", 0, r"found b'hello', no JPEG image"),
        (b"hello\nworld\n", 0, r"found b'hello\nworld\n'"),
        (b"\0\0" + b"\x89PNG\r\n\x1a\n" + b"\0" * 20, 2, "it looks like PNG"),
        (b"GIF89a\x01\0\x01\0" + b"\0" * 20, 0, "it looks like GIF"),
        (b"RIFF\x10\0\0\0AVI LIST" + b"\0" * 20, 0, "it looks like AVI"),
        (b"\0\0\0\x20ftypisom\0\0\2\0isomiso2", 4, "it looks like MP4"),
        (b"\0\0\0\x18ftypisom\0\0\2\0isomiso2", 3, "it looks like MP4"),
        (b"\x1aE\xdf\xa3" + b"\x42" * 20, 0, "it looks like Matroska or WebM"),
        (b"<!DOCTYPE html>\n<html>", 0, "it looks like HTML"),
        (b'{"error": "no camera"}\n', 0, "it looks like JSON"),
        ('{"größe": "ßßßß"}\n'.encode(), 0, "it looks like JSON"),
        (b"BM\x36\x9c\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0", 0, "it looks like BMP"),
        (b"FLV\x01\x05\0\0\0\x09" + b"\0" * 20, 0, "it looks like FLV"),
        (b"\0\x05\x16\x07\0\x02\0\0Mac OS X  ", 1, "AppleDouble"),
        (b"\0\0\0\x01\x67\x42\0\x1e" + b"\x9c" * 20, 3, "it looks like H.264"),
        (b"\0\0\x01\x67\x42\0\x1e" + b"\x9c" * 20, 2, "it looks like H.264"),
        (b"\0\0\0\x01\x40\x01\x0c\x01" + b"\x9c" * 20, 3, "it looks like H.265"),
        (b"\0\0\x01\xba\x44\0\x04\0" + b"\x9c" * 20, 2, "an MPEG program stream"),
        (b"G@\x11\x10\0B\xf0%\0\x01\xc1\0\0\xff\x01\xff", 0, "an MPEG transport stream"),
        (b"HTTP/1.1 401 Unauthorized\r\n\r\n", 0, "found b'HTTP/1.1 401 Un"),
        (b"\xff\xd9", 0, r"found b'\xff\xd9'"),
        (b"\0\xff\x01", 1, r"found b'\xff\x01'"),
        (b"a" * 1025, 0, "found b'aaaaaaaaaaaaaaaa'"),
    ],
)
def test_what_is_no_jpeg_is_named_with_what_is_accepted(
    data: bytes, offset: int, told: str
) -> None:
    """With its offset, and with the command that would convert it."""
    for chunks in every_chunking(data):
        images, _, error = outcome(chunks)
        assert images == []
        assert error is not None
        assert error.startswith(f"MJPEG: byte {offset}: ")
        assert told in error
        assert PREFIX in error
        assert "ffmpeg -i INPUT -f mjpeg -" in error


def test_another_format_is_refused_as_soon_as_it_is_known() -> None:
    """Not at the end, which a pipe of video may never have; and each call says it again."""
    splitter = MjpegSplitter(max_frame_bytes=LIMIT)
    video = b"\0\0\0\x01\x67\x42\0\x1e" + b"\x9c" * 20
    for data in (video, PLAIN):
        with pytest.raises(SourceError, match=r"H\.264"):
            splitter.feed(data)
    with pytest.raises(SourceError, match=r"H\.264"):
        splitter.finish()


@pytest.mark.parametrize(
    "begins",
    [
        b"[",
        b"{",
        b"BM",
        b"G@",
        b"FLV",
        b"\x05\x16\x07",
        b"\x01\x67",
        b"\0\x01\x67",
        b"\x01\xba",
    ],
)
def test_any_byte_may_be_the_first_of_a_stream_that_is_joined(begins: bytes) -> None:
    """Which is in the middle of an image: `{` is no sign of JSON there."""
    data = begins + b"\x9c\xff\x00\x13" * 20 + PLAIN
    for chunks in every_chunking(data):
        images, told, error = outcome(chunks)
        assert (images, error) == ([PLAIN], None)
        left = len(data) - len(PLAIN)
        assert told == [f"left out: {left} bytes behind images"]


def test_a_stream_joined_in_the_middle_of_an_image_begins_with_the_next() -> None:
    """As long as one image may be can come before the first; n is passed, n + 1 is not."""
    rest = b"\x9c\xff\x00\x13" * 250
    assert outcome([rest + PLAIN], 5000)[0] == [PLAIN]
    assert outcome([b"\x9c" * 5000 + PLAIN], 5000)[0] == [PLAIN]
    images, _, error = outcome([b"\x9c" * 5001 + PLAIN], 5000)
    assert images == []
    assert error is not None
    assert "no JPEG image" in error


# --- limits -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", IMAGES)
def test_the_size_limit_is_exact(name: str) -> None:
    """n bytes are let through at a limit of n and of n + 1, and left out at n - 1."""
    image = IMAGES[name]
    for limit in (len(image), len(image) + 1):
        assert outcome([image], limit) == ([image], [], None)
    error = f"MJPEG: byte 0: the image is larger than {len(image) - 1} bytes"
    told = f"left out: 1 damaged image; the first: {error}"
    for chunks in ([image], [bytes([byte]) for byte in image]):
        images, said, failed = outcome(chunks, len(image) - 1)
        assert [part for part in images if part not in image] == []
        assert said[0] == told
        assert failed in (error, None)
    for chunks in ([SMALL + image + SMALL], [bytes([byte]) for byte in SMALL + image + SMALL]):
        if len(SMALL) < len(image):
            images, _, failed = outcome(chunks, len(image) - 1)
            assert (images[0], images[-1], failed) == (SMALL, SMALL, None)


def test_buffered_bytes_stay_below_one_image() -> None:
    """An endless stream of images, padding and garbage costs no memory."""
    splitter = MjpegSplitter(max_frame_bytes=len(PLAIN))
    huge = b"\xff\xd8" + segment(0xC0, b"") + segment(0xDA, b"") + b"x" * 50_000
    data = (PLAIN + b"\0" * 5000 + GAPS["multipart"] + b"\x9c" * 5000 + huge) * 20
    found = 0
    for at in range(0, len(data), 100):
        found += len(splitter.feed(data[at : at + 100]))
        assert len(splitter._buffer) < len(PLAIN) + 200
    assert found == 20
    assert splitter.offset == len(data)
    splitter.finish()


@pytest.mark.parametrize(
    "filler",
    [
        b"\xff\x00",
        b"\xff",
        b"x",
        b"\xff\xd0",
        segment(0xFE, b"x" * 99),
        segment(0xFE, b"x" * 999),
    ],
)
def test_no_byte_is_looked_at_twice(filler: bytes) -> None:
    """So time is linear: after each byte fed, at most a marker's few bytes are left to see."""
    head, scan = PLAIN[: PLAIN.index(b"\xff\xda")], segment(0xDA, b"")
    body = filler * (10_000 // len(filler))
    image = head + (body + scan if filler[1:2] == b"\xfe" else scan + body) + b"\xff\xd9"
    splitter = MjpegSplitter(max_frame_bytes=LIMIT)
    images = []
    for at in range(len(image)):
        images += splitter.feed(image[at : at + 1])
        assert len(splitter._buffer) - splitter._at < 4
    assert images == [image]


def test_no_byte_between_images_is_looked_at_twice() -> None:
    """Padding, text and garbage are dropped at once."""
    splitter = MjpegSplitter(max_frame_bytes=LIMIT)
    for byte in b"\0\xff" * 1000 + b"--" + b"b" * 900 + b"\n" + b"\xff" * 1000 + b"\x9c" * 9:
        splitter.feed(bytes([byte]))
        assert len(splitter._buffer) - splitter._at < 2
        assert len(splitter._buffer) < 3
    assert splitter.feed(PLAIN) == [PLAIN]


@pytest.mark.parametrize(
    "piece",
    [
        b"\xff\xd8\xff\xe1\xff\xff",
        b"\xff\xd8\xff\xe0\x00\x02",
        b"\xff\xd8\xff\xe1\x01\x00" + b"\xff\xd8\xff\xda",
        b"\xff\xd8\xff\xfe\x00\x08abcd",
        b"\xff\xd8\xff",
        b"\xff\xe1\x00\x04\xff\xd8",
    ],
)
def test_what_is_made_to_be_walked_again_and_again_is_not(
    piece: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twice the bytes are at most some twice the steps, whatever begins inside whatever."""
    steps = 0
    walk = MjpegSplitter._walk_marker

    def count(self: MjpegSplitter, images: list[bytes]) -> bool:
        nonlocal steps
        steps += 1
        return walk(self, images)

    monkeypatch.setattr(MjpegSplitter, "_walk_marker", count)
    taken = []
    for pieces in (5_000, 10_000):
        steps = 0
        data = PLAIN + b"\xff\xd8" + piece * pieces + PLAIN
        assert outcome([data], 1 << 24)[0][:1] == [PLAIN]
        taken.append(steps)
    assert taken[1] < 3 * taken[0] + 100


def test_many_images_in_one_chunk() -> None:
    """All come out of one call."""
    splitter = MjpegSplitter(max_frame_bytes=LIMIT)
    assert splitter.feed(SMALL * 1000) == [SMALL] * 1000
