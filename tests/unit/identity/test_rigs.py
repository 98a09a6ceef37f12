"""Who gets to send, on real sockets: tokens, origins and certificates of a running worker."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import trio
from structlog.testing import capture_logs
from websockets.exceptions import ConnectionClosed, InvalidStatus

from cfw.api.config import ConfigError
from cfw.identity import Tokens, make_token
from cfw.sessions import SessionStatus
from cfw.testing.fakes import RecordingSink, ScriptedAuthority
from tests.factories import jpeg
from tests.patience import PATIENCE_S
from tests.unit.identity.certificates import bound_context, client_context, issued
from tests.whole.smoke.worker import Worker, closing, ending, meta, opening, running

FREE, ADAS = make_token(), make_token()


@pytest.fixture
def token_file(tmp_path: Path) -> str:
    """One token for anybody, one for ada."""
    path = tmp_path / "rigs.tokens"
    path.write_text(f"{FREE}\n{ADAS} ada\n")
    path.chmod(0o600)
    return str(path)


async def film(worker: Worker, user: str = "ada", **options: Any) -> tuple[int | None, str]:
    """One capture; close code and reason."""
    with trio.fail_after(PATIENCE_S):
        async with worker.connect(**options) as ws:
            with suppress(ConnectionClosed):  # it may be aborted before all is sent
                for message in (opening(user_id=user), meta(user_id=user), jpeg()):
                    await ws.send(message)
                await ws.send(closing(user_id=user))
            _, code, reason = await ending(ws)
    return code, reason


async def refusal(worker: Worker, **options: Any) -> InvalidStatus:
    """What a client that is not let in reads."""
    with pytest.raises(InvalidStatus) as caught:
        await film(worker, **options)
    return caught.value


def header(token: str) -> dict[str, Any]:
    return {"additional_headers": {"Authorization": f"Bearer {token}"}}


def subprotocols(*offered: str) -> dict[str, Any]:
    return {"subprotocols": offered}


# --- tokens ---------------------------------------------------------------------------------


@pytest.mark.parametrize("token", [FREE, ADAS], ids=["free", "bound"])
@pytest.mark.parametrize(
    "scheme", ["Bearer {}", "bearer {}", "BEARER   {} "], ids=["usual", "lower", "spaces"]
)
async def test_a_token_in_the_header_lets_a_rig_in(
    monkeypatch: pytest.MonkeyPatch, token_file: str, token: str, scheme: str
) -> None:
    """As RFC 6750 has it, the name of the scheme in any case."""
    async with running(monkeypatch, server__token_file=token_file) as worker:
        sent = {"Authorization": scheme.format(token)}
        assert await film(worker, additional_headers=sent) == (1000, '{"frames":1,"bytes":200}')


async def test_a_token_as_a_subprotocol_lets_a_browser_in_and_is_not_echoed(
    monkeypatch: pytest.MonkeyPatch, token_file: str
) -> None:
    """Whatever the order; the answer names cfw.v1 and nothing else."""
    offers = [("cfw.v1", f"cfw.bearer.{ADAS}"), (f"cfw.bearer.{ADAS}", "x", "cfw.v1")]
    async with running(monkeypatch, server__token_file=token_file) as worker:
        for offered in offers:
            async with worker.connect(**subprotocols(*offered)) as ws:
                assert ws.subprotocol == "cfw.v1"
                assert ADAS not in str(ws.response.headers)
            assert (await film(worker, **subprotocols(*offered)))[0] == 1000
        async with worker.connect(**subprotocols(f"cfw.bearer.{ADAS}")) as ws:
            assert ws.subprotocol is None


@pytest.mark.parametrize(
    "options",
    [
        {},
        header(make_token()),
        header(FREE[:-1]),
        header(""),
        {"additional_headers": {"Authorization": f"Basic {FREE}"}},
        {"additional_headers": {"Authorization": FREE}},
        {"additional_headers": {"Cookie": f"token={FREE}"}},
        subprotocols("cfw.v1"),
        subprotocols("cfw.v1", f"cfw.bearer.{make_token()}"),
        subprotocols("cfw.v1", FREE),
    ],
    ids=["none", "wrong", "cut", "empty", "basic", "bare", "cookie", "v1", "sub", "bare-sub"],
)
async def test_without_a_good_token_the_answer_is_one_and_the_same(
    monkeypatch: pytest.MonkeyPatch, token_file: str, options: dict[str, Any]
) -> None:
    """401, how to send one, and nothing that tells a wrong token from none."""
    async with running(monkeypatch, server__token_file=token_file) as worker:
        response = (await refusal(worker, **options)).response
    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"] == "Bearer"
    assert response.headers["Cache-Control"] == "no-store"
    assert response.body == (
        b"this worker needs one of its tokens: send the header `Authorization: Bearer TOKEN`, "
        b"or from a browser offer the subprotocols cfw.v1 and cfw.bearer.TOKEN\n"
    )


async def test_a_token_in_the_url_is_none(
    monkeypatch: pytest.MonkeyPatch, token_file: str
) -> None:
    """URLs end up in logs and histories."""
    async with running(monkeypatch, server__token_file=token_file) as worker:
        url = f"{worker.addresses.capture}?token={FREE}&access_token={FREE}"
        worker.addresses = type(worker.addresses)(url, None, None)
        assert (await refusal(worker)).response.status_code == 401


async def test_a_bound_token_opens_captures_of_its_user_only(
    monkeypatch: pytest.MonkeyPatch, token_file: str
) -> None:
    """Another user_id is told session_invalid, and the authority is never asked."""
    authority, sink = ScriptedAuthority(), RecordingSink()
    async with running(
        monkeypatch, authority=authority, sink=sink, server__token_file=token_file
    ) as worker:
        async with worker.connect(**header(ADAS)) as ws:
            await ws.send(opening(user_id="bob"))
            abort, code, reason = await ending(ws)
        assert abort is not None
        assert (abort.error_code, code) == ("session_invalid", 1008)
        assert abort.detail == (
            "the token or certificate of this connection is bound to another user_id"
        )
        assert reason.startswith("session_invalid: ")
        assert authority.asked == []
        assert not sink.captures
        assert (await film(worker, "ada", **header(ADAS)))[0] == 1000
        assert (await film(worker, "bob", **header(FREE)))[0] == 1000
    assert {user for user, _ in authority.asked} == {"ada", "bob"}


async def test_a_token_does_not_stand_for_a_session(
    monkeypatch: pytest.MonkeyPatch, token_file: str
) -> None:
    """Whoever is let in still needs what the authority says yes to."""
    authority = ScriptedAuthority([SessionStatus.INVALID])
    async with running(
        monkeypatch, authority=authority, server__token_file=token_file
    ) as worker:
        assert (await film(worker, **header(ADAS)))[0] == 1008
    assert authority.asked


async def test_new_tokens_count_from_a_reload_and_a_bad_file_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, token_file: str
) -> None:
    """What is logged names the line and never a token."""
    fresh = make_token()
    path = Path(token_file)
    async with running(monkeypatch, server__token_file=token_file) as worker:
        for text, event, good, bad in (
            (f"{fresh}\n{FREE}\n{fresh}\n", "reload.failed", FREE, fresh),
            (f"{fresh}\n", "reload.done", fresh, FREE),
            ("", "reload.failed", fresh, FREE),
        ):
            path.write_text(text)  # noqa: ASYNC240 - a few bytes
            with capture_logs() as logs:
                worker.reload.request()
                await told(logs, event)
            assert logs[-1]["key"] == "server.token_file"
            assert not any(token in repr(logs) for token in (fresh, FREE))
            assert (await film(worker, **header(good)))[0] == 1000
            assert (await refusal(worker, **header(bad))).response.status_code == 401
    assert "the old tokens stay in force" in logs[-1]["detail"] or event == "reload.done"


async def test_a_file_that_goes_away_while_it_is_read_stops_no_worker(
    monkeypatch: pytest.MonkeyPatch, token_file: str
) -> None:
    """It was there at the first look and not at the second."""

    def vanish(tokens: Tokens) -> Callable[[], None]:
        raise FileNotFoundError(2, "No such file or directory", str(tokens.path))

    async with running(monkeypatch, server__token_file=token_file) as worker:
        monkeypatch.setattr(Tokens, "read_again", vanish)
        with capture_logs() as logs:
            worker.reload.request()
            await told(logs, "reload.failed")
        assert (await film(worker, **header(FREE)))[0] == 1000
    assert "the old tokens stay in force" in logs[-1]["detail"]


async def told(logs: Any, event: str) -> None:
    """Wait in real time until an event was logged."""
    with trio.fail_after(PATIENCE_S):
        while not any(line["event"] == event for line in logs):  # noqa: ASYNC110 - logs tell nobody
            await trio.sleep(0.01)


@pytest.mark.parametrize(
    ("settings", "key", "words"),
    [
        ({"server__token_file": "/none"}, "server.token_file", "/none: cannot be read"),
        ({"admin__token_file": "/none"}, "admin.token_file", "/none: cannot be read"),
        ({"server__cert_file": "/none"}, "server.key_file", "is not set, but server.cert_file"),
        ({"admin__key_file": "/none"}, "admin.cert_file", "is not set, but admin.key_file"),
        (
            {"server__client_ca_file": "/none"},
            "server.cert_file",
            "server.client_ca_file needs",
        ),
        (
            {"admin__host": "0.0.0.0"},
            "admin.token_file",
            "must be set when admin.host is beyond",
        ),
        ({"admin__host": "::"}, "admin.token_file", "must be set when admin.host is beyond"),
        ({"admin__host": "lab.example"}, "admin.token_file", "set admin.host to 127.0.0.1"),
    ],
)
async def test_what_cannot_be_used_ends_the_start_and_names_its_key(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], key: str, words: str
) -> None:
    """Nothing listens before that is known."""
    with pytest.raises((ConfigError, ExceptionGroup)) as caught:
        async with running(monkeypatch, **settings):
            raise AssertionError("it runs")
    error: Any = caught.value
    while isinstance(error, ExceptionGroup):
        (error,) = error.exceptions
    assert isinstance(error, ConfigError)
    assert error.key == key
    assert words in error.problem


async def test_an_admin_listener_that_is_off_needs_no_token(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its host binds nothing then."""
    async with running(monkeypatch, admin__host="0.0.0.0", admin__port="off") as worker:
        assert worker.addresses.admin is None


