"""The examples, run as they are against `cfw serve`; what they sent is read from the feed."""

from __future__ import annotations

import os
import re
import shutil
import sys
from importlib import import_module
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
import trio
from PIL import Image

from cfw.client import open_feed
from schemas import FeedClose, FeedFrame, FeedOpened
from tests.patience import PATIENCE_S
from tests.serving import Served, serving_beside

EXAMPLES = Path(__file__).parent
BLUE, GREEN, RED = (30, 60, 220), (20, 200, 40), (220, 40, 30)
#: A camera for machines that have none: some frames of each colour.
CAMERA = f"""
import numpy as np

class Camera:
    colors = [color[::-1] for color in {(BLUE, GREEN, RED)} for _ in range(10)]

    def __init__(self, index=0):
        assert index == 0
        self.left = list(self.colors)

    def grab(self):
        return np.full((480, 640, 3), self.left.pop(0), np.uint8)
"""
FAKE_CV2 = (
    CAMERA
    + """
CAP_PROP_FRAME_WIDTH, CAP_PROP_FRAME_HEIGHT = 3, 4

class VideoCapture(Camera):
    def set(self, prop, value):
        return False

    def get(self, prop):
        return {3: 640.0, 4: 480.0}[prop]

    def read(self):
        return (True, self.grab()) if self.left else (False, None)

    def release(self):
        pass
"""
)
FAKE_PICAMERA2 = (
    CAMERA
    + """
class Picamera2(Camera):
    colors = [color for color in Camera.colors for _ in range(5)]

    def create_video_configuration(self, main, controls):
        assert main == {"size": (640, 480), "format": "RGB888"}
        return {"main": main, "controls": controls}

    def configure(self, configuration):
        self.rate = configuration["controls"]["FrameRate"]

    def start(self):
        assert self.rate == 15

    def stop(self):
        assert not self.left

    def capture_array(self):
        return self.grab()
"""
)


@attrs.define
class Film:
    """What an example printed, and what the feed told of its capture."""

    out: str = ""
    opened: FeedOpened | None = None
    frames: list[tuple[FeedFrame, bytes]] = attrs.field(factory=list)
    closed: FeedClose | None = None

    @property
    def size(self) -> tuple[int, int]:
        assert self.opened is not None
        return self.opened.width, self.opened.height


async def film(*command: str, modules: Path | None = None, session: str | None = None) -> Film:
    """Run an example beside a worker, with the URL of the worker as its first argument.

    Args:
        command: program, script and further arguments.
        modules: a folder of modules that are made up.
        session: of Ada's, beside the one that every worker of these tests knows.
    """
    found = Film()
    scripts = [os.path.dirname(sys.executable), os.environ["PATH"]]
    path = [str(modules)] if modules else []
    env = os.environ | {"PATH": os.pathsep.join(scripts), "PYTHONPATH": os.pathsep.join(path)}

    async def run(*command: str) -> None:
        ran = await trio.run_process(
            command, capture_stdout=True, capture_stderr=True, check=False, env=env
        )
        assert (ran.returncode, ran.stderr.decode()) == (0, "")
        found.out = ran.stdout.decode()

    options = [] if session is None else ["--session", f"ada:{session}"]
    with trio.fail_after(2 * PATIENCE_S):
        async with (
            serving_beside(Served.start(*options)) as worker,
            open_feed(worker.admin, mode="lossless") as feed,
            trio.open_nursery() as nursery,
        ):
            program, script, *rest = command
            nursery.start_soon(run, program, script, worker.url, *rest)
            async for message, jpeg in feed:
                if isinstance(message, FeedFrame):
                    assert jpeg is not None
                    found.frames.append((message, jpeg))
                elif isinstance(message, FeedOpened):
                    found.opened = message
                else:
                    assert isinstance(message, FeedClose), message
                    found.closed = message
                    break
    return found


def mean_color(jpeg: bytes) -> Any:
    return np.asarray(Image.open(BytesIO(jpeg))).mean(axis=(0, 1))


def check_colors(frames: list[tuple[FeedFrame, bytes]], each: int) -> None:
    """Blue, then green, then red, each so many times, the right way round."""
    expected = [color for color in (BLUE, GREEN, RED) for _ in range(each)]
    assert len(frames) == len(expected)
    for (_, jpeg), color in zip(frames, expected, strict=True):
        assert abs(mean_color(jpeg) - color).max() < 12


