"""What others write under the fleet's keys: it ends no worker and no consumer, and keeps no
capture from its end."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import httpx
import pytest
import trio

from cfw.valkey import (
    LAST_ID,
    Address,
    CaptureTaken,
    Names,
    Run,
    ScriptStore,
    Unreadable,
    open_link,
    open_valkey_feed,
)
from schemas import ErrorCode, FeedAbort, FeedClose, parse_feed
from tests.patience import PATIENCE_S, until
from tests.unit.sessions.readiness import capture as film_and_close
from tests.unit.sessions.readiness import readyz
from tests.unit.valkey.fake_store import opened_as
from tests.unit.valkey.servers import Servers
from tests.unit.valkey.test_feed import Writer, expected, name_of, read, tap
from tests.unit.valkey.test_sink import PICTURES, capture, check_stream
from tests.whole.hostile.figures import figure
from tests.whole.smoke.worker import Worker, running

pytestmark = pytest.mark.hostile

#: A capture of the same partition as that of `cap-1`, whose keys are all in order.
GOOD, BAD = "c-15", "cap-1"
OTHER = "c-1"
Plant = Callable[[Any, Names], object]


def lease(**fields: bytes | None) -> Plant:
    """The lease of a capture as a worker writes it, with some fields otherwise, or missing."""

    def plant(client: Any, names: Names) -> None:
        stream = names.frames(BAD, 1)
        client.xadd(stream, {"message": opened_as(BAD)}, id="0-1")
        whole: dict[str, bytes | None] = {
            "owner": b"gone",
            "stream": stream.encode(),
            "opened": opened_as(BAD),
            "last": b"0",
            "bytes": b"0",
        }
        kept = {key: value for key, value in (whole | fields).items() if value is not None}
        client.hset(names.lease(BAD), mapping=kept or {"foreign": b"1"})
        client.zadd(names.deadlines, {BAD: 1})

    return plant


def of_another_type(client: Any, names: Names) -> None:
    client.set(names.lease(BAD), "x")
    client.zadd(names.deadlines, {BAD: 1})


def a_stream_of_another_type(client: Any, names: Names) -> None:
    lease()(client, names)
    client.delete(names.frames(BAD, 1))
    client.set(names.frames(BAD, 1), "x")


def sealed_by_somebody(client: Any, names: Names) -> None:
    lease()(client, names)
    client.xadd(names.frames(BAD, 1), {"x": "y"}, id=LAST_ID)


NOTHING = dict.fromkeys(("owner", "stream", "opened", "last", "bytes"))
LEFT_BEHIND: dict[str, Plant] = {
    "no field": lease(**NOTHING),
    "no owner": lease(owner=None),
    "an owner that is not UTF-8": lease(owner=b"\xff"),
    "a count that is none": lease(last=b"many"),
    "a count that is not whole": lease(bytes=b"1e3"),
    "a huge count": lease(last=b"9" * 40),
    "an opened that is no message": lease(opened=b"{"),
    "an opened of another capture": lease(opened=opened_as(GOOD)),
    "a stream of another partition": lease(stream=Names.of("cfw", OTHER).index.encode()),
    "a lease of another type": of_another_type,
    "a stream of another type": a_stream_of_another_type,
    "a stream that is sealed": sealed_by_somebody,
    "a name that is not UTF-8": lambda client, names: client.zadd(
        names.deadlines, {b"\xff\x1b[2J": 1}
    ),
    "a name of another partition": lambda client, names: client.zadd(
        names.deadlines, {OTHER: 1}
    ),
    "a hundred names": lambda client, names: client.zadd(
        names.deadlines, {b"\xff%d" % number: 1 for number in range(100)}
    ),
}
#: Those that hold nothing that cannot be read; they only take no terminal.
READABLE = {"a stream that is sealed"}


async def unreadable(worker: Worker) -> float:
    """What the worker counts."""
    async with httpx.AsyncClient(trust_env=False) as client:
        text = (await client.get(f"{worker.addresses.admin}/metrics")).text
    (line,) = [each for each in text.splitlines() if each.startswith("cfw_sink_unreadable_t")]
    return float(line.split()[-1])


@pytest.mark.parametrize("name", LEFT_BEHIND)
async def test_what_cannot_be_read_keeps_no_lost_capture_from_its_end(
    servers: Servers, prefix: str, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """A worker that starts ends the captures behind it, takes new ones, and looks no more."""
    names, client = Names.of(prefix, BAD), servers.client()
    url = servers.url(prefix=prefix, lease_s=2)
    async with open_link(Address.parse(url)) as link:
        await ScriptStore(link).begin(Run(capture_id=GOOD, opened_ns=1), opened_as(GOOD))
    servers.expire(prefix, GOOD)  # due behind those that are planted
    LEFT_BEHIND[name](client, names)
    client.zadd(names.deadlines, {GOOD: 2})
    async with running(monkeypatch, sink__url=url) as worker:
        await until(lambda: servers.stream(prefix, GOOD)[-1][0] == LAST_ID.encode())
        await until(lambda: not client.exists(names.deadlines))
        # The id is free, whatever was there; the worker ran on.
        async with capture(worker.addresses.capture, BAD) as rig:
            await rig.send_frame(PICTURES[0])
        assert rig.receipt.frames == 1
        assert (await unreadable(worker) > 0) == (name not in READABLE)
    ending = parse_feed(servers.stream(prefix, GOOD)[-1][1][b"message"])
    assert isinstance(ending, FeedAbort)
    assert ending.error_code is ErrorCode.WORKER_LOST
    assert ending.record_id == parse_feed(opened_as(GOOD)).record_id
    figure(f"a worker finds {name}", "the next lost capture had its end, a new one its receipt")


@pytest.mark.parametrize("key", ["index", "deadlines"])
async def test_a_key_of_a_partition_that_is_of_another_type_is_put_aside(
    servers: Servers, prefix: str, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    """A capture of that partition has its receipt, and what was there can be looked at."""
    names, client = Names.of(prefix, BAD), servers.client()
    odd = getattr(names, key)
    client.set(odd, "foreign")
    async with running(monkeypatch, sink__url=servers.url(prefix=prefix)) as worker:
        async with capture(worker.addresses.capture, BAD) as rig:
            await rig.send_frame(PICTURES[0])
        assert rig.receipt.frames == 1
        assert await unreadable(worker) == 1
    aside = odd.replace("}:", "}:unreadable:")
    assert client.get(aside) == b"foreign"
    assert 0 < client.pttl(aside) <= 600_000
    assert check_stream(servers.stream(prefix, BAD), PICTURES)[0] == 1
    assert len(client.xrange(names.index)) == 1


async def test_a_lease_that_somebody_wrote_into_ends_its_own_capture_only(
    one_server: Servers, prefix: str
) -> None:
    """Nothing of the frame is written, and the abort is."""
    client, names = one_server.client(), Names.of(prefix, BAD)
    async with open_link(Address.parse(one_server.url(prefix=prefix))) as link:
        store, mine = ScriptStore(link), Run(capture_id=BAD, opened_ns=1)
        await store.begin(mine, opened_as(BAD))
        for field in ("last", "bytes"):
            client.hset(names.lease(BAD), field, "0x1")
            with pytest.raises(Unreadable, match="has lost count of its frames"):
                await store.append(mine, 1, [(b"m", b"j")])
            client.hset(names.lease(BAD), field, "0")
        assert store.unreadable == 2
        assert len(one_server.stream(prefix, BAD)) == 1
        await store.finish(mine, b"aborted", None)
    assert one_server.stream(prefix, BAD)[-1] == (LAST_ID.encode(), {b"message": b"aborted"})


async def test_a_lease_that_never_runs_out_does(one_server: Servers, prefix: str) -> None:
    """One without a deadline gets one from whoever wants the id."""
    client, names = one_server.client(), Names.of(prefix, BAD)
    client.hset(names.lease(BAD), "owner", "nobody")
    async with open_link(Address.parse(one_server.url(prefix=prefix))) as link:
        store = ScriptStore(link)
        with pytest.raises(CaptureTaken):
            await store.begin(Run(capture_id=BAD, opened_ns=1), opened_as(BAD))
        one_server.expire(prefix, BAD)
        assert await store.lost(names.partition) == []
        await store.begin(Run(capture_id=BAD, opened_ns=1), opened_as(BAD))


# --- sessions ---------------------------------------------------------------------------------


async def test_a_session_key_of_another_type_does_not_make_a_worker_unready(
    one_server: Servers, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its rig is refused; others film, and /readyz stays 200."""
    client, url = one_server.client(), one_server.url(prefix=prefix)
    client.hset(f"{prefix}:session:s-1", mapping={"user": "ada", "status": "active"})
    settings: dict[str, Any] = {"sessions__url": url, "sessions__static": []}
    async with running(monkeypatch, **settings) as worker:
        assert await film_and_close(worker) == 1000
        client.delete(f"{prefix}:session:s-1")
        client.set(f"{prefix}:session:s-1", "active")
        assert await film_and_close(worker) == 1008
        for _ in range(20):
            assert await readyz(worker) == {"status": "ready"}
            await trio.sleep(0.01)
    figure("/readyz when a session's key is of another type", "ready")


