"""Which node a script goes to, whatever a cluster answers, on the virtual clock."""

from __future__ import annotations

import math
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import attrs
import pytest
import trio
from coredis._utils import hash_slot
from coredis.connection import TCPLocation
from coredis.exceptions import ClusterError, MovedError, ResponseError
from coredis.exceptions import ConnectionError as ConnectionLost
from trio.testing import MockClock

import cfw.valkey._nodes as module
from cfw.valkey import Address, Names
from cfw.valkey._names import TAGS, slot_of
from cfw.valkey._nodes import Nodes
from cfw.valkey._pipeline import packed
from tests.unit.valkey.fake_node import OK, FakeNode, Words, bulk
from tests.unit.valkey.servers import SLOTS

KEY = "cfw:{10}:index"
COMMAND = packed(["DO", KEY])


@attrs.define
class FakeLayout:
    """Says that every slot is at node 1, and notes what it is told."""

    reported: list[tuple[Any, Exception]] = attrs.Factory(list)

    def node_for_slot(self, slot: int) -> TCPLocation:
        return TCPLocation("node", 1)

    def node_for_location(self, location: TCPLocation) -> TCPLocation:
        return location

    def report_errors(self, node: Any, *errors: Exception) -> None:
        self.reported += ((node, error) for error in errors)


@attrs.define
class Cluster:
    """Nodes in memory, by their port, and what leads to them."""

    nodes: dict[int, FakeNode]
    layout: FakeLayout
    links: Nodes
    hosts: list[str] = attrs.Factory(list)

    async def ask(self) -> Any:
        return await self.links.run(KEY, COMMAND, may_wait=False)


@asynccontextmanager
async def cluster(
    monkeypatch: pytest.MonkeyPatch, nodes: dict[int, FakeNode], *, is_alone: bool = False
) -> AsyncIterator[Cluster]:
    layout = FakeLayout()
    address = Address.parse("valkey://node:1/" + ("" if is_alone else "?cluster=1"))
    async with trio.open_nursery() as nursery:
        links = Nodes(None if is_alone else layout, address, None, nursery)
        made = Cluster(nodes, layout, links)

        async def connect(
            host: str, port: int, tls: ssl.SSLContext | None, silent_s: float
        ) -> trio.abc.Stream:
            made.hosts.append(host)
            nodes[port]._nursery = nursery
            return await nodes[port]._connect()

        monkeypatch.setattr(module, "_connect", connect)
        yield made
        nursery.cancel_scope.cancel()


def telling(*answers: bytes) -> FakeNode:
    """A node that answers so, one after the other; the last one from then on."""
    left = [*answers]

    def says(words: Words) -> bytes:
        if words[0] in (b"HELLO", b"ASKING"):
            return OK
        return left.pop(0) if len(left) > 1 else left[0]

    return FakeNode(says)


async def test_a_slot_that_has_moved_is_followed_and_told(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The layout hears of it, so that the next one goes there at once."""
    nodes = {1: telling(b"-MOVED 5 other:2\r\n"), 2: telling(bulk(b"two"))}
    async with cluster(monkeypatch, nodes) as there:
        assert await there.ask() == b"two"
        ((node, error),) = there.layout.reported
        assert (node.port, type(error)) == (1, MovedError)
        assert there.hosts == ["node", "other"]
    assert nodes[2].commands == [[b"DO", KEY.encode()]]


async def test_a_slot_that_moved_to_a_node_without_a_name(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is at the address that was asked, on another port."""
    nodes = {1: telling(b"-MOVED 5 :2\r\n"), 2: telling(bulk(b"two"))}
    async with cluster(monkeypatch, nodes) as there:
        assert await there.ask() == b"two"
        assert there.hosts == ["node", "node"]


async def test_a_key_that_is_on_its_way_is_asked_for_once(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ASKING stands before it, and its answer is nobody's; the layout is as it was."""
    nodes = {1: telling(b"-ASK 5 other:2\r\n"), 2: telling(bulk(b"two"))}
    async with cluster(monkeypatch, nodes) as there:
        assert await there.ask() == b"two"
        assert await there.ask() == b"two"
        assert there.layout.reported == []
    assert nodes[2].commands == [[b"ASKING"], [b"DO", KEY.encode()]] * 2


@pytest.mark.parametrize("times", [1, 8, 15])
async def test_a_slot_between_two_nodes_is_asked_again(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    """At once at first, then with pauses."""
    nodes = {1: telling(*[b"-TRYAGAIN in between\r\n"] * times, bulk(b"one"))}
    async with cluster(monkeypatch, nodes) as there:
        began = trio.current_time()
        assert await there.ask() == b"one"
        assert trio.current_time() - began == pytest.approx(
            0.05 * max(0, times - 8) + 0.001 * (times + 1)
        )


async def test_nodes_that_send_each_other_a_script_get_it_so_often(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And who asked is told that it led nowhere."""
    nodes = {1: telling(b"-MOVED 5 node:2\r\n"), 2: telling(b"-MOVED 5 node:1\r\n")}
    async with cluster(monkeypatch, nodes) as there:
        with pytest.raises(ClusterError):
            await there.ask()
    assert [len(node.commands) for node in nodes.values()] == [8, 8]


async def test_all_moves_together_have_the_time_of_one_answer(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node that sends on late, to one that is silent."""
    nodes = {1: telling(b"-MOVED 5 node:2\r\n"), 2: FakeNode(delay_s=math.inf)}
    nodes[1].delay_s = 1.5
    async with cluster(monkeypatch, nodes) as there:
        began = trio.current_time()
        with pytest.raises(trio.TooSlowError):
            await there.ask()
        assert trio.current_time() - began == pytest.approx(2)


@pytest.mark.parametrize("is_alone", [True, False])
async def test_a_connection_that_broke_is_made_anew(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, is_alone: bool
) -> None:
    """For the next one that asks; a cluster's layout hears of the broken one."""
    nodes = {1: FakeNode(delay_s=math.inf)}
    async with cluster(monkeypatch, nodes, is_alone=is_alone) as there:
        async with trio.open_nursery() as nursery:

            async def lost() -> None:
                with pytest.raises(ConnectionLost):
                    await there.ask()

            nursery.start_soon(lost)
            await trio.sleep(0.1)
            nodes[1].cut()
        nodes[1].delay_s = 0.001
        assert await there.ask() == KEY.encode()
        assert len(there.hosts) == 2
        assert len(there.layout.reported) == (0 if is_alone else 1)


async def test_an_error_of_a_script_is_no_reason_to_move(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told as it is."""
    nodes = {1: telling(b"-ERR no\r\n")}
    async with cluster(monkeypatch, nodes) as there:
        with pytest.raises(ResponseError, match="no"):
            await there.ask()
    assert len(nodes[1].commands) == 1


def test_slots_are_those_of_the_cluster() -> None:
    """Of the hash tag, where there is one; and each partition has a sixteenth of its own."""
    for key in ("a", "cfw:session:ä", "{}x", "{a", "a}{", "x{ab}{c}", "{a}b", "a{}{b}c"):
        assert slot_of(key) == hash_slot(key.encode()), key
    for partition in range(len(TAGS)):
        slot = slot_of(Names("cfw", partition).index)
        assert slot * len(TAGS) // SLOTS == partition
