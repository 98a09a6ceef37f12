"""Cameras of Linux through linuxpy, where it is installed: their modes, and numbered frames.

The kernel numbers what it takes from a camera, so that what was lost is known, not guessed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import attrs

from cfw.cli.sources._fit import Fit

#: What the driver fills while nobody reads: a third of a second at 30 frames a second.
_BUFFERS = 10


@attrs.frozen(order=True)
class Mode:
    """What a camera can be asked for.

    Args:
        codec: by V4L2's name.
        width: pixels.
        height: pixels.
        fps: the most frames a second; 0 where the driver does not say.
    """

    codec: str
    width: int
    height: int
    fps: float


@attrs.frozen
class Numbered:
    """A frame of a driver that counts them.

    Args:
        data: a JPEG.
        number: by the driver's count.
        at_ns: when it was taken, by the kernel's monotonic clock.
    """

    data: bytes
    number: int
    at_ns: int


@attrs.frozen
class NumberedCamera:
    """A camera in a mode; `frames` runs it, for good."""

    fps: float
    frames: Callable[[], Iterator[Numbered]]


def modes_of(path: str) -> tuple[Mode, ...] | None:
    """The modes of a camera; None where nobody tells, or it cannot be opened."""
    if find_spec("linuxpy") is None:
        return None
    video = import_module("linuxpy.video.device")
    try:
        with video.Device(path) as device:
            return tuple(sorted(_modes(device)))
    except OSError:
        return None


def _modes(device: Any) -> set[Mode]:
    return {
        Mode(kind.pixel_format.name, kind.width, kind.height, float(kind.max_fps))
        for kind in device.info.frame_types
    }


def best_mode(modes: set[Mode] | tuple[Mode, ...], fit: Fit) -> Mode | None:
    """The largest of Motion JPEG that fits and is fast enough; None if there is none.

    Fast enough is as fast as what fits can be.
    """
    jpegs = [mode for mode in modes if mode.codec == "MJPEG"]
    fitting = [m for m in jpegs if fit.size(m.width, m.height) == (m.width, m.height)]
    if not fitting:
        return None
    wanted = min(fit.max_fps or 30, max(mode.fps for mode in fitting))
    fast = [mode for mode in fitting if mode.fps >= wanted]
    return max(fast, key=lambda mode: (mode.width * mode.height, -mode.fps))


def open_camera(path: str, fit: Fit) -> NumberedCamera | None:
    """A camera that gives Motion JPEG of a size that fits; None if it has none of that."""
    video = import_module("linuxpy.video.device")
    device = video.Device(path)
    try:
        device.open()
        mode = best_mode(_modes(device), fit)
    except BaseException:
        device.close()
        raise
    if mode is None:
        device.close()
        return None
    fps = min(mode.fps or 30.0, float(fit.max_fps or 30))

    def frames() -> Iterator[Numbered]:
        with device:
            capture = video.VideoCapture(device, size=_BUFFERS)
            capture.set_format(mode.width, mode.height, "MJPG")
            with suppress(OSError):  # some drivers have one rate
                capture.set_fps(fps)
            with capture:
                for frame in capture:
                    stamp = frame.buff.timestamp
                    at_ns = (stamp.secs * 1_000_000 + stamp.usecs) * 1000
                    yield Numbered(bytes(frame.data), frame.frame_nb, at_ns)

    return NumberedCamera(fps, frames)