# --- consumers --------------------------------------------------------------------------------


def entry(fields: dict[Any, Any]) -> Plant:
    return lambda client, names: client.xadd(names.index, fields)


def in_stream(fields: dict[Any, Any], entry_id: str = "1-0") -> Plant:
    """A capture whose stream has this instead of its first frame."""

    def plant(client: Any, names: Names) -> None:
        stream = names.frames(BAD, 1)
        client.xadd(stream, {"message": opened_as(BAD)}, id="0-1")
        client.xadd(stream, fields, id=entry_id)
        client.xadd(names.index, {"capture_id": BAD, "stream": stream})

    return plant


def a_capture_of_another_type(client: Any, names: Names) -> None:
    client.set(names.frames(BAD, 1), "x")
    client.xadd(names.index, {"capture_id": BAD, "stream": names.frames(BAD, 1)})


def note(value: bytes | None) -> Plant:
    """What is noted of how far the group has come with the good capture."""

    def plant(client: Any, names: Names) -> None:
        if value is None:
            client.set(names.progress("g"), "x")
        else:
            client.hset(names.progress("g"), names.frames(GOOD, 1), value)

    return plant


FOREIGN: dict[str, Plant] = {
    "an index entry without a stream": entry({"x": "y"}),
    "an index entry that is not UTF-8": entry({"stream": b"\xff"}),
    "an index entry that leads elsewhere": entry({"stream": "somewhere"}),
    "an entry without a message": in_stream({"x": "y"}),
    "an entry that is no JSON": in_stream({"message": b"\xff"}),
    "an entry of another capture": in_stream({"message": opened_as(GOOD)}),
    "an end that cannot be read": in_stream({"message": "{"}, LAST_ID),
    "a stream of another type": a_capture_of_another_type,
    "a note that is no id": note(b"far"),
    "a note beyond all ids": note(b"99999999999999999999-0"),
    "notes of another type": note(None),
}


