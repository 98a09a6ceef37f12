"""Videos and RTSP cameras, read by a process of its own: times, losses, and what it leaves."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from fractions import Fraction
from functools import partial
from pathlib import Path

import psutil
import pytest
import trio

from cfw.cli.left_out import LeftOut
from cfw.cli.mjpeg import SourceError
from cfw.cli.sources import Fit, Frames, FrameSource, open_source
from cfw.cli.sources._media import MediaSource
from cfw.cli.sources._records import Request
from cfw.cli.sources._source import Reading, Shot
from cfw.jpeg import probe
from schemas import Timestamp
from tests.patience import PATIENCE_S, until
from tests.unit.cli.sources.films import CLOCK, make_film, rtsp_server, times_of

#: Uneven, and not on whole microseconds: as cameras and editors write them.
UNEVEN = [0, 3003, 9011, 9101, 15_000, 24_007, 27_010, 40_000, 50_021, 60_003]


async def drain(source: FrameSource, found: list[Shot]) -> None:
    """Read to the end, or to the fault."""
    while (shot := await source.next_frame()) is not None:
        found.append(shot)


async def shots_of(source: FrameSource) -> list[Shot]:
    """All of a source, which is then closed."""
    found: list[Shot] = []
    try:
        with trio.fail_after(PATIENCE_S):
            await drain(source, found)
    finally:
        await source.aclose()
    return found


def readers() -> list[psutil.Process]:
    """The reading processes that this one has started, and that are not ended."""
    return [
        child
        for child in psutil.Process().children(recursive=True)
        if child.status() != psutil.STATUS_ZOMBIE
        and "cfw.cli.sources._reader" in child.cmdline()
    ]


# --- video files --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "codec", "time_base"),
    [
        ("a.mp4", "libx264", Fraction(1, CLOCK)),
        ("a.mkv", "libx264", Fraction(1, 1000)),
        ("a.webm", "libvpx", Fraction(1, 1000)),
        ("a.avi", "mjpeg", Fraction(1, 15)),
        ("a.mov", "mjpeg", Fraction(1, CLOCK)),
    ],
)
async def test_times_are_those_of_the_file(
    tmp_path: Path, name: str, codec: str, time_base: Fraction
) -> None:
    """Every frame is there, and its time is the file's to the microsecond."""
    units = sorted({round(at * CLOCK**-1 / time_base) for at in UNEVEN})
    film = make_film(tmp_path / name, units, codec=codec, time_base=time_base)
    expected = times_of(film)
    assert len(expected) >= 8
    source = open_source(str(film))
    shots = await shots_of(source)
    assert len(shots) == len(expected)
    for shot, at in zip(shots, expected, strict=True):
        assert shot.elapsed_ns is not None
        assert abs(shot.elapsed_ns - at * 10**9) < 1000
        assert probe(shot.jpeg) == (64, 48)
    assert not source.is_live


async def test_event_times_of_frames_are_those_of_the_file(tmp_path: Path) -> None:
    """As they are sent: of one clock, in order, and as far from each other as in the file."""
    film = make_film(tmp_path / "a.mp4", UNEVEN)
    with trio.fail_after(PATIENCE_S):
        async with Frames([str(film)]) as frames:
            stamps = [frame.timestamp async for frame in frames]
            assert frames.timestamp_start is None  # it begins when it is sent
    instants = [Timestamp.parse(stamp or "").ns for stamp in stamps]
    for at, instant in zip(times_of(film), instants, strict=True):
        assert abs(instant - instants[0] - at * 10**9) < 1000


async def test_packets_of_motion_jpeg_are_not_decoded(tmp_path: Path) -> None:
    """What is sent is in the file, to the byte; it is told."""
    film = make_film(tmp_path / "a.avi", range(6), codec="mjpeg", time_base=Fraction(1, 15))
    source = open_source(str(film))
    shots = await shots_of(source)
    whole = film.read_bytes()
    assert len(shots) == 6
    assert all(shot.jpeg in whole for shot in shots)
    assert source.about == f"{film}: mjpeg 64x48 at 15 frames/s, sent as it is"


async def test_pictures_are_made_to_fit(tmp_path: Path) -> None:
    """In size and rate; what is left out is counted."""
    film = make_film(tmp_path / "a.mp4", range(0, 60 * 3000, 3000), rate=30, size=(128, 96))
    left_out = LeftOut()
    fit = Fit(max_width=64, max_height=64, max_fps=15)
    source = open_source(str(film), fit=fit, left_out=left_out)
    shots = await shots_of(source)
    assert {probe(shot.jpeg) for shot in shots} == {(64, 48)}
    assert len(shots) == 30
    assert left_out.counts() == {"skipped_frames": 30}
    assert source.about == f"{film}: h264 128x96 at 30 frames/s, scaled to 64x48"


