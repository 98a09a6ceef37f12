"""The admin listener: Hypercorn's Trio connections, on streams that can always be ended.

    serve_admin
    |-- accepting            ends first
    `-- connections          each its own failure boundary
        `-- Http1Server, which is Hypercorn's, on a _Connection as its stream

When there are too many connections, the one that has been quiet for longest makes room for
the newest, so that nobody keeps a health check out by holding connections open; feeds stay.

Hypercorn shields every `send_all` from cancellation and sets no deadline on it, so a reader
that never reads would hold a shutdown for as long as its TCP connection lives. Its server
takes no streams but those it accepts itself; its connections do, which is why they are run
here. `_Connection` closes the socket under such a send, which ends it.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import Any, cast

import h11
import structlog
import trio
import wsproto.utilities
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.logging import Logger
from hypercorn.trio.worker_context import EventWrapper, WorkerContext
from hypercorn.typing import ConnectionState
from starlette.types import ASGIApp

from cfw.admin.http1 import Http1Server
from cfw.identity import TlsFiles
from cfw.listen import RESERVE, Throttle, serve_listeners
from cfw.net import open_listeners
from cfw.wire import PeerGone, TlsFailed, describe_peer, shake_tls

_log = structlog.get_logger("cfw.admin")

#: Feeds, pages and polls that may be connected at a time.
MAX_CONNECTIONS = 100
#: What a reader of the feed may send, which is ignored anyway.
MAX_MESSAGE_BYTES = 4_096
#: Keeps an idle feed open through proxies, which commonly give up after 60 s.
PING_S = 20.0
#: From a WebSocket close frame of ours to the end of the connection.
LINGER_S = 2.0

#: A peer's mistakes; Hypercorn lets some of them through.
_PEER_ERRORS = (h11.ProtocolError, wsproto.utilities.ProtocolError)
_CLOSE_FRAME = b"\x88"
_SWITCHING = b"HTTP/1.1 101"


class AdminServer:
    """A running admin listener.

    Attributes:
        addresses: host and port of each socket it listens on.
    """

    def __init__(self, listeners: list[trio.SocketListener]) -> None:
        names = [listener.socket.getsockname() for listener in listeners]
        self.addresses: tuple[tuple[str, int], ...] = tuple((n[0], n[1]) for n in names)
        self._connections: set[_Connection] = set()
        self._stopping = trio.Event()

    @property
    def port(self) -> int:
        """The port of the first socket."""
        return self.addresses[0][1]

    @property
    def connections(self) -> int:
        """How many connections there are."""
        return len(self._connections)

    def _end_quietest(self) -> bool:
        """Make room; False if every connection is one that is meant to last."""
        quiet = [c for c in self._connections if not c.is_websocket]
        if not quiet:
            return False
        chosen = min(quiet, key=lambda connection: connection.told_at)
        chosen.cut()
        self._connections.discard(chosen)
        return True

    def stop(self) -> None:
        """Take no more connections, and end those there are within the grace of `serve_admin`.

        Close the hub first: it ends the feeds, which otherwise last until the grace is over.
        """
        self._stopping.set()


async def serve_admin(
    app: ASGIApp,
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    grace_s: float = 2.0,
    send_stall_s: float = 30.0,
    max_connections: int = MAX_CONNECTIONS,
    tls: TlsFiles | None = None,
    handshake_s: float = 10.0,
    task_status: trio.TaskStatus[AdminServer] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve an ASGI application until it is stopped or cancelled.

    Args:
        app: what `create_app` made.
        host: address or name to listen on, as in `cfw.net.open_listeners`.
        port: TCP port; 0 for one the system chooses, see `AdminServer.port`.
        grace_s: seconds from `AdminServer.stop` until what is still open is cut.
        send_stall_s: seconds one send may take before its connection is cut.
        max_connections: one more ends the one that was told nothing for longest; if all are
            WebSockets, it is closed itself.
        tls: the certificate to show; None speaks plain HTTP.
        handshake_s: seconds for the TLS handshake.
        task_status: told the `AdminServer` once it listens.

    Raises:
        OSError: it cannot listen there.

    Cancellation: cuts every connection and returns at once, whatever the peers do.
    """
    listeners = await open_listeners(host, port, share=False)
    server = AdminServer(listeners)
    config = _config()
    wrapped = ASGIWrapper(cast(Any, app))  # the same interface, typed more narrowly

    throttle = Throttle()

    def note_refusal(reason: str) -> None:
        if (unwritten := throttle.unwritten()) is not None:
            _log.warning("admin.refused", reason=reason, unwritten=unwritten)

    async def shed(_: trio.abc.Stream) -> None:
        note_refusal("the process has nearly used up its descriptors")

    async def serve(stream: trio.abc.Stream) -> None:
        assert isinstance(stream, trio.SocketStream)
        if len(server._connections) >= max_connections and not server._end_quietest():
            note_refusal(f"max_connections ({max_connections}), all of them WebSockets")
            return
        connection = (
            _Connection(stream, send_stall_s)
            if tls is None
            else _TlsConnection(stream, send_stall_s, tls.wrap(stream))
        )
        server._connections.add(connection)
        context = _Context(connection)
        try:
            with connection.scope:
                if await _is_ready(connection, handshake_s):
                    # Typed for TLS streams, of which it uses what every stream has.
                    transport = cast(Any, connection)
                    state = ConnectionState({})
                    await Http1Server(wrapped, config, context, state, transport).run()
        except* _PEER_ERRORS as group:
            _log.info("admin.protocol_error", error=str(_first(group)))
        except* Exception:
            _log.exception("admin.connection_failed")
        finally:  # serve_listeners closes the stream
            server._connections.discard(connection)
            connection.ended.set()

    async with trio.open_nursery() as handlers:
        try:
            async with trio.open_nursery() as accepting:
                accepting.start_soon(
                    partial(
                        serve_listeners,
                        serve,
                        listeners,
                        connections=handlers,
                        shed=shed,
                        reserve=RESERVE // 4,
                    )
                )
                task_status.started(server)
                await server._stopping.wait()
                accepting.cancel_scope.cancel()
            for connection in server._connections:
                connection.is_leaving.set()
            with trio.move_on_after(grace_s):
                while server._connections:
                    await next(iter(server._connections)).ended.wait()
        finally:
            for connection in server._connections:
                connection.cut()
            handlers.cancel_scope.cancel()