@pytest.mark.parametrize("name", FOREIGN)
async def test_what_cannot_be_read_ends_no_consumer(
    one_server: Servers, prefix: str, name: str
) -> None:
    """It is counted and left out, and a capture behind it is read whole; also by one that
    starts later, which does not find it again."""
    url, client = one_server.url(prefix=prefix), one_server.client()
    names = Names.of(prefix, BAD)
    async with (
        open_link(Address.parse(url)) as link,
        open_valkey_feed(url, group="g", consumer="one", claim_s=1.5) as feed,
    ):
        got: list[str] = []
        await until(lambda: client.exists(*[Names(prefix, n).index for n in range(16)]) == 16)
        FOREIGN[name](client, names)
        await (await (await Writer(link, GOOD).begin()).frames(2)).end(frames_forwarded=2)
        with trio.fail_after(PATIENCE_S):
            while expected(GOOD, 2)[-1] not in got:
                got += await read(feed, 1)
        await feed.processed()
        assert [each for each in got if each.startswith(GOOD)] == expected(GOOD, 2)
        await until(lambda: feed.unreadable >= 1)
        assert prefix in str(feed.last_unreadable)
        assert feed.missed == 0
    async with (
        open_link(Address.parse(url)) as link,
        open_valkey_feed(url, group="g", consumer="one", claim_s=1.5) as feed,
    ):
        await (await Writer(link, "cap-9").begin()).end()
        with trio.fail_after(PATIENCE_S):
            while expected("cap-9", 0)[-1] not in got:
                got += await read(feed, 1)
        await feed.processed()
        if "entry" not in name or "index" in name:
            assert feed.unreadable == 0
    figure(f"a consumer finds {name}", "the next capture was read whole")


async def test_an_end_that_cannot_be_read_is_told_all_the_same(
    one_server: Servers, prefix: str
) -> None:
    """A reader of a capture hears that it is over, under the capture's own record_id."""
    url, client = one_server.url(prefix=prefix), one_server.client()
    async with open_valkey_feed(url, group="g") as feed:
        await until(lambda: client.exists(*[Names(prefix, n).index for n in range(16)]) == 16)
        in_stream({"message": "{"}, LAST_ID)(client, Names.of(prefix, BAD))
        with trio.fail_after(PATIENCE_S):
            opened, _ = await feed.__anext__()
            end, _ = await feed.__anext__()
        await feed.processed()
    assert isinstance(end, FeedAbort)
    assert end.error_code is ErrorCode.FORWARD_FAILED
    assert (end.record_id, end.capture_id) == (opened.record_id, BAD)
    assert end.detail == "the end of this capture cannot be read"
    assert client.xpending(Names.of(prefix, BAD).index, "g")["pending"] == 0


# --- a server that lost its data --------------------------------------------------------------


