"""The opening handshake's first half: the request head, and the refusals that are ours.

The head is read and judged here: all that is legal in HTTP is taken, and only what is needed
has to be readable. trio-websocket, which is stricter and answers no refusal with a text, is
given a head that is made of the few fields that it needs.
"""

import http
import math
import re
from contextlib import suppress
from typing import Final, TypeAlias

import attrs
import h11
import trio

from cfw.wire.errors import PeerGone

#: As much as h11 takes, so that every head passed on is parsed.
MAX_HEAD_BYTES: Final = 16 * 1024
#: Browsers send some twenty. Each costs h11 some microseconds, however short it is.
MAX_HEAD_LINES: Final = 128
#: How long a refused peer may take to read why, and to leave.
REFUSE_S: Final = 1.0

_READ_BYTES: Final = 64 * 1024
#: Where h11 ends a head; anything else would make two readers disagree about it.
_HEAD_END: Final = re.compile(rb"\n\r?\n")
_TOKEN: Final = rb"[A-Za-z0-9!#$%&'*+.^_`|~-]+"
#: What may begin a request; a TLS greeting, for one, does not, and never has an end.
_BEGINNING: Final = re.compile(_TOKEN + rb"( |\Z)|\Z")
#: Bytes above ASCII have no place in a target, but none in a query is looked at.
_REQUEST_LINE: Final = re.compile(rb"(%s) ([!-~\x80-\xff]+) HTTP/1\.([0-9])\r?\n" % _TOKEN)
_FIELD: Final = re.compile(_TOKEN + rb":")
#: As a proxy is asked for a page (RFC 9112, 3.2.2); taken from everybody.
_ABSOLUTE: Final = re.compile(rb"[a-z][a-z0-9+.-]*://([^/?]*)", re.IGNORECASE)

#: Of a request: names in lower case, values without space around them. The text is ISO 8859-1,
#: as which any byte can be read; whoever needs ASCII has to look.
Headers: TypeAlias = tuple[tuple[str, str], ...]


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
        if _BEGINNING.match(head) is None:
            return HandshakeReject(400, "this is not an HTTP/1.1 request")
        if len(head) > MAX_HEAD_BYTES:
            return HandshakeReject(431, f"the request head is over {MAX_HEAD_BYTES} bytes")
        if head.count(b"\n") > MAX_HEAD_LINES:
            return HandshakeReject(431, f"the request head is over {MAX_HEAD_LINES} lines")
        if match:
            return RequestBytes(head, bytes(data[match.end() :]))


@attrs.frozen
class Request:
    """A request, as far as it is read here.

    Args:
        method: such as `GET`.
        path: without its query.
        query: empty when there is none.
        version: of HTTP, `1.1` or `1.0`.
        host: whom it is for, as the client wrote it; the target's word counts before the
            header's.
        headers: all of them, in their order.
    """

    method: str
    path: str
    query: str
    version: str
    host: str
    headers: Headers

    def values(self, name: str) -> list[str]:
        """The values of a header, in lower case, one for each time that it is there."""
        return [value for known, value in self.headers if known == name]

    def items(self, name: str) -> list[str]:
        """What a header lists, however many lines it takes."""
        lists = (value.split(",") for value in self.values(name))
        return [item.strip() for items in lists for item in items]


def read_request(head: bytes, only_path: str | None = None) -> Request | HandshakeReject:
    """Read a whole request head, or say what is wrong with it.

    Args:
        head: up to and with its empty line.
        only_path: a request for any other is refused, whatever else it says; None takes all.
    """
    line = _REQUEST_LINE.match(head)
    if line is None:
        return HandshakeReject(400, "this is not an HTTP/1.1 request")
    authority, path, query = _split(line[2])
    if path != (only_path or path):
        return HandshakeReject(404, f"the only endpoint here is {only_path}")
    reader = h11.Connection(h11.SERVER)
    try:
        # The target is read here, where also one that is no ASCII finds its 404.
        reader.receive_data(b"GET / HTTP/1.%s\r\n" % line[3] + head[line.end() :])
        parsed = reader.next_event()
    except h11.RemoteProtocolError:
        return HandshakeReject(400, f"the request head cannot be read: {_fault_of(head)}")
    assert isinstance(parsed, h11.Request), "the head is whole"
    headers = tuple(
        (name.decode("latin-1"), value.decode("latin-1")) for name, value in parsed.headers
    )
    host = dict(headers).get("host", "") if authority is None else authority
    return Request(line[1].decode(), path, query, f"1.{line[3].decode()}", host, headers)


def _split(target: bytes) -> tuple[str | None, str, str]:
    """The authority of a target, if it has one, its path and its query."""
    authority = None
    if absolute := _ABSOLUTE.match(target):
        authority = absolute[1].decode("latin-1")
        target = target[absolute.end() :]
        if not target.startswith(b"/"):
            target = b"/" + target
    path, _, query = target.decode("latin-1").partition("?")
    return authority, path, query


def _fault_of(head: bytes) -> str:
    """What h11 does not take, in words that repeat no value: it may be a secret."""
    names: list[bytes] = []
    for number, line in enumerate(re.split(rb"\r?\n", head.strip())[1:], 2):
        if names and line[:1] in (b" ", b"\t"):
            continue  # it goes on with the value of the line before
        if _FIELD.match(line) is None:
            return f"line {number} is no `Name: value`"
        if re.search(rb"[\x00\x0b\x0c\r]", line):
            return f"line {number} holds a control character"
        names.append(line.partition(b":")[0].lower())
    hosts = names.count(b"host")
    return "it needs one header Host" if hosts != 1 else "its length or its coding is unclear"


def check_upgrade(request: Request) -> HandshakeReject | None:
    """Refuse a request that does not ask for a WebSocket as RFC 6455, 4.2.1 has it."""
    if request.version == "1.0":
        return HandshakeReject(426, "a WebSocket needs HTTP/1.1; a proxy may speak HTTP/1.0")
    for name, needed in (("upgrade", "websocket"), ("connection", "upgrade")):
        if needed not in map(str.lower, request.items(name)):
            return HandshakeReject(
                426,
                "this is a WebSocket endpoint; connect with a WebSocket client (the header "
                f"{name.title()} does not say {needed}; a proxy may have taken it out)",
            )
    if request.method != "GET":
        return HandshakeReject(400, "a WebSocket is asked for with GET, and no other method")
    if request.values("sec-websocket-version") != ["13"]:
        return HandshakeReject(
            426,
            "the only version of WebSocket spoken here is 13 (Sec-WebSocket-Version: 13)",
            (("Sec-WebSocket-Version", "13"),),
        )
    keys = request.values("sec-websocket-key")
    if len(keys) != 1 or not re.fullmatch("[!-~]+", keys[0]):
        return HandshakeReject(400, "it needs one header Sec-WebSocket-Key, made of ASCII")
    length = request.values("content-length")
    if request.values("transfer-encoding") or length not in ([], ["0"]):
        return HandshakeReject(400, "a request for a WebSocket has no body")
    return None


def upgrade_head(request: Request, subprotocol: str | None) -> bytes:
    """A head that asks for the same WebSocket, of nothing but what trio-websocket needs.

    Args:
        request: one that `check_upgrade` lets pass.
        subprotocol: the one to select, which the request offers; None selects none.
    """
    offer = f"Sec-WebSocket-Protocol: {subprotocol}\r\n" if subprotocol else ""
    (key,) = request.values("sec-websocket-key")
    return (
        "GET / HTTP/1.1\r\nHost: cfw\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n{offer}\r\n"
    ).encode()


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
