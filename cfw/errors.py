"""Why a capture cannot go on: the tree of `schemas.errors`, by the name the core has for it.

The core knows no close code: `cfw.routes.outcome` maps each error to one.
"""

from __future__ import annotations

from schemas import errors
from schemas.errors import *

__all__ = ["DomainError"]
__all__ += errors.__all__

#: What the core raises, and what a rig's program catches, is one class.
DomainError = errors.CaptureAborted