async def test_a_server_that_lost_its_data_is_read_on_from_what_is_there(
    mortal: Servers, prefix: str
) -> None:
    """Flushed in mid-capture: the capture is told to be cut, those that come are read whole,
    and what was lost is said once."""
    url = mortal.url(prefix=prefix)
    async with (
        open_link(Address.parse(url)) as link,
        open_valkey_feed(url, group="g", claim_s=1.5) as feed,
    ):
        client = mortal.client()
        await until(lambda: client.exists(*[Names(prefix, n).index for n in range(16)]) == 16)
        await (await Writer(link, "cap-1").begin()).frames(2)
        assert await read(feed, 3) == expected("cap-1", 2)[:3]
        client.flushall()
        ids = ["cap-1", "cap-2", "cap-3"]
        for capture_id in ids:
            writer = await Writer(link, capture_id, opened_ns=2).begin()
            await (await writer.frames(2)).end(frames_forwarded=2)
        got: list[Any] = []
        with trio.fail_after(PATIENCE_S):
            while len(got) < 1 + 3 * 4:
                got.append((await feed.__anext__())[0])
            await feed.processed()
        cut = [message for message in got if isinstance(message, FeedAbort)]
        assert [(end.capture_id, end.error_code) for end in cut] == [
            ("cap-1", ErrorCode.FORWARD_FAILED)
        ]
        assert cut[0].record_id == parse_feed(opened_as("cap-1")).record_id
        assert cut[0].detail == "the server does not have the rest of this capture"
        assert (cut[0].frames_forwarded, cut[0].bytes_forwarded) == (2, 2 * 10)
        whole = [name_of(message) for message in got if not isinstance(message, FeedAbort)]
        for capture_id in ids:
            mine = [name for name in whole if name.startswith(capture_id)]
            assert mine == expected(capture_id, 2)
        assert (feed.data_losses, feed.expired) == (1, 1)


async def test_tap_reads_on_after_a_restart_of_a_server_that_keeps_nothing(
    mortal: Servers, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A capture with a receipt is read by the group, also when the one before was cut."""
    url = mortal.url(prefix=prefix)
    command = [*tap(url, "--captures", "2"), "--group", "g"]
    said, lines = bytearray(), bytearray()
    async with trio.open_nursery() as nursery:
        process = await trio.lowlevel.open_process(command, stdout=-1, stderr=-1)

        async def drain(stream: Any, into: bytearray) -> None:
            while more := await stream.receive_some():
                into += more

        nursery.start_soon(drain, process.stdout, lines)
        nursery.start_soon(drain, process.stderr, said)
        try:
            await until(lambda: has_groups(mortal, prefix))
            async with open_link(Address.parse(url)) as link:
                await (await Writer(link, "cap-1").begin()).frames(2)
                await until(lambda: lines.count(b"\n") == 3)
            mortal.restart()
            async with running(monkeypatch, sink__url=url) as worker:
                async with capture(worker.addresses.capture, "cap-2") as rig:
                    await rig.send_frame(PICTURES[0])
                assert rig.receipt.frames == 1
            with trio.fail_after(90):
                assert await process.wait() == 0
        finally:
            process.kill()
            with trio.move_on_after(5, shield=True):
                await process.wait()
    messages = [parse_feed(line) for line in bytes(lines).splitlines()]
    ends = {
        message.capture_id: message
        for message in messages
        if isinstance(message, FeedClose | FeedAbort)
    }
    assert isinstance(ends["cap-1"], FeedAbort)
    assert isinstance(ends["cap-2"], FeedClose)
    assert [name_of(m) for m in messages if m.capture_id == "cap-2"] == expected("cap-2", 1)
    assert said.count(b"1 times the server had lost its data") == 1, said
    assert b"NOGROUP" not in said
    figure("a consumer whose Valkey restarts and has kept nothing", "read on, told of 1 cut")


def has_groups(servers: Servers, prefix: str) -> bool:
    """Whether a group is on every partition."""
    with contextlib.suppress(Exception):
        client = servers.client()
        indexes = [Names(prefix, number).index for number in range(16)]
        return all(client.exists(key) and client.xinfo_groups(key) for key in indexes)
    return False


async def test_tap_says_what_it_could_not_read(one_server: Servers, prefix: str) -> None:
    """Once, with the key; nothing of it moves the cursor."""
    url, client = one_server.url(prefix=prefix), one_server.client()
    async with open_link(Address.parse(url)) as link:
        async with open_valkey_feed(url, group="tap"):
            await until(lambda: has_groups(one_server, prefix))
        names = Names.of(prefix, BAD)
        client.xadd(names.index, {"stream": b"\x1b[2J\xff"})
        await (await Writer(link, GOOD).begin()).end()
        with trio.fail_after(PATIENCE_S):
            ran = await trio.run_process(
                tap(url, "--captures", "1"), capture_stdout=True, capture_stderr=True
            )
    assert ran.stderr.count(b"1 things on the server could not be read") == 1
    assert names.index.encode() in ran.stderr
    assert b"\x1b" not in ran.stderr
