"""Where the frames of `cfw send` come from: files, directories, a pipe, a test picture.

`open_source` finds what a name stands for, and `Frames` plays several, one after the other.
"""

from cfw.cli.sources._frames import Frames, open_source
from cfw.cli.sources._pattern import PatternPainter, is_endless
from cfw.cli.sources._source import DEFAULT_MAX_FRAME_BYTES, FrameSource

__all__ = [
    "DEFAULT_MAX_FRAME_BYTES",
    "FrameSource",
    "Frames",
    "PatternPainter",
    "is_endless",
    "open_source",
]
