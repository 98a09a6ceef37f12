"""Programs that send an Origin, because their library does, film like any other."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from base64 import b64encode
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import trio
import websocket

from cfw.identity import make_token
from tests.factories import jpeg
from tests.patience import PATIENCE_S
from tests.raw import ending_of
from tests.unit.wire.peer import binary, parse_frames, text
from tests.whole.smoke.worker import Worker, closing, meta, opening, running

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
TINY = "https://github.com/gilmaimon/TinyWebsockets"

#: What the libraries of small cameras send, line for line, and that of Node.
HEADS = {
    "arduinoWebSockets": (
        "GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: Upgrade\r\n"
        "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Protocol: arduino\r\nOrigin: file://\r\n"
        "User-Agent: arduino-WebSocket-Client\r\n\r\n"
    ),
    "ArduinoWebsockets": (
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nSec-WebSocket-Key: {key}\r\n"
        "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        f"User-Agent: TinyWebsockets Client\r\nOrigin: {TINY}\r\n\r\n"
    ),
    "esp_websocket_client": (
        "GET {path} HTTP/1.1\r\nConnection: Upgrade\r\nHost: {host}:{port}\r\n"
        "User-Agent: ESP32 Websocket Client\r\nUpgrade: websocket\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n"
    ),
    "ws4py": (
        "GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: Upgrade\r\n"
        "Upgrade: websocket\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n"
        "Origin: ws://{host}:{port}\r\n\r\n"
    ),
    "x/net/websocket": (
        "GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nOrigin: http://localhost/\r\n"
        "Sec-WebSocket-Version: 13\r\n\r\n"
    ),
    "Node ws": (
        "GET {path} HTTP/1.1\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n"
        "Connection: Upgrade\r\nUpgrade: websocket\r\n"
        "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"
        "Host: {host}:{port}\r\n\r\n"
    ),
}
#: Those whose Origin has to be listed, and how.
TO_LIST = {
    "arduinoWebSockets": "file://",
    "ArduinoWebsockets": TINY,
    "x/net/websocket": "http://localhost/",
}


async def say(worker: Worker, head: str) -> tuple[str, bytes]:
    """Send a head and a capture of one frame; gives the answer's head, and what follows."""
    url = urlsplit(worker.addresses.capture)
    assert url.hostname is not None
    assert url.port is not None
    asked = head.format(path=url.path, host=url.hostname, port=url.port, key=KEY)
    film = text(opening()) + text(meta(1)) + binary(jpeg()) + text(closing())
    answer = b""
    with trio.fail_after(PATIENCE_S):
        async with await trio.open_tcp_stream(url.hostname, url.port) as stream:
            await stream.send_all(asked.encode() + film)
            async for part in stream:
                answer += part
    said, _, rest = answer.partition(b"\r\n\r\n")
    return said.decode(), rest


@pytest.mark.parametrize("library", HEADS)
async def test_a_library_films_as_it_comes(
    monkeypatch: pytest.MonkeyPatch, library: str
) -> None:
    """With what it sends by itself, listed where that is no origin of this worker."""
    listed = [TO_LIST[library]] if library in TO_LIST else []
    async with running(monkeypatch, server__origins=listed) as worker:
        said, rest = await say(worker, HEADS[library])
    status, *headers = said.split("\r\n")
    # The small ones compare these lines as they stand.
    accepted = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="  # of this key (RFC 6455, 1.3)
    assert status.startswith("HTTP/1.1 101 ")
    assert {"Upgrade: websocket", "Connection: Upgrade"} <= set(headers)
    assert f"Sec-WebSocket-Accept: {accepted}" in headers
    told = ending_of(parse_frames(rest))
    assert (told.aborts, told.code, told.receipt["frames"]) == ([], 1000, 1)


@pytest.mark.parametrize("library", TO_LIST)
async def test_an_origin_that_is_not_listed_is_told_with_how_to_list_it(
    monkeypatch: pytest.MonkeyPatch, library: str
) -> None:
    """In words that can be pasted into the configuration."""
    async with running(monkeypatch) as worker:
        said, rest = await say(worker, HEADS[library])
    assert said.startswith("HTTP/1.1 403 ")
    assert f"add {json.dumps(TO_LIST[library])} to server.origins" in rest.decode()


