"""Cameras of this machine: which there are, and frames that a driver numbers, with fakes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from cfw.cli import main
from cfw.cli.mjpeg import SourceError
from cfw.cli.sources import Fit, is_live, list_cameras, open_source
from cfw.cli.sources import _cameras as cameras
from cfw.cli.sources import _v4l2 as v4l2
from cfw.cli.sources._media import MediaSource
from cfw.cli.sources._reader import Reader
from cfw.cli.sources._records import Losses, Opened, Picture, Request
from cfw.cli.sources._v4l2 import Mode, best_mode
from tests.pictures import draw

MODES = (
    Mode("MJPEG", 320, 240, 30),
    Mode("MJPEG", 640, 480, 30),
    Mode("MJPEG", 1280, 720, 10),
    Mode("MJPEG", 1920, 1080, 30),
    Mode("YUYV", 640, 480, 60),
)
PICTURE = draw(32, 24)


class Driver:
    """Stands in for `linuxpy.video.device`: one camera, and what it is asked for.

    Args:
        modes: that it has.
        numbers: of the frames that it gives; it is unplugged behind them.
    """

    def __init__(self, modes: tuple[Mode, ...], numbers: tuple[int, ...] = ()) -> None:
        self.modes, self.numbers = modes, numbers
        self.asked: list[Any] = []
        self.is_open = False

    # The names are the library's.
    def Device(self, path: str) -> Driver:  # noqa: N802
        self.asked.append(path)
        return self

    def VideoCapture(self, device: Driver, size: int) -> Driver:  # noqa: N802
        assert device is self
        return self

    @property
    def info(self) -> Any:
        kinds = [
            SimpleNamespace(
                pixel_format=SimpleNamespace(name=mode.codec),
                width=mode.width,
                height=mode.height,
                max_fps=mode.fps,
            )
            for mode in self.modes
        ]
        return SimpleNamespace(frame_types=kinds)

    def open(self) -> None:
        self.is_open = True

    def close(self) -> None:
        self.is_open = False

    def __enter__(self) -> Driver:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def set_format(self, width: int, height: int, codec: str) -> None:
        self.asked.append((width, height, codec))

    def set_fps(self, fps: float) -> None:
        raise OSError("this camera has one rate")

    def __iter__(self) -> Iterator[Any]:
        for number in self.numbers:
            stamp = SimpleNamespace(secs=100, usecs=number * 100_000)
            buff = SimpleNamespace(timestamp=stamp)
            yield SimpleNamespace(data=memoryview(PICTURE), frame_nb=number, buff=buff)
        raise OSError(19, "No such device")


def drive(monkeypatch: pytest.MonkeyPatch, driver: Driver) -> None:
    monkeypatch.setattr(v4l2, "import_module", lambda _: driver)
    monkeypatch.setattr(v4l2, "find_spec", lambda _: object())


def request(fit: Fit) -> Request:
    return Request(
        name="camera:0",
        file="/dev/video0",
        format="v4l2",
        options=[{}],
        is_live=True,
        numbered="/dev/video0",
        max_frame_bytes=10**6,
        fit=fit,
    )


# --- frames with numbers ------------------------------------------------------------------


def test_what_the_driver_lost_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """By its numbers; times are the kernel's to the microsecond, JPEGs go on as they are."""
    driver = Driver(MODES, numbers=(4, 5, 8, 9))
    drive(monkeypatch, driver)
    records = Reader(request(Fit(max_width=640, max_height=480, max_fps=15))).records()
    found: list[object] = []
    with pytest.raises(SourceError, match="camera:0: it cannot be read: No such device"):
        found.extend(iter(lambda: next(records), object()))
    assert found[0] == Opened(codec="mjpeg", fps=15, size=(32, 24), source_size=(32, 24))
    pictures = [each for each in found if isinstance(each, Picture)]
    assert [each.at_ns for each in pictures] == [
        (1000 + number) * 100_000_000 for number in (4, 5, 8, 9)
    ]
    assert {each.data for each in pictures} == {PICTURE}
    assert [each for each in found if isinstance(each, Losses)] == [Losses(dropped=2)]
    assert driver.asked == ["/dev/video0", (640, 480, "MJPG")]
    assert not driver.is_open


