"""Frames for `cfw send`: every image exactly as it was, whatever the chunks, or an error."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from cfw.cli.mjpeg import MjpegSplitter, SourceError, split_mjpeg
from cfw.cli.sources import Frames, FrameSource, PatternPainter, open_source
from cfw.jpeg import probe

LIMIT = 300_000
PREFIX = "accepted: JPEG images back to back"


@cache
def draw(width: int = 24, height: int = 16, seed: int = 1, **options: int) -> bytes:
    """A JPEG of noise, so that its entropy-coded data is long."""
    noise = bytes((seed * 7919 + n * n * 31 + n) % 251 for n in range(width * height * 3))
    out = io.BytesIO()
    Image.frombytes("RGB", (width, height), noise).save(out, "JPEG", **options)
    return out.getvalue()


def segment(code: int, payload: bytes) -> bytes:
    return bytes([0xFF, code]) + (len(payload) + 2).to_bytes(2, "big") + payload


def with_segment(jpeg: bytes, code: int, payload: bytes) -> bytes:
    """Put a segment right behind SOI, where cameras put theirs."""
    return jpeg[:2] + segment(code, payload) + jpeg[2:]


PLAIN = draw(quality=95)
IMAGES = {
    "plain": PLAIN,
    "other": draw(40, 8, seed=5),
    "grey": draw(8, 8, seed=9, quality=5),
    "progressive": draw(48, 48, seed=2, progressive=True),
    "restart markers": draw(64, 64, seed=3, restart_marker_blocks=1),
    "EXIF thumbnail": with_segment(PLAIN, 0xE1, b"Exif\0\0II*\0" + draw(8, 8, seed=4)),
    "two thumbnails": with_segment(
        with_segment(PLAIN, 0xE2, b"MPF\0" + PLAIN), 0xE1, b"\xff\xd8\xff\xd9" * 3
    ),
    "comment of markers": with_segment(PLAIN, 0xFE, b"\xff\xda\xff\xd9\xff\xd8\xff"),
    "empty comment": with_segment(PLAIN, 0xFE, b""),
    "fill before markers": PLAIN[:2] + b"\xff\xff\xff" + PLAIN[2:-2] + b"\xff\xff" + PLAIN[-2:],
    "lone TEM": PLAIN[:2] + b"\xff\x01" + PLAIN[2:],
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
}


def every_chunking(data: bytes) -> Iterator[list[bytes]]:
    """Whole, byte by byte, in some sizes, and cut in two at every place."""
    for size in (max(1, len(data)), 1, 2, 3, 7, 64):
        yield [data[at : at + size] for at in range(0, len(data), size)]
    for at in range(len(data) + 1):
        yield [data[:at], data[at:]]


def outcome(chunks: Sequence[bytes], limit: int = LIMIT) -> tuple[list[bytes], str | None]:
    """The images found, and the error behind them."""
    images: list[bytes] = []
    try:
        for image in split_mjpeg(chunks, max_frame_bytes=limit):
            images.append(image)  # noqa: PERF402 - those before the error count
    except SourceError as exc:
        return images, str(exc)
    return images, None


# --- the splitter -------------------------------------------------------------------------


@pytest.mark.parametrize("name", IMAGES)
def test_each_kind_of_image_survives_every_chunking(name: str) -> None:
    """Between two others, so that its own end is what counts."""
    image = IMAGES[name]
    assert probe(image)
    for chunks in every_chunking(image + PLAIN):
        assert outcome(chunks) == ([image, PLAIN], None)


def test_the_drawn_images_are_what_their_names_say() -> None:
    """Or the tests above would prove less than they say."""
    assert b"\xff\x00" in PLAIN[PLAIN.index(b"\xff\xda") :]
    assert IMAGES["progressive"].count(b"\xff\xda") > 3
    assert all(bytes([0xFF, 0xD0 + n]) in IMAGES["restart markers"] for n in range(8))
    assert IMAGES["EXIF thumbnail"].count(b"\xff\xd8\xff") == 2


@pytest.mark.parametrize("name", GAPS)
def test_padding_and_multipart_headers_are_passed_over(name: str) -> None:
    """Before, between and behind images."""
    gap = GAPS[name]
    for chunks in every_chunking(gap + PLAIN + gap + PLAIN + gap):
        assert outcome(chunks) == ([PLAIN, PLAIN], None)


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
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    chunks = [data[a:b] for a, b in pairwise(places)]
    assert outcome(chunks) == ([IMAGES[image] for _, image in parts], None)


@given(
    data=st.lists(
        st.one_of(
            st.sampled_from([PLAIN, IMAGES["grey"], PLAIN[:40], PLAIN[-40:], *GAPS.values()]),
            st.sampled_from(
                [b"\xff", b"\xff\xd8", b"\xff\xd9", b"\xff\xda\0\x02", b"\0", b"--"]
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
    """Images or SourceError, nothing else, and the chunks do not show."""
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    chunks = [data[a:b] for a, b in pairwise(places)]
    expected = outcome([data], limit)
    assert outcome(chunks, limit) == expected
    assert outcome([bytes([byte]) for byte in data], limit) == expected


@pytest.mark.parametrize("name", ["plain", "progressive", "EXIF thumbnail", "restart markers"])
def test_a_cut_at_every_byte_gives_the_images_before_it(name: str) -> None:
    """Inside an image it is an error that names the place; between images it is an end."""
    image = IMAGES[name]
    gap = GAPS["multipart"]
    data = gap + PLAIN + gap + image
    begun = len(data) - len(image)
    for end in range(len(gap) + len(PLAIN), len(data)):
        images, error = outcome([data[:end]])
        assert images == [PLAIN]
        if end <= begun + 1:  # a lone FF is padding
            assert error is None
        else:
            assert error == (
                f"MJPEG: byte {end}: the stream ends inside the image "
                f"that began at byte {begun}"
            )
    for end in range(len(gap) + len(PLAIN)):
        images, error = outcome([data[:end]])
        assert images == []
        assert error is not None


@pytest.mark.parametrize("name", ["plain", "EXIF thumbnail", "restart markers"])
def test_an_image_without_its_end_is_told_from_the_next(name: str) -> None:
    """The error names both places."""
    image = IMAGES[name]
    images, error = outcome([PLAIN + image[:-2] + PLAIN])
    assert images == [PLAIN]
    assert error == (
        f"MJPEG: byte {len(PLAIN) + len(image) - 2}: an image begins inside the one "
        f"from byte {len(PLAIN)}, which was cut short"
    )


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
        (b"\xff\xd9", 0, r"found b'\xff\xd9'"),
        (b"\0\xff\x01", 1, r"found b'\xff\x01'"),
        (b"\x00\x00\x00\x01\x67\x42", 3, r"found b'\x01gB'"),
        (b"a" * 1025, 0, "found b'aaaaaaaaaaaaaaaa'"),
        (b"--" + b"a" * 1023 + b"\n", 0, "found b'--aaaa"),
        (PLAIN + b"\x01", len(PLAIN), r"found b'\x01'"),
        (PLAIN + b"trailer\n" + PLAIN, len(PLAIN), r"found b'trailer\n"),
    ],
)
def test_what_is_no_jpeg_is_named_with_what_is_accepted(
    data: bytes, offset: int, told: str
) -> None:
    """With its offset, and with the command that would convert it."""
    for chunks in every_chunking(data):
        _, error = outcome(chunks)
        assert error is not None
        assert error.startswith(f"MJPEG: byte {offset}: ")
        assert told in error
        assert PREFIX in error
        assert "ffmpeg -i INPUT -f mjpeg -" in error


@pytest.mark.parametrize(
    ("data", "offset", "told"),
    [
        (b"\xff\xd8\xff\xd9", 0, "holds no picture"),
        (b"\xff\xd8" + segment(0xDA, b"") + b"abc\xff\xd9", 0, "holds no picture"),
        (b"\xff\xd8" + segment(0xC0, b"") + b"\xff\xd9", 0, "holds no picture"),
        (b"\xff\xd8ab", 2, "found byte 61 where a marker begins"),
        (b"\xff\xd8\xff\x00", 2, "found FF 00, which is no marker"),
        (b"\xff\xd8\xff\xbf", 2, "found FF BF, which is no marker"),
        (b"\xff\xd8\xff\xe0\x00\x01", 2, "FF E0 has the impossible length 1"),
        (b"\xff\xd8\xff\xda\x00\x00", 2, "FF DA has the impossible length 0"),
        (b"\xff\xd8" + segment(0xFE, b"x") + b"y\0", 7, "found byte 79"),
    ],
)
def test_what_is_wrong_inside_an_image_is_named(data: bytes, offset: int, told: str) -> None:
    """Offsets count from the start of the stream, other images included."""
    for chunks in every_chunking(PLAIN + data):
        images, error = outcome(chunks)
        assert images == [PLAIN]
        assert error is not None
        assert error.startswith(f"MJPEG: byte {len(PLAIN) + offset}: ")
        assert told in error


@pytest.mark.parametrize("name", IMAGES)
def test_the_size_limit_is_exact(name: str) -> None:
    """n bytes are let through at a limit of n and of n + 1, and refused at n - 1."""
    image = IMAGES[name]
    for limit in (len(image), len(image) + 1):
        assert outcome([image], limit) == ([image], None)
    error = f"MJPEG: byte 0: the image is larger than {len(image) - 1} bytes"
    for chunks in ([image], [bytes([byte]) for byte in image]):
        assert outcome(chunks, len(image) - 1) == ([], error)


def test_an_oversized_image_is_refused_before_it_is_there() -> None:
    """By its segment's length, or when as many bytes have come without an end."""
    splitter = MjpegSplitter(max_frame_bytes=1000)
    with pytest.raises(SourceError, match="larger than 1000"):
        splitter.feed(b"\xff\xd8\xff\xe0\xff\xff")
    scan = b"\xff\xd8" + segment(0xC0, b"") + segment(0xDA, b"")
    splitter = MjpegSplitter(max_frame_bytes=1000)
    assert splitter.feed(scan + b"x" * (998 - len(scan))) == []
    with pytest.raises(SourceError, match="larger than 1000"):
        splitter.feed(b"x")