async def test_the_rate_of_a_video_is_declared(tmp_path: Path) -> None:
    """Unless another is asked for, or the worker takes less."""
    film = str(make_film(tmp_path / "a.mp4", range(0, 30 * 3600, 3600), rate=25))
    with trio.fail_after(PATIENCE_S):
        for options, expected in (
            ({}, 25),
            ({"fps": 5}, 5),
            ({"fit": Fit(max_fps=15)}, 15),
        ):
            async with Frames([film], **options) as frames:
                assert frames.fps == expected


async def test_a_name_is_no_protocol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file may be called as libav calls other things; what lies about is no module."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "json.py").write_text("raise SystemExit('not this one')")
    os.rename(make_film(tmp_path / "b.mp4", range(0, 30_000, 6000)), "concat:a.mp4")
    assert len(await shots_of(open_source("concat:a.mp4"))) == 5


@pytest.mark.parametrize(
    ("data", "told"),
    [(b"", "cannot be read"), (b"no film" * 500, "cannot be read: Invalid data")],
    ids=["empty", "text"],
)
async def test_what_is_no_video_says_so(tmp_path: Path, data: bytes, told: str) -> None:
    """It is an error of the source, and no traceback of a process."""
    (tmp_path / "a.mp4").write_bytes(data)
    with pytest.raises(SourceError, match=told):
        await shots_of(open_source(str(tmp_path / "a.mp4")))


async def test_damage_in_a_video_is_counted(tmp_path: Path) -> None:
    """An image that is none is left out; those around it go on."""
    film = make_film(tmp_path / "a.avi", range(6), codec="mjpeg", time_base=Fraction(1, 15))
    whole = bytearray(film.read_bytes())
    third = [at for at in range(len(whole)) if whole.startswith(b"\xff\xd8\xff", at)][2]
    whole[third : third + 2] = b"\0\0"
    film.write_bytes(whole)
    left_out = LeftOut()
    assert len(await shots_of(open_source(str(film), left_out=left_out))) == 5
    assert left_out.damaged_images == 1


def test_without_pyav_it_is_told_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For a video and for RTSP; not for MJPEG over HTTP."""
    monkeypatch.setattr("cfw.cli.sources._video.find_spec", lambda _: None)
    (tmp_path / "a.mp4").write_bytes(b"")
    for spec in (str(tmp_path / "a.mp4"), "rtsp://ada:secret@cam/x"):
        with pytest.raises(
            SourceError, match=r"pip install 'camera-feed-worker\[av\]'"
        ) as caught:
            open_source(spec)
        assert "secret" not in str(caught.value)
    open_source("http://cam/")


# --- RTSP ---------------------------------------------------------------------------------


async def test_a_camera_of_rtsp_keeps_its_intervals(tmp_path: Path) -> None:
    """Its clock, mapped to ours once: differences are the file's to the microsecond."""
    film = make_film(tmp_path / "a.mp4", range(0, 20 * 6000, 6000))
    left_out = LeftOut()
    async with rtsp_server(film) as server:
        source = open_source(server.url, left_out=left_out)
        shots = await shots_of(source)
    assert len(shots) == 20
    taken = [shot.taken_ns or 0 for shot in shots]
    for at, instant in zip(times_of(film), taken, strict=True):
        assert abs(instant - taken[0] - at * 10**9) < 1000
    assert "PLAY" in server.asked
    assert left_out.counts() == {}
    assert source.is_live


async def test_frames_that_a_camera_lost_are_counted(tmp_path: Path) -> None:
    """By the gap that they leave."""
    film = make_film(tmp_path / "a.mp4", range(0, 24 * 6000, 6000))
    left_out = LeftOut()
    # Whole groups of pictures end at multiples of five, so that no other frame needs these.
    async with rtsp_server(film, skip=(13, 14)) as server:
        shots = await shots_of(open_source(server.url, left_out=left_out))
    assert len(shots) == 22
    assert left_out.counts() == {"dropped_frames": 2}
    assert "before frame 14" in left_out.sentences()[0]


async def test_a_camera_that_stalls_is_told_with_what_it_sent(tmp_path: Path) -> None:
    """After as long as it was given; what it had sent is given out before."""
    film = make_film(tmp_path / "a.mp4", range(0, 60 * 6000, 6000))
    async with rtsp_server(film, stalls_after=40) as server:
        source = open_source(server.url, stall_s=6)
        found: list[Shot] = []
        with trio.fail_after(PATIENCE_S):
            with pytest.raises(SourceError, match=r"the camera stalls: no frame within 6 s"):
                await drain(source, found)
            await source.aclose()
            await until(lambda: not server.connections)
    # libav holds the last picture back until it sees the next one begin.
    assert len(found) in (39, 40)
    assert readers() == []


