"""URLs as they may be seen: in logs, messages and tables, where a password has no place."""

from __future__ import annotations

import re

from cfw.plugins.schemes import SCHEME

_PLAIN_AUTHORITY = re.compile(r"([^\[\]:]*|\[[0-9A-Fa-f:.]*\])(:[0-9]*)?")


def redact_url(url: str) -> str:
    """Return `url` fit for logs and messages: no user info, no query, no fragment.

    Text that is malformed loses more rather than less, because a slip of the pen must not
    print a password either.

    Args:
        url: any text.
    """
    match = SCHEME.match(url)
    if match is None:
        return "***"
    prefix, rest = match[0], url[match.end() :]
    if rest.startswith("//"):
        prefix, rest = prefix + "//", rest[2:]
    # A password may hold '/', '?' and '#' unescaped, so the last '@' of all decides.
    _, at, rest = rest.rpartition("@")
    visible = re.split(r"[?#]", rest, maxsplit=1)[0]
    host, slash, path = visible.partition("/")
    # 'user:password' with the host forgotten reads as a host with a strange port.
    if _PLAIN_AUTHORITY.fullmatch(host) is None:
        host = "***"
    cut = "?***" if len(visible) < len(rest) else ""
    return f"{prefix}{'***@' if at else ''}{host}{slash}{path}{cut}"
