"""Bad input ends its own connection with a clear error, and nothing else suffers."""

from __future__ import annotations

import json
from urllib.parse import urlsplit

import pytest
import trio

from cfw.routes import PATH
from tests.factories import jpeg
from tests.patience import PATIENCE_S
from tests.raw import ending_of
from tests.unit.wire.peer import REQUEST, binary, close, frame, header, parse_frames, text
from tests.whole.smoke.worker import Worker, closing, ending, meta, opening, running

#: Headers that nobody reads here, as other programs on the same host write them.
ODD_HEADERS = [
    "Cookie: name=José".encode(),
    "Cookie: name=José".encode("latin-1"),
    b"User-Agent: caf\xe9",
    b"Host: w\xf6rker",
    b"Authorization: Basic \xe9",
    b"Sec-WebSocket-Protocol: caf\xe9",
    b"Sec-WebSocket-Extensions: permessage-\x80",
    b"X-Anything: \xf0\x9f\x93\xb7",
]
#: Requests that cannot be read -> part of the answer.
BAD_HEADERS = {
    b"caf\xe9: 1": b"line 2 is no `Name: value`",
    b"Authorization : Bearer x": b"line 2 is no `Name: value`",
    b"Cookie: a\x00b": b"line 2 holds a control character",
    b"Sec-WebSocket-Key: caf\xe9": b"Sec-WebSocket-Key, made of ASCII",
    b"Upgrade: \xff": b"Upgrade does not say websocket",
}
#: What is sent after a good handshake -> error code or none, close code, part of the reason.
BAD_MESSAGES = {
    "malformed JSON": (text("{nope"), 1008, "is not JSON"),
    "NaN": (text('{"event":"capture.open","fps_target":NaN}'), 1008, "is not JSON"),
    "huge integer": (text('{"fps_target":' + "9" * 6000 + "}"), 1008, "is not JSON"),
    "deep nesting": (text("[" * 16_000), 1008, "is not JSON"),
    "wrong types": (text(opening(width="640")), 1008, "width: must be an integer"),
    "invalid UTF-8": (frame(0x81, b"\xc3\x28"), 1007, "UTF-8"),
    "20 kB control message": (text(" " * 20_000), 1009, "over the limit of 16384"),
    "a length of 2^63": (frame(0x82)[:1] + b"\xff" + b"\xff" * 8 + bytes(4), 1002, ""),
    "2 GB announced": (header(0x82, 1 << 31) + bytes(4), 1009, "over the limit"),
    "reserved opcode": (frame(0x83), 1002, "opcode"),
    "no mask": (b"\x81\x02{}", 1002, "mask"),
    "noise": (bytes(range(256)) * 40, 1002, ""),
}


async def talk(worker: Worker, data: bytes) -> bytes:
    """Send bytes over TCP and read all there is until the worker ends it."""
    url = urlsplit(worker.addresses.capture)
    assert url.hostname is not None
    assert url.port is not None
    answer = b""
    with trio.fail_after(PATIENCE_S):
        async with await trio.open_tcp_stream(url.hostname, url.port) as stream:
            await stream.send_all(data)
            async for part in stream:
                answer += part
    return answer


async def check_others(worker: Worker, ws: object, seq: int) -> None:
    """A capture that ran all the time takes another frame."""
    await ws.send(meta(seq, capture_id="bystander"))  # type: ignore[attr-defined]
    await ws.send(jpeg())  # type: ignore[attr-defined]


def with_line(line: bytes) -> bytes:
    """A request with this header in the place of its own of the same name."""
    name = line.split(b":")[0]
    kept = [part for part in REQUEST.split(b"\r\n") if not part.startswith(name)]
    return b"\r\n".join([kept[0], line, *kept[1:]])


async def test_bad_handshakes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is answered with what was wrong; the bystander gets its receipt."""
    async with running(monkeypatch) as worker, worker.connect() as ws:
        await ws.send(opening(capture_id="bystander"))
        for seq, (line, words) in enumerate(BAD_HEADERS.items(), 1):
            head, _, body = (await talk(worker, with_line(line))).partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 4"), head
            assert words in body
            await check_others(worker, ws, seq)
        await ws.send(closing(capture_id="bystander"))
        _, code, receipt = await ending(ws)
    assert (code, json.loads(receipt)["frames"]) == (1000, len(BAD_HEADERS))


@pytest.mark.parametrize("line", ODD_HEADERS)
async def test_a_header_that_nobody_reads_keeps_no_rig_out(
    line: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bytes above ASCII in it are no reason to refuse a capture."""
    film = text(opening()) + text(meta(1)) + binary(jpeg()) + text(closing())
    async with running(monkeypatch) as worker:
        head, _, rest = (await talk(worker, with_line(line) + film)).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 "), head
    told = ending_of(parse_frames(rest))
    assert (told.aborts, told.code, told.receipt["frames"]) == ([], 1000, 1)


async def test_bad_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each kind gets its close code and a reason; the bystander gets its receipt."""
    async with running(monkeypatch) as worker, worker.connect() as ws:
        await ws.send(opening(capture_id="bystander"))
        for seq, (name, (data, code, part)) in enumerate(BAD_MESSAGES.items(), 1):
            answer = await talk(worker, REQUEST + data + close(1000))
            head, _, rest = answer.partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 101 "), name
            told = ending_of(parse_frames(rest))
            assert (told.aborts, told.code) == ([], code), name
            kind = "limit_frame_bytes_exceeded" if "2 GB" in name else "protocol_violation"
            assert told.reason.startswith(f"{kind}: "), name
            assert part in told.reason, (name, told.reason)
            await check_others(worker, ws, seq)
        await ws.send(closing(capture_id="bystander"))
        _, last, receipt = await ending(ws)
    assert (last, json.loads(receipt)["frames"]) == (1000, len(BAD_MESSAGES))


@pytest.mark.parametrize("path", ["/", "/feed", f"{PATH}/", PATH.upper(), f"/x{PATH}"])
async def test_any_other_path_is_404(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the capture route is served; a query behind it is no other path."""
    async with running(monkeypatch) as worker:
        answer = await talk(worker, REQUEST.replace(PATH.encode(), path.encode()))
        assert answer.startswith(b"HTTP/1.1 404 ")
        queried = REQUEST.replace(PATH.encode(), PATH.encode() + b"?rig=7")
        answer = await talk(worker, queried + close(1000))
        assert answer.startswith(b"HTTP/1.1 101 ")