# --- origins --------------------------------------------------------------------------------


async def test_a_foreign_page_cannot_reach_a_worker_on_loopback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing has to be configured for that; the worker's own page and scripts pass."""
    async with running(monkeypatch) as worker:
        assert worker.addresses.admin is not None
        own = worker.addresses.admin
        for origin in (
            "https://evil.example",
            "null",
            own.replace("127.0.0.1", "evil.example"),
        ):
            response = (await refusal(worker, origin=origin)).response
            assert response.status_code == 403
            assert b"to server.origins" in response.body
        for known in (None, own, own.replace("127.0.0.1", "localhost")):
            assert (await film(worker, origin=known))[0] == 1000


async def test_listed_pages_may_connect_beside_the_own_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And a star lets in every page."""
    page = "https://lab.example:8443"
    async with running(monkeypatch, server__origins=[page]) as worker:
        for own_or_listed in (page, worker.addresses.admin):
            assert (await film(worker, origin=own_or_listed))[0] == 1000
        assert (await refusal(worker, origin=page + "1")).response.status_code == 403
    async with running(monkeypatch, server__origins=["*"]) as worker:
        assert (await film(worker, origin="https://any.example"))[0] == 1000


async def test_a_foreign_page_with_a_good_token_is_still_foreign(
    monkeypatch: pytest.MonkeyPatch, token_file: str
) -> None:
    """403, whether or not it has a token."""
    async with running(monkeypatch, server__token_file=token_file) as worker:
        answers = [
            await refusal(worker, origin="https://evil.example", **header(token))
            for token in (FREE, make_token())
        ]
    assert [answer.response.status_code for answer in answers] == [403, 403]
    assert answers[0].response.body == answers[1].response.body


# --- TLS ------------------------------------------------------------------------------------


async def test_rigs_speak_tls(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """1.2 and 1.3; the ready address says wss."""
    settings = issued(tmp_path).settings()
    async with running(monkeypatch, **settings) as worker:
        assert worker.addresses.capture.startswith("wss://127.0.0.1:")
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            context = client_context()
            context.minimum_version = context.maximum_version = version
            assert await film(worker, ssl=context) == (1000, '{"frames":1,"bytes":200}')


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated:DeprecationWarning")
async def test_tls_before_1_2_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """And the client is told that it is the version."""
    context = client_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_1
    context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    with capture_logs() as logs:
        async with running(monkeypatch, **issued(tmp_path).settings()) as worker:
            with pytest.raises(trio.BrokenResourceError):
                await film(worker, ssl=context)
            await told(logs, "connection.refused")
    (line,) = (line for line in logs if line["event"] == "connection.refused")
    assert line["detail"] == "the peer speaks only versions of TLS before 1.2"


async def test_a_bad_client_ends_only_its_own_connection_and_is_logged_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Plain HTTP, noise, a broken hello, silence that leaves: one line each, no traceback."""
    http = b"GET /camera_feed_worker/capture HTTP/1.1\r\nHost: h\r\n\r\n"
    cases: list[tuple[bytes, str, str]] = [
        (http, "connection.refused", "plain HTTP came where TLS is spoken"),
        (b"\x00\x01\x02" * 40, "connection.refused", "TLS"),
        (
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\xa0" * 600,
            "connection.refused",
            "",
        ),
        (b"\x16\x03\x01", "connection.lost", "left during the TLS handshake"),
        (b"", "connection.lost", "left during the TLS handshake"),
    ]
    async with (
        running(monkeypatch, **issued(tmp_path).settings()) as worker,
        worker.connect(ssl=client_context()) as ws,
    ):
        await ws.send(opening())
        for data, event, words in cases:
            with capture_logs() as logs:
                answer = await say(worker, data)
                await told(logs, event)
            (line,) = (line for line in logs if line["connection"] != 1)
            assert words in line["detail"]
            assert "exc_info" not in line
            assert line["remote"].startswith("127.0.0.1:")
            if data is http:
                assert answer.startswith(b"HTTP/1.1 400 ")
                assert b"wss://" in answer
        await ws.send(closing())
        assert (await ending(ws))[1] == 1000


