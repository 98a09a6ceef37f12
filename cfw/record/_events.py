"""What a recorder tells while it runs."""

from __future__ import annotations

from pathlib import Path

from cfw.client import FeedOutage
from cfw.record._capture import Written
from schemas import FeedOpened


class Listener:
    """Hears what becomes of captures; each method does nothing unless a subclass says so.

    They are called between two steps of the recorder: none may wait or raise.
    """

    def connected(self, outage: FeedOutage | None) -> None:
        """The feed is read, after it was away; None for the first time."""

    def lost(self, outage: FeedOutage) -> None:
        """The feed has ended; what comes from now on is missed."""

    def began(self, opened: FeedOpened) -> None:
        """A capture has opened."""

    def frame(self, size: int) -> None:
        """A frame of so many bytes has come."""

    def waiting(self, size: int) -> None:
        """So many bytes of frames wait for the disk now."""

    def ended(self, written: Written) -> None:
        """A recording is finished."""

    def failed(self, capture_id: str, part: Path | None, reason: str) -> None:
        """A recording could not be written; what there is of it is in `part`."""

    def slow(self, waited_s: float) -> None:
        """The disk has kept the feed, and with it the captures, waiting for so long."""

    def stray(self, capture_id: str) -> None:
        """A message came of a capture that had not opened; it is recorded nowhere."""


class Listeners(Listener):
    """Tells several."""

    def __init__(self, *others: Listener) -> None:
        self._others = others

    def connected(self, outage: FeedOutage | None) -> None:
        for other in self._others:
            other.connected(outage)

    def lost(self, outage: FeedOutage) -> None:
        for other in self._others:
            other.lost(outage)

    def began(self, opened: FeedOpened) -> None:
        for other in self._others:
            other.began(opened)

    def frame(self, size: int) -> None:
        for other in self._others:
            other.frame(size)

    def waiting(self, size: int) -> None:
        for other in self._others:
            other.waiting(size)

    def ended(self, written: Written) -> None:
        for other in self._others:
            other.ended(written)

    def failed(self, capture_id: str, part: Path | None, reason: str) -> None:
        for other in self._others:
            other.failed(capture_id, part, reason)

    def slow(self, waited_s: float) -> None:
        for other in self._others:
            other.slow(waited_s)

    def stray(self, capture_id: str) -> None:
        for other in self._others:
            other.stray(capture_id)
