"""The pages of the admin listener as files: types, headers, and nothing but what is named."""

from __future__ import annotations

import html
import json
import re
from importlib import resources

import attrs
import httpx
import pytest

from cfw.admin.words import WORDS
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


async def get(path: str, language: str = "", **options: str) -> httpx.Response:
    async with (
        served(make_app(**options)) as server,
        httpx.AsyncClient(trust_env=False) as client,
    ):
        headers = {"accept-language": language}
        return await client.get(f"http://127.0.0.1:{server.port}{path}", headers=headers)


@pytest.mark.parametrize("name", NAMES)
async def test_every_file_is_served_as_what_it_is(name: str) -> None:
    """The bytes of the package, their type, and the headers that keep a page to itself."""
    answer = await get(PAGES.get(name, f"/static/{name}"))
    assert answer.status_code == 200
    if name not in PAGES:  # which have their texts put in
        assert answer.content == (STATIC / name).read_bytes()
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


@pytest.mark.parametrize("language", sorted(WORDS))
async def test_the_page_that_films_comes_in_the_language_of_who_reads_it(language: str) -> None:
    """With all its texts, those of its scripts as data; the one for operators is English."""
    answer = await get("/capture", language=f"{language}-XX, en;q=0.3")
    assert f'<html lang="{language}">' in answer.text
    assert answer.headers["vary"] == "accept-language"
    words = WORDS[language]
    for text in words.capture.values():
        assert html.escape(text).replace("`", "") in re.sub("</?code>", "", answer.text)
    assert not re.search(r"\{[a-z_]+\}", answer.text.partition("<body>")[2])
    (table,) = re.findall(
        r'<script type="application/json" id="words">(.*?)</script>', answer.text
    )
    assert json.loads(table) == {"film": words.film, "details": words.details}
    live = await get("/", language=language)
    assert '<html lang="en">' in live.text
    assert WORDS["en"].for_scripts in live.text
    assert "vary" not in live.headers


def test_no_text_can_end_the_script_that_it_stands_in() -> None:
    """Whatever a translator writes."""
    words = attrs.evolve(WORDS["de"], film={"left": "</script><b>"})
    assert "<" not in words.for_scripts
    assert json.loads(words.for_scripts)["film"] == {"left": "</script><b>"}


@pytest.mark.parametrize("language", sorted(WORDS))
async def test_codes_are_told_in_the_language_that_is_asked_for(language: str) -> None:
    """Also to a program; the codes stay codes."""
    answer = await get("/codes", language=language)
    assert answer.json() == json.loads(json.dumps(WORDS[language].codes))
    assert answer.headers["vary"] == "accept-language"


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
