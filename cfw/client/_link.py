"""One WebSocket to a worker, run by a task in the background.

    caller's body            (its exceptions and cancellations leave as they are)
    link task
        trio-websocket's reader
        what the caller starts in `Link.nursery`

trio-websocket's own `open_websocket` is not used: a client whose peer sent a close frame and
then keeps TCP open would wait for it without end, and one whose handshake meets an early end
of the connection until its timeout. Here the link closes the socket itself, at once.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, cast
from urllib.parse import urlsplit

import attrs
import trio
from trio_websocket import ConnectionRejected, WebSocketConnection, wrap_client_stream

from cfw.client._clock import ClockOffset, RigClock
from cfw.client._errors import AccessDenied, ConnectionRefused
from cfw.client._options import ConnectSettings
from cfw.tasks.nurseries import first_leaf, open_plain_nursery
from schemas import Greeting

#: How long the other side may take to say why it ended, once it is known that it did.
GRACE_S = 2
#: To close the socket, which needs no time unless a bug makes it wait.
_CLOSE_S = 1
_RECEIVE_BYTES = 65_536
_HTTP_STATUS = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})")


@attrs.frozen(kw_only=True)
class Address:
    """Where a WebSocket URL points to."""

    host: str
    port: int
    authority: str
    resource: str
    is_tls: bool

    @classmethod
    def parse(cls, url: str, default_path: str) -> Address:
        """Read a WebSocket URL.

        Args:
            url: `ws://` or `wss://`.
            default_path: the path when the URL has none.

        Raises:
            ValueError: it is no such URL; the text says why.
        """
        parts = urlsplit(url)
        if parts.scheme not in ("ws", "wss") or not parts.hostname:
            raise ValueError(f"not a WebSocket URL such as ws://127.0.0.1:8765 (got {url!r})")
        if "@" in parts.netloc:
            raise ValueError("a URL cannot carry a user name here; use headers instead")
        is_tls = parts.scheme == "wss"
        resource = default_path if parts.path in ("", "/") else parts.path
        return cls(
            host=parts.hostname,
            port=parts.port or (443 if is_tls else 80),
            authority=parts.netloc,
            resource=f"{resource}?{parts.query}" if parts.query else resource,
            is_tls=is_tls,
        )


class Transport(trio.abc.Stream):
    """The socket as trio-websocket sees it.

    Once sending is broken, what is sent is thrown away instead of raising: what the other
    side said before it closed may still wait to be read, and trio-websocket would stop
    reading at the first broken send.
    """

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self.is_send_broken = False
        self.on_end: Callable[[], object] = lambda: None
        self.http_status: int | None = None
        self.tls_alert: ssl.SSLError | None = None
        self._received = False

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        if self.is_send_broken:
            await trio.lowlevel.checkpoint()
            return
        try:
            await self._stream.send_all(data)
        except trio.BrokenResourceError:
            self.is_send_broken = True

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        data: bytes | bytearray = b""
        try:
            data = await self._stream.receive_some(max_bytes)
        except trio.BrokenResourceError as exc:
            # In TLS 1.3 the other side refuses a certificate behind the handshake.
            self.tls_alert = exc.__cause__ if isinstance(exc.__cause__, ssl.SSLError) else None
            raise
        finally:
            if not data:
                self.on_end()
        if not self._received:
            self._received = True
            if (match := _HTTP_STATUS.match(data)) is not None:
                self.http_status = int(match[1])
        return data

    async def aclose(self) -> None:
        self.on_end()
        await self._stream.aclose()


@attrs.define(kw_only=True, eq=False)
class Link:
    """A WebSocket that is open, and the nursery for tasks that live as long as it does.

    Args:
        greeting: what the worker said of itself when it let this client in.
        offset: what it said of its clock; None when it said nothing.
        fault: what broke the link from inside, a bug; None when nothing did.
    """

    connection: WebSocketConnection
    transport: Transport
    nursery: trio.Nursery
    greeting: Greeting
    offset: ClockOffset | None
    fault: BaseException | None = None


@asynccontextmanager
async def open_link(
    address: Address,
    settings: ConnectSettings,
    *,
    stream: trio.abc.Stream | None,
    max_message_bytes: int,
    clock: RigClock | None = None,
) -> AsyncIterator[Link]:
    """Connect, shake hands, and close the socket behind the body.

    Args:
        settings: its timeout is for dialling, TLS and the handshake together.
        stream: a connection to use instead of dialling; the link closes it.
        max_message_bytes: the largest message that may be received.
        clock: of the rig, to compare with the worker's; None makes one.

    Raises:
        ValueError: an `ssl_context` for a URL without TLS, or a token that is none.
        ConnectionRefused: there was no WebSocket to be had.

    Cancellation: leaves at once; the socket is closed, without a close frame.
    """
    if settings.ssl_context is not None and not address.is_tls:
        raise ValueError("an ssl_context needs a wss:// URL, or an https:// one for a feed")
    clock = RigClock() if clock is None else clock
    extra_headers = [(k.encode(), v.encode()) for k, v in settings.sent_headers().items()]

    # Shielded once the link is open, so that it lives exactly as long as the body, also when
    # that is cancelled from outside; the `finally` below ends it in any case.
    scope = trio.CancelScope()

    async def run(task_status: trio.TaskStatus[Link]) -> None:
        transport: Transport | None = None
        link: Link | None = None
        try:
            async with trio.open_nursery() as nursery:
                with trio.fail_after(settings.connect_timeout):
                    transport = Transport(
                        await _dial(address, settings.ssl_context) if stream is None else stream
                    )
                    asked_ns = clock.now_ns()
                    with trio.CancelScope() as handshake:
                        transport.on_end = handshake.cancel
                        connection = await wrap_client_stream(
                            nursery,
                            cast("Any", transport),  # any stream will do
                            address.authority,
                            address.resource,
                            extra_headers=extra_headers,
                            max_message_size=max_message_bytes,
                            receive_buffer_size=_RECEIVE_BYTES,
                        )
                if handshake.cancelled_caught:
                    problem = "it closed the connection"
                    raise trio.BrokenResourceError(problem) from transport.tls_alert
                greeting = Greeting.of(connection.handshake_headers)
                offset = None
                if greeting.time is not None:
                    offset = ClockOffset.between(asked_ns, clock.now_ns(), greeting.time)
                link = Link(
                    connection=connection,
                    transport=transport,
                    nursery=nursery,
                    greeting=greeting,
                    offset=offset,
                )
                task_status.started(link)
                # A start that is being cancelled does not take the task over, and would
                # wait for a shielded one without end.
                await trio.lowlevel.checkpoint_if_cancelled()
                scope.shield = True
                await trio.sleep_forever()
        except BaseExceptionGroup as group:
            faults, others = group.split(Exception)
            if others is not None:
                raise first_leaf(others.split(trio.Cancelled)[1] or others) from None
            assert faults is not None
            fault = first_leaf(faults)
            if link is None:
                status = None if transport is None else transport.http_status
                raise _refused(fault, address, status, settings.connect_timeout) from fault
            link.fault = fault
        finally:
            closing = transport or stream
            if closing is not None:
                with trio.move_on_after(_CLOSE_S, shield=True):
                    await trio.aclose_forcefully(closing)

    async def run_in_scope(task_status: trio.TaskStatus[Link]) -> None:
        with scope:
            await run(task_status)

    # The link takes every Exception for itself; only a KeyboardInterrupt that hits it leaves.
    async with open_plain_nursery() as outer:
        try:
            link = await outer.start(run_in_scope)
            # Cancelled in between, the link is on its way out: no body for that.
            await trio.lowlevel.checkpoint_if_cancelled()
            yield link
        finally:
            scope.cancel()


async def _dial(address: Address, ssl_context: ssl.SSLContext | None) -> trio.abc.Stream:
    if not address.is_tls:
        return await trio.open_tcp_stream(address.host, address.port)
    stream = await trio.open_ssl_over_tcp_stream(
        address.host, address.port, https_compatible=True, ssl_context=ssl_context
    )
    try:
        # Now rather than at the first use, so that a refused certificate is told as such.
        await stream.do_handshake()
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise
    return stream


def _refused(
    fault: BaseException, address: Address, status: int | None, connect_timeout: float
) -> ConnectionRefused:
    where = f"{address.authority}{address.resource.partition('?')[0]}"
    if isinstance(fault, ConnectionRejected):
        status = fault.status_code
        body = " ".join((fault.body or b"").decode(errors="replace").split())[:200]
        why = f"HTTP status {status}{f' ({body})' if body else ''}"
    elif status is not None and status != 101:
        why = f"HTTP status {status}"
    elif isinstance(fault, trio.TooSlowError):
        why = f"no answer within {connect_timeout:g} s"
    else:
        root = _root(fault)
        why = getattr(root, "strerror", None) or str(root) or type(root).__name__
    kind = AccessDenied if status in (401, 403) else ConnectionRefused
    return kind(f"cannot connect to {where}: {why}{_advice(fault, status)}", status=status)


def _advice(fault: BaseException, status: int | None) -> str:
    """What to look at, where the reason alone does not say."""
    root = _root(fault)
    if status == 404:
        return (
            "; rigs connect to the worker's own port, readers to that of its admin listener: "
            "`cfw serve` prints both"
        )
    if isinstance(root, ssl.SSLError) and root.reason == "WRONG_VERSION_NUMBER":
        return "; nobody speaks TLS there: try ws:// or http://"
    if isinstance(root, ConnectionRefusedError):
        return "; nothing listens there: is the worker running, and is this its port?"
    return ""


def _root(exc: BaseException) -> BaseException:
    while exc.__cause__ is not None:
        exc = first_leaf(exc.__cause__)
    return exc
