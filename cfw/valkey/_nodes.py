"""Which node a script goes to, and the pipeline there."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Sequence
from functools import partial
from typing import Any

import trio
from coredis.connection import TCPLocation
from coredis.exceptions import (
    AskError,
    ClusterError,
    MovedError,
    RedisError,
    TryAgainError,
)

from cfw.valkey._address import Address
from cfw.valkey._names import slot_of
from cfw.valkey._pipeline import Argument, Pipeline, packed

#: Times that a script is sent where a cluster says it belongs; and the pause between two when
#: half of them are used up, for slots are moving.
_MOST_MOVES, _PAUSE_S = 16, 0.05


class Nodes:
    """The pipelines to the nodes of a cluster, or to the one server there is.

    Args:
        layout: of the cluster, as coredis knows it; None for one server.
        address: of the server.
        tls: for its connections; None for none.
        nursery: where the pipelines run; they raise nothing.
    """

    def __init__(
        self,
        layout: Any,
        address: Address,
        tls: ssl.SSLContext | None,
        nursery: trio.Nursery,
    ) -> None:
        self._layout = layout
        self._address = address
        self._tls = tls
        self._nursery = nursery
        self._pipelines: dict[tuple[str, int], Pipeline] = {}
        self._greeting = _greeting(address)

    async def run(self, key: str, command: Sequence[bytes], *, may_wait: bool) -> Any:
        """Run a command where a key is; see `Pipeline.ask`.

        Args:
            key: it, or any other of its slot.
            command: as `packed` gives it.
            may_wait: for a little while, for others to go along with.

        Raises:
            RedisError: as for `Pipeline.ask`.
            trio.TooSlowError: there was no answer within `timeout_s`.
        """
        layout = self._layout
        if layout is None:
            return await self._pipeline(*self._address.hosts[0]).ask(command, may_wait=may_wait)
        until = trio.current_time() + self._address.timeout_s
        node = layout.node_for_slot(slot_of(key))
        try:
            return await self._ask(node.host, node.port, command, may_wait=may_wait)
        except (AskError, TryAgainError) as exc:
            moved = exc
        with trio.fail_at(until):
            return await self._follow(moved, node.host, node.port, command)

    async def _follow(
        self, moved: RedisError, host: str, port: int, command: Sequence[bytes]
    ) -> Any:
        """Ask where a node said that it belongs, and so on."""
        for moves in range(1, _MOST_MOVES):
            is_asking = False
            if isinstance(moved, AskError):
                is_asking = not isinstance(moved, MovedError)
                # Without a name it means the node that was asked.
                host, port = moved.host or host, moved.port
            elif moves > _MOST_MOVES // 2:
                await trio.sleep(_PAUSE_S)
            try:
                return await self._ask(host, port, command, is_asking=is_asking)
            except (AskError, TryAgainError) as exc:
                moved = exc
        raise ClusterError("Maximum retries exhausted.")

    async def _ask(
        self,
        host: str,
        port: int,
        command: Sequence[bytes],
        *,
        may_wait: bool = False,
        is_asking: bool = False,
    ) -> Any:
        """Ask a node of the cluster; what goes wrong may be a reason to look at it anew."""
        pieces = [*packed(["ASKING"]), *command] if is_asking else command
        try:
            return await self._pipeline(host, port).ask(
                pieces, may_wait=may_wait, heralds=int(is_asking)
            )
        except RedisError as exc:
            if isinstance(exc, MovedError) or not isinstance(exc, AskError | TryAgainError):
                node = self._layout.node_for_location(TCPLocation(host, port))
                self._layout.report_errors(node, exc)
            raise

    def _pipeline(self, host: str, port: int) -> Pipeline:
        """The one to a node; a new one if there is none, or it has ended."""
        found = self._pipelines.get((host, port))
        if found is None or found.has_ended:
            address = self._address
            found = Pipeline(
                partial(_connect, host, port, self._tls, address.timeout_s / 2),
                self._greeting,
                connect_s=address.timeout_s / 2,
                answer_s=address.timeout_s,
                replicas=address.wait,
                replicas_s=address.timeout_s / 2,
            )
            self._pipelines[host, port] = found
            self._nursery.start_soon(found.run)
        return found


def _greeting(address: Address) -> list[list[Argument]]:
    hello: list[Argument] = ["HELLO", 3]
    if address.username or address.password:
        hello += ["AUTH", address.username or "default", address.password or ""]
    return [hello, ["SELECT", address.db]] if address.db else [hello]


async def _connect(
    host: str, port: int, tls: ssl.SSLContext | None, silent_s: float
) -> trio.abc.Stream:
    """A connection to a node, encrypted if need be.

    Raises:
        OSError: it could not be made.
        trio.BrokenResourceError: TLS refused.
    """
    stream = await trio.open_tcp_stream(host, port)
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in keepalive(silent_s).items():
        stream.setsockopt(socket.IPPROTO_TCP, option, value)
    if tls is None:
        return stream
    encrypted = trio.SSLStream(stream, tls, server_hostname=host)
    try:
        await encrypted.do_handshake()
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise
    return encrypted


def keepalive(seconds: float) -> dict[int, int | bytes]:
    """Socket options by which the kernel gives up a peer that is silent."""
    whole = max(1, round(seconds))
    wanted = {
        "TCP_KEEPIDLE": whole,
        "TCP_KEEPINTVL": whole,
        "TCP_KEEPCNT": 3,
        "TCP_USER_TIMEOUT": round(4000 * seconds),
    }
    found = {getattr(socket, name, None): value for name, value in wanted.items()}
    return {option: value for option, value in found.items() if option is not None}
