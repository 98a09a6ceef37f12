"""Why a capture cannot go on: the tree of `schemas.errors`, by the name the core has for it.

The core knows no close code: `cfw.routes.outcome` maps each error to one.
"""

from __future__ import annotations

from typing import Final

from schemas import errors
from schemas.errors import *

__all__ = [
    "INVITATION_ENDED",
    "OPERATOR_ENDED",
    "SESSION_ENDED",
    "SESSION_UNCHECKED",
    "DomainError",
]
__all__ += errors.__all__

#: What the core raises, and what a rig's program catches, is one class.
DomainError = errors.CaptureAborted

#: Details that say more than their code: `cfw.explanations` has words for each.
INVITATION_ENDED: Final = "this invitation has ended, or was taken back"
OPERATOR_ENDED: Final = "an operator ended this capture"
SESSION_ENDED: Final = "the session has ended"
SESSION_UNCHECKED: Final = "the session could not be checked; try again later"
