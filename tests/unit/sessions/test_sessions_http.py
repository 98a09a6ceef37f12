"""The HTTP authority against a real server on the loopback, right and wrong in every way."""

from __future__ import annotations

import base64
import json
import logging
import os
import socket
import ssl
from pathlib import Path

import pytest
import trio

from cfw.sessions import AuthorityError, AuthorityUnreachable, SessionStatus, UnusableAnswer
from cfw.sessions.http import MAX_ANSWER_BYTES, MAX_ANSWER_PIECES, open_http
from tests.unit.sessions.scripted import Answer, http, raw, says, scripted_server


def trusted_tls(folder: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """A server's certificate for the loopback, from an issuer that SSL_CERT_FILE names."""
    trustme = pytest.importorskip("trustme")
    issuer = trustme.CA()
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    issuer.issue_cert("127.0.0.1").configure_cert(tls)
    issuer.cert_pem.write_to_path(str(folder / "issuer.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(folder / "issuer.pem"))
    return tls


async def check(url: str, user_id: str = "ada", session_id: str = "s1") -> SessionStatus:
    """Open, check once under a generous deadline, close."""
    with trio.fail_after(10):
        async with open_http(url, sessions=[]) as authority:
            return await authority.check(user_id, session_id)


async def failure(url: str) -> str:
    """Return the detail of the error that a check raises."""
    with pytest.raises(AuthorityError) as caught:
        await check(url)
    assert caught.value.detail in str(caught.value)
    return caught.value.detail


@pytest.mark.parametrize("status", SessionStatus)
async def test_the_servers_status_is_the_answer(status: SessionStatus) -> None:
    """All three, with fields of the server's own beside them."""
    body = json.dumps({"since": 3, "status": status.value}).encode()
    async with scripted_server(http(body)) as server:
        assert await check(server.url) is status


async def test_the_request_is_the_documented_one() -> None:
    """A JSON POST of both ids, as they are; no credentials unless given."""
    async with scripted_server(says("active")) as server:
        await check(server.url + "?a=b", "Zoë", 'a:b"\n')
    (request,) = server.requests
    assert request.head.startswith("POST /check?a=b HTTP/1.1\r\n")
    assert request.header("content-type") == "application/json"
    assert request.header("accept-encoding") == "identity"
    assert request.header("authorization") is None
    assert json.loads(request.body) == {"user_id": "Zoë", "session_id": 'a:b"\n'}


async def test_the_connection_is_reused() -> None:
    """Checks one after the other share a connection, which ends with the authority."""
    async with scripted_server(says("active")) as server:
        async with open_http(server.url, sessions=[]) as authority:
            for _ in range(5):
                assert await authority.check("ada", "s1") is SessionStatus.ACTIVE
        assert [request.connection for request in server.requests] == [0] * 5
        with trio.fail_after(5):
            await server.idle.wait()


async def test_many_checks_at_once() -> None:
    """Each gets its own answer."""

    async def echo(stream: trio.abc.Stream) -> None:
        closed = json.loads(server.requests[-1].body)["user_id"].endswith("3")
        await says("closed" if closed else "active")(stream)

    async with scripted_server(echo) as server:
        answers: dict[int, SessionStatus] = {}

        async def ask(n: int) -> None:
            answers[n] = await authority.check(f"u{n}", "s")

        with trio.fail_after(10):
            async with (
                open_http(server.url, sessions=[]) as authority,
                trio.open_nursery() as nursery,
            ):
                for n in range(20):
                    nursery.start_soon(ask, n)
    assert {n for n, status in answers.items() if status is SessionStatus.CLOSED} == {3, 13}
    assert len(answers) == 20


async def test_a_connection_gone_stale_is_replaced() -> None:
    """The server hangs up instead of answering on a reused connection: asked once more."""
    async with (
        scripted_server(says("active"), raw(b"", hang_up=True), says("closed")) as server,
        open_http(server.url, sessions=[]) as authority,
    ):
        assert await authority.check("ada", "s1") is SessionStatus.ACTIVE
        assert await authority.check("ada", "s1") is SessionStatus.CLOSED
    assert [request.connection for request in server.requests] == [0, 0, 1]


async def test_a_server_that_always_hangs_up_is_asked_twice_only() -> None:
    """The second time counts."""
    async with scripted_server(raw(b"", hang_up=True)) as server:
        assert "not HTTP, or was cut short" in await failure(server.url)
        assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (http(b"{}", status="201 Created"), "HTTP 201"),
        (http(b"", status="204 No Content"), "HTTP 204"),
        (http(b'{"status":"active"}', status="404 Not Found"), "HTTP 404"),
        (http(b"x" * 100, status="500 Oops"), "HTTP 500"),
        (http(b"", status="401 No", headers="WWW-Authenticate: Basic\r\n"), "HTTP 401"),
        (http(b"", status="302 Found", headers="Location: /ok\r\n"), "HTTP 302"),
        (http(b"", status="307 Temporary", headers="Location: /ok\r\n"), "HTTP 307"),
        (http(b""), "not JSON"),
        (http(b"active"), "not JSON"),
        (http(b'{"status":"active"'), "not JSON"),
        (http(b'{"status":"active"}{}'), "not JSON"),
        (http(b'{"status":"\xff"}'), "not JSON"),
        (http(b"[" * 60_000), "not JSON"),
        (http(b'"active"'), "no text field 'status'"),
        (http(b'["status"]'), "no text field 'status'"),
        (http(b"null"), "no text field 'status'"),
        (http(b"{}"), "no text field 'status'"),
        (http(b'{"Status":"active"}'), "no text field 'status'"),
        (says(None), "no text field 'status'"),
        (says(True), "no text field 'status'"),
        (says(["active"]), "no text field 'status'"),
        (says("ACTIVE"), "unknown status 'ACTIVE'; known: active, closed, invalid"),
        (says(""), "unknown status;"),
        (says("a\nb"), "unknown status;"),
        (says("x" * 33), "unknown status;"),
        (raw(b"SSH-2.0-OpenSSH\r\n", hang_up=True), "not HTTP"),
        (raw(b"\x00" * 50, hang_up=True), "not HTTP"),
        (raw(b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{", hang_up=True), "cut short"),
        (raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"), "not HTTP"),
        (raw(b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 30_000), "not HTTP"),
        (
            http(b"\x1f\x8b\x08\x00", headers="Content-Encoding: gzip\r\n"),
            "not JSON",
        ),
    ],
)
async def test_any_other_answer_is_none(answer: Answer, told: str) -> None:
    """Nothing but the documented answer says anything about a session."""
    async with scripted_server(answer) as server:
        detail = await failure(server.url)
    assert told in detail
    assert detail.startswith(server.url + ": ")


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504, 599])
async def test_a_server_that_can_serve_nobody_is_out_of_reach(status: int) -> None:
    """It says so of itself, whatever it was asked."""
    async with scripted_server(http(b"", status=f"{status} No")) as server:
        with pytest.raises(AuthorityUnreachable, match=f"HTTP {status}"):
            await check(server.url)


@pytest.mark.parametrize(
    "answer",
    [
        *(http(b"", status=f"{status} No") for status in (204, 301, 400, 401, 404, 422, 499)),
        says("hm"),
        http(b"{"),
    ],
)
async def test_an_answer_that_is_none_to_this_question_is_not_out_of_reach(
    answer: Answer,
) -> None:
    """It may be for the ids alone, which a rig chose."""
    async with scripted_server(answer) as server:
        with pytest.raises(UnusableAnswer):
            await check(server.url)


@pytest.mark.parametrize("extra", [-1, 0, 1])
async def test_an_answer_is_read_up_to_so_many_pieces(extra: int) -> None:
    """Chunks of a byte each are bounded in number; a compressed body is never unfolded."""
    body = b'{"status":"active"}'.rjust(MAX_ANSWER_PIECES + extra)
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body)
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with scripted_server(raw(head + chunks + b"0\r\n\r\n")) as server:
        if extra <= 0:
            assert await check(server.url) is SessionStatus.ACTIVE
        else:
            assert f"more than {MAX_ANSWER_PIECES} pieces" in await failure(server.url)


async def test_redirects_are_not_followed() -> None:
    """The ids go to the configured server only."""
    moved = http(b"", status="307 Moved", headers="Location: /elsewhere\r\n")
    async with scripted_server(moved, says("active")) as server:
        assert "HTTP 307" in await failure(server.url)
    assert len(server.requests) == 1


@pytest.mark.parametrize("extra", [-1, 0, 1])
async def test_an_answer_is_read_up_to_its_bound(extra: int) -> None:
    """64 KiB are read, one byte more is not."""
    body = b'{"status":"active"}'
    body += b" " * (MAX_ANSWER_BYTES + extra - len(body))
    async with scripted_server(http(body)) as server:
        if extra <= 0:
            assert await check(server.url) is SessionStatus.ACTIVE
        else:
            assert f"more than {MAX_ANSWER_BYTES} bytes" in await failure(server.url)


async def test_an_endless_answer_is_left() -> None:
    """The connection is closed as soon as the bound is passed, and the next check works."""
    sent = 0

    async def flood(stream: trio.abc.Stream) -> None:
        nonlocal sent
        await stream.send_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        chunk = b"10000\r\n" + b" " * 65536 + b"\r\n"
        while sent < 1000:
            await stream.send_all(chunk)
            sent += 1

    async with (
        scripted_server(flood, says("closed")) as server,
        open_http(server.url, sessions=[]) as authority,
    ):
        with trio.fail_after(10):
            with pytest.raises(UnusableAnswer, match="more than"):
                await authority.check("ada", "s1")
            await server.idle.wait()
            assert await authority.check("ada", "s1") is SessionStatus.CLOSED
    # What the socket buffers swallow, far from all.
    assert sent < 500


@pytest.mark.parametrize(
    "start",
    [
        b"",
        b"HTTP/1.1 20",
        b"HTTP/1.1 200 OK\r\nContent-Length: 19\r\n\r\n",
        b'HTTP/1.1 200 OK\r\nContent-Length: 19\r\n\r\n{"status":',
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{",
    ],
)
async def test_a_slow_answer_ends_at_the_callers_deadline(start: bytes) -> None:
    """The connection of the cancelled check is closed; the next check has its own."""

    async def stall(stream: trio.abc.Stream) -> None:
        await stream.send_all(start)
        # Ends when the client hangs up.
        assert await stream.receive_some() == b""

    async with (
        scripted_server(stall, says("active")) as server,
        open_http(server.url, sessions=[]) as authority,
    ):
        with trio.move_on_after(0.2) as scope:
            await authority.check("ada", "s1")
        assert scope.cancelled_caught
        with trio.fail_after(5):
            await server.idle.wait()
            assert await authority.check("ada", "s1") is SessionStatus.ACTIVE
    assert [request.connection for request in server.requests] == [0, 1]


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_check_can_be_cancelled_at_each_of_its_steps(
    scheme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After any number of scheduler rounds: no socket is left, and the next check works."""
    tls = trusted_tls(tmp_path, monkeypatch) if scheme == "https" else None
    half = raw(b'HTTP/1.1 200 OK\r\nContent-Length: 19\r\n\r\n{"status":')

    async def answer(stream: trio.abc.Stream) -> None:
        await half(stream)
        await trio.lowlevel.checkpoint()
        await stream.send_all(b'"active"}')

    rounds, finished = 0, False
    async with scripted_server(answer, tls=tls) as server:
        async with open_http(server.url, sessions=[]) as authority:
            while not finished:
                rounds += 1
                async with trio.open_nursery() as nursery:

                    async def cancel_later(rounds: int, scope: trio.CancelScope) -> None:
                        for _ in range(rounds):
                            await trio.lowlevel.checkpoint()
                        scope.cancel()

                    nursery.start_soon(cancel_later, rounds, nursery.cancel_scope)
                    status = await authority.check("ada", "s1")
                    nursery.cancel_scope.cancel()
                    finished = status is SessionStatus.ACTIVE
                with trio.fail_after(5):
                    assert await authority.check("bob", "s1") is SessionStatus.ACTIVE
                assert server.live <= 2
        with trio.fail_after(5):
            await server.idle.wait()
    assert rounds > 3


async def test_there_is_no_timeout_but_the_callers(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """An hour of silence, in virtual time, is not the authority's business."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        async with open_http(f"http://127.0.0.1:{port}/", sessions=[]) as authority:
            with trio.move_on_after(3600) as scope:
                await authority.check("ada", "s1")
    assert scope.cancelled_caught
    assert trio.current_time() >= 3600


async def test_connection_refused_is_told() -> None:
    """With the system's own words."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    detail = await failure(f"http://127.0.0.1:{port}/check")
    assert detail == f"http://127.0.0.1:{port}/check: cannot connect (Connection refused)"


async def test_a_host_that_does_not_resolve_is_told() -> None:
    """`.invalid` never does (RFC 2606)."""
    assert "cannot connect" in await failure("http://authority.invalid/")


async def test_credentials_are_sent_and_never_shown(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """User info becomes basic authentication, and stays out of details and of httpx's log."""
    caplog.set_level(logging.DEBUG)
    async with scripted_server(says("active"), says("hm")) as server:
        url = server.url.replace("//", "//us%40er:hunt%2Fer2@") + "?token=hunter3"
        async with open_http(url, sessions=[]) as authority:
            assert await authority.check("ada", "s1") is SessionStatus.ACTIVE
            with pytest.raises(UnusableAnswer) as caught:
                await authority.check("ada", "s1")
    for request in server.requests:
        expected = base64.b64encode(b"us@er:hunt/er2").decode()
        assert request.header("authorization") == f"Basic {expected}"
    assert caught.value.detail == (
        f"{server.url}?***: unknown status 'hm'; known: active, closed, invalid"
    )
    assert "er2" not in caplog.text


async def test_the_environments_proxies_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ids go where the URL says, whatever the shell was set up for."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1/")
    async with scripted_server(says("active")) as server:
        assert await check(server.url) is SessionStatus.ACTIVE


async def test_https_to_a_server_without_tls_is_unreachable() -> None:
    """A server that answers the greeting with anything but TLS is named as such."""

    async def greet(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listener.socket.getsockname()[1]
        nursery.start_soon(trio.serve_listeners, greet, [listener])
        detail = await failure(f"https://127.0.0.1:{port}/")
        nursery.cancel_scope.cancel()
    assert detail.endswith("/: cannot connect (WRONG_VERSION_NUMBER)")


async def test_a_slow_tls_handshake_ends_at_the_callers_deadline() -> None:
    """The server sees the connection close while the authority lives on."""
    closed = trio.Event()

    async def stall(stream: trio.SocketStream) -> None:
        while await stream.receive_some():
            pass
        closed.set()

    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listener.socket.getsockname()[1]
        nursery.start_soon(trio.serve_listeners, stall, [listener])
        async with open_http(f"https://127.0.0.1:{port}/", sessions=[]) as authority:
            with trio.move_on_after(0.2) as scope:
                await authority.check("ada", "s1")
            assert scope.cancelled_caught
            with trio.fail_after(5):
                await closed.wait()
        nursery.cancel_scope.cancel()


async def test_https_checks_the_certificate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unknown issuers are refused; one that SSL_CERT_FILE names is trusted."""
    with monkeypatch.context() as inner:
        tls = trusted_tls(tmp_path, inner)
        trusted = os.environ["SSL_CERT_FILE"]
    async with scripted_server(says("active"), tls=tls) as server:
        detail = await failure(server.url)
        assert "cannot connect" in detail
        assert "certificate" in detail
        monkeypatch.setenv("SSL_CERT_FILE", trusted)
        assert await check(server.url) is SessionStatus.ACTIVE
