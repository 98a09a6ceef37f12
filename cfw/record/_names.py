"""Names of recordings: from what rigs call themselves, to what every file system takes.

A rig chooses its ids. None of them leads out of the folder, is a device of Windows, hides, or
is too long; what was changed carries a part of its SHA-256, so that two ids share no name.
"""

from __future__ import annotations

import hashlib
import re
import string
import unicodedata
from typing import Final

from cfw.recording._layout import PART
from schemas import FeedOpened

DEFAULT_PATTERN: Final = "{session_id}/{user_id}-{opened}-{capture_id}"
#: What a pattern may name.
FIELDS: Final = ("session_id", "user_id", "capture_id", "opened", "source", "performer_id")

#: Bytes of one value, and of one folder's name. File systems take 255, and `.part` is added.
_MAX_VALUE_BYTES = 72
_MAX_NAME_BYTES = 230
#: Devices of Windows, whatever follows behind a dot.
_DEVICE = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(\..*)?", re.IGNORECASE)
_PLAIN_PUNCTUATION = "._-"


def check_pattern(pattern: str) -> None:
    """Refuse a pattern that no name can be made of.

    Raises:
        ValueError: it says why.
    """
    try:
        parts = [*string.Formatter().parse(pattern)]
    except ValueError as exc:
        raise ValueError(f"the name {pattern!r} cannot be read: {exc}") from None
    allowed = ", ".join(f"{{{name}}}" for name in FIELDS)
    for _, field, spec, conversion in parts:
        if field is not None and (field not in FIELDS or spec or conversion):
            raise ValueError(f"the name has {{{field}}}; allowed are {allowed}")
    literal = "".join(text for text, *_ in parts)
    if any(safe(part) != part for part in literal.split("/") if part):
        raise ValueError(
            f"the name {pattern!r} has what some file system does not take; beside the fields "
            "write letters, digits, '.', '_', '-', and '/' between folders"
        )
    if not all(pattern.split("/")):
        raise ValueError(f"the name {pattern!r} has an empty part")


def recording_name(pattern: str, opened: FeedOpened) -> tuple[str, ...]:
    """The folders that lead to the recording of a capture; the last is its own.

    Args:
        pattern: that `check_pattern` has let pass.
        opened: the capture.
    """
    stamp = opened.timestamp_ingest
    values = {
        "session_id": opened.session_id,
        "user_id": opened.user_id,
        "capture_id": opened.capture_id,
        "opened": re.sub(r"[^0-9TZ.]", "", stamp.from_ns(stamp.ns).text)[:19] + "Z",
        "source": opened.source or "none",
        "performer_id": opened.performer_id or "none",
    }
    shown = {name: safe(value) for name, value in values.items()}
    return tuple(_component(part.format_map(shown)) for part in pattern.split("/"))


def safe(value: str) -> str:
    """A value as part of a file's name; itself where that is good."""
    plain = unicodedata.normalize("NFC", value)
    plain = "".join(c if c.isalnum() or c in _PLAIN_PUNCTUATION else "_" for c in plain)
    plain = _cut(plain, _MAX_VALUE_BYTES)
    # Hidden, or an end that Windows takes away.
    plain = re.sub(r"^\.+|\.+$", lambda dots: "_" * len(dots[0]), plain) or "_"
    return plain if plain == value else f"{plain}~{_digest(value)}"


def _component(name: str) -> str:
    """One folder's name, of values that are safe each for itself."""
    whole = name
    if _DEVICE.fullmatch(name) or name.casefold().endswith(PART):
        name = f"{name}_" if not _DEVICE.fullmatch(name) else f"_{name}"
    if name.startswith("."):
        name = f"_{name[1:]}"
    if len(name.encode()) > _MAX_NAME_BYTES:
        name = f"{_cut(name, _MAX_NAME_BYTES - 9)}~{_digest(whole)}"
    return name


def _cut(text: str, most: int) -> str:
    return text.encode()[:most].decode(errors="ignore")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
