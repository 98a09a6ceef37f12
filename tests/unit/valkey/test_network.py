"""What lies between worker and server: TLS, and a failover behind one address."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import httpx
import pytest
import trio
import trustme

import cfw
from cfw.client import ForwardFailed
from cfw.valkey import (
    Address,
    ValkeyFailed,
    open_link,
    open_valkey_feed,
    set_session,
)
from schemas import ErrorCode, FeedClose
from tests.patience import PATIENCE_S
from tests.unit.valkey.servers import Servers, alone
from tests.unit.valkey.test_feed import joined
from tests.unit.valkey.test_sink import PICTURES, capture, check_stream
from tests.whole.smoke.worker import Worker, running

VALKEY_MD = (Path(cfw.__file__).parent / "sinks/VALKEY.md").read_text("utf-8")


@attrs.define
class Proxy:
    """One address, behind which the server can be changed.

    Args:
        target: the port that new connections lead to.
        port: its own.
    """

    target: int
    port: int = 0
    _scopes: set[trio.CancelScope] = attrs.Factory(set)

    def switch(self, target: int) -> None:
        """Cut all connections; new ones lead elsewhere."""
        self.target = target
        for scope in [*self._scopes]:
            scope.cancel()

    async def carry(self, front: trio.abc.Stream) -> None:
        back = await trio.open_tcp_stream("127.0.0.1", self.target)
        with trio.CancelScope() as scope:
            self._scopes.add(scope)
            async with front, back:
                with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(self._pump, front, back, scope)
                        nursery.start_soon(self._pump, back, front, scope)
        self._scopes.discard(scope)

    @staticmethod
    async def _pump(
        one: trio.abc.Stream, other: trio.abc.Stream, scope: trio.CancelScope
    ) -> None:
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while data := await one.receive_some():
                await other.send_all(data)
        scope.cancel()


@asynccontextmanager
async def proxy(target: int, tls: ssl.SSLContext | None = None) -> AsyncIterator[Proxy]:
    made = Proxy(target)
    async with trio.open_nursery() as nursery:
        serve: Any
        if tls is None:
            serve = partial(trio.serve_tcp, made.carry, 0, host="127.0.0.1")
        else:
            serve = partial(trio.serve_ssl_over_tcp, made.carry, 0, tls, host="127.0.0.1")
        listeners: Any = await nursery.start(serve)
        listener = listeners[0] if tls is None else listeners[0].transport_listener
        made.port = listener.socket.getsockname()[1]
        yield made
        nursery.cancel_scope.cancel()


async def test_a_capture_over_tls(
    one_server: Servers, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """valkeys:// trusts what `ca` says, and nobody else."""
    authority, stranger = trustme.CA(), trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    files = {}
    for name, issuer in (("good", authority), ("bad", stranger)):
        files[name] = tmp_path / name
        issuer.cert_pem.write_to_path(str(files[name]))
    async with proxy(one_server.nodes[0].port, context) as front:
        url = f"valkeys://localhost:{front.port}/?prefix={prefix}&timeout_s=20&ca="
        async with running(monkeypatch, sink__url=url + str(files["good"])) as worker:
            async with capture(worker.addresses.capture) as rig:
                await rig.send_frame(PICTURES[0])
            assert rig.receipt.frames == 1
        with pytest.raises(ValkeyFailed, match="localhost"):
            async with open_link(Address.parse(url + str(files["bad"]))):
                pass
        with pytest.raises(ValkeyFailed, match="a file of ca, cert and key"):
            async with open_link(Address.parse(url + str(tmp_path / "none"))):
                pass
    assert len(one_server.stream(prefix, "cap-1")) == 3


