"""Which losses a film survives, and how long everything here waits before it opens again."""

from __future__ import annotations

import random
from typing import Final

import trio

from cfw.client._errors import AccessDenied, ConnectionLost, ConnectionRefused
from schemas import (
    CaptureError,
    ForwardFailed,
    InternalError,
    LimitForwardBufferExceeded,
    ServerAtCapacity,
    ServerShutdown,
)

#: From one attempt to the next, at first and at most; see `Backoff.pause` for the jitter.
PAUSE_S: Final = 0.1
LONGEST_PAUSE_S: Final = 5.0
#: A capture or a feed that lasted for so long shows that the trouble before it was over.
PROVEN_S: Final = 5.0
#: What passes by itself. A session that is closed, a rule that is broken and a limit that is
#: reached are there again in the next capture.
_PASSING: Final = (
    ConnectionLost,
    ForwardFailed,
    InternalError,
    LimitForwardBufferExceeded,
    ServerAtCapacity,
    ServerShutdown,
)
#: Nobody is let in there, or it is no worker; these do not pass.
_LASTING_STATUS: Final = frozenset({400, 404, 426})


def passes(failure: CaptureError) -> bool:
    """Whether the next capture may fare better."""
    if isinstance(failure, AccessDenied):
        return False
    if isinstance(failure, ConnectionRefused) and failure.status in _LASTING_STATUS:
        return False
    return isinstance(failure, _PASSING)


class Backoff:
    """How long to wait before the next attempt, and when to give up.

    Args:
        for_s: how long to go on trying from the first failure on, in seconds.
    """

    def __init__(self, for_s: float) -> None:
        self._for_s = for_s
        self._pause_s = 0.0
        self._last: CaptureError | None = None
        self._since = 0.0

    @property
    def in_trouble(self) -> bool:
        """Whether something has failed, and nothing succeeded since."""
        return self._last is not None

    def failed(self, failure: CaptureError, lasted_s: float = 0.0) -> None:
        """Something was lost after so many seconds, or could not be opened."""
        if lasted_s >= PROVEN_S:
            self.succeeded()
        if self._last is None:
            self._since = trio.current_time()
        self._last = failure
        self._pause_s = min(max(PAUSE_S, 2 * self._pause_s), LONGEST_PAUSE_S)

    def succeeded(self) -> None:
        """All is well again."""
        self._last, self._pause_s = None, 0.0

    async def pause(self) -> None:
        """Wait before an attempt: from half of what has been reached to all of it.

        So those who lost a worker at the same instant do not all come back at one.

        Raises:
            CaptureError: the last failure, when the time is over.
        """
        pause_s = self._pause_s * random.uniform(0.5, 1)
        if self._last is not None and trio.current_time() + pause_s > self._since + self._for_s:
            raise self._last
        await trio.sleep(pause_s)
