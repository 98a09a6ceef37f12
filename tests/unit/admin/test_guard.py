"""Who may use the admin listener, on real sockets: tokens, the cookie, and other pages."""

from __future__ import annotations

import html
import re
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
from structlog.testing import capture_logs
from websockets.exceptions import InvalidStatus
from websockets.trio.client import connect

from cfw.admin import token_only
from cfw.admin.words import WORDS
from cfw.http.messages import Handler, Request, Response, json_answer
from cfw.identity import Tokens, make_token
from tests.patience import PATIENCE_S
from tests.unit.admin.served import served
from tests.unit.identity.certificates import bound_context, client_context, issued
from tests.unit.identity.test_rigs import told
from tests.whole.smoke.worker import Worker, running

TOKEN, OTHER = make_token(), make_token()
FORM = {"content-type": "application/x-www-form-urlencoded"}


@pytest.fixture
def token_file(tmp_path: Path) -> str:
    """Two tokens."""
    path = tmp_path / "admin.tokens"
    path.write_text(f"{TOKEN}\n{OTHER}\n")
    path.chmod(0o600)
    return str(path)


@pytest.fixture
async def worker(monkeypatch: pytest.MonkeyPatch, token_file: str) -> AsyncIterator[Worker]:
    """A worker whose admin listener asks for a token."""
    async with running(monkeypatch, admin__token_file=token_file) as made:
        yield made


def browser(worker: Worker, **options: Any) -> httpx.AsyncClient:
    """What keeps cookies and follows redirects."""
    assert worker.addresses.admin is not None
    usual: dict[str, Any] = {
        "base_url": worker.addresses.admin,
        "follow_redirects": True,
        "trust_env": False,
    }
    return httpx.AsyncClient(**usual | options)


def page_of(client: httpx.AsyncClient) -> dict[str, str]:
    """What a page of the listener itself sends along."""
    return {"origin": str(client.base_url).rstrip("/")}


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


async def signed_in(client: httpx.AsyncClient, token: str = TOKEN) -> httpx.Response:
    """Fill in the form of the sign-in page, as a browser sends it."""
    form = {"token": token, "back": "/capture"}
    return await client.post("/signin", data=form, headers=page_of(client))


PATHS = ["/", "/capture", "/captures", "/ended", "/info", "/metrics", "/static/live.js", "/no"]


@pytest.mark.parametrize("path", PATHS)
async def test_everything_but_health_needs_the_token(worker: Worker, path: str) -> None:
    """Missing, wrong and of another scheme are answered alike."""
    async with browser(worker) as client:
        answers = [
            await client.get(path, headers=headers)
            for headers in ({}, bearer(make_token()), {"authorization": f"Basic {TOKEN}"})
        ]
        for answer in answers:
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"] == "Bearer"
            assert answer.headers["cache-control"] == "no-store"
            assert answer.content == answers[0].content
            assert "set-cookie" not in answer.headers
        for token in (TOKEN, OTHER):
            status = (await client.get(path, headers=bearer(token))).status_code
            assert status == (404 if path == "/no" else 200)


async def test_health_needs_none(worker: Worker) -> None:
    """Probes rarely can be given one."""
    async with browser(worker) as client:
        for path in ("/healthz", "/readyz"):
            assert (await client.get(path)).status_code == 200
        assert (await client.get("/healthz/")).status_code == 401


async def feed(worker: Worker, **headers: str) -> int:
    """Open the feed; 101, or the status it is refused with."""
    assert worker.addresses.admin is not None
    url = worker.addresses.admin.replace("http", "ws", 1) + "/feed"
    try:
        async with connect(url, proxy=None, additional_headers=headers) as ws:
            assert ws.response is not None
            return ws.response.status_code
    except InvalidStatus as exc:
        return exc.response.status_code


