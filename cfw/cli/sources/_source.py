"""What every source of frames is, and what it is told."""

from __future__ import annotations

from typing import Protocol

import attrs

from cfw.cli.left_out import LeftOut
from cfw.cli.sources._fit import STALL_S, Fit

#: Bounds memory here; what a worker takes is the worker's to say.
DEFAULT_MAX_FRAME_BYTES = 16 * 1024 * 1024
ACCEPTED = (
    "accepted: a JPEG, MJPEG or video file, a directory of *.jpg, '-' for MJPEG on standard "
    "input, camera:[N], rtsp://..., http://... (MJPEG), or pattern:[WIDTHxHEIGHT][?frames=N]"
)


@attrs.frozen
class Shot:
    """A frame, and what its source knows of when it was taken.

    Args:
        jpeg: the image.
        elapsed_ns: recorded time since the first frame of the source; None if it has none.
        taken_ns: wall time, in nanoseconds since 1970 UTC; None if the source does not know.
    """

    jpeg: bytes
    elapsed_ns: int | None = None
    taken_ns: int | None = None


class FrameSource(Protocol):
    """Gives frames one after the other."""

    @property
    def name(self) -> str:
        """As given on the command line, without a password."""
        ...

    @property
    def is_live(self) -> bool:
        """Whether frames come when they are taken, and wait for nobody."""
        ...

    @property
    def fps(self) -> float | None:
        """Frames a second, once the first has come; None where the source has no rate."""
        ...

    @property
    def about(self) -> str | None:
        """What it is and what becomes of it, once the first frame has come; None: nothing."""
        ...

    async def next_frame(self) -> Shot | None:
        """Return the next frame, or None behind the last.

        Raises:
            SourceError: it cannot be read, or holds no JPEG image.

        Cancellation: safe; a cancelled call loses no frame.
        """
        ...

    async def aclose(self) -> None:
        """Let go of files, connections and processes; a thread that reads ends by itself.

        Cancellation: closes all the same, and waits for nobody.
        """
        ...


@attrs.frozen
class Reading:
    """What all sources of a capture have in common.

    Args:
        max_frame_bytes: the largest image read.
        left_out: counts what is read and given to nobody.
        fit: what frames may be that were not JPEGs of the right size before.
        stall_s: seconds that a camera may send nothing.
    """

    max_frame_bytes: int
    left_out: LeftOut
    fit: Fit = attrs.field(factory=Fit)
    stall_s: float = STALL_S
