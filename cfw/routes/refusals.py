"""The connections that were not let in last: what a browser does not tell its page."""

from __future__ import annotations

from collections import deque
from typing import Final

import attrs
import trio

from cfw.metrics import Metrics, Refusal

#: So many are remembered; one more pushes the oldest out.
REFUSED_KEPT: Final = 50
#: What is told of one; a request chooses some of it.
_DETAIL_CHARACTERS: Final = 300


@attrs.frozen
class Refused:
    """One connection that was not let in.

    Args:
        why: as it is counted.
        status: of the HTTP answer; None when there was none, as without TLS.
        detail: what was answered.
        address: where it came from, without the port; None when that is not known.
        at_s: when, on Trio's clock.
    """

    why: Refusal
    status: int | None
    detail: str
    address: str | None
    at_s: float


class Refusals:
    """Counts connections that are not let in, and remembers the last `REFUSED_KEPT`.

    Args:
        metrics: where they are counted.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._kept: deque[Refused] = deque(maxlen=REFUSED_KEPT)

    def record(
        self, why: Refusal, status: int | None, detail: str, address: str | None
    ) -> None:
        """Count one."""
        self._metrics.refused[why] += 1
        told = detail[:_DETAIL_CHARACTERS]
        self._kept.append(Refused(why, status, told, address, trio.current_time()))

    @property
    def total(self) -> int:
        """How many there were."""
        return sum(self._metrics.refused.values())

    @property
    def newest(self) -> list[Refused]:
        """Those that are remembered, the newest first."""
        return [*reversed(self._kept)]

    def told(self, own: str) -> list[dict[str, object]]:
        """The same as plain values, with their age instead of the instant.

        Args:
            own: the address of who asks; `is_yours` says what came from there.
        """
        now = trio.current_time()
        return [
            {
                "why": each.why,
                "status": each.status,
                "detail": each.detail,
                "address": each.address,
                "ago_s": round(now - each.at_s, 3),
                "is_yours": each.address == own,
            }
            for each in self.newest
        ]
