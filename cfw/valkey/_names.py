"""How the keys are named: partitions, and the ids of a capture's entries.

All keys of a partition carry one hash tag, so they share a slot of a cluster and one script
may touch several of them at once. The tags are chosen so that the partitions lie evenly
spread over the slots.
"""

from __future__ import annotations

from binascii import crc_hqx
from zlib import crc32

import attrs

#: Tag of each partition; the slot of tag number n lies in the n-th sixteenth of all slots.
TAGS = (
    "10",
    "3",
    "61",
    "43",
    "11",
    "2",
    "60",
    "42",
    "12",
    "1",
    "63",
    "41",
    "13",
    "0",
    "62",
    "40",
)
#: Part of the key format: workers and consumers must agree on it.
PARTITIONS = len(TAGS)
#: Where a reader is that has read nothing of a stream.
NOTHING_ID = "0-0"
#: The id of a capture's first entry, the `capture.opened`. Frame n has the id `n-0`.
FIRST_ID = "0-1"
#: The id of a terminal: the highest there is, so the server refuses any entry behind it.
LAST_ID = "18446744073709551615-18446744073709551615"


def partition_of(capture_id: str) -> int:
    """The partition that a capture belongs to, from 0."""
    return crc32(capture_id.encode()) % PARTITIONS


def slot_of(key: str) -> int:
    """The slot of a cluster that a key is in: of its hash tag alone, if it has one."""
    _, _, rest = key.partition("{")
    tag, end, _ = rest.partition("}")
    return crc_hqx((tag if tag and end else key).encode(), 0) % 16384


def capture_of(stream: str) -> str:
    """The capture_id of a capture's stream, from its key."""
    return stream.partition("}:frames:")[2].rpartition(":")[0]


#: The type that each key of a partition has.
_KINDS = {
    "index": "stream",
    "deadlines": "zset",
    "lease": "hash",
    "frames": "stream",
    "progress": "hash",
}


def kind_of(key: str) -> str:
    """The type that a key of a partition has, as the server calls it."""
    return _KINDS[key.partition("}:")[2].partition(":")[0]]


def aside(key: str) -> str:
    """Where a key of a partition is moved that is not what it should be."""
    base, brace, rest = key.partition("}:")
    return f"{base}{brace}unreadable:{rest}"


def session_key(prefix: str, session_id: str) -> str:
    """Hash: a session's `user` and `status`."""
    return f"{prefix}:session:{session_id}"


def session_channel(prefix: str) -> str:
    """Channel on which the changes of sessions are published, each as its session id."""
    return f"{prefix}:sessions"


@attrs.frozen
class Names:
    """The keys of one partition.

    Args:
        prefix: what every key begins with.
        partition: its number, from 0.
    """

    prefix: str
    partition: int

    @classmethod
    def of(cls, prefix: str, capture_id: str) -> Names:
        """The keys of the partition that a capture belongs to."""
        return cls(prefix, partition_of(capture_id))

    @property
    def _base(self) -> str:
        return f"{self.prefix}:{{{TAGS[self.partition]}}}"

    @property
    def index(self) -> str:
        """Stream: the captures that have begun, oldest first."""
        return f"{self._base}:index"

    @property
    def deadlines(self) -> str:
        """Sorted set: running captures by when their lease runs out."""
        return f"{self._base}:deadlines"

    def lease(self, capture_id: str) -> str:
        """Hash: who owns the capture_id, and how far the capture has come."""
        return f"{self._base}:lease:{capture_id}"

    def frames(self, capture_id: str, opened_ns: int) -> str:
        """Stream: one capture, from its `capture.opened` to its terminal."""
        return f"{self._base}:frames:{capture_id}:{opened_ns}"

    def is_stream(self, key: str) -> bool:
        """Whether a key is that of a capture's stream in this partition."""
        return key.startswith(f"{self._base}:frames:")

    def progress(self, group: str) -> str:
        """Hash: how far the consumers of a group have come in each capture's stream."""
        return f"{self._base}:progress:{group}"
