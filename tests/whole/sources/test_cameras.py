"""Cameras and videos, through `cfw send` and a worker, to the sink: processes and sockets."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

from cfw.cli.sources import list_cameras
from cfw.jpeg import probe
from cfw.testing.fakes import RecordingSink
from schemas import FeedAbort, FeedClose
from tests.patience import PATIENCE_S
from tests.unit.cli.sources.films import make_film, rtsp_server, times_of
from tests.whole.smoke.worker import running

UNEVEN = [0, 3003, 9011, 9101, 15_000, 24_007, 27_010, 40_000, 50_021, 60_003]


@attrs.frozen
class Sent:
    """What a `cfw send` said."""

    code: int
    result: dict[str, Any]
    said: str


async def send(url: str, *arguments: str) -> Sent:
    """Run it to its end."""
    command = [sys.executable, "-m", "cfw.cli", "send", url, *arguments]
    command += ["--user", "ada", "--session", "s-1", "--json"]
    with trio.fail_after(PATIENCE_S):
        ran = await trio.run_process(
            command, capture_stdout=True, capture_stderr=True, check=False
        )
    said = ran.stderr.decode()
    assert "Traceback" not in said, said
    lines = ran.stdout.decode().splitlines()
    return Sent(ran.returncode, json.loads(lines[-1]) if lines else {}, said)


def check_times(sink: RecordingSink, expected: list[Fraction]) -> None:
    """The sink's event times are as far apart as these, to the microsecond."""
    instants = [frame.meta.timestamp_frame.ns for frame in sink.only.frames]
    assert len(instants) == len(expected)
    for instant, at in zip(instants, expected, strict=True):
        assert abs(instant - instants[0] - at * 10**9) < 1000


@pytest.mark.parametrize(
    ("name", "codec", "unit"),
    [
        ("a.mp4", "libx264", Fraction(1, 90_000)),
        ("a.mkv", "mjpeg", Fraction(1, 1000)),
        ("a.webm", "libvpx", Fraction(1, 1000)),
        ("a.avi", "mjpeg", Fraction(1, 15)),
    ],
)
async def test_a_video_is_sent_with_its_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, codec: str, unit: Fraction
) -> None:
    """The worker has every frame, as far from the first as in the file."""
    units = sorted({round(Fraction(at, 90_000) / unit) for at in UNEVEN})
    film = make_film(tmp_path / name, units, codec=codec, time_base=unit)
    sink = RecordingSink()
    async with running(monkeypatch, sink=sink) as worker:
        sent = await send(worker.addresses.capture, str(film))
    assert (sent.code, sent.result["frames"]) == (0, len(units)), sent
    check_times(sink, times_of(film))
    assert isinstance(sink.only.terminals[0], FeedClose)
    if codec == "mjpeg":
        whole = film.read_bytes()
        assert all(frame.data in whole for frame in sink.only.frames)


async def test_a_video_is_made_to_fit_the_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Larger and faster than the worker takes: nothing is aborted, and it is told."""
    film = make_film(tmp_path / "a.mp4", range(0, 40 * 3000, 3000), rate=30, size=(320, 240))
    sink = RecordingSink()
    limits: dict[str, Any] = {"limits__max_width": 160, "limits__max_height": 100}
    async with running(monkeypatch, sink=sink, **limits) as worker:
        sent = await send(worker.addresses.capture, str(film))
    assert (sent.code, sent.result["frames"]) == (0, 20), sent
    assert sent.result["left_out"] == {"skipped_frames": 20}
    assert {probe(frame.data) for frame in sink.only.frames} == {(132, 100)}
    assert sink.only.opened.fps_target == 15  # the worker's default limit
    assert "scaled to 132x100" in sent.said


async def test_an_rtsp_camera_is_sent_with_its_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To its end, which is told; its clock, not the network's, is that of the event times."""
    film = make_film(tmp_path / "a.mp4", range(0, 24 * 6000, 6000))
    sink = RecordingSink()
    async with running(monkeypatch, sink=sink) as worker, rtsp_server(film) as server:
        sent = await send(worker.addresses.capture, server.url)
    assert (sent.code, sent.result["frames"]) == (0, 24), sent
    check_times(sink, times_of(film))
    assert "the camera has ended the stream" in sent.said


async def test_a_camera_that_stalls_is_an_end_that_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With what was sent, before the worker loses its patience; the capture is not whole."""
    film = make_film(tmp_path / "a.mp4", range(0, 60 * 6000, 6000))
    sink = RecordingSink()
    async with (
        running(monkeypatch, sink=sink, times__idle_s=30) as worker,
        rtsp_server(film, stalls_after=40) as server,
    ):
        sent = await send(worker.addresses.capture, server.url)
    assert sent.code == 1
    assert "the camera stalls: no frame within 10 s" in sent.said
    assert sent.result["frames"] in (39, 40)
    (terminal,) = sink.only.terminals
    assert isinstance(terminal, FeedAbort)
    assert terminal.error_code == "client_disconnected"


@asynccontextmanager
async def mjpeg_server(*options: str) -> AsyncIterator[str]:
    """ffmpeg, which serves one client over HTTP."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/stream.mjpg"
    command = ["ffmpeg", "-loglevel", "error", "-re", "-f", "lavfi", *options]
    command += ["-f", "mpjpeg", "-listen", "1", url]
    async with trio.open_nursery() as nursery:
        run = partial(trio.run_process, command, stderr=subprocess.DEVNULL, check=False)
        process = await nursery.start(run)
        try:
            yield url
        finally:
            process.kill()


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs the program ffmpeg")
async def test_an_http_camera_is_sent_to_the_byte(monkeypatch: pytest.MonkeyPatch) -> None:
    """One whose picture fits, and one that has to be scaled; PyAV is not asked."""
    for size, expected in (("160x120", (160, 120)), ("1280x720", (640, 360))):
        sink = RecordingSink()
        options = ("-i", f"testsrc=size={size}:rate=10", "-frames:v", "12", "-c:v", "mjpeg")
        async with running(monkeypatch, sink=sink) as worker, mjpeg_server(*options) as url:
            for _ in range(200):  # it listens a while after it was started
                sent = await send(worker.addresses.capture, url)
                if "cannot connect" not in sent.said:
                    break
                await trio.sleep(0.1)
        assert (sent.code, sent.result["frames"]) == (0, 12), sent
        assert {probe(frame.data) for frame in sink.only.frames} == {expected}
        instants = [frame.meta.timestamp_frame.ns for frame in sink.only.frames]
        assert instants == sorted(instants)


@pytest.mark.skipif(
    sys.platform != "linux" or not list_cameras(),
    reason="needs a camera of the kernel, /dev/video0: vivid or v4l2loopback will do",
)
async def test_a_camera_of_the_kernel_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is one; a virtual one will do: vivid, or v4l2loopback with a film."""
    sink = RecordingSink()
    async with running(monkeypatch, sink=sink) as worker:
        sent = await send(worker.addresses.capture, "camera:", "--frames", "20")
    assert (sent.code, sent.result["frames"]) == (0, 20), sent
    assert len({frame.meta.timestamp_frame.ns for frame in sink.only.frames}) == 20
