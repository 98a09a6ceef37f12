"""What a worker has confirmed: of a capture, and of each part of a film."""

from __future__ import annotations

import json

import attrs

from schemas import CaptureError


@attrs.frozen
class Receipt:
    """What the worker has taken, and its consumer after it.

    Args:
        frames: how many.
        bytes: of all frames together, without metadata.
    """

    frames: int
    bytes: int

    @classmethod
    def parse(cls, text: str) -> Receipt:
        """Read the reason of a close frame 1000.

        Raises:
            ValueError: it is no receipt.
        """
        value = json.loads(text)
        frames, taken = (
            (value.get("frames"), value.get("bytes")) if type(value) is dict else (None, None)
        )
        if type(frames) is not int or type(taken) is not int or min(frames, taken) < 0:
            raise ValueError(f"not a receipt: {text[:80]!r}")
        return cls(frames, taken)


@attrs.frozen
class FilmPart:
    """One capture of a film.

    Args:
        capture_id: its name at the worker and in the feed.
        first_frame: the number, in the film, of its first frame; they count from 1.
        frames_sent: frames given to it.
        bytes_sent: of those together.
        receipt: what the worker confirmed; None while there is no receipt, or for ever.
        failure: why there will be none; None otherwise, and where the film was left without
            an end, by an exception of its body.
    """

    capture_id: str
    first_frame: int
    frames_sent: int
    bytes_sent: int
    receipt: Receipt | None = None
    failure: CaptureError | None = None
