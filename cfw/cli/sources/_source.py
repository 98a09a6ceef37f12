"""What every source of frames is, and what it is told."""

from __future__ import annotations

from typing import Protocol

import attrs

from cfw.cli.left_out import LeftOut

#: Bounds memory here; what a worker takes is the worker's to say.
DEFAULT_MAX_FRAME_BYTES = 16 * 1024 * 1024
ACCEPTED = (
    "accepted: a JPEG or MJPEG file, a directory of *.jpg, '-' for MJPEG on standard input, "
    "or pattern:[WIDTHxHEIGHT][?frames=N]"
)


class FrameSource(Protocol):
    """Gives frames one after the other."""

    @property
    def name(self) -> str:
        """As given on the command line."""
        ...

    async def next_frame(self) -> bytes | None:
        """Return the next frame, or None behind the last.

        Raises:
            SourceError: it cannot be read, or holds no JPEG image.

        Cancellation: safe; a cancelled call loses no frame.
        """
        ...

    def close(self) -> None:
        """Let go of files, at once; a read that is under way ends by itself."""
        ...


@attrs.frozen
class Reading:
    """What all sources of a capture that read files have in common."""

    max_frame_bytes: int
    left_out: LeftOut
