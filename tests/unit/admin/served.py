"""A running admin listener for a test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import trio

from cfw.admin import AdminServer, create_app, serve_admin
from cfw.http.messages import Handler
from cfw.http.routing import App
from cfw.limits import Limits, Times
from cfw.routes.registry import Registry
from cfw.sinks.hub import Hub
from tests.patience import PATIENCE_S


@asynccontextmanager
async def served(app: Handler, **options: Any) -> AsyncIterator[AdminServer]:
    """The application behind a socket; stopped in the orderly way behind the block."""
    with trio.fail_after(2 * PATIENCE_S):
        async with trio.open_nursery() as nursery:
            server: AdminServer = await nursery.start(partial(serve_admin, app, **options))
            yield server
            server.stop()


def hub_app(hub: Hub | None) -> App:
    """The application around a hub."""
    return make_app(hub=hub)


def make_app(**options: Any) -> App:
    """The application, with what the test does not care about filled in."""
    usual: dict[str, Any] = {
        "registry": Registry(Limits()),
        "hub": None,
        "is_ready": lambda: True,
        "capture_url": "ws://127.0.0.1:8765/camera_feed_worker/capture",
        "limits": Limits(),
        "times": Times(),
    }
    return create_app(**usual | options)
