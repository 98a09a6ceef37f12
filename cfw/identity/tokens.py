"""Bearer tokens: one per line of a file, with the user it is bound to behind it if any.

    # rigs of the second floor
    8XlM0yH3wq1V5l0o3cJkQeVb1Xn4n2aT
    q3v9Jm2Zr7s0uYb5KcWdE8fG1hL4pNtX ada

Only digests of the tokens are kept, so that no log, traceback or dump of an object shows one.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import stat
from collections.abc import Callable
from pathlib import Path

import attrs
import structlog

from cfw.identity.files import UnusableFile, read_regular
from schemas import CaptureOpen, SchemaError, check_field

_log: structlog.stdlib.BoundLogger = structlog.get_logger("cfw.identity")

#: So many base64 characters carry 128 random bits.
MIN_TOKEN_CHARS = 22
MAX_TOKEN_CHARS = 512

#: What both a bearer token (RFC 6750, 2.1) and a WebSocket subprotocol may be made of.
_TOKEN = re.compile(r"[A-Za-z0-9._~+-]+")


@attrs.define(slots=False, eq=False)
class TokenFileError(ValueError):
    """A file of tokens cannot be used; no word of it is in the text.

    Args:
        path: the file.
        problem: what is wrong, with the line where there is one, and what is allowed.
    """

    path: Path
    problem: str

    def __str__(self) -> str:
        return f"{self.path}: {self.problem}"


@attrs.frozen
class Entry:
    """One token.

    Args:
        digest: its SHA-256.
        user_id: the user it is bound to; None when it is good for any.
    """

    digest: bytes
    user_id: str | None


class Tokens:
    """The tokens of one file, as it was when it could last be read.

    Args:
        path: the file.

    Raises:
        TokenFileError: it cannot be used.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._entries: tuple[Entry, ...] = ()
        self.read_again()()

    @property
    def entries(self) -> tuple[Entry, ...]:
        """The tokens, in the order of the file."""
        return self._entries

    def read_again(self) -> Callable[[], None]:
        """Read the file; nothing changes until what is returned is called.

        So it may run in a thread, also in one that nobody waits for any more.

        Raises:
            TokenFileError: it cannot be used.
        """
        data, mode = _read(self.path)
        found = parse_tokens(self.path, data)
        entries = tuple(Entry(_digest(token), user) for token, user in found)

        def use() -> None:
            # Not refused: a secret mounted into a container is often readable by all in it.
            if mode & (stat.S_IROTH | stat.S_IWOTH):
                _log.warning(
                    "tokens.readable_by_others",
                    file=str(self.path),
                    hint=f"chmod o-rwx {self.path.name}",
                )
            self._entries = entries

        return use

    def find(self, token: str) -> Entry | None:
        """The entry of a token; None when the file has no such token.

        It takes as long for a wrong token as for any right one.
        """
        given, found = _digest(token), None
        for entry in self._entries:
            if hmac.compare_digest(entry.digest, given):
                found = entry
        return found


def make_token() -> str:
    """A new token of 256 random bits."""
    return secrets.token_urlsafe(32)


def check_token(token: str) -> str | None:
    """What is wrong with a token, in words that do not repeat it; None if nothing is."""
    if not _TOKEN.fullmatch(token):
        return "a token is made of A-Z a-z 0-9 . _ ~ + and -; `cfw token` makes one"
    if len(token) < MIN_TOKEN_CHARS:
        return (
            f"a token has at least {MIN_TOKEN_CHARS} characters, not {len(token)}; "
            "`cfw token` makes one"
        )
    if len(token) > MAX_TOKEN_CHARS:
        return f"a token has at most {MAX_TOKEN_CHARS} characters, not {len(token)}"
    return None


def parse_tokens(path: Path, data: bytes) -> list[tuple[str, str | None]]:
    """The tokens of a file as they are, each with the user it is bound to.

    Args:
        path: for the error.
        data: what the file holds.

    Raises:
        TokenFileError: it cannot be used.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise TokenFileError(path, "is not UTF-8 text") from None
    found: list[tuple[str, str | None]] = []
    lines: dict[str, int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        token, _, rest = line.strip().replace("\t", " ").partition(" ")
        if not token or token.startswith("#"):
            continue
        problem = check_token(token) or _check_user(rest.strip())
        if problem is None and token in lines:
            problem = f"this token is on line {lines[token]} already"
        if problem is not None:
            raise TokenFileError(path, f"line {number}: {problem}")
        lines[token] = number
        found.append((token, rest.strip() or None))
    if not found:
        raise TokenFileError(path, "holds no token; `cfw token` makes one")
    return found


def _read(path: Path) -> tuple[bytes, int]:
    try:
        return read_regular(path)
    except UnusableFile as exc:
        raise TokenFileError(path, str(exc)) from None


def _check_user(user_id: str) -> str | None:
    if re.search(r"(^|\s)#", user_id):
        return "a comment has a line of its own; behind a token stands the user it is bound to"
    try:
        if user_id:
            check_field(CaptureOpen, "user_id", user_id)
    except SchemaError as exc:
        return str(exc)
    return None


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
