"""A server in memory: how requests get there, and what comes of those nobody waits for."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import attrs
import trio

from cfw.valkey import CaptureTaken, GroupLost, LeaseLost, TailLost, ValkeyFailed


@attrs.define
class _Request:
    effect: Callable[[], Any]
    done: trio.Event = attrs.Factory(trio.Event)
    result: Any = None
    error: Exception | None = None


@attrs.define(kw_only=True)
class FakeServer:
    """Takes one request after the other; one whose caller was cancelled is carried out too.

    Args:
        connect_s: how long it takes to have a connection; who is cancelled then, has asked
            nothing.
        delay_s: how long a request is on its way, and its answer.

    Attributes:
        drops: what is lost while the server is `away`: requests or answers.
        away_until: the server is out of reach until then.
    """

    connect_s: float = 0
    delay_s: float = 0.001
    drops: str = "requests"
    away_until: float = 0
    _queue: deque[_Request] = attrs.Factory(deque)
    _wake: trio.Event = attrs.Factory(trio.Event)

    async def serve(self) -> None:
        """The server's side; never returns."""
        while True:
            while not self._queue:
                self._wake = trio.Event()
                await self._wake.wait()
            await trio.sleep(self.delay_s)
            request = self._queue.popleft()
            is_away = trio.current_time() < self.away_until
            try:
                if not is_away or self.drops == "answers":
                    request.result = request.effect()
            except (CaptureTaken, GroupLost, LeaseLost, TailLost) as exc:
                request.error = exc
            await trio.sleep(self.delay_s)
            if is_away:
                request.error = ValkeyFailed("planted: the server is away")
            request.done.set()

    async def ask(self, effect: Callable[[], Any]) -> Any:
        """Have the server do something; what comes of it."""
        if self.connect_s:
            await trio.sleep(self.connect_s)
        request = _Request(effect)
        self._queue.append(request)
        self._wake.set()
        await request.done.wait()
        if request.error is not None:
            raise request.error
        return request.result