@asynccontextmanager
async def dead_camera() -> AsyncIterator[tuple[str, list[trio.SocketStream]]]:
    """It takes connections, and says nothing."""
    seen: list[trio.SocketStream] = []

    async def say_nothing(stream: trio.SocketStream) -> None:
        seen.append(stream)
        async for _ in stream:
            pass
        seen.remove(stream)

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, say_nothing, 0))
        port = listeners[0].socket.getsockname()[1]
        yield f"rtsp://127.0.0.1:{port}/x", seen
        nursery.cancel_scope.cancel()


async def test_a_dead_camera_leaves_nothing_behind_when_it_is_cancelled() -> None:
    """While it is being opened, where libav can be stopped by nobody: the process is gone."""
    async with dead_camera() as (url, connections), trio.open_nursery() as nursery:
        scope = trio.CancelScope()

        async def film() -> None:
            with scope:
                async with Frames([url]):
                    pytest.fail("entered without a frame")

        nursery.start_soon(film)
        await until(lambda: connections)
        assert len(readers()) == 1
        scope.cancel()
        await until(lambda: not connections)
        assert readers() == []


async def test_a_dead_camera_is_told_in_time() -> None:
    """And its process is gone too."""
    async with dead_camera() as (url, connections):
        source = open_source(url)
        assert isinstance(source, MediaSource)
        source = MediaSource(source._request, reading(), open_s=4)
        with pytest.raises(SourceError, match="no picture within 4 s"):
            await shots_of(source)
        await until(lambda: not connections)
        assert readers() == []


async def test_a_reader_that_is_killed_is_told(tmp_path: Path) -> None:
    """As libav may crash on a broken stream: this process goes on."""
    film = make_film(tmp_path / "a.mp4", range(0, 40 * 6000, 6000))
    async with rtsp_server(film) as server:
        source = open_source(server.url)
        with trio.fail_after(PATIENCE_S):
            assert await source.next_frame() is not None
            (reader,) = readers()
            reader.kill()
            with pytest.raises(SourceError, match="the process that reads it has ended"):
                await drain(source, [])
            await source.aclose()


async def test_a_cancelled_step_loses_no_frame(tmp_path: Path) -> None:
    """However often somebody stops waiting for the next one."""
    film = make_film(tmp_path / "a.mp4", range(0, 20 * 6000, 6000))
    async with rtsp_server(film) as server:
        source = open_source(server.url)
        found, is_over = [], False
        with trio.fail_after(PATIENCE_S):
            while not is_over:
                with trio.move_on_after(0.003):
                    if (shot := await source.next_frame()) is None:
                        is_over = True
                    else:
                        found.append(shot)
            await source.aclose()
    assert len(found) == 20


async def test_a_reader_ends_with_whoever_started_it(tmp_path: Path) -> None:
    """Killed itself, that one can end nothing any more."""
    async with dead_camera() as (url, connections):
        code = (
            "import sys, trio\n"
            "from cfw.cli.sources import Frames\n"
            "async def film():\n"
            "    async with Frames([sys.argv[1]]): pass\n"
            "trio.run(film)\n"
        )
        parent = await trio.lowlevel.open_process([sys.executable, "-c", code, url])
        await until(lambda: connections)
        parent.kill()
        await parent.wait()
        await until(lambda: not connections)


def reading() -> Reading:
    """As for a command that nobody told anything."""
    return Reading(10**6, LeftOut())


# --- what is read by way of a driver ------------------------------------------------------


async def test_a_camera_that_ends_is_gone(tmp_path: Path) -> None:
    """A device has no end; what it sent is given out before that is told."""
    film = make_film(tmp_path / "a.mp4", range(0, 12 * 6000, 6000))
    request = Request(
        name="camera:0",
        file=str(film),
        format=None,
        # A driver refuses what it does not have; the next is tried.
        options=[{"no such": "option"}, {}],
        is_live=True,
        numbered=None,
        max_frame_bytes=10**6,
        fit=Fit(),
    )
    source = MediaSource(request, reading(), may_end=False)
    found: list[Shot] = []
    with trio.fail_after(PATIENCE_S):
        with pytest.raises(SourceError, match="camera:0: the camera is gone"):
            await drain(source, found)
        await source.aclose()
    assert len(found) == 12