def film(url: str, **options: Any) -> dict[str, int]:
    """One capture by websocket-client; gives its receipt."""
    rig = websocket.create_connection(url, timeout=PATIENCE_S, **options)
    try:
        for message in (opening(), meta(1)):
            rig.send(message)
        rig.send_binary(jpeg())
        rig.send(closing())
        opcode, data = rig.recv_data()
        assert opcode == websocket.ABNF.OPCODE_CLOSE
        assert int.from_bytes(data[:2], "big") == 1000
        receipt: dict[str, int] = json.loads(data[2:])
        return receipt
    finally:
        rig.shutdown()  # type: ignore[no-untyped-call]


@pytest.mark.parametrize(
    ("host", "name"),
    [("127.0.0.1", "127.0.0.1"), ("127.0.0.1", "localhost"), ("::1", "[::1]"), ("::", "[::1]"),
     ("::", "127.0.0.1"), ("0.0.0.0", "localhost")],
)  # fmt: skip
async def test_websocket_client_films_with_its_defaults(
    monkeypatch: pytest.MonkeyPatch, host: str, name: str
) -> None:
    """It sends the origin of the URL: that of the capture port, which has no pages."""
    async with running(monkeypatch, server__host=host) as worker:
        url = urlsplit(worker.addresses.capture)
        target = f"ws://{name}:{url.port}{url.path}"
        receipt = await trio.to_thread.run_sync(film, target)
        with pytest.raises(websocket.WebSocketBadStatusException, match="403"):
            # As a page does under a name that was made to resolve to this machine.
            await trio.to_thread.run_sync(
                lambda: film(target, host=f"evil.example:{url.port}",
                             origin=f"http://evil.example:{url.port}")
            )  # fmt: skip
    assert receipt == {"frames": 1, "bytes": 200}


async def test_websocket_client_films_under_any_name_with_a_token(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The origin is that of the Host."""
    token, path = make_token(), tmp_path / "tokens"
    path.write_text(f"{token}\n")
    path.chmod(0o600)
    async with running(monkeypatch, server__token_file=str(path)) as worker:
        url = worker.addresses.capture
        name = f"lab.example:{urlsplit(url).port}"
        options: dict[str, Any] = {"host": name, "origin": f"http://{name}"}
        options["header"] = [f"Authorization: Bearer {token}"]
        receipt = await trio.to_thread.run_sync(lambda: film(url, **options))
        options["origin"] = "http://other.example"
        with pytest.raises(websocket.WebSocketBadStatusException, match="403"):
            await trio.to_thread.run_sync(lambda: film(url, **options))
    assert receipt["frames"] == 1


NODE_RIG = """
const WebSocket = require("ws");
const { url, messages, picture } = JSON.parse(require("fs").readFileSync(0, "utf8"));
const rig = new WebSocket(url);
rig.on("open", () => {
  rig.send(messages[0]);
  rig.send(messages[1]);
  rig.send(Buffer.from(picture, "base64"));
  rig.send(messages[2]);
});
rig.on("close", (code, reason) => console.log(JSON.stringify([code, reason.toString()])));
rig.on("error", (error) => console.log(JSON.stringify(["error", error.message])));
"""


@pytest.fixture
def node() -> tuple[str, dict[str, str]]:
    """Node, and an environment in which it finds its package ws."""
    program = shutil.which("node")
    if program is None:
        pytest.skip("node is not installed")
    folders = [os.environ.get("NODE_PATH", ""), "/usr/share/nodejs", "/usr/lib/node_modules"]
    env = os.environ | {"NODE_PATH": os.pathsep.join(folders)}
    has_ws = subprocess.run([program, "-e", "require('ws')"], env=env, capture_output=True)
    if has_ws.returncode:
        pytest.skip("node has no package ws")
    return program, env


async def test_the_ws_of_node_films(
    monkeypatch: pytest.MonkeyPatch, node: tuple[str, dict[str, str]]
) -> None:
    """The library itself, where it is installed (Debian: nodejs and node-ws)."""
    program, env = node
    async with running(monkeypatch) as worker:
        said = {
            "url": worker.addresses.capture,
            "messages": [opening(), meta(1), closing()],
            "picture": b64encode(jpeg()).decode(),
        }
        ran = await trio.to_thread.run_sync(
            lambda: subprocess.run(
                [program, "-e", NODE_RIG],
                input=json.dumps(said),
                env=env,
                capture_output=True,
                text=True,
                timeout=PATIENCE_S,
            )
        )
    assert ran.stdout, ran.stderr
    assert json.loads(ran.stdout) == [1000, '{"frames":1,"bytes":200}']
