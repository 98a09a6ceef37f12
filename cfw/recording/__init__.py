"""Reading what `cfw record` has written; needs nothing of the worker.

    import cfw.recording

    recording = cfw.recording.open("recordings/s1/ada-20260504T102030.123Z-c1")
    for frame in recording:
        frame.jpeg, frame.array, frame.timestamp, frame.timestamp_ingest

`align` finds the frames of several cameras that belong together, in one clock. `verify` holds a
recording against its hashes and its own terminal. `cfw/record/RECORD.md` tells what is in one.
"""

from cfw.recording._align import Aligned, Dropped, Track, align
from cfw.recording._errors import (
    DamagedError,
    FormatMissing,
    NotARecording,
    RecordingError,
    UnfinishedError,
)
from cfw.recording._layout import FORMATS, Entry, Format, Manifest, read_manifest
from cfw.recording._recording import Frame, Recording
from cfw.recording._recording import open_recording as open
from cfw.recording._report import CameraReport, draw_svg, report
from cfw.recording._verify import (
    Receipt,
    Verdict,
    read_receipts,
    recordings,
    unfinished,
    verify,
    verify_all,
)

__all__ = [
    "FORMATS",
    "Aligned",
    "CameraReport",
    "DamagedError",
    "Dropped",
    "Entry",
    "Format",
    "FormatMissing",
    "Frame",
    "Manifest",
    "NotARecording",
    "Receipt",
    "Recording",
    "RecordingError",
    "Track",
    "UnfinishedError",
    "Verdict",
    "align",
    "draw_svg",
    "open",
    "read_manifest",
    "read_receipts",
    "recordings",
    "report",
    "unfinished",
    "verify",
    "verify_all",
]
