"""The rigs that are expected: which of them films, and which has stopped coming.

A rig has no name of its own in the protocol. It is known by its user, and by its session where
one user has several rigs.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import attrs
import structlog
import trio

from cfw.routes.registry import CaptureStatus, EndedCapture, Registry

_log: structlog.stdlib.BoundLogger = structlog.get_logger("cfw.capture")

#: From one look at the running captures to the next; a capture that ends between is not missed.
LOOK_S: Final = 1.0


@attrs.frozen
class Rig:
    """A rig that is expected.

    Args:
        name: what people call it.
        user_id: the user that it films as.
        session_id: the session that it films in; None for any of its user.
    """

    name: str
    user_id: str
    session_id: str | None = None

    def has_made(self, capture: CaptureStatus | EndedCapture) -> bool:
        """Whether a capture is of this rig."""
        return capture.user_id == self.user_id and (
            self.session_id is None or capture.session_id == self.session_id
        )


@attrs.define
class _Seen:
    at_s: float
    is_missing: bool = False


class Rigs:
    """Looks after the rigs that are expected.

    Args:
        missing_after_s: seconds without a capture, from which on a rig is missing; the time
            between two captures is no absence.
    """

    def __init__(self, missing_after_s: float) -> None:
        self._missing_after_s = missing_after_s
        self._seen: dict[Rig, _Seen] = {}

    def expect(self, rigs: Iterable[Rig]) -> None:
        """Expect these and no others; one that was expected before is missed from as early."""
        now = trio.current_time()
        self._seen = {rig: self._seen.get(rig, _Seen(now)) for rig in rigs}

    def note_end(self, capture: EndedCapture) -> None:
        """A capture is over: its rig was there until now."""
        self._note(capture)

    def look(self, registry: Registry) -> None:
        """See which rigs film now, and log which have gone missing and which are back."""
        if not self._seen:
            return
        for capture in registry.statuses():
            self._note(capture)
        now = trio.current_time()
        for rig, seen in self._seen.items():
            absence = now - seen.at_s
            is_missing = absence >= self._missing_after_s
            if is_missing and not seen.is_missing:
                _log.warning("rig.missing", rig=rig.name, user_id=rig.user_id, for_s=absence)
            elif seen.is_missing and not is_missing:
                _log.info("rig.back", rig=rig.name, user_id=rig.user_id)
            seen.is_missing = is_missing

    async def watch(self, registry: Registry) -> None:
        """Look again and again; never returns."""
        while True:
            self.look(registry)
            await trio.sleep(LOOK_S)

    def missing(self) -> dict[str, bool]:
        """Each rig by its name, and whether it was missing at the last look."""
        return {rig.name: seen.is_missing for rig, seen in self._seen.items()}

    def told(self) -> list[dict[str, object]]:
        """The same as plain values, with the seconds for which a rig is missing."""
        now = trio.current_time()
        return [
            {
                **attrs.asdict(rig),
                "missing_s": round(now - seen.at_s, 1) if seen.is_missing else None,
            }
            for rig, seen in self._seen.items()
        ]

    def _note(self, capture: CaptureStatus | EndedCapture) -> None:
        now = trio.current_time()
        for rig, seen in self._seen.items():
            if rig.has_made(capture):
                seen.at_s = now
