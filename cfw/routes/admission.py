"""Who is let in: how many connections there may be, and what the others are told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import structlog
import trio

from cfw.limits import Limits
from cfw.metrics import Metrics, Refusal
from cfw.net import Throttle, address_of
from cfw.routes.refusals import Refusals
from cfw.wire import HandshakeReject, close_now, refuse, refuse_now

#: So many refused connections are seen off at a time; others are closed behind their answer.
REFUSED_AT_A_TIME = 64

_log: structlog.stdlib.BoundLogger = structlog.get_logger("cfw.capture")


class Admission:
    """Counts connections, in all and for each address, and turns away those beyond.

    A refused connection is answered before it has asked for anything, so a silent one costs
    no more than any other, and none of them takes the place of one that is let in.

    Args:
        limits: `max_connections` and `max_connections_per_address`.
        metrics: where connections are counted.
        refusals: where those are remembered that are not let in.
    """

    def __init__(self, limits: Limits, metrics: Metrics, refusals: Refusals) -> None:
        self._limits = limits
        self._metrics = metrics
        self._refusals = refusals
        self._by_address: Counter[str] = Counter()
        self._refusing = 0
        self._throttle = Throttle()

    @contextmanager
    def count(self, address: str | None) -> Iterator[None]:
        """Count one connection for as long as the context lasts."""
        self._metrics.connections += 1
        if address is not None:
            self._by_address[address] += 1
        try:
            yield
        finally:
            self._metrics.connections -= 1
            if address is not None:
                self._by_address[address] -= 1
                if not self._by_address[address]:
                    del self._by_address[address]

    def problem(self, address: str | None) -> tuple[Refusal, str] | None:
        """Why one connection more cannot be let in; None if it can."""
        if self._metrics.connections >= self._limits.max_connections:
            return "capacity", "the worker has no room for another connection"
        most = self._limits.max_connections_per_address
        if address is not None and self._by_address[address] >= most:
            problem = "the worker has no room for another connection from this address"
            return "address", f"{problem} (max_connections_per_address)"
        return None

    async def refuse(self, stream: trio.abc.Stream, why: Refusal, reason: str) -> None:
        """Say 503 without waiting for a request, and close; too many are not seen off.

        Cancellation: the stream is closed at once.
        """
        address = address_of(stream)
        self._refusals.record(why, 503, reason, address)
        if (unwritten := self._throttle.unwritten()) is not None:
            _log.info("connection.refused", reason=reason, address=address, unwritten=unwritten)
        answer = HandshakeReject(503, reason)
        # What saves descriptors must not hold one.
        if why == "descriptors" or self._refusing >= REFUSED_AT_A_TIME:
            await refuse_now(stream, answer)
            return
        self._refusing += 1
        try:
            await refuse(stream, answer)
        finally:
            self._refusing -= 1
            await close_now(stream)
