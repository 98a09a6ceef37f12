"""`latest.jpg` and `stream.mjpg` over real sockets: plain pictures that slow nothing down."""

from __future__ import annotations

import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
import trio.testing

from cfw.admin import AdminServer, pictures, token_only
from cfw.admin._pace import LivePace
from cfw.http.messages import Flow, Request
from cfw.identity import Tokens, make_token
from cfw.limits import Limits
from cfw.routes.registry import Registry
from cfw.sinks import CaptureSink
from cfw.sinks.hub import Hub
from tests.patience import PATIENCE_S, until
from tests.pictures import draw
from tests.unit.admin.served import make_app, served
from tests.unit.admin.test_serve import dial, say
from tests.unit.sinks.items import close, frame, running

LATEST, STREAM = "/captures/cap/latest.jpg", "/captures/cap/stream.mjpg"


def never(*_: object) -> Any:
    raise AssertionError("nobody asked for it")


@asynccontextmanager
async def filming(hub: Hub, **options: Any) -> AsyncIterator[tuple[AdminServer, CaptureSink]]:
    """A listener, and one capture that runs."""
    registry = Registry(Limits())
    app = make_app(hub=hub, registry=registry)
    guarded = options.pop("guard", lambda app: app)(app)
    with registry.claim("cap", never, never):
        async with served(guarded, **options) as server, running(hub) as capture:
            yield server, capture


def at(server: AdminServer, path: str) -> str:
    return f"http://127.0.0.1:{server.port}{path}"


def get_of(path: str, *lines: str) -> bytes:
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: x", *lines, "\r\n"]).encode()


async def send_on(capture: CaptureSink, first: int = 1) -> None:
    """Film until cancelled, each frame another."""
    seq = first
    while True:
        await capture.send(frame(seq, data=b"\xff\xd8%d\xff\xd9" % seq))
        seq += 1
        await trio.sleep(0.01)


