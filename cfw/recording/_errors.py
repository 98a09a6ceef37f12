"""What can be wrong with a recording.

RecordingError (Exception)
|-- NotARecording      there is none at this path, or its capture.json is none
|-- UnfinishedError    a recorder is at it, or was when it ended
|-- DamagedError       a frame, or the file that it is in, is not what was recorded
`-- FormatMissing      the format needs a library that is not installed
"""

from __future__ import annotations

from importlib import import_module
from typing import Any


class RecordingError(Exception):
    """A recording cannot be read; the text says why and what to do."""


class NotARecording(RecordingError):
    """There is no recording at this path, or its `capture.json` is none."""


class UnfinishedError(RecordingError):
    """The folder still ends in `.part`."""


class DamagedError(RecordingError):
    """What was read is not what was recorded."""


class FormatMissing(RecordingError):
    """The format needs a library that is not installed."""


def library(name: str, extra: str) -> Any:
    """Import what an extra of cfw brings.

    Raises:
        FormatMissing: it is not installed.
    """
    try:
        return import_module(name)
    except ImportError as exc:
        raise FormatMissing(
            f"this needs {name.split('.')[0]} ({exc}), which "
            f"pip install 'camera-feed-worker[{extra}]' brings"
        ) from None
