"""The ASGI application of the admin listener."""

from __future__ import annotations

from collections.abc import Callable

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket

from cfw.admin.feed import feed_endpoint
from cfw.registry import CaptureStatus, Registry
from cfw.sinks.hub import Hub

# Every answer is about this moment.
_HEADERS = {"cache-control": "no-store"}


def create_app(
    *, registry: Registry, hub: Hub | None, is_ready: Callable[[], bool]
) -> Starlette:
    """The application: `/healthz`, `/readyz`, `/captures` and the WebSocket `/feed`.

    It has no secrets to tell and no way to change anything.

    Args:
        registry: the captures that run.
        hub: where `/feed` subscribes; None when the sink is another one.
        is_ready: False from the moment the worker takes no new capture.
    """

    async def healthz(_: Request) -> Response:
        return _json({"status": "ok"})

    async def readyz(_: Request) -> Response:
        if is_ready():
            return _json({"status": "ready"})
        return _json({"status": "draining"}, 503)

    async def captures(_: Request) -> Response:
        return _json({"captures": [_capture(status) for status in registry.statuses()]})

    app = Starlette(
        routes=[
            Route("/healthz", healthz),
            Route("/readyz", readyz),
            Route("/captures", captures),
            WebSocketRoute("/feed", feed_endpoint(hub)),
        ],
        exception_handlers={HTTPException: _refused, Exception: _failed},
    )
    # A redirect would repeat whatever Host header the client made up.
    app.router.redirect_slashes = False
    app.router.default = _not_found
    return app


def _json(content: object, status: int = 200) -> Response:
    return JSONResponse(content, status, _HEADERS)


def _capture(status: CaptureStatus) -> dict[str, object]:
    return {
        "capture_id": status.capture_id,
        "user_id": status.user_id,
        "session_id": status.session_id,
        "state": status.state,
        "frames": status.frames,
        "bytes": status.bytes,
        "buffer_frames": status.buffer_frames,
        "buffer_bytes": status.buffer_bytes,
        "opened": str(status.opened),
        "fps": status.fps,
    }


async def _not_found(scope: Scope, receive: Receive, send: Send) -> None:
    response = _json({"error": "not found"}, 404)
    if scope["type"] == "websocket":
        await WebSocket(scope, receive, send).send_denial_response(response)
    else:
        await response(scope, receive, send)


async def _refused(_: Request, exc: Exception) -> Response:
    assert isinstance(exc, HTTPException)
    return JSONResponse(
        {"error": exc.detail.lower()}, exc.status_code, {**_HEADERS, **(exc.headers or {})}
    )


async def _failed(_: Request, __: Exception) -> Response:
    # Starlette raises the exception again behind this answer, and serve_admin logs it.
    return _json({"error": "internal error"}, 500)
