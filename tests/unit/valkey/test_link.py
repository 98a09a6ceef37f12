"""The pool of connections: no place of it is lost, whatever becomes of a question."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, nullcontext, suppress
from typing import Any

import pytest
import trio
from coredis.exceptions import RedisError
from trio.testing import MockClock

import cfw.valkey._link as module
from cfw.valkey import Address, Link, ValkeyFailed, open_link
from cfw.valkey._link import _Bounded
from tests.patience import PATIENCE_S
from tests.unit.valkey.servers import Servers
from tests.unit.valkey.test_network import Proxy, proxy
from tests.whole.hostile.figures import figure

pytestmark = pytest.mark.hostile

PLACES, TIMES = 3, 10


@pytest.fixture(autouse=True)
def few_places(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pool that a few questions would use up."""
    monkeypatch.setattr(module, "_PLACES", PLACES)


@asynccontextmanager
async def linked(servers: Servers, timeout_s: float = 2) -> AsyncIterator[tuple[Link, Proxy]]:
    async with proxy(servers.nodes[0].port) as address:
        url = f"valkey://127.0.0.1:{address.port}/?timeout_s={timeout_s}"
        async with open_link(Address.parse(url)) as link:
            yield link, address


@contextmanager
def silent(port: int) -> Iterator[None]:
    """The kernel accepts, and nobody says anything."""
    with listening(port, 100):
        yield


@contextmanager
def deaf(port: int) -> Iterator[None]:
    """The kernel answers nobody: its queue is full."""
    with listening(port, 0) as name, socket.socket() as first, socket.socket() as second:
        for filler in (first, second):
            filler.setblocking(False)
            filler.connect_ex(name)
        yield


@contextmanager
def listening(port: int, backlog: int) -> Iterator[tuple[str, int]]:
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("127.0.0.1", port))
        sock.listen(backlog)
        yield sock.getsockname()


async def give_up(link: Link, after_s: float) -> None:
    with trio.move_on_after(after_s), suppress(ValkeyFailed):
        await link.ask(link.client.ping)


@pytest.mark.parametrize("after_s", [0.0, 0.05, 60])
async def test_questions_given_up_while_connecting_keep_no_place(
    mortal: Servers, after_s: float
) -> None:
    """To a server that hangs, or whose kernel does, or that is not there; by whoever asked,
    or at the deadline."""
    port = mortal.nodes[0].port
    url = mortal.url(timeout_s=0.5)
    async with open_link(Address.parse(url)) as link:
        mortal.kill()
        for place in (silent, deaf, nullcontext):
            with place(port):
                for _ in range(TIMES):
                    await give_up(link, after_s)
        mortal.restart(port)
        await answered(link)
    figure(f"{3 * TIMES} questions given up while connecting, pool of {PLACES}", "answers")


async def test_connections_that_break_while_in_use_keep_no_place(one_server: Servers) -> None:
    """Cut by the server, or left by who asked: the place is free for the next one."""
    async with linked(one_server) as (link, address):

        async def held_back() -> None:
            with suppress(ValkeyFailed):
                await link.ask(lambda: link.client.xread({"none": "$"}, block=5000), extra_s=5)

        for _ in range(TIMES):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(held_back)
                await trio.sleep(0.05)
                address.switch(one_server.nodes[0].port)
            await answered(link)
        for _ in range(TIMES):
            with trio.move_on_after(0.05):
                await held_back()
        await answered(link)


@pytest.mark.parametrize(("takes_s", "is_made"), [(0.9, True), (1, False), (1.1, False)])
async def test_a_connection_is_made_in_time_or_not_at_all(
    takes_s: float, is_made: bool, autojump_clock: MockClock
) -> None:
    """Also where it is ready in the very pass in which its time is over."""

    class Connecting:
        _connect_timeout = 1

        async def run(self, *, task_status: Any) -> None:
            with trio.CancelScope(shield=True):
                await trio.sleep(takes_s)
            task_status.started()
            await trio.sleep(10)

    class Bounded(_Bounded, Connecting):
        pass

    told: list[str] = []

    class Status:
        @staticmethod
        def started(value: object = None) -> None:
            told.append("made")

    try:
        await Bounded().run(task_status=Status)
    except RedisError:
        told.append("lost")
    assert told == (["made"] if is_made else ["lost"])
    assert trio.current_time() == (takes_s + 10 if is_made else pytest.approx(takes_s))


async def answered(link: Link) -> None:
    """It answers, after a connection or two that it finds broken."""
    with trio.fail_after(PATIENCE_S):
        while True:
            with suppress(ValkeyFailed):
                assert await link.ask(link.client.ping)
                return
            await trio.sleep(0.05)
