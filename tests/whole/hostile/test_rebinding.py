"""A web page under a name that its owner has made to resolve to this machine."""

from __future__ import annotations

import ssl
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import trio

from cfw.identity import make_token
from tests.patience import PATIENCE_S
from tests.unit.identity.certificates import bound_context, issued
from tests.unit.wire.peer import REQUEST
from tests.whole.hostile.figures import figure
from tests.whole.smoke.worker import Worker, running


def asked(origin: str, host: str) -> bytes:
    """What a browser sends for a page of this origin that connects to this host."""
    head = REQUEST.replace(b"Host: worker", f"Host: {host}\r\nOrigin: {origin}".encode())
    assert head != REQUEST
    return head


async def status(worker: Worker, request: bytes, context: ssl.SSLContext | None = None) -> int:
    """The HTTP status of the answer."""
    port = port_of(worker)
    with trio.fail_after(PATIENCE_S):
        stream: trio.abc.Stream = await trio.open_tcp_stream("127.0.0.1", port)
        if context is not None:
            stream = trio.SSLStream(
                stream, context, server_hostname="127.0.0.1", https_compatible=True
            )
        async with stream:
            await stream.send_all(request)
            return int((await stream.receive_some())[9:12])


def port_of(worker: Worker) -> int:
    """Where rigs connect."""
    port = urlsplit(worker.addresses.capture).port
    assert port is not None
    return port


def pages(port: int) -> list[tuple[str, str]]:
    """Origin and Host: under a name of its own, and under what looks like one of ours."""
    names = ("evil.example", "127.0.0.1.evil.example", "localhost.evil.example")
    origins = [f"http://evil.example:{port}", "null", "file://", "http://127.0.0.1:1"]
    origins += ["http://localhost", f"http://127.0.0.1:{port}/", ""]
    rebound = [(f"http://{name}:{port}", f"{name}:{port}") for name in names]
    return rebound + [(origin, f"127.0.0.1:{port}") for origin in origins]


async def test_a_page_under_a_name_that_resolves_here_gets_nowhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its origin is that of its Host and of our port, and still not ours."""
    async with running(monkeypatch) as worker:
        asking = [asked(*page) for page in pages(port_of(worker))]
        found = [await status(worker, request) for request in asking]
    figure(f"{len(found)} pages, three by DNS rebinding", f"HTTP {sorted(set(found))}")
    assert set(found) == {403}


async def test_a_page_has_no_token_whatever_its_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Not even where the browser shows the certificate of its user."""
    path = tmp_path / "tokens"
    path.write_text(f"{make_token()}\n")
    path.chmod(0o600)
    context = bound_context(tmp_path, "urn:cfw:user:ada")
    settings = issued(tmp_path).settings(is_mutual=True) | {"server__token_file": str(path)}
    async with running(monkeypatch, **settings) as worker:
        asking = [asked(*page) for page in pages(port_of(worker))]
        found = [await status(worker, request, context) for request in asking]
    figure("the same with a certificate, at a worker with tokens", f"HTTP {sorted(set(found))}")
    assert set(found) == {401, 403}
