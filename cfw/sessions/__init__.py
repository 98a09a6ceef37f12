"""Session authorities: who says whether a session is active, chosen by URL.

``static:`` answers from a list, ``allow:`` lets anyone in, ``http://`` and ``https://`` ask
a server, ``valkey://`` looks into one that a fleet shares. Installed packages add schemes
through the entry-point group ``cfw.sessions``.
"""

from cfw.sessions._authority import (
    AuthorityFactory,
    AuthorityUnreachable,
    NotifyingAuthority,
    SessionAuthority,
    SessionStatus,
    SessionUrlError,
    watching,
)
from cfw.sessions._registry import check_authority_url, open_authority

__all__ = [
    "AuthorityFactory",
    "AuthorityUnreachable",
    "NotifyingAuthority",
    "SessionAuthority",
    "SessionStatus",
    "SessionUrlError",
    "check_authority_url",
    "open_authority",
    "watching",
]
