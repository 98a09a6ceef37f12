"""What the admin listener takes of HTTP/1.1, and where it ends: bytes, pieces, time."""

from __future__ import annotations

import re
from typing import Any

import pytest
import trio

from cfw.http.http1 import MAX_BODY_BYTES, MAX_BODY_PIECES
from cfw.http.messages import Answer, Request, json_answer
from cfw.sinks.hub import Hub
from cfw.wire.handshake import MAX_HEAD_BYTES, MAX_HEAD_LINES
from tests.patience import PATIENCE_S, until
from tests.unit.admin.served import hub_app, served
from tests.unit.admin.test_serve import HEALTH, UPGRADE, dial, read_all, say

POST = b"POST /x HTTP/1.1\r\nHost: x\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
LAST = HEALTH + b"Connection: close\r\n\r\n"


async def echo(request: Request) -> Answer:
    """An application that says what it was asked."""
    return json_answer([request.method, request.host, request.path, request.query])


async def sizes(request: Request) -> Answer:
    """An application that says how much it was sent."""
    return json_answer(len(request.body))


def statuses(answer: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d+) [A-Z]", answer)]


def refusal(answer: bytes) -> tuple[int, bytes]:
    """The status and the words of an answer behind which the connection ends."""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"connection: close" in head.lower()
    assert body.strip(), "no refusal is without a word"
    return statuses(head)[0], body


@pytest.mark.parametrize("size", [0, 1, MAX_BODY_BYTES - 1, MAX_BODY_BYTES, MAX_BODY_BYTES + 1])
@pytest.mark.parametrize("is_chunked", [False, True])
async def test_a_body_has_a_largest_size(size: int, is_chunked: bool) -> None:
    """n-1 and n are read whole; n+1 is told what is allowed."""
    if is_chunked:
        data = CHUNKED + (b"%x\r\n%s\r\n" % (size, bytes(size)) if size else b"")
        data += b"0\r\n\r\n"
    else:
        data = POST + b"Content-Length: %d\r\n\r\n%s" % (size, bytes(size))
    async with served(sizes) as server:
        if size <= MAX_BODY_BYTES:
            answer = await say(server, data + LAST)
            assert statuses(answer) == [200, 200]
            assert b"\r\n\r\n%d" % size in answer
        else:
            status, words = refusal(await say(server, data))
            assert status == 413
            assert b"%d bytes" % MAX_BODY_BYTES in words


@pytest.mark.parametrize("more", [-1, 0, 1, 5_000])
async def test_a_body_has_a_largest_number_of_pieces(more: int) -> None:
    """Bytes alone would let each of them cost what a chunk costs."""
    # The last look finds the end of the body.
    chunks = MAX_BODY_PIECES - 1 + more
    data = CHUNKED + b"1\r\nx\r\n" * chunks + b"0\r\n\r\n"
    async with served(sizes) as server:
        answer = await say(server, data + LAST)
    if more <= 0:
        assert statuses(answer) == [200, 200]
        assert b"\r\n\r\n%d" % chunks in answer
    else:
        status, words = refusal(answer)
        assert status == 413
        assert b"%d pieces" % MAX_BODY_PIECES in words


@pytest.mark.parametrize("more", [-1, 0, 1, 3 * MAX_HEAD_BYTES])
async def test_a_head_has_a_largest_size(more: int) -> None:
    """One of 64 KiB is told what is allowed."""
    frame = HEALTH + b"Connection: close\r\nX: \r\n\r\n"
    filled = b"X: " + b"x" * (MAX_HEAD_BYTES - len(frame) + more)
    async with served(hub_app(None)) as server:
        answer = await say(server, frame.replace(b"X: ", filled))
    assert statuses(answer) == [200 if more <= 0 else 431]
    if more > 0:
        assert b"%d bytes" % MAX_HEAD_BYTES in refusal(answer)[1]


