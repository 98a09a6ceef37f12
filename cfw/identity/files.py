"""Reading a file that says who may connect: all of it, and nothing that is no file."""

from __future__ import annotations

import os
import stat
from pathlib import Path

#: More is no file of tokens or certificates; the largest bundles of authorities have 0.3 MB.
MAX_FILE_BYTES = 1_048_576

_KINDS = (
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
)


class UnusableFile(Exception):
    """A file cannot be read; the text says why, and does not repeat its name."""


def read_regular(path: Path) -> tuple[bytes, int]:
    """The bytes of a regular file, and its mode.

    A pipe is refused, as it can neither be read twice nor without waiting for whoever writes
    it. May last as long as the file system is out of reach.

    Raises:
        UnusableFile: it cannot be read, is none, or is too large.
    """
    try:
        # Asked before it is opened, which could wait for a pipe and set off a device.
        about = path.stat()
        _check_regular(about)
        data = path.read_bytes() if about.st_size <= MAX_FILE_BYTES else b""
    except OSError as exc:
        raise UnusableFile(f"cannot be read: {exc.strerror or exc}") from None
    if max(len(data), about.st_size) > MAX_FILE_BYTES:
        raise UnusableFile(f"is larger than {MAX_FILE_BYTES} bytes")
    return data, about.st_mode


def _check_regular(about: os.stat_result) -> None:
    if stat.S_ISREG(about.st_mode):
        return
    kind = next((words for is_it, words in _KINDS if is_it(about.st_mode)), "something else")
    raise UnusableFile(f"is {kind}; it has to be a regular file, which is read again later")