async def test_latest_is_the_newest_picture_there_is() -> None:
    """Byte for byte, for this moment alone, and for no page of another site."""
    hub = Hub()
    async with (
        filming(hub) as (server, capture),
        httpx.AsyncClient(trust_env=False) as client,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(send_on, capture)
        answer = await client.get(at(server, LATEST))
        nursery.cancel_scope.cancel()
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/jpeg")
    assert re.fullmatch(rb"\xff\xd8\d+\xff\xd9", answer.content)
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"


@pytest.mark.parametrize("name", ["latest.jpg", "stream.mjpg"])
async def test_what_has_no_pictures_says_why(name: str) -> None:
    """Another sink, a capture that does not run, another method."""
    async with filming(Hub()) as (server, _), httpx.AsyncClient(trust_env=False) as client:
        unknown = await client.get(at(server, f"/captures/other/{name}"))
        posted = await client.post(at(server, f"/captures/cap/{name}"))
        elsewhere = await client.get(at(server, f"/captures/cap/{name}/more"))
    assert (unknown.status_code, elsewhere.status_code) == (404, 404)
    assert unknown.json() == {"error": "no running capture has this capture_id"}
    assert (posted.status_code, posted.headers["allow"]) == (405, "GET, HEAD")
    async with (
        served(make_app(hub=None)) as server,
        httpx.AsyncClient(trust_env=False) as client,
    ):
        answer = await client.get(at(server, f"/captures/cap/{name}"))
    assert answer.status_code == 404
    assert "sink is not hub:" in answer.json()["error"]


async def test_latest_of_a_capture_that_sends_nothing_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With 503 after its time; with 404 when the capture ends first."""
    monkeypatch.setattr(pictures, "NEXT_FRAME_S", 0.2)
    hub = Hub()
    async with filming(hub) as (server, capture), httpx.AsyncClient(trust_env=False) as client:
        silent = await client.get(at(server, LATEST))
        monkeypatch.setattr(pictures, "NEXT_FRAME_S", PATIENCE_S)
        async with trio.open_nursery() as nursery:

            async def end() -> None:
                await until(lambda: hub.subscribers)
                await capture.finish(close())

            nursery.start_soon(end)
            ended = await client.get(at(server, LATEST))
    assert (silent.status_code, ended.status_code) == (503, 404)
    assert ended.json() == {"error": "the capture ended before its next frame"}


@pytest.mark.parametrize("lasts_s", [0, 5], ids=["over", "in its last seconds"])
async def test_a_stream_of_a_capture_that_ended_before_its_first_part_ends(
    autojump_clock: None, lasts_s: float
) -> None:
    """A slow peer takes its time for the head; the hub tells nobody of what was before."""
    hub, registry = Hub(), Registry(Limits())
    _, route = pictures.picture_routes(hub, registry, LivePace())
    request = Request(
        *("GET", STREAM, "", "1.1", "x", ()), body=b"", scheme="http", port=1, peer="::1"
    )
    parts: list[bytes] = []

    async def last(seconds: float) -> None:
        with registry.claim("cap", never, never):
            await trio.sleep(seconds)

    async with trio.open_nursery() as nursery:
        with registry.claim("cap", never, never):
            async with running(hub) as capture:
                answer = await route.handler(request)
                await capture.finish(close())
        nursery.start_soon(last, lasts_s)
        await trio.testing.wait_all_tasks_blocked()
        assert isinstance(answer, Flow)
        with trio.fail_after(60):
            parts += [part async for part in answer.parts()]
    assert parts == []


async def test_a_stream_has_every_picture_whole_and_ends_with_the_capture() -> None:
    """The boundary stands behind each, so that a viewer shows it at once."""
    hub, got = Hub(), b""
    sent = [b"\xff\xd8%d\r\n--x\xff\xd9" % seq for seq in range(1, 6)]
    async with (
        filming(hub) as (server, capture),
        httpx.AsyncClient(trust_env=False) as client,
        client.stream("GET", at(server, STREAM)) as answer,
    ):
        kind, _, boundary = answer.headers["content-type"].partition("; boundary=")
        assert (answer.status_code, kind) == (200, "multipart/x-mixed-replace")
        limit = f"--{boundary}\r\n".encode()
        pieces = answer.aiter_bytes()
        await until(lambda: hub.subscribers)
        for count, data in enumerate(sent, 1):
            await capture.send(frame(count, data=data))
            while got.count(limit) < count + 1:
                got += await anext(pieces)
        await capture.finish(close(frames=len(sent)))
        async for piece in pieces:
            got += piece
    first, *parts, last = got.split(limit)
    assert (first, last) == (b"", b"")
    for part, data in zip(parts, sent, strict=True):
        head = b"Content-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(data)
        assert part == head + data + b"\r\n"


async def test_a_viewer_that_stops_reading_slows_nothing() -> None:
    """The capture goes on at its pace; the viewer gets what is newest when it reads again."""
    hub = Hub()
    large = bytes(1_000_000)
    async with filming(hub, send_stall_s=PATIENCE_S) as (server, capture):
        viewer = await dial(server)
        await viewer.send_all(get_of(STREAM))
        await until(lambda: hub.subscribers)
        with trio.fail_after(PATIENCE_S):
            for seq in range(1, 201):  # 200 MB, of which no socket holds a tenth
                await capture.send(frame(seq, data=large))
                await trio.lowlevel.checkpoint()
        await viewer.aclose()
        await until(lambda: not hub.subscribers)


async def test_a_viewer_that_leaves_is_noticed_while_nothing_comes() -> None:
    """So that it takes no place among the connections."""
    hub = Hub()
    async with filming(hub) as (server, _):
        viewer = await dial(server)
        await viewer.send_all(get_of(STREAM))
        await until(lambda: hub.subscribers)
        await viewer.aclose()
        await until(lambda: not hub.subscribers)
        await until(lambda: not server.connections)


async def test_a_stream_keeps_its_place() -> None:
    """As a feed does: a newcomer ends who only asked once."""
    hub = Hub()
    async with filming(hub, max_connections=1) as (server, _):
        viewer = await dial(server)
        await viewer.send_all(get_of(STREAM))
        await until(lambda: hub.subscribers)
        refused = await say(server, get_of("/healthz"))
        assert b"503" in refused.partition(b"\r\n")[0]
        assert hub.subscribers == 1
        await viewer.aclose()


@pytest.mark.parametrize("path", [LATEST, STREAM])
async def test_a_token_may_come_as_a_password_for_pictures_alone(
    path: str, tmp_path: Path
) -> None:
    """Programs are asked for one, browsers are not: those would keep it."""
    token = make_token()
    file = tmp_path / "tokens"
    file.write_text(f"{token}\n")
    file.chmod(0o600)
    tokens = Tokens(file)
    hub = Hub()
    async with (
        filming(hub, guard=lambda app: token_only(app, tokens)) as (server, _),
        httpx.AsyncClient(trust_env=False) as client,
    ):
        asked = await client.head(at(server, path))
        assert asked.status_code == 401
        assert asked.headers["www-authenticate"].startswith("Basic ")
        browser = await client.head(at(server, path), headers={"sec-fetch-mode": "no-cors"})
        assert browser.headers["www-authenticate"] == "Bearer"
        for auth, status in ((("x", "wrong"), 401), ((token, ""), 401)):
            refused = await client.head(at(server, path), auth=auth)
            assert refused.status_code == status
        odd = {b"authorization": "Basic \xff=".encode("latin-1")}
        assert (await client.head(at(server, path), headers=odd)).status_code in (400, 401)
        captures = await client.get(at(server, "/captures"), auth=("x", token))
        assert captures.status_code == 401
        let_in = await client.head(at(server, "/captures/none/latest.jpg"), auth=("x", token))
        assert let_in.status_code == 404


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")
async def test_ffmpeg_reads_a_stream() -> None:
    """What OBS and Home Assistant read such streams with."""
    hub = Hub()
    jpeg = draw(640, 480)
    async with filming(hub) as (server, capture), trio.open_nursery() as nursery:

        async def film() -> None:
            for seq in range(1, 100_000):
                await capture.send(frame(seq, data=jpeg))
                await trio.sleep(0.03)

        nursery.start_soon(film)
        command = ["ffmpeg", "-loglevel", "error", "-f", "mpjpeg", "-i", at(server, STREAM)]
        command += ["-frames:v", "3", "-f", "framemd5", "-"]
        with trio.fail_after(PATIENCE_S):
            done = await trio.run_process(
                command, capture_stdout=True, capture_stderr=True, check=False
            )
        nursery.cancel_scope.cancel()
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.decode().splitlines() if not line.startswith("#")]
    assert len(lines) == 3
    assert "640x480" in done.stdout.decode()
