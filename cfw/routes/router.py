"""`WS /camera_feed_worker/capture`, or another path: who is served, and until when.

Router         lets connections in, counts them, ends them at shutdown
Connection     one of them: handshake, first message, outcome, close
Capture        what its `capture.open` asks for: one nursery of reader, re-check, forwarder
Services       what all of them share
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable

import trio

from cfw.errors import ServerShutdown
from cfw.identity import Gate, Origins
from cfw.limits import Limits, Times
from cfw.metrics import Metrics
from cfw.net import address_of
from cfw.routes.admission import Admission
from cfw.routes.connection import Connection
from cfw.routes.refusals import Refusals
from cfw.routes.registry import Registry
from cfw.routes.services import Services
from cfw.routes.session import Sessions
from cfw.sessions import SessionAuthority
from cfw.sinks import Sink
from cfw.wire import Elsewhere

PATH = "/camera_feed_worker/capture"


class Router:
    """Serves capture connections; one failing never touches another.

    Args:
        limits: what a capture may cost.
        times: how long each step may take.
        sink: where accepted frames go.
        authority: who says whether a user may send.
        registry: who owns which capture_id.
        metrics: where it counts; None for its own.
        refusals: where it remembers whom it has not let in; None for its own.
        gate: who may connect; None lets everyone.
        path: of the URL, without a query; the only one that leads to a capture.
        pages: serves who asks for another path; None answers 404 there.
        wall_clock: nanoseconds since 1970 UTC; read once per connection, so that a clock
            that is set meanwhile moves no deadline.
    """

    def __init__(
        self,
        *,
        limits: Limits,
        times: Times,
        sink: Sink,
        authority: SessionAuthority,
        registry: Registry,
        metrics: Metrics | None = None,
        refusals: Refusals | None = None,
        gate: Gate | None = None,
        path: str = PATH,
        pages: Elsewhere | None = None,
        wall_clock: Callable[[], int] = time.time_ns,
    ) -> None:
        metrics = Metrics() if metrics is None else metrics
        refusals = Refusals(metrics) if refusals is None else refusals
        self.services = Services(
            limits=limits,
            times=times,
            sink=sink,
            authority=authority,
            sessions=Sessions(authority, times, metrics),
            registry=registry,
            metrics=metrics,
            refusals=refusals,
            gate=Gate(Origins("*")) if gate is None else gate,
            path=path,
            pages=pages,
            wall_clock=wall_clock,
        )
        self.is_draining = False
        self._connections: set[Connection] = set()
        self._ids = itertools.count(1)
        self._admission = Admission(limits, metrics, refusals)
        self._all_gone = trio.Event()

    async def handle(self, stream: trio.abc.Stream) -> None:
        """Serve one connection to its end and close the stream.

        Cancellation: the capture is aborted with `server_shutdown`; its terminal, abort
        message and close frame are still sent, under their deadlines.
        """
        if self.is_draining:
            await self._admission.refuse(stream, "draining", "the worker is shutting down")
            return
        address = address_of(stream)
        if (problem := self._admission.problem(address)) is not None:
            await self._admission.refuse(stream, *problem)
            return
        connection = Connection(self.services, next(self._ids))
        self._connections.add(connection)
        try:
            with self._admission.count(address):
                await connection.run(stream)
        finally:
            self._connections.discard(connection)
            if not self._connections:
                self._all_gone.set()

    async def shed(self, stream: trio.abc.Stream) -> None:
        """Let go of a connection at once: descriptors are nearly used up."""
        reason = "the worker has no descriptor for another connection"
        await self._admission.refuse(stream, "descriptors", reason)

    def drain(self) -> None:
        """Let running captures finish and end every connection that has none."""
        self.is_draining = True
        for connection in tuple(self._connections):
            if not connection.is_capturing:
                connection.abort(ServerShutdown("the worker is shutting down"))

    def abort_all(self) -> None:
        """End every connection with `server_shutdown`."""
        self.is_draining = True
        for connection in tuple(self._connections):
            connection.abort(
                ServerShutdown("the worker is shutting down and cannot wait any longer")
            )

    async def wait_gone(self) -> None:
        """Wait until no connection is left."""
        while self._connections:
            self._all_gone = trio.Event()
            await self._all_gone.wait()
