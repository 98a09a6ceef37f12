"""Cameras of this machine: which there are, and how one is opened."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import attrs

from cfw.cli.mjpeg import SourceError
from cfw.cli.sources import _v4l2
from cfw.cli.sources._fit import Fit
from cfw.cli.sources._media import MediaSource
from cfw.cli.sources._records import Request
from cfw.cli.sources._source import FrameSource, Reading
from cfw.cli.sources._v4l2 import Mode
from cfw.cli.sources._video import check_av

_SCHEME = "camera:"
_DEVICE = re.compile(r"/dev/video[0-9]+")
_SYS = Path("/sys/class/video4linux")
#: Asked for where nobody says anything; nearly every camera has it.
_SIZE = (640, 480)
#: libav's name of the system's cameras.
_PLATFORM: str = sys.platform
_FORMATS = {"linux": "v4l2", "darwin": "avfoundation", "win32": "dshow"}


@attrs.frozen
class Camera:
    """A camera of this machine.

    Args:
        spec: what `cfw send` calls it.
        name: what its maker calls it.
        modes: the sizes and rates that it has; None where the system does not tell.
    """

    spec: str
    name: str
    modes: tuple[Mode, ...] | None


def is_camera(spec: str) -> bool:
    """Whether a name is that of a camera of this machine."""
    return spec.startswith(_SCHEME) or _DEVICE.fullmatch(spec) is not None


def list_cameras() -> list[Camera]:
    """The cameras of this machine, in the order of their numbers.

    Raises:
        SourceError: what finds them is not installed.
    """
    if _PLATFORM == "linux":
        return list(_video4linux())
    check_av("cameras")
    from av.device import enumerate_input_devices

    found = enumerate_input_devices(_format())
    videos = [each for each in found if "video" in each.media_types]
    return [
        Camera(f"{_SCHEME}{number}", each.description or each.name, None)
        for number, each in enumerate(videos)
    ]


def _video4linux() -> Iterator[Camera]:
    for path in sorted(_SYS.glob("video*"), key=lambda path: int(path.name[5:] or 0)):
        with suppress(OSError):
            # A camera's further nodes give its metadata.
            if (path / "index").read_text().strip() != "0":
                continue
            name = (path / "name").read_text(errors="replace").strip()
            device = f"/dev/{path.name}"
            yield Camera(device, name, _v4l2.modes_of(device))


def open_camera(spec: str, reading: Reading) -> FrameSource:
    """A camera of this machine.

    Raises:
        SourceError: there is none of this name, or PyAV is not installed for it.
    """
    file = _file_of(spec)
    # Motion JPEG from a driver that numbers its frames is read without PyAV.
    is_numbered = _PLATFORM == "linux" and find_spec("linuxpy") is not None
    if not is_numbered:
        check_av(spec)
    request = Request(
        name=spec,
        file=file,
        format=_format(),
        options=_options(reading.fit),
        is_live=True,
        numbered=file if is_numbered else None,
        max_frame_bytes=reading.max_frame_bytes,
        fit=reading.fit,
    )
    return MediaSource(request, reading, may_end=False)


def _file_of(spec: str) -> str:
    if not spec.startswith(_SCHEME):
        return spec
    which = spec.removeprefix(_SCHEME)
    if which and re.fullmatch("[0-9]{1,3}", which) is None:
        raise SourceError(spec, None, "a camera is camera: or camera:N, N from 0")
    if _PLATFORM == "linux":
        if which:
            return f"/dev/video{int(which)}"
        cameras = list_cameras()
        if not cameras:
            raise SourceError(spec, None, "this machine has no camera (`cfw cameras`)")
        return cameras[0].spec
    number = int(which or 0)
    if _PLATFORM != "win32":
        return str(number)
    cameras = list_cameras()
    if number >= len(cameras):
        raise SourceError(spec, None, "there is no such camera; `cfw cameras` lists them")
    return f"video={cameras[number].name}"


def _format() -> str:
    return _FORMATS.get(_PLATFORM, "v4l2")


def _options(fit: Fit) -> list[dict[str, str]]:
    """What to ask a camera for, the best first; it refuses what it does not have."""
    width, height = fit.size(*_SIZE)
    if fit.max_width and fit.max_height:
        width, height = fit.size(fit.max_width, fit.max_height)
    size = {"video_size": f"{width}x{height}"}
    rate = {"framerate": str(fit.max_fps)} if fit.max_fps else {}
    jpeg = {"vcodec": "mjpeg"} if _PLATFORM == "win32" else {"input_format": "mjpeg"}
    if _PLATFORM == "darwin":
        return [size | rate, size | {"framerate": "30"}, {"framerate": "30"}, {}]
    return [jpeg | size | rate, jpeg | size, size | rate, size, {}]
