"""Hypercorn's connection, kept to HTTP/1.1 and to what the admin listener wants of it."""

from __future__ import annotations

from typing import Any

import h11
from hypercorn.events import Closed
from hypercorn.protocol import ProtocolWrapper
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.trio.tcp_server import TCPServer

_EXTENSIONS = b"sec-websocket-extensions"


class Http1Server(TCPServer):
    """Serves one connection in HTTP/1.1, whatever else the peer asks for.

    Hypercorn would change to HTTP/2 for whoever sends its preface or `Upgrade: h2c`. Behind a
    proxy the second is a way around the proxy's rules, and what is counted and cut here are
    connections with one request at a time.
    """

    @property  # type: ignore[override]
    def protocol(self) -> H11Protocol:
        """What reads and answers; Hypercorn sets it, as something that may become HTTP/2."""
        return self._http1

    @protocol.setter
    def protocol(self, made: ProtocolWrapper) -> None:
        self._http1 = _Http1(
            made.app,
            made.config,
            made.context,
            made.task_group,
            made.state,
            made.ssl,
            made.client,
            made.server,
            made.send,
        )


class _Http1(H11Protocol):
    async def _check_protocol(self, event: h11.Request) -> None:
        """Change to no other protocol."""

    async def _create_stream(self, request: h11.Request) -> None:
        headers = dict(request.headers)
        # Two lengths: a proxy in front may have believed the other one, and taken what is
        # another request here for a part of this one.
        is_ambiguous = b"content-length" in headers and b"transfer-encoding" in headers
        # wsproto, which reads the headers of a WebSocket, would raise.
        is_unreadable = b"upgrade" in headers and not all(map(bytes.isascii, headers.values()))
        if is_ambiguous or is_unreadable:
            await self._send_error_response(400)
            await self.send(Closed())
            return
        # Hypercorn compresses for every client that offers to, and cannot be told not to;
        # JPEG does not shrink, and deflate would take 7 ms per 300 kB off the captures' core.
        kept: list[Any] = [
            item for item in request.headers.raw_items() if item[0].lower() != _EXTENSIONS
        ]
        await super()._create_stream(
            h11.Request(
                method=request.method,
                target=request.target,
                headers=kept,
                http_version=request.http_version,
            )
        )
