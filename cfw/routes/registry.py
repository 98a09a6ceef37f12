"""The captures that run in this process: one owner for each capture_id, and a look at all."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain

import attrs
import trio

from cfw.errors import (
    OPERATOR_ENDED,
    DomainError,
    ProtocolViolation,
    ServerAtCapacity,
    SessionClosed,
)
from cfw.limits import Limits
from schemas import ErrorCode, Timestamp

#: Ended captures that are remembered, for people who look a moment too late; and as many that
#: were refused, so that strangers push none of the others out.
ENDED_KEPT = 100


@attrs.frozen(kw_only=True)
class CaptureStatus:
    """A running capture as an operator sees it.

    Args:
        state: `active`, or `closing` while what is left is forwarded.
        frames: frames accepted so far.
        bytes: bytes of those frames.
        buffer_frames: frames accepted and not yet taken by the sink.
        buffer_bytes: bytes of those.
        opened: when the worker took the `capture.open`.
        fps: frames accepted per second since then.
        clock_offset_min_ms: the rig's clock minus ingest time is at least this; None when
            nothing is known.
        clock_offset_max_ms: and at most this; None when no round trip is known.
    """

    capture_id: str
    user_id: str
    session_id: str
    state: str
    frames: int
    bytes: int
    buffer_frames: int
    buffer_bytes: int
    opened: Timestamp
    fps: float
    clock_offset_min_ms: float | None = None
    clock_offset_max_ms: float | None = None


@attrs.frozen(kw_only=True)
class EndedCapture:
    """A capture that is over, or was refused at its `capture.open`.

    Args:
        frames: frames accepted.
        bytes: bytes of those frames.
        error_code: why it was aborted; None when it ended cleanly.
        detail: the abort's own words; None when it ended cleanly.
        opened: when the worker took the `capture.open`.
        ended: when it was over.
        clock_offset_min_ms: as for `CaptureStatus`.
        clock_offset_max_ms: likewise.
    """

    capture_id: str
    user_id: str
    session_id: str
    frames: int
    bytes: int
    error_code: ErrorCode | None
    detail: str | None
    opened: Timestamp
    ended: Timestamp
    clock_offset_min_ms: float | None = None
    clock_offset_max_ms: float | None = None


@attrs.frozen
class _Claim:
    status: Callable[[], CaptureStatus]
    abort: Callable[[DomainError], object]


@attrs.define(eq=False)
class Revocation:
    """A capture that was told to end."""

    _end: EndedCapture | None = None
    _is_over: trio.Event = attrs.field(factory=trio.Event)

    async def wait_end(self) -> EndedCapture:
        """Wait for what becomes of it: it may end in another way just then."""
        await self._is_over.wait()
        assert self._end is not None
        return self._end

    def settle(self, end: EndedCapture) -> None:
        """It has ended."""
        self._end = end
        self._is_over.set()


class Registry:
    """Who owns which capture_id in this process, and how much memory all may come to hold.

    Args:
        limits: `max_memory_bytes` is shared by the captures; each reserves the most it can
            hold at once, so that none can be starved by another later.
        note_end: told each capture that is over; not those that were refused.
    """

    def __init__(
        self, limits: Limits, note_end: Callable[[EndedCapture], object] = lambda _: None
    ) -> None:
        self._note_end = note_end
        self._captures: dict[str, _Claim] = {}
        self._budget = limits.max_memory_bytes
        self._each = limits.capture_memory_bytes
        self._revocations: dict[str, Revocation] = {}
        # Each behind its number.
        self._ended: deque[tuple[int, EndedCapture]] = deque(maxlen=ENDED_KEPT)
        self._refused: deque[tuple[int, EndedCapture]] = deque(maxlen=ENDED_KEPT)
        #: How many captures have ended in which way; None is a clean end.
        self.ends: Counter[ErrorCode | None] = Counter()

    @contextmanager
    def claim(
        self,
        capture_id: str,
        status: Callable[[], CaptureStatus],
        abort: Callable[[DomainError], object],
    ) -> Iterator[None]:
        """Own a capture_id, and memory for it, for as long as the context lasts.

        Args:
            capture_id: the id the rig chose.
            status: answers what the capture looks like now.
            abort: ends the capture for a reason from outside; does not wait.

        Raises:
            ProtocolViolation: another connection owns it.
            ServerAtCapacity: its worst case does not fit beside the others.
        """
        if capture_id in self._captures:
            raise ProtocolViolation(
                "capture_id is active on another connection; choose a new one per capture"
            )
        reserved = (len(self._captures) + 1) * self._each
        if reserved > self._budget:
            raise ServerAtCapacity(
                f"{len(self._captures)} captures have reserved the worker's memory "
                "(max_memory_bytes); try again later",
                observed=reserved,
                limit=self._budget,
            )
        self._captures[capture_id] = _Claim(status, abort)
        try:
            yield
        finally:
            del self._captures[capture_id]

    @property
    def ended(self) -> list[EndedCapture]:
        """The captures that ended last and those that were refused last, oldest first."""
        return [
            capture for _, capture in sorted(chain(self._ended, self._refused), key=_number)
        ]

    def record_end(self, capture: EndedCapture, *, was_refused: bool = False) -> None:
        """Remember how a capture ended, or that it was refused before it owned its id."""
        self.ends[capture.error_code] += 1
        kept = self._refused if was_refused else self._ended
        kept.append((self.ends.total(), capture))
        if was_refused:
            return
        self._note_end(capture)
        if revocation := self._revocations.pop(capture.capture_id, None):
            revocation.settle(capture)

    def revoke(self, capture_id: str) -> Revocation | None:
        """End a running capture with `session_closed`; None if none has this id.

        Its rig and its sink are told as of any abort; this does not wait for it.
        """
        claim = self._captures.get(capture_id)
        if claim is None:
            return None
        claim.abort(SessionClosed(OPERATOR_ENDED))
        return self._revocations.setdefault(capture_id, Revocation())

    def __len__(self) -> int:
        return len(self._captures)

    def __contains__(self, capture_id: object) -> bool:
        return capture_id in self._captures

    def statuses(self) -> list[CaptureStatus]:
        """All running captures, oldest first."""
        return [claim.status() for claim in self._captures.values()]


def _number(kept: tuple[int, EndedCapture]) -> int:
    return kept[0]
