"""The file that names the rigs that are expected: read at the start, and again when asked."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import attrs

from cfw.identity.files import UnusableFile, read_regular
from cfw.routes.rigs import Rig, Rigs
from schemas import CaptureOpen, SchemaError, check_field

#: Each is a time series of the metrics.
MOST_RIGS: Final = 200
_MOST_CHARACTERS: Final = 64
_FORM: Final = '`NAME = "USER"` or `NAME = "USER:SESSION"`'


@attrs.define(slots=False, eq=False)
class RigsFileError(ValueError):
    """A file of rigs cannot be used.

    Args:
        path: the file.
        problem: what is wrong, and what is allowed.
    """

    path: Path
    problem: str

    def __str__(self) -> str:
        return f"{self.path}: {self.problem}"


class RigsFile:
    """The rigs that a file names.

    Args:
        path: the file.
        rigs: who looks after them.
    """

    def __init__(self, path: Path, rigs: Rigs) -> None:
        self._path = path
        self._rigs = rigs

    def read_again(self) -> Callable[[], None]:
        """Read the file; nothing changes until what is returned is called.

        Raises:
            RigsFileError: it cannot be used.
        """
        try:
            data, _ = read_regular(self._path)
            found = tuple(parse_rigs(data.decode()))
        except UnicodeDecodeError:
            raise RigsFileError(self._path, "is not UTF-8") from None
        except (UnusableFile, ValueError) as exc:
            raise RigsFileError(self._path, str(exc)) from None
        return lambda: self._rigs.expect(found)


def parse_rigs(text: str) -> Iterator[Rig]:
    """The rigs that a TOML text names, such as `door = "ada:s-1"`.

    Raises:
        ValueError: what is wrong, and what is allowed.
    """
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        raise ValueError(f"is not TOML: {exc}") from None
    if len(table) > MOST_RIGS:
        raise ValueError(f"names {len(table)} rigs; at most {MOST_RIGS} are allowed")
    known: dict[tuple[str, str | None], str] = {}
    for name, value in table.items():
        rig = _rig(name, value)
        before = known.setdefault((rig.user_id, rig.session_id), name)
        if before != name:
            raise ValueError(f"{name} and {before} are the same user and session: {value!r}")
        yield rig


def _rig(name: str, value: Any) -> Rig:
    if not 1 <= len(name) <= _MOST_CHARACTERS or not name.isprintable():
        raise ValueError(
            f"{name[:_MOST_CHARACTERS]!r} is no name: 1 to {_MOST_CHARACTERS} characters"
        )
    if type(value) is not str:
        raise ValueError(f"{name} is {value!r}; allowed: {_FORM}")
    user_id, colon, session_id = value.partition(":")
    try:
        check_field(CaptureOpen, "user_id", user_id)
        if colon:
            check_field(CaptureOpen, "session_id", session_id)
    except SchemaError as exc:
        raise ValueError(f"{name}: {exc}; allowed: {_FORM}") from None
    return Rig(name, user_id, session_id if colon else None)
