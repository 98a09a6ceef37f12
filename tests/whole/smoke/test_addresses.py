"""Where a worker is reached: `::` is every address, and a name has one port at all of them."""

from __future__ import annotations

import errno
import json
import socket
import sys
import urllib.request
from pathlib import Path
from typing import NoReturn
from urllib.parse import urlsplit

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from cfw.identity import make_token
from cfw.net import address_text, bind_sockets, open_listeners
from tests.factories import jpeg
from tests.patience import PATIENCE_S
from tests.serving import serving
from tests.unit.cli.test_workers import several
from tests.whole.smoke.worker import closing, meta, opening


def _has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


needs_ipv6 = pytest.mark.skipif(not _has_ipv6(), reason="this machine has no IPv6")
BOTH = ("127.0.0.1", "[::1]")


def film(url: str, host: str) -> dict[str, int]:
    """One capture to the port of a URL by another address; the receipt."""
    parts = urlsplit(url)
    with connect(f"ws://{host}:{parts.port}{parts.path}", proxy=None) as ws:
        for message in (opening(), meta(), jpeg(), closing()):
            ws.send(message)
        with pytest.raises(ConnectionClosed) as caught:
            ws.recv(timeout=PATIENCE_S)
    assert caught.value.rcvd is not None
    receipt: dict[str, int] = json.loads(caught.value.rcvd.reason)
    return receipt


@needs_ipv6
def test_a_worker_at_every_address_is_reached_by_ipv4_and_by_ipv6(tmp_path: Path) -> None:
    """Rigs and the admin listener alike; the log shows an IPv4 peer as what it is."""
    tokens = tmp_path / "admin.tokens"
    tokens.write_text(token := make_token())
    options = ["--host", "::", "--admin-host", "::", "--set", f"admin.token_file={tokens}"]
    with serving(*options) as worker:
        assert worker.url.startswith("ws://[::]:")
        for host in BOTH:
            assert film(worker.url, host)["frames"] == 1
            url = f"http://{host}:{urlsplit(worker.admin).port}/captures"
            asked = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
            with urllib.request.urlopen(asked, timeout=PATIENCE_S) as answer:
                assert answer.status == 200
        code, _, log = worker.stopped()
    assert code == 0
    remotes = [line["remote"] for line in log if line["event"] == "connection.opened"]
    assert [remote.rpartition(":")[0] for remote in remotes] == list(BOTH)


@needs_ipv6
@pytest.mark.skipif(sys.platform != "linux", reason="SO_REUSEPORT spreads on Linux")
def test_workers_that_share_a_port_share_it_at_every_address() -> None:
    """The supervisor holds the port for both, and so does each worker."""
    with several(2, "--host", "::") as worker:
        for host in BOTH * 3:
            assert film(worker.url, host)["frames"] == 1


@needs_ipv6
@pytest.mark.parametrize("share", [False, True])
async def test_who_listens_at_any_ipv4_address_has_the_port(share: bool) -> None:
    """Every address is every one: half of them is not taken silently."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match="in use"):
            await open_listeners("::", port, share=share)


async def test_a_name_has_one_port_at_all_of_its_addresses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Port 0 is chosen once for all, and an address that is named twice is taken once."""
    names = [("127.0.0.1", 0), ("127.0.0.2", 0), ("127.0.0.1", 0)]

    async def getaddrinfo(*_: object, **__: object) -> list[object]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", name) for name in names]

    monkeypatch.setattr("trio.socket.getaddrinfo", getaddrinfo)
    listeners = await open_listeners("lab.example", 0, share=False)
    chosen = [listener.socket.getsockname() for listener in listeners]
    for listener in listeners:
        await listener.aclose()
    assert [host for host, _ in chosen] == ["127.0.0.1", "127.0.0.2"]
    assert chosen[0][1] == chosen[1][1] != 0


@pytest.mark.parametrize(("port", "tries"), [(0, 16), (8765, 1)])
async def test_a_free_port_is_looked_for_a_few_times(
    port: int, tries: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is free at one address may be taken at the next; a port that was asked for is not
    changed."""
    asked = []

    async def bind_all(host: str, number: int, *, share: bool) -> NoReturn:
        asked.append(number)
        raise OSError(errno.EADDRINUSE, "in use")

    monkeypatch.setattr("cfw.net.sockets._bind_all", bind_all)
    with pytest.raises(OSError, match="in use"):
        await bind_sockets("lab.example", port, share=False)
    assert asked == [port] * tries


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (("127.0.0.1", 8765), "127.0.0.1:8765"),
        (("::1", 8765, 0, 0), "[::1]:8765"),
        (("::ffff:192.0.2.7", 1, 0, 0), "192.0.2.7:1"),
        (("fe80::1%eth0", 2, 0, 3), "[fe80::1%eth0]:2"),
    ],
)
def test_an_address_is_written_as_in_a_url(name: tuple[object, ...], text: str) -> None:
    """Also that of an IPv4 peer at a socket for both."""
    assert address_text(name) == text