def test_an_error_waits_for_the_images_before_it() -> None:
    """The call that finds both returns the images; the next one raises, and each after it."""
    splitter = MjpegSplitter(max_frame_bytes=LIMIT)
    assert splitter.feed(PLAIN + PLAIN + b"\x01" * 20) == [PLAIN, PLAIN]
    for _ in range(2):
        with pytest.raises(SourceError, match="no JPEG image"):
            splitter.feed(PLAIN)
    with pytest.raises(SourceError, match="no JPEG image"):
        splitter.finish()


def test_buffered_bytes_stay_below_one_image() -> None:
    """An endless stream of images and padding costs no memory."""
    splitter = MjpegSplitter(max_frame_bytes=LIMIT)
    data = (PLAIN + b"\0" * 5000 + GAPS["multipart"]) * 20
    found = 0
    for at in range(0, len(data), 100):
        found += len(splitter.feed(data[at : at + 100]))
        assert len(splitter._buffer) < len(PLAIN) + 200
    assert found == 20
    assert splitter.offset == len(data)
    splitter.finish()


@pytest.mark.parametrize(
    "filler",
    [b"\xff\x00", b"\xff", b"x", b"\xff\xd0", segment(0xFE, b""), segment(0xFE, b"x" * 999)],
)
def test_no_byte_is_looked_at_twice(filler: bytes) -> None:
    """So time is linear: after each byte fed, at most a marker's few bytes are left to see."""
    head = b"\xff\xd8" + segment(0xC0, b"")
    body = filler * (10_000 // len(filler))
    scan = segment(0xDA, b"")
    image = head + (body + scan if filler[1:2] == b"\xfe" else scan + body) + b"\xff\xd9"
    splitter = MjpegSplitter(max_frame_bytes=LIMIT)
    images = []
    for at in range(len(image)):
        images += splitter.feed(image[at : at + 1])
        assert len(splitter._buffer) - splitter._at < 4
    assert images == [image]


def test_no_byte_between_images_is_looked_at_twice() -> None:
    """Padding is dropped at once, and a line of text is looked at as far as it has come."""
    splitter = MjpegSplitter(max_frame_bytes=LIMIT)
    for byte in b"\0\xff" * 1000 + b"--" + b"b" * 900 + b"\n" + b"\xff" * 1000:
        splitter.feed(bytes([byte]))
        assert len(splitter._buffer) - max(splitter._at, splitter._line_end) < 2
    assert splitter.feed(PLAIN) == [PLAIN]


def test_many_images_in_one_chunk() -> None:
    """All come out of one call."""
    splitter = MjpegSplitter(max_frame_bytes=LIMIT)
    assert splitter.feed(IMAGES["grey"] * 1000) == [IMAGES["grey"]] * 1000


# --- the sources --------------------------------------------------------------------------


async def read_all(*specs: str | Path, stdin_fd: int = 0) -> list[bytes]:
    """All frames of some sources."""
    with trio.fail_after(10):
        async with Frames([str(spec) for spec in specs], stdin_fd=stdin_fd) as frames:
            return [frame async for frame in frames]


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """A reading and a writing end; a test may close either."""
    reading, writing = os.pipe()
    yield reading, writing
    for descriptor in (reading, writing):
        with contextlib.suppress(OSError):
            os.close(descriptor)


async def test_files_come_in_the_order_given_and_directories_in_natural_order(
    tmp_path: Path,
) -> None:
    """frame2 before frame10; other files and folders in a directory are left alone."""
    folder = tmp_path / "shots"
    folder.mkdir()
    names = [
        "frame10.jpg",
        "frame2.JPG",
        "Frame1.jpeg",
        "a.jpg",
        "frame2b.jpg",
        "10.jpg",
        "9.jpg",
    ]
    for index, name in enumerate(names):
        (folder / name).write_bytes(draw(8, 8, seed=index + 20))
    (folder / "notes.txt").write_text("no image")
    (folder / "folder.jpg").mkdir()
    (tmp_path / "one.bin").write_bytes(PLAIN)
    (tmp_path / "many.mjpeg").write_bytes(PLAIN + GAPS["multipart"] + IMAGES["other"])
    expected = [
        "9.jpg",
        "10.jpg",
        "a.jpg",
        "Frame1.jpeg",
        "frame2.JPG",
        "frame2b.jpg",
        "frame10.jpg",
    ]
    assert await read_all(tmp_path / "one.bin", folder, tmp_path / "many.mjpeg") == [
        PLAIN,
        *((folder / name).read_bytes() for name in expected),
        PLAIN,
        IMAGES["other"],
    ]


async def test_a_large_file_is_read_in_pieces(tmp_path: Path) -> None:
    """More than one chunk, with an image across the border."""
    images = [draw(64, 64, seed=seed, quality=95) for seed in range(30)]
    data = b"".join(images)
    assert len(data) > 2 * 64 * 1024
    (tmp_path / "a.mjpg").write_bytes(data)
    assert await read_all(tmp_path / "a.mjpg") == images


async def test_the_first_frame_gives_the_size_and_is_not_lost(tmp_path: Path) -> None:
    """Width and height for capture.open, before the first step of the iteration."""
    (tmp_path / "a.jpg").write_bytes(draw(40, 8, seed=5))
    (tmp_path / "b.jpg").write_bytes(draw(8, 8))
    frames = Frames([str(tmp_path / "a.jpg"), str(tmp_path / "b.jpg")])
    assert (frames.width, frames.height) == (0, 0)
    async with frames:
        assert (frames.width, frames.height) == (40, 8)
        assert [probe(frame) async for frame in frames] == [(40, 8), (8, 8)]
        assert (frames.width, frames.height) == (40, 8)
        with pytest.raises(StopAsyncIteration):
            await anext(frames)


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ("no-such-file.jpg", "No such file or directory; accepted: a JPEG or MJPEG file"),
        ("pattern", "No such file or directory"),
        ("a\0b", "null"),
        ("empty", "the directory holds no *.jpg or *.jpeg"),
        ("pattern:640", "malformed"),
        ("pattern:640x", "malformed"),
        ("pattern:-1x5", "malformed"),
        ("pattern:640x480?frame=5", "malformed"),
        ("pattern:640x480?frames=", "malformed"),
        ("pattern: 640x480", "malformed"),
        ("pattern:0x480", "from 1 to 4096"),
        ("pattern:4097x1", "from 1 to 4096"),
        ("pattern:1x4097", "from 1 to 4096"),
        ("pattern:?frames=0", "1 or more"),
    ],
)
def test_a_wrong_source_is_refused_at_once(
    spec: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is connected, and with what would be right."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError) as caught:
        Frames(["pattern:", spec])
    assert caught.value.source == spec
    assert caught.value.offset is None
    assert told in str(caught.value)


def test_no_source_and_standard_input_twice_are_refused() -> None:
    """Both would hang or end without a word."""
    with pytest.raises(SourceError, match="accepted: a JPEG"):
        Frames([])
    with pytest.raises(SourceError, match="once only"):
        Frames(["-", "-"])


def test_a_terminal_is_no_source() -> None:
    """Somebody who types `cfw send -` gets advice, not silence."""
    leader, follower = os.openpty()
    try:
        with pytest.raises(SourceError, match="terminal; pipe in: ffmpeg"):
            open_source("-", stdin_fd=follower)
    finally:
        os.close(leader)
        os.close(follower)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "there is no image"),
        (PLAIN[:-1], "the stream ends inside the image"),
        (b"\x89PNG" + b"\0" * 50, "it looks like PNG"),
        (
            b"\xff\xd8" + segment(0xC0, b"") + segment(0xDA, b"") + b"\xff\xd9",
            "its first frame is no JPEG image",
        ),
    ],
)
async def test_a_file_without_an_image_is_named_on_entering(
    tmp_path: Path, data: bytes, told: str
) -> None:
    """Its path stands in the error."""
    path = tmp_path / "x.jpg"
    path.write_bytes(data)
    with pytest.raises(SourceError) as caught:
        await read_all(path)
    assert caught.value.source == str(path)
    assert told in str(caught.value)