class _Connection(trio.abc.HalfCloseableStream):
    """One accepted socket, as the stream Hypercorn reads and writes.

    `cut` ends it from outside at any time.
    """

    def __init__(self, stream: trio.SocketStream, send_stall_s: float) -> None:
        self.tcp = stream
        self._stream: trio.abc.Stream = stream
        self._send_stall_s = send_stall_s
        #: When it was last sent something, or else accepted.
        self.told_at = trio.current_time()
        self.is_websocket = False
        self.scope = trio.CancelScope()
        #: Set once nothing more will be read.
        self.read_ended = trio.Event()
        #: Set once no further request is to be awaited.
        self.is_leaving = trio.Event()
        #: Set once nothing is left of it.
        self.ended = trio.Event()

    @property
    def socket(self) -> trio.socket.SocketType:
        return self.tcp.socket

    async def shake_hands(self) -> None:
        """Do what has to be done before the first request."""

    def cut(self) -> None:
        self.socket.close()
        self._end_reading()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        self.told_at = trio.current_time()
        if data[:12] == _SWITCHING:
            self.is_websocket = True
        if data[:1] == _CLOSE_FRAME:
            # Hypercorn has no deadline for the answer, and goes on buffering a message that
            # it has refused as too long.
            self.scope.deadline = min(self.scope.deadline, trio.current_time() + LINGER_S)
        with trio.move_on_after(self._send_stall_s) as stall:
            try:
                await self._stream.send_all(data)
            except trio.BusyResourceError:
                # Hypercorn's sends exclude each other, but not a ping and its `send_eof`.
                raise trio.ClosedResourceError("the connection is being closed") from None
        if stall.cancelled_caught:
            self.cut()
            raise trio.BrokenResourceError(
                f"the peer did not read within {self._send_stall_s:g} s"
            )

    def _end_reading(self) -> None:
        self.read_ended.set()
        self.is_leaving.set()

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        try:
            data = await self._stream.receive_some(max_bytes)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self._end_reading()
            raise
        if not data:
            self._end_reading()
        return data

    async def send_eof(self) -> None:
        await self.tcp.send_eof()

    async def aclose(self) -> None:
        await self._stream.aclose()


class _TlsConnection(_Connection):
    """The same over TLS, with what Hypercorn calls on a TLS stream only."""

    def __init__(
        self,
        stream: trio.SocketStream,
        send_stall_s: float,
        tls: trio.SSLStream[trio.SocketStream],
    ) -> None:
        super().__init__(stream, send_stall_s)
        self._stream = self._tls = tls
        self.transport_stream = stream

    async def shake_hands(self) -> None:
        await shake_tls(self._tls)

    async def do_handshake(self) -> None:
        """It is done: Hypercorn would take no deadline of ours, and log nothing."""

    def selected_alpn_protocol(self) -> str:
        """Nothing else is offered."""
        return "http/1.1"


class _Context(WorkerContext):
    """What Hypercorn's protocols share, here for one connection.

    Hypercorn lets its ping and idle tasks sleep on when their connection has ended, and the
    connection waits for them; these end with it.
    """

    def __init__(self, connection: _Connection) -> None:
        super().__init__(None)
        self._connection = connection
        self.terminated = _AsyncEvent(connection.is_leaving)

    async def sleep(self, wait: float) -> None:  # type: ignore[override]
        """Pause between two pings."""
        with trio.move_on_after(wait):
            await self._connection.read_ended.wait()


class _AsyncEvent(EventWrapper):
    """A Trio event as Hypercorn calls it."""

    def __init__(self, event: trio.Event) -> None:
        self._event = event


class _Log(Logger):
    """Hypercorn's messages, in the log of the worker."""

    def __init__(self, config: Config) -> None:
        self.access_logger = None
        self.error_logger = None

    async def access(self, *args: Any) -> None:
        """No access log: operators poll these pages."""

    async def exception(self, message: str, *args: Any, **kwargs: Any) -> None:
        exc = sys.exc_info()[1]
        if isinstance(exc, _PEER_ERRORS):
            _log.info("admin.protocol_error", error=str(exc))
        else:
            _log.exception("admin.failed", during=message)


async def _is_ready(connection: _Connection, handshake_s: float) -> bool:
    """Do the TLS handshake if there is one; False when the connection is of no use."""
    reason = f"the TLS handshake took longer than {handshake_s:g} s"
    with trio.move_on_after(handshake_s):
        try:
            await connection.shake_hands()
            return True
        except (TlsFailed, PeerGone) as exc:
            reason = exc.detail
    _log.info("admin.refused", reason=reason, remote=describe_peer(connection.tcp))
    return False


def _first(exc: BaseException) -> BaseException:
    while isinstance(exc, BaseExceptionGroup):
        exc = exc.exceptions[0]
    return exc


def _config() -> Config:
    config = Config()
    config.logger_class = _Log
    config.accesslog = None
    config.errorlog = None
    config.include_server_header = False
    config.websocket_max_message_size = MAX_MESSAGE_BYTES
    config.websocket_ping_interval = PING_S
    return config
