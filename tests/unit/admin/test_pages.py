"""The pages of the admin listener as files: types, headers, and nothing but what is named."""

from __future__ import annotations

import re
from importlib import resources

import httpx
import pytest

from tests.unit.admin.served import make_app, served

STATIC = resources.files("cfw.admin") / "static"
NAMES = sorted(entry.name for entry in STATIC.iterdir())
TYPES = {
    "css": "text/css; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
PAGES = {"live.html": "/", "capture.html": "/capture"}


def text(name: str) -> str:
    return (STATIC / name).read_text("utf-8")


async def get(path: str, **options: str) -> httpx.Response:
    async with (
        served(make_app(**options)) as server,
        httpx.AsyncClient(trust_env=False) as client,
    ):
        return await client.get(f"http://127.0.0.1:{server.port}{path}")


@pytest.mark.parametrize("name", NAMES)
async def test_every_file_is_served_as_what_it_is(name: str) -> None:
    """The bytes of the package, their type, and the headers that keep a page to itself."""
    answer = await get(PAGES.get(name, f"/static/{name}"))
    assert (answer.status_code, answer.content) == (200, (STATIC / name).read_bytes())
    headers = answer.headers
    assert headers["content-type"] == TYPES[name.rpartition(".")[2]]
    assert headers["cache-control"] == "no-cache"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
    assert policy == {
        "default-src": "'self'",
        "connect-src": "'self' ws://127.0.0.1:8765",
        "img-src": "'self' blob:",
        "object-src": "'none'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
        "require-trusted-types-for": "'script'",
    }


async def test_the_policy_knows_a_public_url_without_a_port() -> None:
    """It is that of the scheme."""
    answer = await get("/", capture_url="wss://cameras.example.org/camera_feed_worker/capture")
    policy = answer.headers["content-security-policy"]
    assert "; connect-src 'self' wss://cameras.example.org; " in policy


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("worker.lab", "ws://worker.lab:8765"),
        ("10.0.0.7", "ws://10.0.0.7:8765"),
        ("0.0.0.0", "ws://*:8765"),
        ("[::]", "ws://*:8765"),
        ("[::1]", "ws://*:8765"),
    ],
)
async def test_the_policy_lets_a_page_reach_the_capture_listener(
    host: str, allowed: str
) -> None:
    """That port, under whatever name it is reached if it listens everywhere."""
    answer = await get("/", capture_url=f"ws://{host}:8765/camera_feed_worker/capture")
    assert f"; connect-src 'self' {allowed}; " in answer.headers["content-security-policy"]


@pytest.mark.parametrize(
    "path",
    [
        "/static/",
        "/static/live.html",
        "/static/nosuch.js",
        "/static/../app.py",
        "/static/..%2fapp.py",
        "/static/%2e%2e/app.py",
        "/live.html",
        "/capture/",
    ],
)
async def test_no_other_file_is_served(path: str) -> None:
    """Paths are compared, never looked up."""
    assert (await get(path)).status_code == 404


@pytest.mark.parametrize("name", NAMES)
def test_no_file_names_another_server_or_runs_text(name: str) -> None:
    """No address but that of the SVG language, nothing inline, no HTML made from text."""
    content = (
        text(name).replace("http://www.w3.org/2000/svg", "").replace("http://localhost", "")
    )
    assert not re.search(r"https?://|//[a-z]+\.[a-z]", content)
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\b", content
    )
    if name.endswith(".html"):
        assert not re.search(
            r"<style|\sstyle=|\son[a-z]+=|<script(?! type=\"module\" src=)", content
        )