async def test_frames_before_a_fault_come_first(tmp_path: Path) -> None:
    """And the fault names the file of a directory that it is in."""
    (tmp_path / "1.jpg").write_bytes(PLAIN)
    (tmp_path / "2.jpg").write_bytes(PLAIN + b"\x01\x02")
    async with Frames([str(tmp_path)]) as frames:
        assert [await anext(frames), await anext(frames)] == [PLAIN, PLAIN]
        with pytest.raises(SourceError) as caught:
            await anext(frames)
    assert caught.value.source == str(tmp_path / "2.jpg")
    assert caught.value.offset == len(PLAIN)


async def test_a_file_that_goes_away_is_told(tmp_path: Path) -> None:
    """Between the check at start and its turn."""
    path = tmp_path / "a.jpg"
    path.write_bytes(PLAIN)
    async with Frames(["pattern:16x16?frames=1", str(path)]) as frames:
        path.unlink()
        await anext(frames)
        with pytest.raises(SourceError, match="cannot be read: No such file"):
            await anext(frames)


async def test_piped_frames_come_as_they_are_written(pipe: tuple[int, int]) -> None:
    """The writer still holds the pipe open when the frame is there."""
    reading, writing = pipe
    images = [IMAGES["plain"], IMAGES["other"], IMAGES["progressive"]]
    os.write(writing, images[0])
    with trio.fail_after(10):
        async with Frames(["-"], stdin_fd=reading) as frames:
            assert (frames.width, frames.height) == (24, 16)
            assert await anext(frames) == images[0]
            for image in images[1:]:
                os.write(writing, image)
                assert await anext(frames) == image
            os.close(writing)
            with pytest.raises(StopAsyncIteration):
                await anext(frames)
    os.fstat(reading)  # still open: it is not ours to close


