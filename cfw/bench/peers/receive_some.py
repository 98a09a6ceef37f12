"""Bare `receive_some` on Trio: its own streams, nothing parsed."""

from __future__ import annotations

import ssl
from collections.abc import Callable

import trio

from cfw.bench.peers import recv
from cfw.bench.peers.checks import Consumer

#: What a stream asks its socket for unless it is told otherwise.
_READ_BYTES = 65_536


async def _read(stream: trio.abc.Stream) -> bytes | bytearray:
    return await stream.receive_some(_READ_BYTES)


def run(_: Consumer, announce: Callable[[int], None], tls: ssl.SSLContext | None) -> None:
    """Serve for ever."""
    recv.serve(_read, announce, tls)
