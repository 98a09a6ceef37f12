"""Session authorities: who says whether a session is active, chosen by URL.

`static:` answers from a list, `allow:` lets anyone in, `http://` and `https://` ask
a server, `valkey://` looks into one that a fleet shares. Installed packages add schemes
through the entry-point group `cfw.sessions`.
"""

from cfw.sessions._authority import (
    AuthorityError,
    AuthorityFactory,
    AuthorityUnreachable,
    NotifyingAuthority,
    SessionAuthority,
    SessionStatus,
    SessionUrlError,
    UnusableAnswer,
    watching,
)
from cfw.sessions._registry import check_authority_url, open_authority

__all__ = [
    "AuthorityError",
    "AuthorityFactory",
    "AuthorityUnreachable",
    "NotifyingAuthority",
    "SessionAuthority",
    "SessionStatus",
    "SessionUrlError",
    "UnusableAnswer",
    "check_authority_url",
    "open_authority",
    "watching",
]
