"""What all connections of a worker share."""

from __future__ import annotations

from collections.abc import Callable

import attrs

from cfw.identity import Gate
from cfw.limits import Limits, Times, limits_told
from cfw.metrics import Metrics
from cfw.routes.refusals import Refusals
from cfw.routes.registry import Registry
from cfw.routes.session import Sessions
from cfw.sessions import SessionAuthority
from cfw.sinks import Sink
from cfw.wire import Elsewhere
from schemas import WorkerLimits


@attrs.frozen(kw_only=True)
class Services:
    """What a connection is served with; nothing in it belongs to one of them.

    Args:
        limits: what a capture may cost.
        times: how long each step may take.
        sink: where accepted frames go.
        authority: who says whether a user may send.
        sessions: asks it.
        registry: who owns which capture_id.
        metrics: where all is counted.
        refusals: the connections that were not let in last.
        gate: who may connect.
        path: of the URL, without a query; the only one that leads to a capture.
        pages: serves who asks for another path; None answers 404 there.
        wall_clock: nanoseconds since 1970 UTC; read once per connection, so that a clock
            that is set meanwhile moves no deadline.

    Attributes:
        told_limits: those that a rig is told when it is let in.
    """

    limits: Limits
    times: Times
    sink: Sink
    authority: SessionAuthority
    sessions: Sessions
    registry: Registry
    metrics: Metrics
    refusals: Refusals
    gate: Gate
    path: str
    pages: Elsewhere | None
    wall_clock: Callable[[], int]
    told_limits: WorkerLimits = attrs.field(init=False)

    @told_limits.default
    def _tell_limits(self) -> WorkerLimits:
        return limits_told(self.limits, self.times)
