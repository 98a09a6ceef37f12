"""HTTP/1.1 on one connection: whole requests in, answers out; h11 reads and writes them.

One server for all listeners: the admin listener speaks it from the start, the port for rigs to
who asks there for something else than a capture.

A request is bounded in bytes, in pieces and in time before anybody is asked about it. What
many tiny pieces cost is CPU, which captures need: it is spent in turns, one of them between
two looks of the event loop at the rigs, however many connections there are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import aclosing, contextmanager, suppress
from email.utils import formatdate
from http import HTTPStatus
from urllib.parse import unquote

import attrs
import h11
import structlog
import trio

from cfw.http.messages import Answer, Flow, Handler, Request, Response, Upgrade, problem
from cfw.net import describe_peer
from cfw.wire import (
    MAX_HEAD_BYTES,
    HandshakeReject,
    PeerGone,
    RequestBytes,
    read_head,
    read_request,
    refuse,
    see_off,
)

_log: structlog.stdlib.BoundLogger = structlog.get_logger("cfw.http")

#: A form with the longest token that there can be is far smaller, and nothing else has a body.
MAX_BODY_BYTES = 4_096
#: Chunks, and reads, that a body may come in.
MAX_BODY_PIECES = 256
#: So many are taken in one turn: half a millisecond.
_PIECES_AT_ONCE = 32
_READ_BYTES = 16 * 1024


@attrs.define(eq=False)
class Http1:
    """The requests of one connection, one after the other.

    Args:
        stream: its TLS handshake is done before the first request, if it has one.
        port: where it came in.
        turns: shared by all connections; whoever has it has the event loop next.
        request_s: seconds until the next request begins, and from there until it is whole.
        send_stall_s: seconds that one answer may take to be taken.
        begun: what was read of the stream already.
    """

    stream: trio.abc.Stream
    port: int
    turns: trio.Lock = attrs.field(kw_only=True)
    request_s: float = attrs.field(kw_only=True)
    send_stall_s: float = attrs.field(kw_only=True)
    begun: bytes = attrs.field(kw_only=True, default=b"")
    _is_leaving: bool = attrs.field(init=False, default=False)
    _deadline: float = attrs.field(init=False, default=0)
    _waiting: trio.CancelScope = attrs.field(init=False, factory=trio.CancelScope)
    _head: bytes = attrs.field(init=False, default=b"")
    # What came behind the last request.
    _rest: bytes = attrs.field(
        init=False, default=attrs.Factory(lambda self: self.begun, takes_self=True)
    )
    _h11: h11.Connection = attrs.field(init=False)

    @property
    def received(self) -> RequestBytes:
        """The last request as it came, for what takes the stream over."""
        return RequestBytes(self._head, self._rest)

    def leave(self) -> None:
        """Await no further request."""
        self._is_leaving = True
        self._waiting.cancel()

    async def converse(
        self, app: Handler, told: Callable[[Answer], object] = lambda _: None
    ) -> Upgrade | None:
        """Answer one request after the other.

        Args:
            app: answers them; what it raises is a bug, and a 500.
            told: given the answer whenever a request has found one.

        Returns:
            what takes the stream over; None when there is nothing more to say on it.

        Cancellation: the connection is of no use afterwards.
        """
        while (request := await self.next_request()) is not None:
            if isinstance(request, HandshakeReject):
                await refuse(self.stream, request)
                return None
            try:
                answer: Answer = await app(request)
            except Exception:
                _log.exception("http.failed", port=self.port)
                answer = problem("internal error", 500)
            told(answer)
            if isinstance(answer, Upgrade):
                return answer
            if isinstance(answer, Flow):
                await self._answer_flow(request, answer)
                return None
            if not await self.answer(request, answer):
                return None
        return None

    async def next_request(self) -> Request | HandshakeReject | None:
        """Read one request, or find why it is refused; None when no more will come.

        Cancellation: the connection is of no use afterwards.
        """
        try:
            return await self._read_request()
        except h11.RemoteProtocolError as exc:
            return HandshakeReject(exc.error_status_hint, str(exc)[:500])
        except (PeerGone, trio.BrokenResourceError):
            return None

    async def _read_request(self) -> Request | HandshakeReject:
        self._deadline = trio.current_time() + self.request_s
        if not self._rest:
            self._rest = await self._receive()
        self._deadline = trio.current_time() + self.request_s
        with self._in_time():
            read = await read_head(self.stream, self._rest)
        if isinstance(read, HandshakeReject):
            return read
        await self._wait_turn()
        head = read_request(read.head)
        if isinstance(head, HandshakeReject):
            return head
        if head.values("content-length") and head.values("transfer-encoding"):
            # A proxy in front may have believed the other one, and taken what is another
            # request here for a part of this one.
            raise _refused(400, "a request has Content-Length or Transfer-Encoding, not both")
        line = f"{head.method} / HTTP/{head.version}\r\n".encode()
        self._h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD_BYTES)
        self._h11.receive_data(line + read.head.partition(b"\n")[2])
        self._h11.next_event()
        self._head = read.head
        is_tls = isinstance(self.stream, trio.SSLStream)
        return Request(
            head.method,
            unquote(head.path),
            head.query,
            head.version,
            head.host,
            head.headers,
            body=await self._read_body(read.rest),
            scheme="https" if is_tls else "http",
            port=self.port,
            peer=describe_peer(self.stream).rpartition(":")[0].strip("[]"),
        )

    async def _read_body(self, begun: bytes) -> bytes:
        if begun:  # nothing would be the end of the connection
            self._h11.receive_data(begun)
        body = b""
        for piece in range(1, MAX_BODY_PIECES + 1):
            event = self._h11.next_event()
            if isinstance(event, h11.EndOfMessage):
                self._rest = self._h11.trailing_data[0]
                return body
            if isinstance(event, h11.Data):
                body += event.data
                if len(body) > MAX_BODY_BYTES:
                    raise _refused(413, f"the body is over {MAX_BODY_BYTES} bytes")
            else:
                await self._ask_on()
                self._h11.receive_data(await self._receive())
            if piece % _PIECES_AT_ONCE == 0:
                await self._wait_turn()
        raise _refused(413, f"the body comes in more than {MAX_BODY_PIECES} pieces")

    async def _ask_on(self) -> None:
        """Let a peer go on that sends its body only if it may."""
        if self._h11.they_are_waiting_for_100_continue:
            go_on = h11.InformationalResponse(status_code=100, headers=[], reason=b"Continue")
            await self._send(self._h11.send(go_on))

    async def answer(self, request: Request, response: Response) -> bool:
        """Send an answer; False when the connection has ended with it.

        Cancellation: part of it may be out.
        """
        headers = [*response.headers.items(), ("date", formatdate(usegmt=True))]
        if response.status != 204:
            headers.append(("content-length", str(len(response.body))))
        if self._is_leaving:
            headers.append(("connection", "close"))
        status = HTTPStatus(response.status)
        head = h11.Response(status_code=status, headers=headers, reason=status.phrase.encode())
        body = b"" if request.method == "HEAD" else response.body
        events = (head, h11.Data(data=body), h11.EndOfMessage())
        try:
            await self._send(b"".join(self._h11.send(event) or b"" for event in events))
        except trio.BrokenResourceError:
            return False
        if self._h11.states == {h11.CLIENT: h11.DONE, h11.SERVER: h11.DONE}:
            return True
        await see_off(self.stream)
        return False

    async def _answer_flow(self, request: Request, flow: Flow) -> None:
        """Send parts until there are no more, or nobody reads them."""
        headers = [*flow.headers.items(), ("date", formatdate(usegmt=True))]
        headers.append(("connection", "close"))
        head = h11.Response(status_code=200, headers=headers, reason=b"OK")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._cancel_at_the_end, nursery.cancel_scope)
            with suppress(trio.BrokenResourceError):
                await self._send(self._h11.send(head) or b"")
                if request.method != "HEAD":
                    async with aclosing(flow.parts()) as parts:
                        async for part in parts:
                            await self._send(self._h11.send(h11.Data(data=part)) or b"")
                await self._send(self._h11.send(h11.EndOfMessage()) or b"")
            nursery.cancel_scope.cancel()
        await see_off(self.stream)

    async def _cancel_at_the_end(self, scope: trio.CancelScope) -> None:
        """Notice that the reader leaves, also while there is nothing to send."""
        with suppress(trio.BrokenResourceError):
            for _ in range(MAX_BODY_PIECES):  # nothing is to be said during an answer
                if not await self.stream.receive_some(_READ_BYTES):
                    break
        scope.cancel()

    async def _wait_turn(self) -> None:
        """Wait for the event loop, in the order of asking; it is had until a checkpoint."""
        async with self.turns:
            await trio.lowlevel.checkpoint()

    async def _receive(self) -> bytes:
        with self._in_time():
            data = await self.stream.receive_some(_READ_BYTES)
        if not data:
            raise PeerGone("the peer asks no more")
        return bytes(data)

    async def _send(self, data: bytes) -> None:
        with trio.move_on_after(self.send_stall_s):
            await self.stream.send_all(data)
            return
        raise trio.BrokenResourceError(f"the peer took nothing for {self.send_stall_s:g} s")

    @contextmanager
    def _in_time(self) -> Iterator[None]:
        """Wait for bytes, and for nothing else, until the deadline of the request."""
        with trio.CancelScope(deadline=self._deadline) as self._waiting:
            if self._is_leaving:
                self._waiting.cancel()
            yield
        if self._waiting.cancelled_caught:
            if self._is_leaving or not self._rest:
                raise PeerGone("nothing was asked")
            raise _refused(408, f"the request took longer than {self.request_s:g} s")


def _refused(status: int, reason: str) -> h11.RemoteProtocolError:
    return h11.RemoteProtocolError(reason, error_status_hint=status)
