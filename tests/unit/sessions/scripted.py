"""An HTTP server that answers as a test writes it, right and wrong in every way."""

from __future__ import annotations

import json
import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import attrs
import trio

Answer = Callable[[trio.abc.Stream], Awaitable[None]]


@attrs.frozen
class Request:
    """What arrived, and on which connection (0, 1, ...)."""

    connection: int
    head: str
    body: bytes

    def header(self, name: str) -> str | None:
        found = re.search(rf"(?im)^{re.escape(name)}: *(.*?)\r?$", self.head)
        return found[1] if found else None


@attrs.define
class ScriptedServer:
    """An HTTP server that records requests and answers each by the script's next entry."""

    url: str
    script: list[Answer]
    requests: list[Request] = attrs.field(factory=list)
    connections: int = 0
    live: int = 0
    idle: trio.Event = attrs.field(factory=trio.Event)

    async def serve(self, stream: trio.abc.Stream) -> None:
        connection, self.connections = self.connections, self.connections + 1
        if not self.live:
            self.idle = trio.Event()
        self.live += 1
        try:
            async with stream:
                await self._converse(connection, stream)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            self.live -= 1
            if not self.live:
                self.idle.set()

    async def _converse(self, connection: int, stream: trio.abc.Stream) -> None:
        buffer = b""
        while True:
            while b"\r\n\r\n" not in buffer:
                data = await stream.receive_some()
                if not data:
                    return
                buffer += data
            head, _, buffer = buffer.partition(b"\r\n\r\n")
            request = Request(connection, head.decode(), b"")
            length = int(request.header("content-length") or 0)
            while len(buffer) < length:
                data = await stream.receive_some()
                if not data:
                    return
                buffer += data
            self.requests.append(attrs.evolve(request, body=buffer[:length]))
            buffer = buffer[length:]
            await (self.script.pop(0) if len(self.script) > 1 else self.script[0])(stream)


def raw(data: bytes, *, hang_up: bool = False) -> Answer:
    """Answer with exactly these bytes."""

    async def answer(stream: trio.abc.Stream) -> None:
        await stream.send_all(data)
        if hang_up:
            await stream.aclose()

    return answer


def http(body: bytes, *, status: str = "200 OK", headers: str = "") -> Answer:
    """Answer with a well-formed response."""
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
    return raw(head.encode() + body)


def says(status: object) -> Answer:
    """Answer 200 with this status."""
    return http(json.dumps({"status": status}).encode())


@asynccontextmanager
async def scripted_server(
    *script: Answer, tls: ssl.SSLContext | None = None, port: int = 0
) -> AsyncIterator[ScriptedServer]:
    """Serve until the end of the block; the last entry answers all further requests."""
    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(port, host="127.0.0.1")
        port = listener.socket.getsockname()[1]
        scheme = "https" if tls else "http"
        server = ScriptedServer(f"{scheme}://127.0.0.1:{port}/check", list(script))
        listeners: list[trio.abc.Listener[trio.abc.Stream]] = [
            trio.SSLListener(listener, tls) if tls else listener
        ]
        nursery.start_soon(trio.serve_listeners, server.serve, listeners)
        yield server
        nursery.cancel_scope.cancel()