@pytest.mark.parametrize("more", [-1, 0, 1, 3_000])
async def test_a_head_has_a_largest_number_of_lines(more: int) -> None:
    """Each costs, however short it is."""
    lines = b"a:\n" * (MAX_HEAD_LINES - LAST.count(b"\n") + more)
    async with served(hub_app(None)) as server:
        answer = await say(server, LAST[:-2] + lines + b"\r\n")
    assert statuses(answer) == [200 if more <= 0 else 431]
    if more > 0:
        assert b"%d lines" % MAX_HEAD_LINES in refusal(answer)[1]


async def test_requests_in_one_piece_are_answered_in_their_order() -> None:
    """However many there are; none is taken for the body of another."""
    asked = b"".join(b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n" % n for n in range(500))
    async with served(echo) as server:
        answer = await say(server, asked + LAST)
    assert re.findall(rb'"/(\d+)"', answer) == [b"%d" % n for n in range(500)]


@pytest.mark.parametrize(
    ("body", "rest"),
    [
        (b"Content-Length: 4\r\n\r\n", b"body"),
        (b"Transfer-Encoding: chunked\r\n\r\n", b"0\r\n\r\n"),
    ],
)
async def test_a_request_for_the_feed_has_no_body(body: bytes, rest: bytes) -> None:
    """What a proxy took for a body is no frame here."""
    hub = Hub()
    async with served(hub_app(hub)) as server:
        status, words = refusal(await say(server, UPGRADE[:-2] + body + rest))
        await until(lambda: not hub.subscribers)
    assert (status, words) == (400, b"a request for a WebSocket has no body\n")


@pytest.mark.parametrize(
    ("begun", "status"),
    [
        (b"", None),
        (LAST, None),
        (b"G", 408),
        (LAST[:-1], 408),
        (CHUNKED, 408),
        (POST + b"Content-Length: 9\r\n\r\n12345678", 408),
    ],
)
async def test_a_request_has_one_deadline(begun: bytes, status: int | None) -> None:
    """Who asked for nothing is left without a word; who began hears how long it may take."""
    if begun == LAST:
        begun = HEALTH + b"\r\n"  # answered, and then nothing
    async with served(hub_app(None), handshake_s=1) as server:
        answer = await say(server, begun)
        await until(lambda: not server.connections)
    if status is None:
        assert statuses(answer) == [200] * bool(begun)
    else:
        assert refusal(answer) == (status, b"the request took longer than 1 s\n")


async def test_no_byte_begins_the_time_of_a_request_anew() -> None:
    """Of its head or of its body, one at a time."""
    async with served(sizes, handshake_s=0.5) as server:
        for whole, begun in ((b"", POST), (POST + b"Content-Length: 99\r\n\r\n", b"x" * 99)):
            stream = await dial(server, whole)
            with trio.fail_after(PATIENCE_S):
                async with trio.open_nursery() as nursery:

                    async def trickle(stream: trio.SocketStream, data: bytes) -> None:
                        for byte in data * 100:
                            await stream.send_all(bytes([byte]))
                            await trio.sleep(0.1)

                    nursery.start_soon(trickle, stream, begun)
                    assert (await stream.receive_some()).startswith(b"HTTP/1.1 408")
                    nursery.cancel_scope.cancel()
            await stream.aclose()


async def test_a_hundred_idle_connections_are_left_in_time() -> None:
    """None of them, and none that was kept alive, lasts longer than a request may."""
    # Time enough for a busy machine to dial and to ask.
    async with served(hub_app(None), handshake_s=3, max_connections=200) as server:
        streams = [await dial(server, b"") for _ in range(50)]
        streams += [await dial(server, HEALTH + b"\r\n") for _ in range(50)]
        answers = [statuses(await read_all(stream)) for stream in streams]
        assert answers == [[]] * 50 + [[200]] * 50
        await until(lambda: not server.connections)
        for stream in streams:
            await stream.aclose()


async def test_a_body_is_asked_for_where_a_client_waits_to_be_asked() -> None:
    """`Expect: 100-continue`, as curl has it for what is not small."""
    head = POST + b"Expect: 100-continue\r\nContent-Length: 2\r\nConnection: close\r\n\r\n"
    async with served(sizes) as server, await dial(server, head) as stream:
        with trio.fail_after(PATIENCE_S):
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 100 Continue\r\n")
        await stream.send_all(b"ab")
        assert statuses(await read_all(stream)) == [200]


@pytest.mark.parametrize(
    ("target", "host", "asked"),
    [
        (b"/a%20b?c=%20", b"x", ["GET", "x", "/a b", "c=%20"]),
        (b"http://lab:1/a?b", b"x", ["GET", "lab:1", "/a", "b"]),
        (b"https://lab", b"x", ["GET", "lab", "/", ""]),
        (b"/http://lab/", b"x", ["GET", "x", "/http://lab/", ""]),
        (b"*", b"x", ["GET", "x", "*", ""]),
    ],
)
async def test_every_legal_target_is_understood(
    target: bytes, host: bytes, asked: list[str]
) -> None:
    """Also the absolute form, whose host counts instead of the header's."""
    data = b"GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n" % (target, host)
    async with served(echo) as server:
        answer = await say(server, data)
    assert answer.endswith(str(asked).replace("'", '"').replace(", ", ",").encode())


OTHERS: dict[str, bytes] = {
    "a cookie that is not ASCII": "Cookie: a=1; name=José; b=2\r\n".encode(),
    "any header that is not ASCII": b"X-Name: \xff\xfe\r\n",
    "two lines of Connection": b"Connection: keep-alive\r\n",
    "a list in Upgrade": b"Upgrade: foo\r\n",
}


@pytest.mark.parametrize("name", OTHERS)
async def test_what_nobody_reads_refuses_nothing(name: str) -> None:
    """A page, its files and the feed, whatever else a browser sends along."""
    async with served(hub_app(Hub())) as server:
        for path in (b"/", b"/static/live.js"):
            data = LAST.replace(b"/healthz", path)[:-2] + OTHERS[name] + b"\r\n"
            assert statuses(await say(server, data)) == [200], path
        async with await dial(server, UPGRADE[:-2] + OTHERS[name] + b"\r\n") as stream:
            with trio.fail_after(PATIENCE_S):
                assert (await stream.receive_some()).startswith(b"HTTP/1.1 101 ")


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
async def test_a_connection_is_kept_for_who_knows_that_it_is(version: bytes) -> None:
    """HTTP/1.0 does not; what follows there is no request."""
    data = HEALTH.replace(b"1.1", version) + b"\r\n"
    async with served(hub_app(None)) as server:
        answer = await say(server, data + LAST)
    assert statuses(answer) == [200] * (2 if version == b"1.1" else 1)


async def test_what_asks_for_the_feed_without_a_websocket_is_told() -> None:
    """What to connect with."""
    async with served(hub_app(Hub())) as server:
        answer = await say(server, LAST.replace(b"/healthz", b"/feed"))
    assert statuses(answer) == [426]
    assert b"WebSocket client" in answer


async def test_an_answer_that_is_not_read_is_given_up() -> None:
    """As long as a send may stall, and no longer."""

    async def large(_: Request) -> Answer:
        return json_answer("x" * 30_000_000)

    async with served(large, send_stall_s=0.3) as server:
        stream = await dial(server, HEALTH + b"\r\n")
        await until(lambda: server.connections)
        await until(lambda: not server.connections)
        await stream.aclose()


def test_the_bounds_leave_room_for_what_is_sent() -> None:
    """The longest token in a form, and the heads of browsers behind proxies."""
    longest: Any = 512 * len("%2B")
    assert longest * 2 < MAX_BODY_BYTES
    assert MAX_HEAD_LINES >= 100
