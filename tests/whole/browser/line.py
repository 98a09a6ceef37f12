"""A line between a page and its worker that can be cut, dead, and whole again."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit

import attrs
import trio

CHUNK = 65_536


@attrs.define
class Line:
    """Carries bytes from its port to a worker.

    Args:
        port: where the page connects.

    Attributes:
        is_up: else who connects is hung up on at once.
        runs: carries bytes; not set: takes none, and nobody is told.
        carried: connections that it carries now.
    """

    port: int
    is_up: bool = True
    runs: trio.Event = attrs.field(factory=trio.Event)
    carried: int = 0
    _to: str = ""
    _scopes: list[trio.CancelScope] = attrs.field(factory=list)

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    def lead(self, worker: str) -> None:
        """To which worker, by its URL."""
        self._to = worker
        self.runs.set()

    def cut(self, *, is_up: bool = False) -> None:
        """Reset all connections, and take no others unless `is_up`."""
        self.is_up = is_up
        for scope in self._scopes:
            scope.cancel()
        self._scopes.clear()

    def stall(self) -> None:
        """Take no byte more, without a word; connections made from now on stand still, too."""
        self.runs = trio.Event()

    async def carry(self, page: trio.SocketStream) -> None:
        """One connection, until it is cut or one side has ended."""
        async with page:
            if not self.is_up:
                return
            url = urlsplit(self._to)
            assert url.hostname is not None
            assert url.port is not None
            try:
                worker = await trio.open_tcp_stream(url.hostname, url.port)
            except OSError:
                return  # it has ended
            self.carried += 1
            try:
                async with worker, trio.open_nursery() as nursery:
                    self._scopes.append(nursery.cancel_scope)
                    nursery.start_soon(self._pass_on, page, worker, nursery.cancel_scope)
                    await self._pass_on(worker, page, nursery.cancel_scope)
            finally:
                self.carried -= 1

    async def _pass_on(
        self, source: trio.SocketStream, to: trio.SocketStream, scope: trio.CancelScope
    ) -> None:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while True:
                await self.runs.wait()
                data = await source.receive_some(CHUNK)
                await self.runs.wait()
                if not data:
                    break
                await to.send_all(data)
        scope.cancel()


@asynccontextmanager
async def line() -> AsyncIterator[Line]:
    """One that leads nowhere yet."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with trio.open_nursery() as nursery:
        made = Line(listener.socket.getsockname()[1])
        nursery.start_soon(trio.serve_listeners, made.carry, [listener])
        yield made
        nursery.cancel_scope.cancel()