async def test_a_cancelled_wait_loses_no_frame(pipe: tuple[int, int]) -> None:
    """Cancelled while the pipe is silent, in the middle of an image, and with one at hand."""
    reading, writing = pipe
    os.write(writing, PLAIN)
    with trio.fail_after(10):
        async with Frames(["-"], stdin_fd=reading) as frames:
            with trio.CancelScope() as scope:
                scope.cancel()
                await anext(frames)
            assert await anext(frames) == PLAIN
            for part in (b"", PLAIN[:100]):
                os.write(writing, part)
                with trio.move_on_after(0.05) as scope:
                    await anext(frames)
                assert scope.cancelled_caught
            os.write(writing, PLAIN[100:] + IMAGES["other"])
            await trio.sleep(0.05)
            with trio.CancelScope() as scope:
                scope.cancel()
                await anext(frames)
            assert scope.cancelled_caught
            assert await anext(frames) == PLAIN
            with trio.CancelScope() as scope:
                scope.cancel()
                await anext(frames)
            assert await anext(frames) == IMAGES["other"]


async def test_entering_and_leaving_wait_for_no_silent_pipe(pipe: tuple[int, int]) -> None:
    """The read under way is left behind; it ends with the pipe."""
    reading, writing = pipe
    with trio.fail_after(10):
        with trio.move_on_after(0.05) as scope:
            async with Frames(["-"], stdin_fd=reading):
                pytest.fail("entered without a frame")
        assert scope.cancelled_caught
    os.close(writing)
    await trio.sleep(0.05)


