"""The scripts on a real server, and the fake that stands for it in sweeps: one contract."""

from __future__ import annotations

import pytest

from cfw.valkey import (
    LAST_ID,
    PARTITIONS,
    Address,
    CaptureTaken,
    LeaseLost,
    Names,
    Run,
    ScriptStore,
    TailLost,
    ValkeyFailed,
    open_link,
    partition_of,
)
from schemas import parse_feed
from tests.unit.valkey.arenas import arena
from tests.unit.valkey.fake_store import opened_as
from tests.unit.valkey.servers import Servers

OPENED = opened_as("cap-1")


def run(capture_id: str = "cap-1", opened_ns: int = 1) -> Run:
    return Run(capture_id=capture_id, opened_ns=opened_ns)


async def test_a_capture_is_one_stream_from_opened_to_terminal(
    servers: Servers, prefix: str
) -> None:
    """Entries in order, byte for byte, and the terminal has the highest id."""
    async with open_link(Address.parse(servers.url(prefix=prefix))) as link:
        store, mine = ScriptStore(link), run()
        await store.begin(mine, b"opened")
        await store.append(mine, 1, [(b"m1", b"\x00one"), (b"m2", b"two\r\n")])
        await store.append(mine, 3, [(b"m3", b"")])
        await store.finish(mine, b"closed", 3)
    assert servers.stream(prefix, "cap-1") == [
        (b"0-1", {b"message": b"opened"}),
        (b"1-0", {b"message": b"m1", b"jpeg": b"\x00one"}),
        (b"2-0", {b"message": b"m2", b"jpeg": b"two\r\n"}),
        (b"3-0", {b"message": b"m3", b"jpeg": b""}),
        (LAST_ID.encode(), {b"message": b"closed"}),
    ]
    names = Names.of(prefix, "cap-1")
    ((_, told),) = servers.client().xrange(names.index)
    assert told[b"capture_id"] == b"cap-1"
    assert told[b"stream"].decode() == names.frames("cap-1", 1)
    assert servers.client().exists(names.lease("cap-1")) == 0
    assert servers.client().zcard(names.deadlines) == 0


@pytest.fixture(params=["alone", "cluster", "fake"])
def place(request: pytest.FixtureRequest) -> Servers | None:
    """One server, a cluster, and what stands for them in sweeps."""
    if request.param == "fake":
        return None
    name = {"alone": "one_server", "cluster": "three_nodes"}[request.param]
    found: Servers = request.getfixturevalue(name)
    return found


async def test_a_capture_id_has_one_owner_until_it_ends(
    place: Servers | None, prefix: str
) -> None:
    """A second run is refused, from any worker, and let in after the first one's end."""
    async with arena(place, prefix) as there:
        first, second = run(), run(opened_ns=2)
        await there.one.begin(first, OPENED)
        with pytest.raises(CaptureTaken) as caught:
            await there.other.begin(second, OPENED)
        assert not caught.value.is_expired
        await there.one.finish(first, b"t", 0)
        await there.other.begin(second, OPENED)
        with pytest.raises(LeaseLost):
            await there.one.renew(first)


async def test_every_step_may_be_asked_for_twice(place: Servers | None, prefix: str) -> None:
    """An answer that was lost on its way does no harm: nothing is there twice."""
    async with arena(place, prefix) as there:
        mine = run()
        for _ in range(2):
            await there.one.begin(mine, OPENED)
        for _ in range(2):
            await there.one.append(mine, 1, [(b"m", b"j"), (b"m", b"j")])
        for _ in range(2):
            await there.one.finish(mine, b"t", 2)
        assert [entry_id for entry_id, *_ in there.entries(mine)] == [
            "0-1",
            "1-0",
            "2-0",
            LAST_ID,
        ]


async def test_nothing_is_written_behind_a_hole(place: Servers | None, prefix: str) -> None:
    """A stream that lost its end, as in a failover, takes neither a frame nor a close."""
    async with arena(place, prefix) as there:
        mine = run()
        await there.one.begin(mine, OPENED)
        await there.one.append(mine, 1, [(b"m", b"j")])
        with pytest.raises(TailLost):
            await there.one.append(mine, 3, [(b"m", b"j")])
        with pytest.raises(TailLost):
            await there.one.finish(mine, b"closed", 2)
        await there.one.finish(mine, b"aborted", None)
        assert [message for _, message, _ in there.entries(mine)] == [OPENED, b"m", b"aborted"]


