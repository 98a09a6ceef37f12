"""Pictures as cameras and phones really write them, through a `cfw serve` of its own."""

from __future__ import annotations

import json
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from cfw.client import open_capture, open_feed
from schemas import FeedClose
from tests.factories import jpeg
from tests.patience import PATIENCE_S
from tests.pictures import (
    APPLE_DOUBLE,
    LEFTOVER,
    MP4,
    draw,
    multi_picture,
    split_mjpeg,
    with_segment,
    with_spurious_marker,
)
from tests.serving import CFW, Served, serving, serving_beside
from tests.whole.smoke.test_end_to_end import ffmpeg_video  # noqa: F401 - a fixture
from tests.whole.smoke.worker import meta, opening

PLAIN = draw(64, 48)
FRAMES = [
    PLAIN,
    PLAIN + LEFTOVER,
    PLAIN + MP4,
    multi_picture(PLAIN, draw(8, 8)),
    multi_picture(PLAIN, draw(8, 8)) + LEFTOVER * 9,
    with_segment(PLAIN, 0xE1, b"... http://ns.google.com/photos/1.0/camera/") + LEFTOVER * 9,
    with_spurious_marker(PLAIN),
    PLAIN,
]


async def test_frames_are_forwarded_as_they_came() -> None:
    """With all that trails the picture; a consumer reads the same bytes."""
    read: list[bytes] = []
    async with serving_beside(Served.start()) as worker, open_feed(worker.admin) as feed:
        async with open_capture(
            worker.url, user_id="ada", session_id="s-1", width=64, height=48, fps=15
        ) as capture:
            for frame in FRAMES:
                await capture.send_frame(frame)
        async for message, data in feed:
            if data is not None:
                read.append(data)
            if isinstance(message, FeedClose):
                break
    assert read == FRAMES
    assert capture.receipt is not None
    assert capture.receipt.bytes == sum(map(len, FRAMES))


@pytest.mark.parametrize(
    ("frame", "told"),
    [
        (jpeg() + bytes(4097), "4097 bytes follow its EOI"),
        (jpeg()[:-2] + LEFTOVER, "no EOI"),
        (APPLE_DOUBLE, "does not begin with SOI"),
    ],
)
def test_what_is_no_picture_is_named(frame: bytes, told: str) -> None:
    """In the abort, with what is allowed."""
    with serving() as worker, connect(worker.url, proxy=None) as ws:
        for message in (opening(), meta(1, len(frame)), frame):
            ws.send(message)
        abort = json.loads(ws.recv(timeout=PATIENCE_S))
        with pytest.raises(ConnectionClosed):
            ws.recv(timeout=PATIENCE_S)
    assert abort["error_code"] == "protocol_violation"
    assert told in abort["detail"]


def piped(worker: Served, command: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the shell, in which SEND stands for `cfw send URL`."""
    send = shlex.join([*CFW, "send", worker.url])
    command = command.replace("SEND", f"{send} --user ada --session s-1 --json --fps 15")
    return subprocess.run(
        ["sh", "-c", command], capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )


def log_of(worker: Served) -> list[dict[str, Any]]:
    """The events of captures in the worker's log, once it has ended."""
    worker.stopped()
    return worker.log("capture.")


def test_a_camera_program_that_is_killed_costs_its_last_picture(
    ffmpeg_video: bytes,  # noqa: F811
    tmp_path: Path,
) -> None:
    """`ffmpeg | head -c N | cfw send -`: a receipt for all whole pictures, and a word."""
    video = tmp_path / "video.mjpeg"
    video.write_bytes(ffmpeg_video)
    images = list(split_mjpeg([ffmpeg_video], max_frame_bytes=1 << 20))
    cut = len(b"".join(images[:12])) + len(images[12]) // 2
    with serving() as worker:
        ran = piped(worker, f"cat {video} | head -c {cut} | SEND -")
        log = log_of(worker)
    assert ran.returncode == 0, ran.stderr
    receipt = json.loads(ran.stdout)
    assert (receipt["frames"], receipt["close_code"]) == (12, 1000)
    assert receipt["left_out"] == {"cut_images": 1}
    assert f"byte {cut}: the stream ends inside the image that began at byte" in ran.stderr
    assert "Usage" not in ran.stderr
    assert [line["event"] for line in log] == ["capture.opened", "capture.closed"]


def test_a_damaged_picture_amid_a_pipe_costs_no_other(tmp_path: Path) -> None:
    """Cut, holed, with leftovers, as a server of multipart streams writes them."""
    head = (
        b"HTTP/2 200 \r\nx-place: K\xc3\xbcche\r\n\tfolded\r\n\r\nWelcome.\r\n\r\n"
        b"boundary\r\nContent-Type: image/jpeg\r\n\r\n"
    )
    part = b"\r\nboundary\r\nContent-Type: image/jpeg\r\n\r\n"
    bad = [PLAIN[:-99], PLAIN[:40] + PLAIN[60:], PLAIN + LEFTOVER, with_spurious_marker(PLAIN)]
    stream = tmp_path / "stream"
    stream.write_bytes(head + part.join(part.join((picture, PLAIN)) for picture in bad))
    with serving() as worker:
        ran = piped(worker, f"cat {stream} | SEND -")
    assert ran.returncode == 0, ran.stderr
    receipt = json.loads(ran.stdout)
    assert receipt["frames"] == 6  # four whole ones, and two that are good enough
    # A folded part between an image that is cut and the next is not told as garbage.
    assert receipt["left_out"]["damaged_images"] == 2
    assert receipt["left_out"]["bytes"] == len(LEFTOVER) + len(part)


def test_a_folder_from_a_phone(tmp_path: Path) -> None:
    """Motion photos, stereo pictures and what macOS leaves: a frame for each picture."""
    shots = {
        "._1.jpg": APPLE_DOUBLE,
        "1.jpg": PLAIN + MP4,
        "2.jpg": multi_picture(PLAIN, draw(8, 8)),
        "3.jpg": PLAIN,
    }
    for name, data in shots.items():
        (tmp_path / name).write_bytes(data)
    with serving() as worker:
        ran = piped(worker, f"SEND {tmp_path}")
    assert ran.returncode == 0, ran.stderr
    receipt = json.loads(ran.stdout)
    assert receipt["frames"] == 3
    assert receipt["left_out"] == {"files": 1, "further_images": 1, "bytes": len(MP4)}
    assert "AppleDouble" in ran.stderr
    assert "1 further image of a multi-picture file" in ran.stderr


def test_trouble_before_the_first_byte_is_usage_and_later_an_outcome(tmp_path: Path) -> None:
    """Exit code 2 and nothing was connected; exit code 1, with JSON, behind a frame."""
    (tmp_path / "good.jpg").write_bytes(PLAIN)
    (tmp_path / "bad.jpg").write_bytes(APPLE_DOUBLE)
    good, bad = tmp_path / "good.jpg", tmp_path / "bad.jpg"
    with serving() as worker:
        first = piped(worker, f"SEND {bad} {good}")
        second = piped(worker, f"SEND {good} {bad}")
        log = log_of(worker)
    assert (first.returncode, first.stdout) == (2, "")
    assert "AppleDouble" in first.stderr
    assert second.returncode == 1
    assert "Usage" not in second.stderr
    told = json.loads(second.stdout)
    assert (told["error_code"], told["frames"], told["bytes"]) == (None, 1, len(PLAIN))
    assert "AppleDouble" in told["detail"]
    assert [line["event"] for line in log] == ["capture.opened", "capture.aborted"]