async def test_a_named_pipe_can_be_waited_for(tmp_path: Path) -> None:
    """Opening one blocks until there is a writer, and can be cancelled; so can reading."""
    path = tmp_path / "fifo.mjpeg"
    os.mkfifo(path)
    with trio.fail_after(10):
        with trio.move_on_after(0.05) as scope:
            async with Frames([str(path)]):
                pytest.fail("entered without a writer")
        assert scope.cancelled_caught
        with path.open("wb"):
            await trio.sleep(0.05)  # frees the thread left behind, which closes its end
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, path.write_bytes, PLAIN * 3)
            assert await read_all(path) == [PLAIN] * 3


async def test_a_pipe_made_non_blocking_is_read_all_the_same(pipe: tuple[int, int]) -> None:
    """Some parent processes hand over such a standard input."""
    reading, writing = pipe
    os.set_blocking(reading, False)
    async with trio.open_nursery() as nursery:

        async def write_late() -> None:
            for part in (PLAIN[:100], PLAIN[100:]):
                await trio.sleep(0.05)
                os.write(writing, part)
            os.close(writing)

        nursery.start_soon(write_late)
        assert await read_all("-", stdin_fd=reading) == [PLAIN]


async def test_leaving_early_closes_the_file(tmp_path: Path) -> None:
    """An unclosed file would fail this test as a ResourceWarning."""
    (tmp_path / "a.mjpeg").write_bytes(PLAIN * 1000)
    (tmp_path / "b.jpg").write_bytes(PLAIN)
    async with Frames([str(tmp_path / "a.mjpeg"), str(tmp_path)]) as frames:
        async for frame in frames:
            assert frame == PLAIN
            break
    with pytest.raises(StopAsyncIteration):
        await anext(frames)