async def say(worker: Worker, data: bytes) -> bytes:
    """Send bytes without TLS, end our half, and read to the end."""
    port = int(worker.addresses.capture.split(":")[2].partition("/")[0])
    answer = b""
    with trio.fail_after(PATIENCE_S):
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await stream.send_all(data)
            await stream.send_eof()
            try:
                async for chunk in stream:
                    answer += chunk
            except trio.BrokenResourceError:
                pass
    return answer


async def test_tls_counts_into_the_handshake_deadline(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A client that connects and says nothing, or stops in mid-handshake, is left."""
    settings = issued(tmp_path).settings() | {"times__handshake_s": 0.3}
    async with running(monkeypatch, **settings) as worker:
        for begun in (b"", b"\x16\x03\x01\x02\x00\x01"):
            port = int(worker.addresses.capture.split(":")[2].partition("/")[0])
            with trio.fail_after(PATIENCE_S), capture_logs() as logs:
                async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
                    await stream.send_all(begun)
                    assert await stream.receive_some() == b""
                await told(logs, "connection.refused")
            assert "longer than 0.3 s" in logs[-1]["detail"]


async def test_a_client_that_reads_nothing_does_not_delay_shutdown(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Stopped in its TLS handshake, or with an open capture: the worker goes."""
    settings = issued(tmp_path).settings() | {"times__handshake_s": 600, "times__linger_s": 0.3}
    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery, running(monkeypatch, **settings) as worker:
            port = int(worker.addresses.capture.split(":")[2].partition("/")[0])
            silent = await trio.open_tcp_stream("127.0.0.1", port)
            await silent.send_all(b"\x16\x03\x01\x02\x00\x01")
            tcp = await trio.open_tcp_stream("127.0.0.1", port)
            tcp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            stream = trio.SSLStream(tcp, client_context(), server_hostname="127.0.0.1")
            await stream.do_handshake()
            nursery.cancel_scope.shield = True  # the clients outlive the worker
        await trio.aclose_forcefully(silent)
        await trio.aclose_forcefully(tcp)


async def test_a_new_certificate_counts_for_new_connections_after_a_reload(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A connection that is open goes on; files that do not fit change nothing."""
    files = issued(tmp_path)
    async with (
        running(monkeypatch, **files.settings()) as worker,
        worker.connect(ssl=client_context()) as old,
    ):
        await old.send(opening())
        issued(tmp_path, by="other lab")
        assert (await film_as_bob(worker, "lab"))[0] == 1008
        with capture_logs() as logs:
            worker.reload.request()
            await told(logs, "reload.done")
        assert (await film_as_bob(worker, "other lab"))[0] == 1008
        with pytest.raises(trio.BrokenResourceError):
            await film(worker, ssl=client_context())
        files.key.write_text("not a key")
        with capture_logs() as logs:
            worker.reload.request()
            await told(logs, "reload.failed")
        assert logs[-1]["key"] == "server.key_file"
        assert "key.pem is not usable PEM" in logs[-1]["detail"]
        assert (await film_as_bob(worker, "other lab"))[0] == 1008
        await old.send(closing())
        assert (await ending(old))[1] == 1000


async def film_as_bob(worker: Worker, trusts: str) -> tuple[int | None, str]:
    """A client that trusts one authority, and a user that the worker does not know."""
    async with worker.connect(ssl=client_context(trusts=trusts)) as ws:
        await ws.send(opening(user_id="bob"))
        _, code, reason = await ending(ws)
    return code, reason


# --- client certificates --------------------------------------------------------------------


async def test_a_client_certificate_is_required_where_its_signer_is_configured(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """None, or one of another signer: told in TLS's words, logged once, nobody else hurt."""
    settings = issued(tmp_path).settings(is_mutual=True)
    none, foreign = client_context(), bound_context(tmp_path, by="other lab")
    good = bound_context(tmp_path)
    cases = [
        (none, "certificate required", "the peer showed no client certificate"),
        (foreign, "unknown ca", "the client certificate is not good: "),
    ]
    async with running(monkeypatch, **settings) as worker:
        for context, told_client, told_log in cases:
            with capture_logs() as logs:
                with pytest.raises(ssl.SSLError) as caught:
                    await handshake(worker, context)
                await told(logs, "connection.refused")
            assert told_client in str(caught.value).lower()
            (line,) = logs
            assert line["detail"].startswith(told_log)
            assert "exc_info" not in line
        assert (await film(worker, ssl=good))[0] == 1000


async def handshake(worker: Worker, context: ssl.SSLContext) -> None:
    """TLS and the first words of what follows it: in TLS 1.3 a refusal comes behind."""
    port = int(worker.addresses.capture.split(":")[2].partition("/")[0])

    def talk() -> None:
        with (
            socket.create_connection(("127.0.0.1", port), PATIENCE_S) as tcp,
            context.wrap_socket(tcp, server_hostname="127.0.0.1") as stream,
        ):
            stream.sendall(b"GET / HTTP/1.1\r\n\r\n")
            stream.recv(100)

    await trio.to_thread.run_sync(talk)


@pytest.mark.parametrize(
    ("uris", "user", "code"),
    [
        ((), "ada", 1000),  # its common name says bob, and binds nothing
        (("urn:cfw:user:ada",), "ada", 1000),
        (("https://lab.example/rigs/7", "urn:cfw:user:ada"), "ada", 1000),
        (("urn:cfw:user:ada", "urn:cfw:user:bob"), "ada", 1000),
        (("urn:cfw:user:Ada%20L",), "Ada L", 1000),
        (("urn:cfw:user:bob",), "ada", 1008),
        (("urn:cfw:user:",), "ada", 1008),
        (("urn:cfw:user:ada",), "ada ", 1008),
    ],
)
async def test_a_certificate_may_be_bound_to_users(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    uris: tuple[str, ...],
    user: str,
    code: int,
) -> None:
    """By a URI that names one; the session authority is asked for no other."""
    authority = ScriptedAuthority()
    settings = issued(tmp_path).settings(is_mutual=True)
    async with (
        running(monkeypatch, authority=authority, **settings) as worker,
        worker.connect(ssl=bound_context(tmp_path, *uris)) as ws,
    ):
        await ws.send(opening(user_id=user))
        if code == 1000:
            await ws.send(closing(user_id=user))
        abort, got, _ = await ending(ws)
    assert got == code
    assert bool(authority.asked) == (code == 1000)
    assert (abort is None) == (code == 1000)


async def test_who_shows_a_token_and_a_certificate_must_fit_both(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, token_file: str
) -> None:
    """A certificate of bob with the token of ada opens nothing at all."""
    settings = issued(tmp_path).settings(is_mutual=True)
    settings["server__token_file"] = token_file
    ada = bound_context(tmp_path, "urn:cfw:user:ada")
    bob = bound_context(tmp_path, "urn:cfw:user:bob")
    async with running(monkeypatch, **settings) as worker:
        assert (await film(worker, "ada", ssl=ada, **header(ADAS)))[0] == 1000
        assert (await film(worker, "ada", ssl=ada, **header(FREE)))[0] == 1000
        assert (await refusal(worker, ssl=ada)).response.status_code == 401
        for user in ("ada", "bob"):
            async with worker.connect(ssl=bob, **header(ADAS)) as ws:
                await ws.send(opening(user_id=user))
                assert (await ending(ws))[1] == 1008


async def test_frames_of_the_largest_size_cross_tls_whole(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Each is some twenty TLS records; every byte arrives, in order."""
    sink, sent = RecordingSink(), [jpeg(300_000 - number) for number in range(10)]
    settings = issued(tmp_path).settings()
    async with (
        running(monkeypatch, sink=sink, **settings) as worker,
        worker.connect(ssl=client_context()) as ws,
    ):
        await ws.send(opening())
        for seq, data in enumerate(sent, 1):
            await ws.send(meta(seq, len(data)))
            await ws.send(data)
        await ws.send(closing())
        assert (await ending(ws))[1] == 1000
    assert [frame.data for frame in sink.only.frames] == sent
