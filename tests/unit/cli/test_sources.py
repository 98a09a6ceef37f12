"""Frames for `cfw send`: from files, directories, pipes and the painter of test pictures."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
import trio
from PIL import Image

from cfw.cli.left_out import LeftOut
from cfw.cli.mjpeg import SourceError
from cfw.cli.sources import Frames, FrameSource, PatternPainter, open_source
from cfw.jpeg import probe
from tests.pictures import (
    APPLE_DOUBLE,
    LEFTOVER,
    MP4,
    draw,
    multi_picture,
    segment,
    split_mjpeg,
)

LIMIT = 300_000
PLAIN = draw(quality=95)
OTHER = draw(40, 8, seed=5)
PROGRESSIVE = draw(48, 48, seed=2, progressive=True)
MULTIPART = b"\r\n--ffmpeg\r\nContent-type: image/jpeg\r\nContent-length: 123\r\n\r\n"


async def read_all(
    *specs: str | Path, stdin_fd: int = 0, left_out: LeftOut | None = None
) -> list[bytes]:
    """All frames of some sources."""
    names = [str(spec) for spec in specs]
    with trio.fail_after(10):
        async with Frames(names, stdin_fd=stdin_fd, left_out=left_out) as frames:
            return [frame.jpeg async for frame in frames]


async def first_of(source: FrameSource) -> bytes:
    """The next frame of a source that has one."""
    shot = await source.next_frame()
    assert shot is not None
    return shot.jpeg


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
    (tmp_path / "many.mjpeg").write_bytes(PLAIN + MULTIPART + OTHER)
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
        OTHER,
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
        assert [probe(frame.jpeg) async for frame in frames] == [(40, 8), (8, 8)]
        assert (frames.width, frames.height) == (40, 8)
        with pytest.raises(StopAsyncIteration):
            await anext(frames)


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        (
            "no-such-file.jpg",
            "No such file or directory; accepted: a JPEG, MJPEG or video file",
        ),
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
            "the image is no JPEG: the start of frame",
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
    """And the fault names the file that it is in."""
    (tmp_path / "1.jpg").write_bytes(PLAIN)
    (tmp_path / "2.jpg").write_bytes(b"\x01\x02" * 20)
    async with Frames([str(tmp_path / "1.jpg"), str(tmp_path / "2.jpg")]) as frames:
        assert (await anext(frames)).jpeg == PLAIN
        with pytest.raises(SourceError) as caught:
            await anext(frames)
    assert caught.value.source == str(tmp_path / "2.jpg")
    assert caught.value.offset == 0


async def test_a_folder_gives_one_frame_for_each_picture_that_phones_and_cameras_write(
    tmp_path: Path,
) -> None:
    """What trails a picture is counted, and so is a file that is none."""
    shots = {
        "1-leftover.jpg": PLAIN + LEFTOVER,
        "2-motion.jpg": PLAIN + MP4,
        "3-stereo.jpg": multi_picture(PLAIN, draw(8, 8)),
        "._1.jpg": APPLE_DOUBLE,
        "4-cut.jpg": PLAIN[:-9],
        "5-empty.jpg": b"",
    }
    for name, data in shots.items():
        (tmp_path / name).write_bytes(data)
    left_out = LeftOut()
    first = multi_picture(PLAIN, draw(8, 8))[: -len(draw(8, 8))]
    assert await read_all(tmp_path, left_out=left_out) == [PLAIN, PLAIN, first]
    assert left_out.counts() == {
        "files": 3,
        "further_images": 1,
        "bytes": len(LEFTOVER) + len(MP4),
    }
    told = "\n".join(left_out.sentences())
    assert f"3 files without a JPEG image; the first: {tmp_path / '4-cut.jpg'}: " in told


async def test_a_folder_without_any_picture_is_told_with_the_first_reason(
    tmp_path: Path,
) -> None:
    """There is nothing to send then."""
    (tmp_path / "._1.jpg").write_bytes(APPLE_DOUBLE)
    (tmp_path / "b.jpg").write_bytes(PLAIN[:50])
    with pytest.raises(SourceError, match=r"no file in it is a JPEG image; the first: .*Apple"):
        await read_all(tmp_path)


async def test_a_file_of_a_folder_that_cannot_be_read_is_no_file_without_an_image(
    tmp_path: Path,
) -> None:
    """It may hold any number of frames, so it is told as what it is."""
    for name in ("1.jpg", "2.jpg"):
        (tmp_path / name).write_bytes(PLAIN)
    async with Frames([str(tmp_path)]) as frames:
        (tmp_path / "2.jpg").unlink()
        assert (await anext(frames)).jpeg == PLAIN
        with pytest.raises(SourceError, match="cannot be read"):
            await anext(frames)


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
    images = [PLAIN, OTHER, PROGRESSIVE]
    os.write(writing, images[0])
    with trio.fail_after(10):
        async with Frames(["-"], stdin_fd=reading) as frames:
            assert (frames.width, frames.height) == (24, 16)
            assert (await anext(frames)).jpeg == images[0]
            for image in images[1:]:
                os.write(writing, image)
                assert (await anext(frames)).jpeg == image
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
            assert (await anext(frames)).jpeg == PLAIN
            for part in (b"", PLAIN[:100]):
                os.write(writing, part)
                with trio.move_on_after(0.05) as scope:
                    await anext(frames)
                assert scope.cancelled_caught
            os.write(writing, PLAIN[100:] + OTHER)
            await trio.sleep(0.05)
            with trio.CancelScope() as scope:
                scope.cancel()
                await anext(frames)
            assert scope.cancelled_caught
            assert (await anext(frames)).jpeg == PLAIN
            with trio.CancelScope() as scope:
                scope.cancel()
                await anext(frames)
            assert (await anext(frames)).jpeg == OTHER


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
            assert frame.jpeg == PLAIN
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
    assert list(split_mjpeg(frames, max_frame_bytes=LIMIT)) == frames


async def test_pattern_size_can_come_from_the_command_line() -> None:
    """The spec's own size goes first."""
    source: FrameSource = open_source("pattern:", width=32, height=24)
    assert probe(await first_of(source)) == (32, 24)
    source = open_source("pattern:16x8", width=32, height=24)
    assert probe(await first_of(source)) == (16, 8)
    await source.aclose()


async def test_pattern_without_a_count_is_endless_and_repeatable() -> None:
    """Until the caller leaves; the same number gives the same bytes."""
    painter = PatternPainter(16, 16, 15)
    async with Frames(["pattern:16x16"]) as frames:
        for number in range(1, 60):
            assert (await anext(frames)).jpeg == painter.draw(number)


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