# --- the test picture ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "size"),
    [
        ("pattern:?frames=3", (640, 480)),
        ("pattern:320x240?frames=3", (320, 240)),
        ("pattern:33x517?frames=3", (33, 517)),
        ("pattern:8x8?frames=3", (8, 8)),
    ],
)
async def test_pattern_frames_differ_and_have_the_size_asked_for(
    spec: str, size: tuple[int, int]
) -> None:
    """They are whole JPEG images that a decoder takes."""
    frames = await read_all(spec)
    assert len(set(frames)) == len(frames) == 3
    for frame in frames:
        assert probe(frame) == size
        with Image.open(io.BytesIO(frame)) as picture:
            picture.load()
            assert (picture.format, picture.size) == ("JPEG", size)
    assert outcome(frames) == (frames, None)


async def test_pattern_size_can_come_from_the_command_line() -> None:
    """The spec's own size goes first."""
    source: FrameSource = open_source("pattern:", width=32, height=24)
    assert probe(await source.next_frame() or b"") == (32, 24)
    source = open_source("pattern:16x8", width=32, height=24)
    assert probe(await source.next_frame() or b"") == (16, 8)
    source.close()


async def test_pattern_without_a_count_is_endless_and_repeatable() -> None:
    """Until the caller leaves; the same number gives the same bytes."""
    painter = PatternPainter(16, 16, 15)
    async with Frames(["pattern:16x16"]) as frames:
        for number in range(1, 60):
            assert await anext(frames) == painter.draw(number)


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (50, 1), (2, 3), (4096, 1)])
def test_pattern_can_be_tiny(size: tuple[int, int]) -> None:
    """No size in range is too small for bars, box or text."""
    assert probe(PatternPainter(*size, 15).draw(1)) == size


@pytest.mark.parametrize("fps", [0.5, 15, 1000])
def test_the_box_moves_at_any_pace(fps: float) -> None:
    """Any two frames in a row differ, and all stay below the worker's default limit."""
    painter = PatternPainter(160, 120, fps)
    drawn = [painter.draw(number) for number in range(1, 100)]
    assert all(a != b for a, b in pairwise(drawn))
    assert max(map(len, drawn)) < LIMIT