async def test_the_feed_needs_the_token_or_the_cookie(worker: Worker) -> None:
    """And with the cookie a page of our own."""
    own = worker.addresses.admin
    assert own is not None
    assert await feed(worker) == 401
    assert await feed(worker, authorization=f"Bearer {make_token()}") == 401
    assert await feed(worker, authorization=f"Bearer {TOKEN}") == 101
    async with browser(worker) as client:
        await signed_in(client)
        cookie = "; ".join(f"{name}={value}" for name, value in client.cookies.items())
    assert await feed(worker, cookie=cookie, origin=own) == 101
    assert await feed(worker, cookie=cookie, origin="http://evil.example") == 403
    assert await feed(worker, cookie=cookie, origin=own.replace("127.0.0.1", "x")) == 403
    assert await feed(worker, cookie=cookie[:-1] + "x") == 401


async def test_a_browser_is_asked_by_a_page_and_then_remembered(worker: Worker) -> None:
    """The cookie is no token, is kept from scripts and other sites, and opens every path."""
    async with browser(worker) as client:
        page = await client.get("/capture", headers={"accept": "text/html,*/*"})
        assert page.status_code == 401
        assert 'type="password"' in page.text
        assert 'value="/capture"' in page.text
        assert re.search(r"style-src 'sha256-.{44}'", page.headers["content-security-policy"])
        answer = await signed_in(client)
        assert (answer.status_code, answer.url.path) == (200, "/capture")
        (redirect,) = answer.history
        assert redirect.status_code == 303
        cookie = redirect.headers["set-cookie"]
        assert re.fullmatch(
            r"cfw_admin_\d+=[0-9a-f]{64}; HttpOnly; Path=/; SameSite=strict", cookie
        )
        assert TOKEN not in cookie
        for path in PATHS[:-1]:
            assert (await client.get(path)).status_code == 200, path


@pytest.mark.parametrize(
    ("liked", "language"),
    [
        ("", "en"),
        ("de-CH,de;q=0.9,en;q=0.8", "de"),
        ("fr;q=0.7, en;q=0.3", "fr"),
        ("en-GB, de;q=0.5", "en"),
        ("ja, it;q=0.9", "en"),
        ("*", "en"),
        ("de;q=0", "en"),
        ("de;q=much, fr;q=0.1", "fr"),
        ("de;q=nan, fr;q=9", "en"),
        (",;,=;q=-1", "en"),
    ],
)
async def test_the_sign_in_page_speaks_the_language_of_who_reads_it(
    worker: Worker, liked: str, language: str
) -> None:
    """Where it knows it; else English."""
    async with browser(worker) as client:
        page = await client.get("/", headers={"accept": "text/html", "accept-language": liked})
    assert f'<html lang="{language}">' in page.text
    for name, text in WORDS[language].sign_in.items():
        assert (html.escape(text) in page.text) == (name != "wrong")
    assert not re.search(r"\{[a-z_]+\}", page.text)
    assert page.headers["vary"] == "accept-language"


@pytest.mark.parametrize(
    ("back", "path"),
    [("/", "/"), ("/capture", "/capture"), ("//evil.example", "/"), ("https://e.x/", "/")],
)
async def test_signing_in_leads_to_a_page_of_ours_only(
    worker: Worker, back: str, path: str
) -> None:
    """Whatever the form was made to say."""
    async with browser(worker, follow_redirects=False) as client:
        form = {"token": TOKEN, "back": back}
        answer = await client.post("/signin", data=form, headers=page_of(client))
    assert answer.headers["location"] == path


async def test_a_wrong_token_gives_no_cookie(worker: Worker) -> None:
    """The page asks again, and neither it nor the log repeats what was typed."""
    async with browser(worker) as client:
        with capture_logs() as logs:
            answer = await signed_in(client, "<b>" + make_token())
        assert answer.status_code == 401
        assert "That is not a token of this worker." in answer.text
        assert "<b>" not in answer.text
        assert not client.cookies
        assert [line["event"] for line in logs] == ["admin.sign_in_refused"]
        assert set(logs[0]) == {"event", "log_level"}
        large = await client.post(
            "/signin", content=b"x" * 5_000, headers=FORM | page_of(client)
        )
        assert large.status_code == 413