async def test_a_lease_that_ran_out_is_sealed_once_and_its_owner_is_locked_out(
    place: Servers | None, prefix: str
) -> None:
    """One of two workers writes the terminal; the old owner writes nothing any more."""
    async with arena(place, prefix) as there:
        mine, partition = run(), partition_of("cap-1")
        await there.one.begin(mine, OPENED)
        await there.one.append(mine, 1, [(b"m", b"jpeg")])
        assert await there.other.lost(partition) == []
        there.expire("cap-1")
        with pytest.raises(CaptureTaken) as caught:
            await there.other.begin(run(opened_ns=2), OPENED)
        assert caught.value.is_expired
        (lost,) = await there.other.lost(partition)
        assert (lost.frames, lost.bytes, lost.opened) == (1, 4, parse_feed(OPENED))
        (again,) = await there.one.lost(partition)
        assert await there.other.seal(lost, b"lost")
        assert not await there.one.seal(again, b"lost too")
        for late in (
            there.one.append(mine, 2, [(b"m", b"late")]),
            there.one.finish(mine, b"closed", 1),
            there.one.finish(mine, b"aborted", None),
            there.one.renew(mine),
        ):
            with pytest.raises(LeaseLost):
                await late
        await there.other.begin(run(opened_ns=2), OPENED)
        assert [message for _, message, _ in there.entries(mine)] == [OPENED, b"m", b"lost"]


async def test_a_lease_that_is_renewed_in_time_is_not_sealed(
    place: Servers | None, prefix: str
) -> None:
    """Seen as lost and renewed before the seal: the owner keeps it."""
    async with arena(place, prefix) as there:
        mine, partition = run(), partition_of("cap-1")
        await there.one.begin(mine, OPENED)
        there.expire("cap-1")
        (lost,) = await there.other.lost(partition)
        await there.one.renew(mine)
        assert not await there.other.seal(lost, b"lost")
        assert await there.other.lost(partition) == []
        await there.one.append(mine, 1, [(b"m", b"j")])


async def test_a_full_server_refuses_all_or_nothing(mortal: Servers, prefix: str) -> None:
    """A lost capture whose terminal was refused is still there to be ended later."""
    client = mortal.client()
    async with arena(mortal, prefix) as there:
        mine = run()
        await there.one.begin(mine, OPENED)
        await there.one.append(mine, 1, [(b"m", b"j")])
        there.expire("cap-1")
        (lost,) = await there.other.lost(partition_of("cap-1"))
        client.config_set("maxmemory", 1)
        for refused in (
            there.other.seal(lost, b"lost"),
            there.one.append(mine, 2, [(b"m", b"j")]),
            there.one.finish(mine, b"closed", 1),
        ):
            with pytest.raises(ValkeyFailed, match="maxmemory"):
                await refused
        assert len(there.entries(mine)) == 2
        client.config_set("maxmemory", 0)
        (again,) = await there.other.lost(partition_of("cap-1"))
        assert again == lost
        assert await there.other.seal(lost, b"lost")
        assert there.entries(mine)[-1] == (LAST_ID, b"lost", None)


async def test_streams_and_index_are_bounded(one_server: Servers, prefix: str) -> None:
    """A stream keeps about maxlen entries, the index about as many captures, all for keep_s."""
    address = Address.parse(one_server.url(prefix=prefix, maxlen=100, index=100, keep_s=50))
    async with open_link(address) as link:
        store, mine = ScriptStore(link), run()
        await store.begin(mine, OPENED)
        for seq in range(1, 501):
            await store.append(mine, seq, [(b"m", b"j")])
        for number in range(500):
            other = run("cap-1", number + 2)
            if number == 0:
                await store.finish(mine, b"t", 500)
            await store.begin(other, OPENED)
            await store.finish(other, b"t", 0)
    names, client = Names.of(prefix, "cap-1"), one_server.client()
    stream = names.frames("cap-1", 1)
    assert 100 <= client.xlen(stream) <= 300
    assert 100 <= client.xlen(names.index) <= 300
    assert 0 < client.pttl(stream) <= 50_000


def test_partitions_lie_evenly_over_the_slots_of_a_cluster() -> None:
    """Partition n is in the n-th sixteenth; its keys share a slot."""
    from coredis._utils import hash_slot

    for partition in range(PARTITIONS):
        names = Names("any", partition)
        keys = [names.index, names.deadlines, names.lease("x"), names.frames("x", 1)]
        slots = {hash_slot(key.encode()) for key in [*keys, names.progress("group")]}
        assert len(slots) == 1
        assert slots.pop() // 1024 == partition
    spread = [partition_of(f"capture-{number}") for number in range(1600)]
    assert min(spread.count(partition) for partition in range(PARTITIONS)) > 50
