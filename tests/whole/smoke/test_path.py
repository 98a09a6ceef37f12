"""The path of the URL for rigs can be set, and everything names the one that counts."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import trio

from cfw.api.config import ConfigError, ServerConfig, load_config
from cfw.bench.peers import checks
from cfw.client import ConnectionRefused, open_capture, open_capture_sync
from cfw.client._capture import CAPTURE_PATH
from cfw.routes import PATH
from tests.factories import jpeg
from tests.patience import PATIENCE_S
from tests.whole.smoke.worker import closing, ending, opening, running

WHO: dict[str, Any] = {"user_id": "ada", "session_id": "s-1"}
WHO |= {"width": 640, "height": 480, "fps": 15}


def test_the_default_is_one_and_the_same_everywhere() -> None:
    """The client stands on the schemas alone, so it cannot ask the worker for it."""
    assert ServerConfig().path == PATH == CAPTURE_PATH == checks.PATH


@pytest.mark.parametrize(
    "path", ["/", "/api", "/api/", "/api/v1/cameras", "/a.b/~c/@d:e", "/camera_feed_worker"]
)
async def test_rigs_film_at_the_path_that_is_set(
    monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """With a query behind it too; and at no other."""
    async with running(monkeypatch, server__path=path) as worker:
        url = worker.addresses.capture
        assert urlsplit(url).path == path
        with trio.fail_after(PATIENCE_S):
            async with worker.connect() as ws:
                await ws.send(opening())
                await ws.send(closing())
                assert (await ending(ws))[1] == 1000
        base = url.removesuffix(path)
        http = base.replace("ws://", "http://")
        for other in (PATH, f"{path}x", f"{path}/x", "//api", path.upper() + "X"):
            async with httpx.AsyncClient(trust_env=False) as client:
                answer = await client.get(f"{http}{other}")
            assert answer.status_code == 404, other
            assert answer.text == f"the only endpoint here is {path}\n"


async def test_the_client_library_takes_the_path_from_its_url(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Both twins; and without a path they are told which one it is."""
    async with running(monkeypatch, server__path="/api/film") as worker:
        url = worker.addresses.capture

        def film_sync() -> int:
            with open_capture_sync(url, **WHO) as capture:
                capture.send_frame(jpeg())
            assert capture.receipt is not None
            return capture.receipt.frames

        async with open_capture(url, **WHO) as capture:
            await capture.send_frame(jpeg())
        assert capture.receipt is not None
        assert capture.receipt.frames == 1
        assert await trio.to_thread.run_sync(film_sync) == 1
        with pytest.raises(ConnectionRefused, match="only endpoint here is /api/film"):
            async with open_capture(url.removesuffix("/api/film"), **WHO):
                raise AssertionError("it is open")


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ("", None),
        ("wss://cams.example.org", "wss://cams.example.org/api"),
        ("wss://cams.example.org/", "wss://cams.example.org/api"),
        ("wss://cams.example.org/lab", "wss://cams.example.org/lab"),
    ],
)
async def test_the_ready_line_and_the_pages_name_it(
    monkeypatch: pytest.MonkeyPatch, given: str, named: str | None
) -> None:
    """Behind a proxy that changes the path, its own counts."""
    settings: dict[str, Any] = {"server__path": "/api", "server__public_url": given}
    async with running(monkeypatch, **settings) as worker:
        async with httpx.AsyncClient(trust_env=False) as client:
            info = (await client.get(f"{worker.addresses.admin}/info")).json()
        assert worker.addresses.capture.endswith("/api")
        assert worker.addresses.public == named
        assert info["capture_url"] == (named or worker.addresses.capture)


@pytest.mark.parametrize(
    "path",
    ["", "api", "//api", "/api//x", "/api?x=1", "/api#x", "/a b", "/caf\xe9", "/%61pi", "/.",
     "/a/../b", "/a/./b", "/api\n", "http://h/api", "/<b>", '/"', "/;\r\nX: y", 7, ["/api"]],
)  # fmt: skip
def test_a_path_that_no_client_could_ask_for_is_refused_at_the_start(path: object) -> None:
    """With what is allowed."""
    with pytest.raises(ConfigError) as caught:
        load_config(None, [("server.path", path)])
    assert caught.value.key == "server.path"
    assert "a path such as /api/cameras" in caught.value.problem