async def test_nobody_is_signed_in_from_another_page(worker: Worker) -> None:
    """A form elsewhere cannot even try."""
    async with browser(worker) as client:
        for headers in ({"origin": "http://evil.example"}, {"origin": "null"}, {}):
            answer = await client.post("/signin", data={"token": TOKEN}, headers=headers)
            assert answer.status_code == 403
            assert not client.cookies


async def test_a_form_has_one_deadline_and_may_be_left(
    token_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No byte of it begins its time anew, and who leaves in the middle is no fault of ours."""
    settings: dict[str, Any] = {"admin__token_file": token_file, "times__handshake_s": 0.5}
    async with running(monkeypatch, **settings) as worker:
        assert worker.addresses.admin is not None
        await leave_forms(worker.addresses.admin)


async def leave_forms(own: str) -> None:
    """One that trickles, and one whose sender goes."""
    host, _, port = own.removeprefix("http://").partition(":")
    head = f"POST /signin HTTP/1.1\r\nHost: {host}:{port}\r\nOrigin: {own}\r\n"
    head += "Content-Length: 4000\r\n\r\n"

    async def trickle(stream: trio.SocketStream) -> None:
        with suppress(trio.BrokenResourceError):
            while True:
                await stream.send_all(b"x")
                await trio.sleep(0.05)

    with capture_logs() as logs, trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            stream = await trio.open_tcp_stream(host, int(port))
            await stream.send_all(head.encode())
            nursery.start_soon(trickle, stream)
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 408")
            nursery.cancel_scope.cancel()
        await stream.aclose()
        stream = await trio.open_tcp_stream(host, int(port))
        await stream.send_all(head.encode() + b"half")
        await trio.sleep(0.1)
        await stream.aclose()
        await trio.sleep(0.1)
    assert logs == []


async def test_a_cookie_ends_with_its_token(worker: Worker, token_file: str) -> None:
    """The token that is still in the file keeps its own."""
    async with browser(worker) as first, browser(worker) as second:
        await signed_in(first, TOKEN)
        await signed_in(second, OTHER)
        Path(token_file).write_text(f"{OTHER}\n")  # noqa: ASYNC240 - a few bytes
        with capture_logs() as logs:
            worker.reload.request()
            await told(logs, "reload.done")
        assert (await first.get("/captures")).status_code == 401
        assert (await second.get("/captures")).status_code == 200


async def test_a_cookie_of_another_process_is_worth_nothing(
    monkeypatch: pytest.MonkeyPatch, token_file: str
) -> None:
    """The same token gives another cookie."""
    cookies = []
    for _ in range(2):
        async with (
            running(monkeypatch, admin__token_file=token_file) as worker,
            browser(worker) as client,
        ):
            await signed_in(client)
            cookies.append(next(iter(client.cookies.values())))
    assert cookies[0] != cookies[1]


async def anything(request: Request) -> Response:
    """An application that does whatever it is asked to."""
    return json_answer({"done": request.method})


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize("has_tokens", [True, False])
async def test_a_foreign_page_changes_nothing(
    token_file: str, method: str, has_tokens: bool
) -> None:
    """With the cookie, or where no token is asked for: only our pages may, or a program."""
    guarded: Handler = anything
    if has_tokens:
        guarded = token_only(guarded, Tokens(Path(token_file)))
    async with served(guarded) as server:
        own = f"http://127.0.0.1:{server.port}"
        async with httpx.AsyncClient(base_url=own, trust_env=False) as client:
            if has_tokens:
                await signed_in(client)
                assert client.cookies
            foreign = ("http://evil.example", "null", f"http://127.0.0.1:{server.port + 1}", "")
            for origin in foreign:
                answer = await client.request(method, "/x", headers={"origin": origin})
                assert answer.status_code == 403, origin
            answer = await client.request(method, "/x", headers={"origin": own})
            assert answer.json() == {"done": method}
            # Without Origin it is no page; but with a cookie it is no program either.
            answer = await client.request(method, "/x")
            assert answer.status_code == (403 if has_tokens else 200)
            client.cookies.clear()
            answer = await client.request(method, "/x", headers=bearer(TOKEN))
            assert answer.status_code == 200


async def test_the_admin_listener_speaks_tls(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, token_file: str
) -> None:
    """Pages, sign-in with a cookie for https only, and the feed."""
    settings = issued(tmp_path).settings("admin") | {"admin__token_file": token_file}
    async with running(monkeypatch, **settings) as worker:
        assert worker.addresses.admin is not None
        assert worker.addresses.admin.startswith("https://127.0.0.1:")
        async with browser(worker, verify=client_context()) as client:
            answer = await signed_in(client)
            assert answer.status_code == 200
            assert "; Secure" in answer.history[0].headers["set-cookie"]
            assert (await client.get("/captures")).status_code == 200
        url = worker.addresses.admin.replace("https", "wss") + "/feed"
        options: dict[str, Any] = {"ssl": client_context(), "proxy": None}
        async with connect(url, additional_headers=bearer(TOKEN), **options) as ws:
            assert ws.response is not None
            assert ws.response.status_code == 101


async def test_a_bad_client_of_a_tls_admin_listener_is_logged_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Plain HTTP is told what to do; who stops in mid-handshake is left in time."""
    settings = issued(tmp_path).settings("admin") | {"times__handshake_s": 0.3}
    async with running(monkeypatch, **settings) as worker:
        assert worker.addresses.admin is not None
        plain = worker.addresses.admin.replace("https", "http")
        with capture_logs() as logs:
            async with httpx.AsyncClient(trust_env=False) as client:
                answer = await client.get(f"{plain}/captures")
            assert answer.status_code == 400
            assert "https://" in answer.text
            await told(logs, "admin.refused")
        assert len(logs) == 1
        with capture_logs() as logs:
            host, _, port = plain.removeprefix("http://").partition(":")
            async with await trio.open_tcp_stream(host, int(port)) as stream:
                await stream.send_all(b"\x16\x03\x01")
                with trio.fail_after(PATIENCE_S):
                    assert await stream.receive_some() == b""
            await told(logs, "admin.refused")
        (line,) = logs
        assert line["reason"] == "the TLS handshake took longer than 0.3 s"


async def test_client_certificates_of_the_admin_listener_are_required(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Where their signer is configured."""
    settings = issued(tmp_path).settings("admin", is_mutual=True)
    async with running(monkeypatch, **settings) as worker:
        async with browser(worker, verify=bound_context(tmp_path)) as client:
            assert (await client.get("/captures")).status_code == 200
        async with browser(worker, verify=client_context()) as client:
            with pytest.raises(httpx.TransportError):
                await client.get("/captures")


async def test_a_page_that_one_has_signed_in_to_is_the_workers_own(
    monkeypatch: pytest.MonkeyPatch, token_file: str
) -> None:
    """It films under any name by which it was reached; nobody else has a page there."""
    settings: dict[str, Any] = {"admin__token_file": token_file, "admin__host": "0.0.0.0"}
    async with running(monkeypatch, **settings) as worker:
        assert worker.addresses.admin is not None
        port = worker.addresses.admin.rpartition(":")[2]
        name = f"lab.example:{port}"

        async def can_film(origin: str) -> bool:
            try:
                async with worker.connect(origin=origin):
                    return True
            except InvalidStatus as exc:
                return exc.response.status_code != 403

        async def sign_in(token: str, scheme: str = "http") -> int:
            headers = {"host": name, "origin": f"{scheme}://{name}"}
            async with httpx.AsyncClient(trust_env=False) as client:
                url = f"http://127.0.0.1:{port}/signin"
                answer = await client.post(url, data={"token": token}, headers=headers)
                return answer.status_code

        assert await sign_in(make_token()) == 401
        assert not await can_film(f"http://{name}")
        assert await sign_in(TOKEN) == 303
        assert await can_film(f"http://{name}")
        # A proxy that speaks TLS: the page's origin is what the browser says it is.
        assert not await can_film(f"https://{name}")
        assert await sign_in(TOKEN, "https") == 303
        assert await can_film(f"https://{name}")
        assert not await can_film("http://lab.example")
