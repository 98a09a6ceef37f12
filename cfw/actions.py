"""What the shell has to do next. The core decides these; it carries out none of them."""

from __future__ import annotations

from typing import TypeAlias

import attrs

from cfw.errors import DomainError
from cfw.state import Frame, frozen_when_typed
from schemas import CaptureClose


@attrs.frozen
class RequestSessionValidation:
    """Ask whether the user may start a capture, and let no frame in before the answer."""

    user_id: str
    session_id: str


@attrs.frozen
class RequestSessionRecheck:
    """Ask again whether the user may go on; frames do not wait for the answer."""

    user_id: str
    session_id: str


@frozen_when_typed
class ForwardFrame:
    """Hand an accepted frame on."""

    frame: Frame


@attrs.frozen
class AbortCapture:
    """End the capture for this reason, and tell the rig."""

    error: DomainError


@attrs.frozen
class CleanupCapture:
    """Release everything the capture holds.

    Args:
        close: the rig's `capture.close`, when what is left is to be forwarded first; None
            when it is to be discarded.
    """

    close: CaptureClose | None


Action: TypeAlias = (
    RequestSessionValidation
    | RequestSessionRecheck
    | ForwardFrame
    | AbortCapture
    | CleanupCapture
)
