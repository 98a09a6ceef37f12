"""Who may connect: tokens, origins and certificates. IDENTITY.md beside this file tells more.

What is read here is asked before a WebSocket is opened. Whether a user may send is another
question, which the session authority answers (`cfw.sessions`).
"""

from cfw.identity.files import UnusableFile, read_regular
from cfw.identity.gate import SUBPROTOCOL, Gate, Identity
from cfw.identity.hosts import is_loopback
from cfw.identity.invitations import (
    Invitation,
    InvitationError,
    Invitations,
    InvitationsOutOfReach,
    Inviting,
    NotInvited,
    Secret,
    TooManyInvitations,
)
from cfw.identity.origins import Origins, check_origin, is_same_origin, page_origins
from cfw.identity.tls import TlsFileError, TlsFiles
from cfw.identity.tokens import TokenFileError, Tokens, make_token

__all__ = [
    "SUBPROTOCOL",
    "Gate",
    "Identity",
    "Invitation",
    "InvitationError",
    "Invitations",
    "InvitationsOutOfReach",
    "Inviting",
    "NotInvited",
    "Origins",
    "Secret",
    "TlsFileError",
    "TlsFiles",
    "TokenFileError",
    "Tokens",
    "TooManyInvitations",
    "UnusableFile",
    "check_origin",
    "is_loopback",
    "is_same_origin",
    "make_token",
    "page_origins",
    "read_regular",
]
