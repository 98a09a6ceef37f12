"""What workers, consumers and labs share through Valkey: names, scripts and a connection.

    _address   the URL and its options
    _pipeline  scripts of all captures on one connection, and their answers
    _nodes     the pipeline of each node, and which node has a key
    _link      scripts by the pipelines, all else by coredis, with deadlines
    _names     partitions, keys and entry ids
    _replies   what the server answers: values, or an error that names the key
    _aside     what cannot be read is put aside
    _store     captures: begin, append, renew, finish, and sealing what was left behind
    _aborts    the end of a capture whose own end is lost
    _group     what one consumer of a group asks
    _feed      captures: reading them, as one of a group
    _sessions  sessions: set, look up, hear of changes

The sink is `cfw.sinks.valkey`; VALKEY.md beside it tells the keys and the guarantees.
It needs the extra `camera-feed-worker[valkey]`, which brings coredis.
"""

from cfw.valkey._aborts import SOURCE, abort_of
from cfw.valkey._address import Address
from cfw.valkey._feed import ValkeyFeed, open_valkey_feed
from cfw.valkey._group import Entry, Given, Group, News
from cfw.valkey._link import GroupLost, Link, ValkeyFailed, ValkeyRefused, WrongKind, open_link
from cfw.valkey._names import LAST_ID, PARTITIONS, Names, partition_of
from cfw.valkey._replies import LostCapture, Unreadable
from cfw.valkey._sessions import hear_sessions, look_up_session, set_session
from cfw.valkey._store import (
    CaptureStore,
    CaptureTaken,
    LeaseLost,
    Run,
    ScriptStore,
    TailLost,
)

__all__ = [
    "LAST_ID",
    "PARTITIONS",
    "SOURCE",
    "Address",
    "CaptureStore",
    "CaptureTaken",
    "Entry",
    "Given",
    "Group",
    "GroupLost",
    "LeaseLost",
    "Link",
    "LostCapture",
    "Names",
    "News",
    "Run",
    "ScriptStore",
    "TailLost",
    "Unreadable",
    "ValkeyFailed",
    "ValkeyFeed",
    "ValkeyRefused",
    "WrongKind",
    "abort_of",
    "hear_sessions",
    "look_up_session",
    "open_link",
    "open_valkey_feed",
    "partition_of",
    "set_session",
]
