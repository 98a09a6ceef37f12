"""What the server answers, parsed in one place: values, or an error that names the key.

Whoever can write to the server can write anything, and people do, by mistake. So nothing in a
key is believed before it has been through here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import attrs

from cfw.printable import printable
from cfw.valkey._names import LAST_ID, NOTHING_ID, Names, capture_of, partition_of
from schemas import (
    CameraFeedWorkerFeed,
    FeedAbort,
    FeedClose,
    FeedFrame,
    FeedOpened,
    SchemaError,
    parse_feed,
)

#: As the scripts write numbers, and below 2^53, up to which Lua counts them.
_WHOLE = re.compile(rb"0|[1-9][0-9]{0,14}")
_ENTRY_ID = re.compile(rb"[0-9]{1,20}-[0-9]{1,20}")
#: So much of a foreign value is shown.
_SHOWN = 40


@attrs.define(slots=False, eq=False)
class Unreadable(Exception):
    """What a key holds is nothing that workers write.

    Args:
        key: the key, with what is odd in it escaped.
        problem: what was wrong with it.
    """

    key: str = attrs.field(converter=printable)
    problem: str

    def __str__(self) -> str:
        return f"{self.key} {self.problem}"


@attrs.frozen(kw_only=True)
class LostCapture:
    """A capture whose lease has run out.

    Args:
        capture_id: its id.
        owner: the run that left it behind.
        stream: the key of its stream.
        opened: its `capture.opened`.
        frames: frames in its stream.
        bytes: bytes of those.
    """

    capture_id: str
    owner: str
    stream: str
    opened: FeedOpened
    frames: int
    bytes: int


def shown(value: bytes | str) -> str:
    """A foreign value, fit for a log line."""
    text = value if isinstance(value, str) else value.decode("utf-8", "backslashreplace")
    return printable(text[:_SHOWN]) + ("..." if len(text) > _SHOWN else "")


def name_of(names: Names, member: bytes) -> str:
    """The capture_id that a member of a partition's deadlines is.

    Raises:
        Unreadable: it is none, or one of another partition.
    """
    capture_id = member.decode("utf-8", "replace")
    if capture_id.encode() != member or partition_of(capture_id) != names.partition:
        raise Unreadable(names.deadlines, f"has the member {shown(member)}, none of its own")
    return capture_id


#: The fields of a lease, in the order in which they are asked for.
LEASE_FIELDS = (b"owner", b"stream", b"opened", b"last", b"bytes")


def lost_capture(names: Names, capture_id: str, fields: Mapping[bytes, bytes]) -> LostCapture:
    """What a lease says of its capture.

    Raises:
        Unreadable: a field is missing or wrong.
    """
    key = names.lease(capture_id)
    opened = _message(key, "opened", fields)
    if not isinstance(opened, FeedOpened) or opened.capture_id != capture_id:
        raise Unreadable(key, "has an 'opened' that is not its own")
    return LostCapture(
        capture_id=capture_id,
        owner=_text(key, "owner", fields),
        stream=_stream(names, key, fields, capture_id),
        opened=opened,
        frames=_whole(key, "last", fields),
        bytes=_whole(key, "bytes", fields),
    )


def stream_of(names: Names, index_id: str, fields: Mapping[bytes, bytes]) -> str:
    """The stream that an entry of the index leads to.

    Raises:
        Unreadable: it leads nowhere.
    """
    return _stream(names, f"{names.index} {index_id}", fields, None)


def progress_of(key: str, stream: str, value: bytes | None) -> str:
    """The id of the entry of a stream that was processed last.

    Raises:
        Unreadable: the note is no id.
    """
    if value is None:
        return NOTHING_ID
    parts = value.split(b"-") if _ENTRY_ID.fullmatch(value) else ()
    if not parts or any(int(part) >= 1 << 64 for part in parts):
        raise Unreadable(key, f"has {shown(value)!r} for {stream}, no id of an entry")
    return value.decode()


def opened_of(
    stream: str, entry_id: str, fields: Mapping[bytes, bytes] | None
) -> FeedOpened | None:
    """How a capture opened, from the first entry of its stream; None when it is not known."""
    try:
        message, _ = message_of(stream, entry_id, fields or {})
    except Unreadable:  # told when it is read in its turn
        return None
    return message if isinstance(message, FeedOpened) else None


def message_of(
    stream: str, entry_id: str, fields: Mapping[bytes, bytes]
) -> tuple[CameraFeedWorkerFeed, bytes | None]:
    """The message in an entry of a capture's stream, and its image.

    Raises:
        Unreadable: it has none, or not one that belongs there.
    """
    key = f"{stream} {entry_id}"
    message, jpeg = _message(key, "message", fields), fields.get(b"jpeg")
    if message.capture_id != capture_of(stream):
        raise Unreadable(key, "has a message of another capture")
    if isinstance(message, FeedClose | FeedAbort) != (entry_id == LAST_ID):
        raise Unreadable(key, f"is no place for a {message.event}")
    if isinstance(message, FeedFrame):
        if jpeg is None or len(jpeg) != message.byte_length:
            raise Unreadable(key, "has no image, or one of another length")
        return message, jpeg
    return message, None


def _field(key: str, name: str, fields: Mapping[bytes, bytes]) -> bytes:
    value = fields.get(name.encode())
    if value is None:
        raise Unreadable(key, f"has no field {name!r}")
    return value


def _text(key: str, name: str, fields: Mapping[bytes, bytes]) -> str:
    value = _field(key, name, fields)
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise Unreadable(key, f"has a {name!r} that is not UTF-8: {shown(value)}") from None


def _whole(key: str, name: str, fields: Mapping[bytes, bytes]) -> int:
    value = _field(key, name, fields)
    if not _WHOLE.fullmatch(value):
        raise Unreadable(key, f"has a {name!r} that is no whole number: {shown(value)}")
    return int(value)


def _stream(
    names: Names, key: str, fields: Mapping[bytes, bytes], capture_id: str | None
) -> str:
    stream = _text(key, "stream", fields)
    # Another partition's keys may be on another node, where no script could reach them.
    if not names.is_stream(stream) or capture_id not in (None, capture_of(stream)):
        raise Unreadable(key, f"has a 'stream' that is none of it: {shown(stream)}")
    return stream


def _message(key: str, name: str, fields: Mapping[bytes, bytes]) -> CameraFeedWorkerFeed:
    value = _field(key, name, fields)
    try:
        return parse_feed(value)
    except SchemaError as exc:
        raise Unreadable(key, f"has a {name!r} that is no message: {shown(str(exc))}") from None
