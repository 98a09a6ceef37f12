"""The opening handshake's first half: the request head, and the refusals that are ours.

trio-websocket would pass what follows the head to wsproto, answer no refusal with a text,
and fail on bytes that are not ASCII. So the head is read and judged here first.
"""

import http
import math
import re
from contextlib import suppress
from typing import Final, TypeAlias

import attrs
import h11
import trio

from .errors import PeerGone

# As much as h11 takes, so that every head passed on is parsed.
MAX_HEAD_BYTES: Final = 16 * 1024
# How long a refused peer may take to read why, and to leave.
REFUSE_S: Final = 1.0

_READ_BYTES: Final = 64 * 1024
# Where h11 ends a head; anything else would make two readers disagree about it.
_HEAD_END: Final = re.compile(rb"\n\r?\n")
_UPGRADE: Final = re.compile(rb"\nupgrade:[ \t]*websocket", re.IGNORECASE)
_REQUEST_LINE: Final = re.compile(rb"[!-~]+ ([!-~]+) HTTP/1\.[0-9]\r?\n")


#: Of a request: names in lower case, values without space around them.
Headers: TypeAlias = tuple[tuple[str, str], ...]

UNREADABLE: Final = "the request head cannot be read"


@attrs.frozen
class HandshakeReject:
    """An HTTP answer instead of a WebSocket.

    Args:
        status: HTTP status, 400 or above.
        reason: a sentence for the peer, sent as the body.
        headers: sent besides the usual ones.
    """

    status: int
    reason: str
    headers: tuple[tuple[str, str], ...] = ()


@attrs.frozen
class RequestBytes:
    """A request as it came.

    Args:
        head: up to and with its empty line.
        rest: what the peer sent behind it in the same read: frames.
    """

    head: bytes
    rest: bytes


async def read_head(
    transport: trio.abc.Stream, begun: bytes = b""
) -> RequestBytes | HandshakeReject:
    """Read one request head, or find why it must be refused.

    Args:
        transport: where it comes from.
        begun: what was read of it already.

    Raises:
        PeerGone: the transport ended first.

    Cancellation: what was read is lost; the connection is of no use afterwards.
    """
    data = bytearray(begun)
    searched = 0
    while True:
        if len(data) == searched:
            try:
                chunk = await transport.receive_some(_READ_BYTES)
            except trio.BrokenResourceError:
                chunk = b""
            if not chunk:
                raise PeerGone(f"the peer left after {len(data)} bytes of its request")
            data += chunk
        # The end may straddle two reads.
        match = _HEAD_END.search(data, max(0, searched - 2))
        searched = len(data)
        head = bytes(data[: match.end()] if match else data)
        if not head.isascii():
            return HandshakeReject(400, "the request head holds bytes that are not ASCII")
        if len(head) > MAX_HEAD_BYTES:
            return HandshakeReject(431, f"the request head is over {MAX_HEAD_BYTES} bytes")
        if match:
            return RequestBytes(head, bytes(data[match.end() :]))


def check_head(head: bytes, path: str) -> HandshakeReject | None:
    """Judge what trio-websocket does not: the request line and its path."""
    match = _REQUEST_LINE.match(head)
    if match is None:
        return HandshakeReject(400, "this is not an HTTP/1.1 request")
    if match[1].partition(b"?")[0] != path.encode():
        return HandshakeReject(404, f"the only endpoint here is {path}")
    if _UPGRADE.search(head) is None:
        return HandshakeReject(
            426, "this is a WebSocket endpoint; connect with a WebSocket client"
        )
    return None


def read_headers(head: bytes) -> Headers | HandshakeReject:
    """Read the headers of a request as trio-websocket will read them."""
    reader = h11.Connection(h11.SERVER)
    try:
        reader.receive_data(head)
        request = reader.next_event()
    except h11.RemoteProtocolError:
        return HandshakeReject(400, UNREADABLE)
    assert isinstance(request, h11.Request), "the head is whole"
    return tuple((name.decode(), value.decode()) for name, value in request.headers)


async def refuse(transport: trio.abc.Stream, reject: HandshakeReject) -> None:
    """Send an HTTP answer and see the peer off, all within `REFUSE_S`."""
    with trio.move_on_after(REFUSE_S), suppress(trio.BrokenResourceError):
        await transport.send_all(_answer(reject))
        await see_off(transport)


async def refuse_now(transport: trio.abc.Stream, reject: HandshakeReject) -> None:
    """Send an HTTP answer if that takes no time, and close the transport.

    For a time when a connection cannot be waited for; the peer may get a reset instead.
    """
    # What is in another stream's way, such as a TLS handshake, takes time.
    if isinstance(transport, trio.SocketStream):
        with trio.move_on_after(REFUSE_S), suppress(trio.BrokenResourceError):
            await transport.send_all(_answer(reject))
            await transport.send_eof()
    await close_now(transport)


def _answer(reject: HandshakeReject) -> bytes:
    body = f"{reject.reason}\n".encode()
    phrase = http.HTTPStatus(reject.status).phrase
    more = "".join(f"{name}: {value}\r\n" for name, value in reject.headers)
    head = (
        f"HTTP/1.1 {reject.status} {phrase}\r\n"
        "Content-Type: text/plain; charset=utf-8\r\n"
        f"Content-Length: {len(body)}\r\n"
        f"{'Upgrade: websocket' if reject.status == 426 else 'Cache-Control: no-store'}\r\n"
        f"{more}Connection: close\r\n\r\n"
    )
    return head.encode() + body


async def see_off(transport: trio.abc.Stream) -> None:
    """Shut down our half and read until the peer leaves: unread bytes would reset it.

    Returns within `REFUSE_S`.
    """
    with trio.move_on_after(REFUSE_S):
        await end_half(transport)
        try:
            while await transport.receive_some(_READ_BYTES):
                pass
        except trio.BrokenResourceError:
            pass


async def end_half(transport: trio.abc.Stream) -> None:
    """Tell the peer that nothing more will come, where the transport has a way to."""
    if isinstance(transport, trio.abc.HalfCloseableStream):
        with suppress(trio.BrokenResourceError):
            await transport.send_eof()


async def close_now(transport: trio.abc.Stream) -> None:
    """Close without a word and without waiting, also in a cancelled task.

    Shielded by a scope whose deadline has passed: it cannot block, and the exception on
    its way through the caller is not replaced by `trio.Cancelled`.
    """
    with trio.CancelScope(deadline=-math.inf, shield=True):
        await transport.aclose()
