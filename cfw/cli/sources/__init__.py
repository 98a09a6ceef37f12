"""Where the frames of `cfw send` come from: files, pipes, videos, cameras, a test picture.

_frames     what a name stands for; several sources, one after the other
_timeline   when each frame was taken, and when it is due
_files      images in files, folders and pipes
_pattern    the test picture
_http       MJPEG of network cameras, over Trio
_media      cameras, RTSP and videos, read by a process of its own: _reader, _records, _v4l2
_fit        pictures made to fit what the worker takes
_clock      a camera's clock, and the frames that it lost
"""

from cfw.cli.sources._cameras import Camera, list_cameras
from cfw.cli.sources._fit import STALL_S, Fit, stall_within
from cfw.cli.sources._frames import Frames, is_fitted, is_live, open_source
from cfw.cli.sources._pattern import PatternPainter, is_endless
from cfw.cli.sources._source import DEFAULT_MAX_FRAME_BYTES, FrameSource
from cfw.cli.sources._timeline import Frame

__all__ = [
    "DEFAULT_MAX_FRAME_BYTES",
    "STALL_S",
    "Camera",
    "Fit",
    "Frame",
    "FrameSource",
    "Frames",
    "PatternPainter",
    "is_endless",
    "is_fitted",
    "is_live",
    "list_cameras",
    "open_source",
    "stall_within",
]
