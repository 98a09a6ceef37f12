"""Pages of a worker that asks who you are, and pages that are not its own, in Chromium."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio

from cfw.http.messages import Request, Response
from cfw.identity import make_token
from tests.patience import PATIENCE_S
from tests.unit.admin.served import served
from tests.whole.browser.chromium import Page, open_page
from tests.whole.browser.sight import borders, judge, prefer, resize, sticks_out
from tests.whole.browser.test_pages import admin, result
from tests.whole.browser.visits import Visit
from tests.whole.smoke.worker import Worker, running

TOKEN, RIGS = make_token(), make_token()
#: All that was sent is confirmed; amber when the machine was too busy for every picture.
FILMED = "['good', 'warn'].includes(document.querySelector('#result').dataset.kind)"


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Any]:
    """A token for the pages, another one for rigs."""
    for name, token in (("admin", TOKEN), ("server", RIGS)):
        (tmp_path / name).write_text(token)
        (tmp_path / name).chmod(0o600)
    return {f"{name}__token_file": str(tmp_path / name) for name in ("admin", "server")}


async def sign_in(page: Page, token: str) -> None:
    """Type a token into the sign-in page, as a person would."""
    await page.until("document.querySelector('form[action^=\"/signin\"]')")
    await page.type("input[type=password]", token)
    await page.click("[type=submit]")


async def test_a_person_signs_in_watches_and_films(visit: Visit, files: dict[str, Any]) -> None:
    """Asked once for the pages; the token of the rig is typed where one films."""
    async with visit(**files) as (worker, page):
        await page.goto(admin(worker.addresses, "/capture#user=ada&session=s-1"))
        await sign_in(page, "wrong " + TOKEN)
        await page.until("document.querySelector('.problem').textContent")
        assert await page.text(".problem") == "That is not a token of this worker."
        await sign_in(page, TOKEN)
        await page.until("!document.querySelector('#turn-on').disabled")
        # What the link said of who films has outlived the way through the form.
        assert await page.run("[location.pathname, location.hash]") == [
            "/capture",
            "#user=ada&session=s-1",
        ]
        assert await page.run("[user.value, session.value]") == ["ada", "s-1"]
        await film(page, make_token())
        await page.until("document.querySelector('#result').dataset.kind === 'bad'")
        assert "The token is not one of its own" in await page.text("#result")
        await film(page, RIGS)
        await page.until(FILMED)
        await result(page)
        await page.goto(admin(worker.addresses))
        await page.until("document.querySelector('#connection').textContent === 'Connected'")
        await page.until("document.querySelector('#ended-rows .user')")
        assert await page.run("document.cookie") == ""
        assert not [url for url in page.urls if TOKEN in url or RIGS in url]


async def test_a_person_films_under_any_name_of_the_page(
    visit: Visit, files: dict[str, Any]
) -> None:
    """Once signed in there; the worker was not told of the name before."""
    files |= {"admin__host": "0.0.0.0"}
    async with visit(**files) as (worker, page):
        # Chromium takes every name below localhost to this machine, and lets it film.
        here = admin(worker.addresses, "/capture#user=ada&session=s-1")
        port = here.rpartition(":")[2]
        await page.goto(f"http://worker.localhost:{port}")
        await sign_in(page, TOKEN)
        await page.until("!document.querySelector('#turn-on').disabled")
        await page.type("#user", "ada")
        await page.type("#session", "s-1")
        await film(page, RIGS)
        await page.until(FILMED)
        await result(page)


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_the_sign_in_page_is_for_everybody(
    visit: Visit, scheme: str, files: dict[str, Any]
) -> None:
    """Axe finds nothing, borders have 3:1, nothing sticks out; a token is shown and pasted."""
    async with visit(**files) as (worker, page):
        await prefer(page, scheme)
        await page.goto(admin(worker.addresses, "/#i=//evil.example"))
        await page.until("document.querySelector('#helps:not([hidden])')")
        assert await judge(page) == []
        edges = await borders(page, "input:not([type=hidden]), button, main")
        assert len(edges) >= 4
        assert {name: ratio for name, ratio in edges.items() if ratio < 3} == {}
        await resize(page, 320, 640, mobile=True)
        assert await sticks_out(page) == []
        await page.run("document.documentElement.style.fontSize = '200%'")
        assert await sticks_out(page) == []
        name = "document.querySelector('[autocomplete=username]')"
        assert await page.run(f"[{name}.value, {name}.type]") == ["cfw", "text"]
        kind = "document.querySelector('[name=token]').type"
        await page.click("#show")
        assert await page.run(kind) == "text"
        await page.click("#show")
        assert await page.run(kind) == "password"
        await page.run(f"navigator.clipboard.readText = async () => ' {TOKEN}\\n'; 1")
        await page.click("#paste")
        await page.until(f"document.querySelector('[name=token]').value === '{TOKEN}'")
        await page.click("[type=submit]")
        await page.until("document.querySelector('#connection').textContent === 'Connected'")
        # A fragment leads nowhere else.
        assert await page.run("location.origin") == admin(worker.addresses, "")
        assert await page.run("location.pathname") == "/"
        assert not [url for url in page.urls if "evil" in url.partition("#")[0]]


async def film(page: Page, token: str) -> None:
    """One second, with a token."""
    assert await page.run("document.querySelector('#token-field').hidden") is False
    await page.type("#token", token)
    await page.type("#duration", "1")
    await page.click("#go")


async def test_a_page_whose_cookie_has_ended_asks_again(
    visit: Visit, files: dict[str, Any]
) -> None:
    """By itself, once the worker has other tokens."""
    async with visit(**files) as (worker, page):
        await page.goto(admin(worker.addresses))
        await sign_in(page, TOKEN)
        await page.until("document.querySelector('#connection').textContent === 'Connected'")
        other = make_token()
        Path(files["admin__token_file"]).write_text(other)  # noqa: ASYNC240 - a few bytes
        worker.reload.request()
        await sign_in(page, other)
        await page.until("document.querySelector('#connection').textContent === 'Connected'")


ATTEMPT = """
(url => new Promise(resolve => {
  const socket = new WebSocket(url);
  socket.onopen = () => resolve('open');
  socket.onclose = () => resolve('closed');
}))
"""


async def test_a_page_from_elsewhere_reaches_nothing(
    devtools: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the captures nor the feed of a worker on the machine of whoever opened it."""

    async def foreign(_: Request) -> Response:
        return Response(200, b"<title>foreign</title>", {"content-type": "text/html"})

    async with (
        running(monkeypatch) as worker,
        served(foreign) as server,
        open_page(devtools) as page,
    ):
        await page.goto(f"http://127.0.0.1:{server.port}/")
        await page.until("document.title === 'foreign'")
        assert await attempts(page, worker) == ["closed", "closed"]
        await page.goto(admin(worker.addresses, "/capture"))
        await page.until("document.title.includes('film')")
        assert await attempts(page, worker) == ["open", "open"]


async def attempts(page: Page, worker: Worker) -> list[str]:
    feed = admin(worker.addresses, "/feed").replace("http", "ws")
    with trio.fail_after(PATIENCE_S):
        return [
            await page.run(f"{ATTEMPT}('{url}')") for url in (worker.addresses.capture, feed)
        ]
