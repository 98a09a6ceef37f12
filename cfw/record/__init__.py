"""Recording: a consumer of the feed that keeps captures, as files that prove to be whole.

    _names      what a recording is called: safe on every file system
    _files      writing that outlives a loss of power; locks
    _writers    one for each format
    _capture    one recording, from `.part` to its name
    _salvage    what a recorder has left unfinished
    _recorder   the feed in, recordings out
    _events     what is told meanwhile; _metrics, to Prometheus

It stands on `cfw.client`; reading what it has written is `cfw.recording`. RECORD.md beside this
file tells what it promises.
"""

from cfw.record._capture import Written
from cfw.record._events import Listener, Listeners
from cfw.record._metrics import RecorderMetrics
from cfw.record._names import DEFAULT_PATTERN, check_pattern, recording_name
from cfw.record._recorder import ROOM_BYTES, Recorder
from cfw.record._salvage import Salvaged, salvage, salvage_all

__all__ = [
    "DEFAULT_PATTERN",
    "ROOM_BYTES",
    "Listener",
    "Listeners",
    "Recorder",
    "RecorderMetrics",
    "Salvaged",
    "Written",
    "check_pattern",
    "recording_name",
    "salvage",
    "salvage_all",
]