async def test_a_user_who_may_touch_nothing_but_the_fleet(
    one_server: Servers, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rules that VALKEY.md shows are enough for workers, consumers and sessions."""
    rules = next(line for line in VALKEY_MD.splitlines() if line.startswith("ACL SETUSER"))
    words = rules.replace("cfw:", f"{prefix}:").replace("fleet", prefix).split()
    one_server.client().execute_command(*words)
    port = one_server.nodes[0].port
    url = f"valkey://{prefix}:SECRET@127.0.0.1:{port}/?prefix={prefix}"
    async with (
        open_link(Address.parse(url)) as link,
        open_valkey_feed(url, group="g") as feed,
        running(monkeypatch, sink__url=url, sessions__url=url, sessions__static=[]) as worker,
    ):
        await set_session(link, "ada", "s-1", "active")
        await joined(one_server, prefix, "g")
        async with capture(worker.addresses.capture) as rig:
            await rig.send_frame(PICTURES[0])
        assert rig.receipt.frames == 1
        with trio.fail_after(10):
            events = [(await feed.__anext__())[0].event for _ in range(3)]
        assert events == ["capture.opened", "capture.frame", "capture.close"]
        await feed.processed()
    with pytest.raises(ValkeyFailed, match="127"):
        async with open_link(Address.parse(url.replace("SECRET", "guess"))):
            pass


@asynccontextmanager
async def with_replica(folder: Path) -> AsyncIterator[tuple[Servers, Servers]]:
    """A primary and a replica that is in step with it."""
    with alone(folder / "one") as primary, alone(folder / "two") as replica:
        replica.client().replicaof("127.0.0.1", primary.nodes[0].port)
        with trio.fail_after(20):
            while replica.client().info("replication")["master_link_status"] != "up":  # noqa: ASYNC110
                await trio.sleep(0.05)
        yield primary, replica


async def wait_forwarded(worker: Worker, frames: int) -> None:
    """Wait until the worker knows that so many are acknowledged."""
    told = f"cfw_forwarded_frames_total {frames}.0\n"
    async with httpx.AsyncClient(trust_env=False) as client:
        with trio.fail_after(PATIENCE_S):
            while told not in (await client.get(f"{worker.addresses.admin}/metrics")).text:  # noqa: ASYNC110
                await trio.sleep(0.05)


@pytest.mark.parametrize("loses", [False, True])
async def test_a_failover(
    tmp_path: Path, prefix: str, monkeypatch: pytest.MonkeyPatch, loses: bool
) -> None:
    """One that loses nothing is not noticed; one that loses a frame ends the capture.

    The stream has no hole either way, and its end says what the rig was told.
    """
    async with (
        with_replica(tmp_path) as (primary, replica),
        proxy(primary.nodes[0].port) as address,
        running(
            monkeypatch, sink__url=f"valkey://127.0.0.1:{address.port}/?prefix={prefix}"
        ) as worker,
    ):

        async def film() -> None:
            async with capture(worker.addresses.capture) as rig:
                for count, picture in enumerate(PICTURES, 1):
                    await rig.send_frame(picture)
                    if count <= 5:
                        await primary.wait_for_frames(prefix, "cap-1", count)
                    if count == (3 if loses else 5):
                        await replica.wait_for_frames(prefix, "cap-1", count)
                        replica.client().replicaof("NO", "ONE")
                    if count == 5:
                        # Who reads no answer before the switch asks again behind it.
                        await wait_forwarded(worker, count)
                        address.switch(replica.nodes[0].port)
                    await trio.sleep(0.1)

        if loses:
            with pytest.raises(ForwardFailed):
                await film()
        else:
            await film()
        frames, ending = check_stream(replica.stream(prefix, "cap-1"), PICTURES)
    if loses:
        assert frames == 3
        assert ending.error_code is ErrorCode.FORWARD_FAILED
        assert ending.frames_forwarded == 5
    else:
        assert isinstance(ending, FeedClose)
        assert frames == ending.frames_forwarded == len(PICTURES)


async def test_tls_with_a_server_that_has_none_says_what_to_look_at(
    one_server: Servers,
) -> None:
    """It ends at a deadline, which has no words of its own."""
    url = one_server.url(timeout_s=0.5).replace("valkey:", "valkeys:")
    with pytest.raises(ValkeyFailed, match="no answer in time; see that both sides use TLS"):
        async with open_link(Address.parse(url)):
            pass