def test_a_camera_without_motion_jpeg_is_left_to_pyav(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is closed again, for that to open it."""
    driver = Driver((Mode("YUYV", 640, 480, 30),))
    drive(monkeypatch, driver)
    assert v4l2.open_camera("/dev/video0", Fit()) is None
    assert not driver.is_open


@pytest.mark.parametrize(
    ("fit", "expected"),
    [
        (Fit(), MODES[3]),
        (Fit(max_width=640, max_height=480), MODES[1]),
        (Fit(max_width=1280, max_height=720, max_fps=10), MODES[2]),
        # Ten a second are too few where fifteen are taken.
        (Fit(max_width=1280, max_height=720, max_fps=15), MODES[1]),
        (Fit(max_width=319), None),
    ],
)
def test_the_largest_mode_that_fits_is_taken(fit: Fit, expected: Mode | None) -> None:
    """Of those that are fast enough; none that would have to be scaled."""
    assert best_mode(MODES, fit) == expected


# --- which there are ----------------------------------------------------------------------


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Linux with two cameras, each with a node for its metadata."""
    monkeypatch.setattr(cameras, "_PLATFORM", "linux")
    monkeypatch.setattr(cameras, "_SYS", tmp_path)
    for number, index, name in (
        (10, 0, "Desk"),
        (2, 0, "Front\x1b[2J"),
        (3, 1, "Front"),
        (11, 1, ""),
    ):
        node = tmp_path / f"video{number}"
        node.mkdir()
        (node / "index").write_text(f"{index}\n")
        (node / "name").write_text(f"{name}\n")
    return tmp_path


def test_cameras_are_listed_with_what_they_can(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the order of their numbers, for people and for programs."""
    drive(monkeypatch, Driver(MODES[:2]))
    assert [camera.spec for camera in list_cameras()] == ["/dev/video2", "/dev/video10"]
    told = CliRunner().invoke(main, ["cameras"])
    assert told.exit_code == 0
    assert "\x1b" not in told.stdout
    assert "/dev/video10  Desk\n    MJPEG    320x240  30 frames/s\n" in told.stdout
    listed = json.loads(CliRunner().invoke(main, ["cameras", "--json"]).stdout)
    assert [camera["name"] for camera in listed] == ["Front\x1b[2J", "Desk"]
    assert listed[1]["modes"][1] == {"codec": "MJPEG", "width": 640, "height": 480, "fps": 30}


def test_without_linuxpy_it_is_told_what_lists_modes(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cameras are there all the same."""
    monkeypatch.setattr(v4l2, "find_spec", lambda _: None)
    told = CliRunner().invoke(main, ["cameras"]).stdout
    assert "/dev/video2" in told
    assert "camera-feed-worker[camera]" in told


@pytest.mark.parametrize(
    ("spec", "file"),
    [
        ("camera:", "/dev/video2"),
        ("camera:0", "/dev/video0"),
        ("camera:11", "/dev/video11"),
        ("/dev/video7", "/dev/video7"),
    ],
)
def test_a_camera_has_a_name_and_a_number(
    machine: Path, monkeypatch: pytest.MonkeyPatch, spec: str, file: str
) -> None:
    """Without a number it is the first that there is."""
    monkeypatch.setattr("cfw.cli.sources._video.find_spec", lambda _: object())
    source = open_source(spec, fit=Fit(max_width=320, max_height=240, max_fps=5))
    assert isinstance(source, MediaSource)
    assert source._request.file == file
    first, *_, last = source._request.options
    assert first == {"input_format": "mjpeg", "video_size": "320x240", "framerate": "5"}
    assert last == {}
    assert is_live(spec)


@pytest.mark.parametrize("spec", ["camera:x", "camera:-1", "camera:0x1", "camera:9999"])
def test_a_wrong_camera_is_refused_at_once(machine: Path, spec: str) -> None:
    """With how one is called."""
    with pytest.raises(SourceError, match="camera: or camera:N"):
        open_source(spec)


def test_a_machine_without_a_camera_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the list, and where one is asked for."""
    monkeypatch.setattr(cameras, "_PLATFORM", "linux")
    monkeypatch.setattr(cameras, "_SYS", tmp_path)
    with pytest.raises(SourceError, match="no camera"):
        open_source("camera:")
    told = CliRunner().invoke(main, ["cameras"])
    assert (told.exit_code, told.stdout) == (0, "")
    assert "no camera" in told.stderr
