"""Rounds of a feed with `frames=asked`: the newest frames of all that is looked at, in one go.

What a frame costs the loop of the captures is little beside what it costs to wake up for it and
to write it. So a page says what it looks at, how often it can show that, and for how long; and
gets one message at a time with all there is. That it asks again says that it keeps up.
"""

from __future__ import annotations

import json
import math
from struct import Struct
from typing import Final

import attrs
import orjson
import trio

from cfw.admin._pace import LivePace
from cfw.sinks.hub import AskedSubscription, FeedItem
from cfw.state import Frame

__all__ = ["ALLOWED", "Rounds", "packed"]

#: What a reader may say; the bounds are those of `_read`.
ALLOWED: Final = (
    'say {"ask": ["CAPTURE_ID", ...]}, '
    'with "frames" from 1 to 1000 and "every_s" from 0.01 to 60'
)
MOST_FRAMES: Final = 1_000
SHORTEST_S, LONGEST_S = 0.01, 60.0
#: No camera at a usual rate is held back by it.
USUAL_S: Final = 1 / 30
#: So long an ask holds at least, for a capture that is slow to come to its next frame.
LEAST_S: Final = 3.0
#: Of the pictures of a round: it is in memory three times over while it is written, and a slow
#: line has to take it in one piece.
MOST_BYTES: Final = 2_000_000
_LENGTH = Struct("!I")


@attrs.frozen
class _Question:
    """What a reader asks for.

    Args:
        capture_ids: of what.
        frames: how many of each.
        every_s: seconds from one frame of each to its next, at least.
    """

    capture_ids: list[str]
    frames: int
    every_s: float


def _read(message: str | bytes) -> _Question | None:
    """What the reader says; None when that is none of what it may say."""
    try:
        said = json.loads(message)
    except (ValueError, RecursionError):
        return None
    if not isinstance(said, dict) or not said.keys() <= {"ask", "frames", "every_s"}:
        return None
    ids, frames, every_s = said.get("ask"), said.get("frames", 1), said.get("every_s", USUAL_S)
    if not isinstance(ids, list) or not all(type(each) is str for each in ids):
        return None
    if type(frames) is not int or not 1 <= frames <= MOST_FRAMES:
        return None
    if type(every_s) not in (int, float) or not SHORTEST_S <= every_s <= LONGEST_S:
        return None
    return _Question(ids, frames, every_s)


class Rounds:
    """When the next round of one reader is due, and what is in it.

    Args:
        subscription: what it looks at.
        pace: of all live viewers; while the worker is busy, rounds come less often.
    """

    def __init__(self, subscription: AskedSubscription, pace: LivePace) -> None:
        self._subscription = subscription
        self._pace = pace
        self._every_s = USUAL_S
        # When the last round began, when it was told of last, and when nobody asks any more.
        self._begun = self._told = self._until = -math.inf
        self._waiting: trio.CancelScope | None = None

    def hear(self, message: str | bytes) -> bool:
        """Do what the reader says; False when that is none of what it may say."""
        question = _read(message)
        if question is None:
            return False
        self._subscription.ask(question.capture_ids, question.frames)
        self._every_s = question.every_s
        lasts_s = 2 * question.frames * question.every_s
        self._until = trio.current_time() + max(lasts_s, LEAST_S)
        if self._waiting is not None:
            self._waiting.deadline = self._due
        return True

    @property
    def _due(self) -> float:
        if not self._subscription.has_asked():
            return math.inf
        rested = self._told + self._pace.rest_s
        if self._subscription.has_left_out():
            return rested
        return max(self._begun + self._every_s, rested)

    def __aiter__(self) -> Rounds:
        return self

    async def __anext__(self) -> FeedItem | list[Frame]:
        """What is to be told next: a round that is due, which may be empty, or an item.

        Cancellation: safe; nothing is lost.
        """
        # Items first: to a reader that is slow, a round is always due.
        due = math.inf if self._subscription.is_ready() else self._due
        with trio.CancelScope(deadline=due) as self._waiting:
            item = await anext(self._subscription)
            # The last one of a capture, behind which comes its end.
            return [item] if isinstance(item, Frame) else item
        now, due = trio.current_time(), self._waiting.deadline
        self._pace.look()
        if now > self._until:
            self._subscription.forget()
        if not self._subscription.has_left_out():
            # In step with the one before, unless that was long ago.
            self._begun = due if now - due < self._every_s / 2 else now
        self._told = now
        return self._subscription.newest(MOST_BYTES)


def packed(frames: list[Frame]) -> bytes:
    """A round as one message: how long its JSON is, that, and the JPEGs in its order."""
    told = [
        {
            "capture_id": frame.meta.capture_id,
            "seq": frame.meta.seq,
            "byte_length": len(frame.data),
            "delay_s": (frame.ingest_ns - frame.meta.timestamp_frame.ns) / 1e9,
        }
        for frame in frames
    ]
    head = orjson.dumps({"event": "capture.frames", "frames": told})
    return b"".join((_LENGTH.pack(len(head)), head, *(frame.data for frame in frames)))
