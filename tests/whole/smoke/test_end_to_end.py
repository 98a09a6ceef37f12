"""`cfw send` into `cfw serve`, out of `cfw tap`: byte for byte, with real pictures."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.patience import PATIENCE_S
from tests.pictures import split_mjpeg
from tests.serving import CFW, Served, serving

LARGE = ["limits.max_width=2000", "limits.max_height=2000", "limits.max_pixels=4000000"]


@pytest.fixture
def worker() -> Iterator[Served]:
    """A worker that takes photographs too."""
    options = [part for setting in LARGE for part in ("--set", setting)]
    with serving(*options) as served:
        yield served


def send(worker: Served, *sources: str, stdin: bytes | None = None) -> dict[str, Any]:
    """Run `cfw send`; it must succeed. Gives what it says in JSON."""
    command = [*CFW, "send", worker.url, *sources, "--user", "ada", "--session", "s-1"]
    ran = subprocess.run(
        [*command, "--fps", "15", "--json"],
        input=stdin,
        capture_output=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    receipt: dict[str, Any] = json.loads(ran.stdout)
    return receipt


def tapped(
    worker: Served, kind: str, out: Path, *sources: str, stdin: bytes | None = None
) -> tuple[bytes, dict[str, Any]]:
    """What `cfw tap` writes of one capture, and the receipt of the `cfw send` beside it."""
    command = [*CFW, "tap", worker.admin, "--format", kind, "--captures", "1"]
    # Into a file: a pipe that nobody reads would hold the capture up, as it should.
    with (
        out.open("wb") as file,
        subprocess.Popen(command, stdout=file, stderr=subprocess.PIPE) as tap,
    ):
        try:
            assert tap.stderr is not None
            assert b"connected" in tap.stderr.readline()
            receipt = send(worker, *sources, stdin=stdin)
            assert tap.wait(timeout=PATIENCE_S) == 0
        finally:
            tap.kill()
    return out.read_bytes(), receipt


@pytest.fixture(scope="session")
def ffmpeg_video() -> bytes:
    """Two seconds of MJPEG as ffmpeg writes it."""
    ffmpeg = shutil.which("ffmpeg")
    if ffmpeg is None:
        pytest.skip("ffmpeg is not installed; .ci/run installs it")
    source = ["-f", "lavfi", "-i", "testsrc2=size=640x480:rate=15"]
    ran = subprocess.run(
        [ffmpeg, "-v", "error", *source, "-t", "2", "-q:v", "3", "-f", "mjpeg", "-"],
        capture_output=True,
        check=True,
        timeout=PATIENCE_S,
    )
    return ran.stdout


def test_video_of_ffmpeg_comes_out_byte_for_byte(
    worker: Served, ffmpeg_video: bytes, tmp_path: Path
) -> None:
    """Piped into `cfw send -`, tapped as MJPEG: the same bytes, and a receipt that agrees."""
    out, receipt = tapped(worker, "mjpeg", tmp_path / "tap", "-", stdin=ffmpeg_video)
    assert out == ffmpeg_video
    assert len(list(split_mjpeg([out], max_frame_bytes=1 << 20))) == receipt["frames"] == 30
    assert receipt["bytes"] == len(ffmpeg_video)
    assert receipt["close_code"] == 1000


def photographs(folder: Path) -> list[bytes]:
    """Photographs of a public package, some as they are and some encoded as progressive."""
    package = files("skimage").joinpath("data")
    found = [package.joinpath(n).read_bytes() for n in ("rocket.jpg", "retina.jpg")]
    picture = Image.open(io.BytesIO(found[0]))
    out = io.BytesIO()
    picture.save(out, "JPEG", progressive=True, quality=60)
    found.append(out.getvalue())
    found.sort(key=len)
    for number, data in enumerate(found):
        (folder / f"photo-{number}.jpg").write_bytes(data)
    return found


def test_photographs_come_out_in_order_with_their_terminal(
    worker: Served, tmp_path: Path
) -> None:
    """A folder of photographs, tapped as JSON and as MJPEG: order, lengths, counts, bytes."""
    folder = tmp_path / "photos"
    folder.mkdir()
    pictures = photographs(folder)
    size = ("--width", "1411", "--height", "1411")
    out, receipt = tapped(worker, "json", tmp_path / "json", str(folder), *size)
    opened, *frames, terminal = [json.loads(line) for line in out.splitlines()]
    assert (opened["event"], opened["capture_id"]) == ("capture.opened", receipt["capture_id"])
    assert [frame["seq"] for frame in frames] == [1, 2, 3]
    assert [frame["byte_length"] for frame in frames] == [len(data) for data in pictures]
    assert terminal["event"] == "capture.close"
    assert terminal["frames_accepted"] == terminal["frames_forwarded"] == receipt["frames"] == 3
    assert terminal["bytes_forwarded"] == receipt["bytes"] == sum(map(len, pictures))
    out, _ = tapped(worker, "mjpeg", tmp_path / "mjpeg", str(folder), *size)
    assert out == b"".join(pictures)


def test_an_abort_reaches_whoever_typed_the_command(worker: Served) -> None:
    """`cfw send` exits with 1 and names code, detail and numbers."""
    command = [*CFW, "send", worker.url, "pattern:?frames=3", "--fps", "60"]
    ran = subprocess.run(
        [*command, "--user", "ada", "--session", "s-1"],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert ran.returncode == 1
    for part in ("limit_fps_exceeded", "at most 15", "60"):
        assert part in ran.stderr
    assert "Traceback" not in ran.stderr
