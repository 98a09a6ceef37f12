"""The admin listener: HTTP/1.1 and the feed, on the connection shell of the rigs.

    serve_admin
    |-- accepting            ends first
    `-- connections          each its own failure boundary
        |-- Http1            until it is answered for the last time, or asks for the feed
        `-- cfw.wire         serves the feed from then on

When there are too many connections, the one that has been quiet for longest makes room for
the newest, so that nobody keeps a health check out by holding connections open; feeds stay.
"""

from __future__ import annotations

from contextlib import suppress
from functools import partial

import attrs
import structlog
import trio

from cfw.http.http1 import Http1
from cfw.http.messages import Answer, Flow, Handler, Upgrade
from cfw.http.origin import own_pages_only
from cfw.identity import TlsFiles
from cfw.net import RESERVE, Throttle, describe_peer, open_listeners, serve_listeners
from cfw.wire import (
    HandshakeReject,
    HandshakeRejected,
    PeerGone,
    TlsFailed,
    accept,
    refuse_now,
    shake_tls,
)

_log: structlog.stdlib.BoundLogger = structlog.get_logger("cfw.admin")

#: Feeds, pages and polls that may be connected at a time.
MAX_CONNECTIONS = 100
#: What a reader of the feed may send in one message, which is ignored anyway.
MAX_MESSAGE_BYTES = 4_096
#: For such a message to arrive.
MESSAGE_S = 10.0
#: Keeps an idle feed open through proxies, which commonly give up after 60 s.
PING_S = 20.0
#: For its pong, which may have to wait for all that the kernels hold for a slow reader.
PONG_S = 120.0


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

    def stop(self) -> None:
        """Take no more connections, and end those there are within the grace of `serve_admin`.

        Close the hub first: it ends the feeds, which otherwise last until the grace is over.
        """
        self._stopping.set()

    def _end_quietest(self) -> bool:
        """Make room; False if every connection is one that is meant to last."""
        quiet = [c for c in self._connections if not c.is_lasting]
        if not quiet:
            return False
        chosen = min(quiet, key=lambda connection: connection.told_at)
        chosen.scope.cancel()
        self._connections.discard(chosen)
        return True


async def serve_admin(
    app: Handler,
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
    """Serve an application until it is stopped or cancelled.

    Args:
        app: what `create_app` made, guarded or not; pages of other origins get no further than
            `own_pages_only` lets them.
        host: address or name to listen on, as in `cfw.net.open_listeners`.
        port: TCP port; 0 for one the system chooses, see `AdminServer.port`.
        grace_s: seconds from `AdminServer.stop` until what is still open is cut.
        send_stall_s: seconds one answer may take to be taken before its connection is cut.
        max_connections: one more ends the one that was told nothing for longest; if all are
            feeds and streams of pictures, it is refused itself.
        tls: the certificate to show; None speaks plain HTTP.
        handshake_s: seconds for the TLS handshake, for a connection to begin to ask, and for
            each request to arrive.
        task_status: told the `AdminServer` once it listens.

    Raises:
        OSError: it cannot listen there.

    Cancellation: cuts every connection and returns at once, whatever the peers do.
    """
    app = own_pages_only(app)
    listeners = await open_listeners(host, port, share=False)
    server = AdminServer(listeners)
    throttle, turns = Throttle(), trio.Lock()

    async def turn_away(stream: trio.abc.Stream, reason: str) -> None:
        if (unwritten := throttle.unwritten()) is not None:
            _log.warning("admin.refused", reason=reason, unwritten=unwritten)
        if tls is None:
            await refuse_now(
                stream, HandshakeReject(503, f"this listener has no room: {reason}")
            )

    async def shed(stream: trio.abc.Stream) -> None:
        await turn_away(stream, "the process has nearly used up its descriptors")

    async def serve(stream: trio.abc.Stream) -> None:
        if len(server._connections) >= max_connections and not server._end_quietest():
            reason = f"max_connections ({max_connections}), all of them feeds or streams"
            await turn_away(stream, reason)
            return
        connection = _Connection(
            Http1(
                stream if tls is None else tls.wrap(stream),
                server.port,
                turns=turns,
                request_s=handshake_s,
                send_stall_s=send_stall_s,
            )
        )
        server._connections.add(connection)
        try:
            with connection.scope:
                await connection.run(app)
        except Exception:
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
                connection.http.leave()
            with trio.move_on_after(grace_s):
                while server._connections:
                    await next(iter(server._connections)).ended.wait()
        finally:
            handlers.cancel_scope.cancel()


@attrs.define(eq=False)
class _Connection:
    """One accepted connection.

    Attributes:
        scope: cancelled, it ends at once.
        told_at: when it was last sent something, or else accepted.
        is_lasting: it is a feed, or a stream of pictures.
        ended: set once nothing is left of it.
    """

    http: Http1
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    told_at: float = attrs.field(factory=trio.current_time)
    is_lasting: bool = False
    ended: trio.Event = attrs.field(factory=trio.Event)

    async def run(self, app: Handler) -> None:
        """Answer one request after the other."""
        if not await self._shake_hands():
            return
        upgrade = await self.http.converse(app, self._note_told)
        if upgrade is not None:
            # Who gets no feed is told why, if anybody is there.
            with suppress(HandshakeRejected, PeerGone):
                await self._serve_websocket(upgrade)

    def _note_told(self, answer: Answer) -> None:
        self.told_at = trio.current_time()
        self.is_lasting = isinstance(answer, Flow)

    async def _shake_hands(self) -> bool:
        """Do the TLS handshake if there is one; False when the connection is of no use."""
        stream, within_s = self.http.stream, self.http.request_s
        if not isinstance(stream, trio.SSLStream):
            return True
        reason = f"the TLS handshake took longer than {within_s:g} s"
        with trio.move_on_after(within_s):
            try:
                await shake_tls(stream)
                return True
            except (TlsFailed, PeerGone) as exc:
                reason = exc.detail
        _log.info("admin.refused", reason=reason, remote=describe_peer(stream))
        return False

    async def _serve_websocket(self, upgrade: Upgrade) -> None:
        self.is_lasting = True
        opening = accept(
            self.http.stream,
            path=None,
            max_text_bytes=MAX_MESSAGE_BYTES,
            max_binary_bytes=MAX_MESSAGE_BYTES,
            handshake_s=self.http.request_s,
            keepalive_s=PING_S,
            keepalive_timeout_s=PONG_S,
            message_s=MESSAGE_S,
            request=self.http.received,
        )
        await upgrade.serve(opening, self.http.send_stall_s)