def write_module(folder: Path, name: str, source: str) -> Path:
    (folder / f"{name}.py").write_text(source, "utf-8")
    return folder


def pasted(heading: str, number: int = 0) -> str:
    """A block of Python of the README, as it stands under a heading."""
    page = (EXAMPLES.parents[2] / "README.md").read_text("utf-8")
    section = re.split(rf"^##+ {heading}\n", page, flags=re.MULTILINE)[1].split("\n##")[0]
    blocks = re.finditer(r"^```python\n(.*?)^```", section, re.DOTALL | re.MULTILINE)
    return [block[1] for block in blocks][number]


async def test_the_client_of_the_readme(tmp_path: Path) -> None:
    """Pasted into a file and run: 30 pictures from blue to red, and its last line."""
    script = tmp_path / "film.py"
    script.write_text(pasted("A client of your own"), "utf-8")
    found = await film(sys.executable, str(script), session="s1")
    assert found.out == "30 frames have arrived\n"
    assert found.size == (640, 480)
    first, *_, last = [mean_color(jpeg) for _, jpeg in found.frames]
    assert abs(first - (0, 60, 250)).max() < 12
    assert abs(last - (232, 60, 18)).max() < 12


async def test_the_synchronous_client_of_the_readme(tmp_path: Path) -> None:
    """Pasted into a file and run, with a camera that is made up."""
    script = tmp_path / "film.py"
    script.write_text(pasted("A client of your own", 1), "utf-8")
    modules = write_module(tmp_path, "cv2", FAKE_CV2 + "    colors = 5 * Camera.colors\n")
    found = await film(sys.executable, str(script), modules=modules, session="s1")
    assert found.out.startswith("Receipt(frames=150, ")
    assert abs(mean_color(found.frames[0][1]) - BLUE).max() < 12


async def test_opencv_without_opencv(tmp_path: Path) -> None:
    """The OpenCV script, with a camera that is made up."""
    modules = write_module(tmp_path, "cv2", FAKE_CV2)
    found = await film(sys.executable, str(EXAMPLES / "opencv_rig.py"), modules=modules)
    check_colors(found.frames, 10)
    size = sum(len(jpeg) for _, jpeg in found.frames)
    assert found.out == f"Receipt(frames=30, bytes={size})\n"
    assert found.size == (640, 480)
    assert found.closed is not None
    assert found.closed.frames_forwarded == 30


# A mark, because what an async test says when it skips itself is lost on the way.
@pytest.mark.skipif(find_spec("cv2") is None, reason="OpenCV is not installed")
async def test_opencv(tmp_path: Path) -> None:
    """The OpenCV script with OpenCV, which reads a video."""
    cv2: Any = import_module("cv2")
    video = str(tmp_path / "colors.avi")
    writer = cv2.VideoWriter(video, cv2.VideoWriter_fourcc(*"MJPG"), 15, (320, 240))
    assert writer.isOpened()
    for color in (BLUE, GREEN, RED):
        for _ in range(5):
            writer.write(np.full((240, 320, 3), color[::-1], np.uint8))
    writer.release()
    found = await film(sys.executable, str(EXAMPLES / "opencv_rig.py"), video)
    check_colors(found.frames, 5)
    assert found.out.startswith("Receipt(frames=15, ")
    assert found.size == (320, 240)


async def test_picamera(tmp_path: Path) -> None:
    """The Raspberry Pi script, with a camera that is made up."""
    modules = write_module(tmp_path, "picamera2", FAKE_PICAMERA2)
    found = await film(sys.executable, str(EXAMPLES / "picamera_rig.py"), modules=modules)
    check_colors(found.frames, 50)
    assert found.out.startswith("Receipt(frames=150, ")
    assert found.size == (640, 480)


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")
@pytest.mark.skipif(shutil.which("sh") is None, reason="there is no shell")
async def test_ffmpeg() -> None:
    """A pipe from ffmpeg to `cfw send`."""
    found = await film("sh", str(EXAMPLES / "ffmpeg_rig.sh"))
    assert "the worker has 15 frames" in found.out
    assert found.size == (640, 480)
    assert len({jpeg for _, jpeg in found.frames}) == len(found.frames) == 15
    times = [frame.timestamp_frame.ns for frame, _ in found.frames]
    assert times == sorted(times)
