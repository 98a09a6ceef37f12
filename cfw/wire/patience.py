"""What has come is taken before a time is held against anybody.

A process can stand still: it was stopped, its machine was moved or put to sleep, it waited for
memory from a disk. What a peer sent meanwhile lies in the kernel, or still at the peer, whose
kernel was told that there is no room. So whoever finds that a time was over long ago was away
itself, and gives the peer a moment; who finds it over in time first reads what is there.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Final

import trio

#: Who finds so much too late that a time is over was away. Many passes of the event loop, and
#: little beside the times that a peer has.
LATE_S: Final = 0.1
#: What a peer gets when we were away: a second attempt of its TCP and a few round trips.
OVERDUE_S: Final = 1.0
#: So much is taken of one that goes on sending when its time is over: more than kernels hold of
#: a connection (Linux: up to 6 MB), and a few milliseconds of work.
OVERDUE_BYTES: Final = 8 * 1024 * 1024
#: How long to look for what is there: behind TLS one look is several reads.
_LOOK_S: Final = 0.001


class Patience:
    """How long one peer is still read when a time is over for it.

    It is read until nothing is there; for `OVERDUE_S` when we were away or did not read it.
    Neither way for more than `OVERDUE_BYTES`, so nobody puts a time off by sending.
    """

    def __init__(self) -> None:
        # When it was seen that a time is over; every time before that counts as the same.
        self._seen_at = -math.inf
        self._was_away = False
        self._left_bytes = 0

    def wait_until(self, deadline: float, now: float) -> float:
        """Until when to wait for bytes although `deadline` has come; all by Trio's clock."""
        self._see(deadline, now)
        return self._seen_at + OVERDUE_S if self._was_away else now + _LOOK_S

    def is_over(
        self, deadline: float, now: float, received: int | None, *, was_held: bool
    ) -> bool:
        """Whether a time that has come is to be held against the peer now, after a read.

        Args:
            deadline: when it came, by Trio's clock.
            now: by the same clock.
            received: how many bytes the read brought; None when nothing was there.
            was_held: whether we did not read the peer although it may have sent.
        """
        self._see(deadline, now)
        self._was_away = self._was_away or was_held
        if received is None and not self._was_away:
            return True
        self._left_bytes -= received or 0
        return self.is_spent(deadline, now)

    def is_spent(self, deadline: float, now: float) -> bool:
        """Whether so much was taken since then that nothing more is, although it is there."""
        if deadline > self._seen_at:
            return False
        return self._left_bytes <= 0 or now >= self._seen_at + OVERDUE_S

    def _see(self, deadline: float, now: float) -> None:
        if deadline > self._seen_at:
            self._seen_at = now
            self._was_away = now - deadline > LATE_S
            self._left_bytes = OVERDUE_BYTES


def hold_after(seconds: float) -> AbstractContextManager[trio.CancelScope, bool]:
    """As `trio.move_on_after`, but when we were away at its end it gives `OVERDUE_S` more.

    For what waits in more than one place, or for somebody else than a peer.
    """
    return _hold_after(seconds)  # type: ignore[return-value]  # ends its own scope's Cancelled


@contextmanager
def _hold_after(seconds: float) -> Iterator[trio.CancelScope]:
    with trio.move_on_after(seconds) as scope, _holds().watched(scope):
        yield scope


class _Holds(trio.abc.Instrument):
    """Puts off what is over for too long: Trio asks it in each pass, before it looks itself.

    So nothing waits for it, and it is there only while something is held.
    """

    def __init__(self) -> None:
        self._scopes: set[trio.CancelScope] = set()
        # No deadline of theirs is before this; there may be thousands of handshakes.
        self._soonest = math.inf

    @contextmanager
    def watched(self, scope: trio.CancelScope) -> Iterator[None]:
        if not self._scopes:
            trio.lowlevel.add_instrument(self)
        self._scopes.add(scope)
        self._soonest = min(self._soonest, scope.deadline)
        try:
            yield
        finally:
            self._scopes.discard(scope)
            if not self._scopes:
                self._soonest = math.inf
                trio.lowlevel.remove_instrument(self)

    def after_io_wait(self, timeout: float) -> None:
        """What is over by much was missed; nothing has been cancelled in this pass."""
        now = trio.current_time()
        if now - self._soonest <= LATE_S:
            return
        self._soonest = math.inf
        for scope in self._scopes:
            if now - scope.deadline > LATE_S:
                scope.deadline = now + OVERDUE_S
            self._soonest = min(self._soonest, scope.deadline)


_HOLDS: Final = trio.lowlevel.RunVar[_Holds]("cfw.wire.patience")


def _holds() -> _Holds:
    try:
        return _HOLDS.get()
    except LookupError:
        holds = _Holds()
        _HOLDS.set(holds)
        return holds
