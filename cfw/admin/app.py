"""What the admin listener answers."""

from __future__ import annotations

import math
from collections.abc import Callable

import attrs
import structlog
import trio

from cfw.admin._pace import LivePace
from cfw.admin.exposition import exposition
from cfw.admin.feed import feed_handler
from cfw.admin.invitations import Desk, invitation_routes
from cfw.admin.pages import codes_route, page_routes
from cfw.admin.pictures import picture_routes
from cfw.http.messages import NO_STORE, Request, Response, json_answer, problem
from cfw.http.routing import App, Route
from cfw.limits import Limits, Times
from cfw.metrics import Metrics
from cfw.net import group_of
from cfw.routes.refusals import Refusals
from cfw.routes.registry import Registry
from cfw.routes.rigs import Rigs
from cfw.sinks.hub import Hub
from schemas import ErrorCode

_log: structlog.stdlib.BoundLogger = structlog.get_logger("cfw.admin")

#: For a capture that was told to end to be over: its sink has `times.close_flush_s`.
REVOKE_S = 10.0


def create_app(
    *,
    registry: Registry,
    hub: Hub | None,
    is_ready: Callable[[], bool],
    capture_url: str,
    limits: Limits,
    times: Times,
    metrics: Metrics | None = None,
    refusals: Refusals | None = None,
    rigs: Rigs | None = None,
    needs_token: bool = False,
    desk: Desk | None = None,
) -> App:
    """The application: pages for people, JSON for programs, and the WebSocket `/feed`.

    It changes two things: it ends a capture, and lets people film by an invitation, whose link
    is told once, to who has asked for it.

    Args:
        registry: the captures that run, and those that ended last.
        hub: where `/feed` subscribes; None when the sink is another one.
        is_ready: False from the moment the worker takes no new capture. `/readyz` is red
            then, and while the session authority is out of reach.
        capture_url: where rigs connect, for the page that films.
        limits: what a capture may cost, for the pages to show and to keep.
        times: how long it may stand still, likewise.
        needs_token: whether rigs may send a token of a file, for the page that films.
        desk: where invitations are made; None for a worker that invites nobody.
        metrics: what the worker measures; None shows a worker that has measured nothing.
        refusals: the connections that were not let in last; None for none.
        rigs: those that are expected; None for none.
    """
    measured = Metrics() if metrics is None else metrics
    refused_last = Refusals(measured) if refusals is None else refusals
    expected = Rigs(math.inf) if rigs is None else rigs
    scrape = exposition(measured, registry, expected)
    pace = LivePace()

    async def healthz(_: Request) -> Response:
        return json_answer({"status": "ok"})

    def status() -> str:
        if not is_ready():
            return "draining"
        return "ready" if measured.is_authority_reachable else "authority_unreachable"

    async def readyz(_: Request) -> Response:
        now = status()
        return json_answer({"status": now}, 200 if now == "ready" else 503)

    async def show_metrics(request: Request) -> Response:
        body, content_type = scrape(request.header("accept") or "")
        return Response(200, body, {**NO_STORE, "content-type": content_type})

    async def captures(_: Request) -> Response:
        return json_answer(
            {
                "captures": registry.statuses(),
                # Tells a reader that polls when it is time to ask for `/ended`, and `/refused`.
                "ended": registry.ends.total(),
                "refused": refused_last.total,
                "status": status(),
                "rigs": expected.told(),
            }
        )

    async def revoke(request: Request) -> Response:
        capture_id = request.path.rpartition("/")[2]
        revocation = registry.revoke(capture_id)
        if revocation is None:
            return problem("no running capture has this capture_id", 404)
        _log.warning("capture.revoked", capture_id=capture_id, by=request.peer)
        with trio.move_on_after(REVOKE_S):
            end = await revocation.wait_end()
            if end.error_code is ErrorCode.SESSION_CLOSED:
                return Response(204)
            how = "cleanly" if end.error_code is None else f"with {end.error_code.value}"
            return problem(f"too late: the capture has ended {how}", 409)
        return json_answer({"status": "ending"}, 202)

    async def ended(_: Request) -> Response:
        counts = {code.value: n for code, n in registry.ends.items() if code is not None}
        return json_answer(
            {
                "ended": registry.ended[::-1],
                "clean": registry.ends[None],
                "aborted": counts,
            }
        )

    async def refused(request: Request) -> Response:
        return json_answer({"refused": refused_last.told(group_of(request.peer))})

    async def info(_: Request) -> Response:
        return json_answer(
            {
                "capture_url": capture_url,
                "has_feed": hub is not None,
                "needs_token": needs_token,
                "needs_invitation": desk is not None,
                "usual_session": desk and desk.usual,
                "limits": attrs.asdict(limits) | {"idle_s": times.idle_s},
            }
        )

    return App(
        [
            Route("/healthz", healthz),
            Route("/readyz", readyz),
            Route("/metrics", show_metrics),
            Route("/captures", captures),
            Route("/captures/{capture_id}", revoke, ("DELETE",)),
            Route("/ended", ended),
            Route("/refused", refused),
            Route("/info", info),
            codes_route(),
            *invitation_routes(desk),
            *page_routes(capture_url),
            *picture_routes(hub, registry, pace),
            Route("/feed", feed_handler(hub, pace), ("GET",)),
        ]
    )
