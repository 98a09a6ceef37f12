"""A whole worker on real sockets, and a foreign client that speaks to it."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import attrs
import pytest
import trio
from websockets.exceptions import ConnectionClosed
from websockets.trio.client import ClientConnection, connect

import cfw.api.main as application
from cfw.api import Addresses, Reload, Shutdown, serve
from cfw.api.config import load_config
from cfw.sessions import SessionAuthority
from cfw.sinks import Sink
from schemas import CaptureAbort, Timestamp, parse_output
from tests.factories import close_fields, meta_fields, open_fields
from tests.patience import PATIENCE_S

#: Seconds a capture may last: a test may wait twice in it, on a machine that is busy.
LONG_S = 300
#: What a peer there is given time for.
PATIENT = (
    "meta_to_bytes_s",
    "idle_s",
    "session_check_s",
    "handshake_s",
    "open_s",
    "message_s",
    "close_flush_s",
    "linger_s",
    "keepalive_timeout_s",
)


@attrs.define
class Worker:
    """A running worker."""

    addresses: Addresses
    shutdown: Shutdown
    reload: Reload

    def connect(self, **options: Any) -> Any:
        """Open a WebSocket as a client that is not ours."""
        return connect(self.addresses.capture, compression=None, proxy=None, **options)


@asynccontextmanager
async def running(
    monkeypatch: pytest.MonkeyPatch,
    *,
    sink: Sink | None = None,
    authority: SessionAuthority | None = None,
    **settings: Any,
) -> AsyncIterator[Worker]:
    """Serve on free ports; `limits__max_fps=3` sets limits.max_fps.

    Args:
        monkeypatch: puts the fakes in the place of what the URLs would open.
        sink: instead of the hub; None for the hub.
        authority: instead of the list of sessions; None for that list.
        settings: keys of the configuration.
    """
    for name, fake in (("open_sink", sink), ("open_authority", authority)):
        if fake is not None:
            monkeypatch.setattr(application, name, partial(_given, fake))
    keys: dict[str, object] = {"server.port": 0, "admin.port": 0}
    keys["sessions.static"] = ["ada:s-1"]
    # Unless a test says how much, so that no time ends what it is not about.
    keys["limits.max_duration_s"] = LONG_S
    keys |= {f"times.{name}": PATIENCE_S for name in PATIENT}
    keys |= {name.replace("__", "."): value for name, value in settings.items()}
    config = load_config(None, keys.items())
    shutdown, reload = Shutdown(), Reload()
    async with trio.open_nursery() as nursery:
        started = partial(serve, config, shutdown=shutdown, reload=reload)
        addresses = await nursery.start(started)
        yield Worker(addresses, shutdown, reload)
        shutdown.request()
        shutdown.request()
        nursery.cancel_scope.deadline = trio.current_time() + 30


@asynccontextmanager
async def _given(fake: Any, *_: Any, **__: Any) -> AsyncIterator[Any]:
    yield fake


def now(seconds: float = 0) -> str:
    """An instant near the real one, as a rig writes it."""
    return Timestamp.from_ns(time.time_ns() + round(seconds * 1e9)).text


def opening(**fields: Any) -> str:
    return json.dumps(open_fields(timestamp_start=now()) | fields)


def meta(seq: int = 1, byte_length: int = 200, **fields: Any) -> str:
    return json.dumps(meta_fields(seq, byte_length, timestamp_frame=now()) | fields)


def closing(**fields: Any) -> str:
    return json.dumps(close_fields(timestamp_end=now()) | fields)


async def ending(ws: ClientConnection) -> tuple[CaptureAbort | None, int | None, str]:
    """Read to the end: the abort if one came, close code and reason."""
    abort = None
    try:
        with trio.fail_after(PATIENCE_S):
            while True:
                message = await ws.recv()
                assert abort is None, "two aborts"
                abort = parse_output(message)
    except ConnectionClosed as exc:
        close = exc.rcvd
    assert close is not None, "no close frame came"
    return abort, close.code, close.reason
