"""The pages for people: the live view at `/`, filming with a browser at `/capture`.

Who only films has the second one alone, at the port for rigs.

The files are read when the application is made, and only those named here are ever served. The
page that films is there in each language of `cfw.admin.words`, the live one in English.
A page runs nothing but these files and connects to nothing but this worker: its content
security policy says so to the browser.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib import resources
from pathlib import PurePath
from urllib.parse import urlsplit

from cfw.admin.words import WORDS, Words, filled, words_for
from cfw.http.messages import Request, Response, json_answer
from cfw.http.routing import Route

_PAGES = {"/": "live.html", "/capture": "capture.html"}
#: What the page that films loads.
_FILM_FILES = (
    "base.css",
    "camera.js",
    "capture-client.js",
    "capture.css",
    "capture.js",
    "codes.js",
    "encoder-worker.js",
    "encoder.js",
    "film-words.js",
    "film.js",
    "format.js",
    "icon.svg",
    "join.js",
    "jpeg-maker.js",
    "pauses.js",
    "pictures.js",
    "refused.js",
    "retry.js",
    "settings.js",
    "shoot.js",
    "sleep.js",
    "thinner.js",
    "wake-lock.js",
    "words.js",
)
#: And the live page with it.
_FILES = (
    *_FILM_FILES,
    "acts.js",
    "cards.css",
    "cards.js",
    "chart.js",
    "connection.js",
    "copy.js",
    "decode.js",
    "ended.css",
    "ended.js",
    "feed.js",
    "invite.css",
    "invite.js",
    "live.css",
    "live.js",
    "missing.js",
    "pace.js",
    "rates.js",
    "rig-clock.js",
    "tile.js",
    "view.js",
)
#: Pages of participants.
_TRANSLATED = ("capture.html",)
#: Where a page has the texts of its scripts.
_WORDS = "<!-- words -->"
_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


def page_routes(capture_url: str) -> list[Route]:
    """The routes of the pages and of the files they load.

    Args:
        capture_url: where rigs connect; a page may open this WebSocket and no other abroad.
    """
    return _routes(_PAGES | _static(_FILES), capture_url)


def film_routes(capture_url: str) -> list[Route]:
    """The routes of the page that films alone, also under the shortest address.

    Args:
        capture_url: as for `page_routes`.
    """
    pages = {"/": "capture.html", "/capture": "capture.html"}
    return _routes(pages | _static(_FILM_FILES), capture_url)


def _static(names: Iterable[str]) -> dict[str, str]:
    return {f"/static/{name}": name for name in names}


def _routes(names: dict[str, str], capture_url: str) -> list[Route]:
    headers = {
        # Asked for each time, so that a page never runs with files of another version.
        "cache-control": "no-cache",
        "content-security-policy": _policy(capture_url),
        "cross-origin-resource-policy": "same-origin",
        "permissions-policy": "camera=(self), microphone=(), geolocation=()",
        "referrer-policy": "no-referrer",
        "x-content-type-options": "nosniff",
    }
    return [_route(path, name, headers) for path, name in names.items()]


def _route(path: str, name: str, headers: dict[str, str]) -> Route:
    content = resources.files("cfw.admin").joinpath("static", name).read_bytes()
    kind = PurePath(name).suffix
    typed = {**headers, "content-type": _TYPES[kind]}
    if kind == ".html":
        return _page(path, content.decode(), typed, is_translated=name in _TRANSLATED)
    answer = Response(200, content, typed)

    async def show(_: Request) -> Response:
        return answer

    return Route(path, show)


def _page(path: str, page: str, headers: dict[str, str], *, is_translated: bool) -> Route:
    if is_translated:
        headers = {**headers, "vary": "accept-language"}
    answers = {
        language: Response(200, _worded(page, words).encode(), headers)
        for language, words in WORDS.items()
    }

    async def show(request: Request) -> Response:
        liked = request.header("accept-language") if is_translated else None
        return answers[words_for(liked).language]

    return Route(path, show)


def _worded(page: str, words: Words) -> str:
    # No script for a browser, so that its policy has nothing against it.
    table = f'<script type="application/json" id="words">{words.for_scripts}</script>'
    texts = {**words.capture, "lang": words.language}
    return filled(page, texts).replace(_WORDS, table)


def codes_route() -> Route:
    """`/codes`: what each error code means and what to do, in the language asked for."""
    answers = {
        language: json_answer(words.codes, headers={"vary": "accept-language"})
        for language, words in WORDS.items()
    }

    async def show(request: Request) -> Response:
        return answers[words_for(request.header("accept-language")).language]

    return Route("/codes", show)


def _policy(capture_url: str) -> str:
    return "; ".join(
        (
            "default-src 'self'",
            f"connect-src 'self' {_socket_source(capture_url)}",
            "img-src 'self' blob:",
            "object-src 'none'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
            # What a rig calls itself is shown as text; no script may turn text into HTML.
            "require-trusted-types-for 'script'",
        )
    )


def _socket_source(capture_url: str) -> str:
    """The capture listener, as a policy names it."""
    url = urlsplit(capture_url)
    host = url.hostname or ""
    # 0.0.0.0 is reached under whatever name the page was, and a policy cannot write IPv6.
    if host == "0.0.0.0" or ":" in host:
        host = "*"
    # Without a port it is that of the scheme, in a policy as in a URL.
    return f"{url.scheme}://{host}" + (f":{url.port}" if url.port else "")
