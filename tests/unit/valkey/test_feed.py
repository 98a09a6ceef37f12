"""Consumers: what a group gets, at least once, whoever of it dies."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
from typing import Any

import pytest
import trio

from cfw.valkey import (
    Address,
    Link,
    Names,
    Run,
    ScriptStore,
    ValkeyFailed,
    ValkeyFeed,
    open_link,
    open_valkey_feed,
)
from schemas import (
    ErrorCode,
    FeedAbort,
    FeedClose,
    FeedFrame,
    Timestamp,
    parse_feed,
    restate,
    to_json,
)
from tests.factories import START_NS, make_close, make_meta
from tests.patience import PATIENCE_S, until
from tests.unit.valkey.fake_store import opened_as
from tests.unit.valkey.servers import Servers

INGEST = {"timestamp_ingest": Timestamp.from_ns(START_NS)}
COUNTS = dict.fromkeys(
    ("frames_accepted", "bytes_accepted", "frames_forwarded", "bytes_forwarded"), 0
)


class Writer:
    """A capture as a worker writes it."""

    def __init__(self, link: Link, capture_id: str, opened_ns: int = 1) -> None:
        self.store = ScriptStore(link)
        self.run = Run(capture_id=capture_id, opened_ns=opened_ns)
        self.seq = 0

    async def begin(self) -> Writer:
        await self.store.begin(self.run, opened_as(self.run.capture_id))
        return self

    async def frames(self, count: int) -> Writer:
        for _ in range(count):
            self.seq += 1
            jpeg = self.jpeg(self.seq)
            meta = make_meta(self.seq, len(jpeg), capture_id=self.run.capture_id)
            message = to_json(restate(meta, FeedFrame, **INGEST)).encode()
            await self.store.append(self.run, self.seq, [(message, jpeg)])
        return self

    async def end(self, **counts: int) -> None:
        close = make_close(capture_id=self.run.capture_id)
        terminal = restate(close, FeedClose, **INGEST, **COUNTS | counts)
        await self.store.finish(self.run, to_json(terminal).encode(), self.seq)

    def jpeg(self, seq: int) -> bytes:
        return f"{self.run.capture_id} {seq}\r\n\x00".encode()


def name_of(message: Any) -> str:
    """A message in short: capture and seq, `opened` or `close`."""
    what = message.seq if isinstance(message, FeedFrame) else message.event[8:]
    return f"{message.capture_id} {what}"


def expected(capture_id: str, frames: int) -> list[str]:
    whats = ["opened", *map(str, range(1, frames + 1)), "close"]
    return [f"{capture_id} {what}" for what in whats]


async def read(feed: ValkeyFeed, count: int) -> list[str]:
    """So many messages, the last one not processed; JPEGs are checked on the way."""
    got = []
    with trio.fail_after(PATIENCE_S):
        async for message, jpeg in feed:
            got.append(name_of(message))
            if isinstance(message, FeedFrame):
                assert jpeg == f"{message.capture_id} {message.seq}\r\n\x00".encode()
                assert message.byte_length == len(jpeg)
            else:
                assert jpeg is None
            if len(got) == count:
                break
    return got


def check_nothing_left(servers: Servers, prefix: str, group: str, capture_id: str) -> None:
    """No capture is pending and no progress kept."""
    names = Names.of(prefix, capture_id)
    assert servers.client().xpending(names.index, group)["pending"] == 0
    assert servers.client().exists(names.progress(group)) == 0


async def joined(servers: Servers, prefix: str, group: str) -> None:
    """Wait until the group is there on all partitions."""
    client = servers.client()
    indexes = [Names(prefix, number).index for number in range(16)]
    await until(lambda: all(_has_group(client, key, group) for key in indexes))


def _has_group(client: Any, key: str, group: str) -> bool:
    if not client.exists(key):
        return False
    return group.encode() in [found["name"] for found in client.xinfo_groups(key)]


async def test_a_group_gets_every_capture_from_opened_to_terminal(
    servers: Servers, prefix: str
) -> None:
    """In order, byte for byte, while they run; and then nothing of them is pending."""
    url = servers.url(prefix=prefix)
    async with (
        open_link(Address.parse(url)) as link,
        open_valkey_feed(url, group="g") as feed,
    ):
        await joined(servers, prefix, "g")
        writers = [await Writer(link, f"c-{number}").begin() for number in range(5)]
        got: list[str] = []

        async def consume() -> None:
            got.extend(await read(feed, 5 * 12))
            await feed.processed()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(consume)
            for writer in writers:
                await writer.frames(4)
            for writer in writers:
                await writer.frames(6)
                await writer.end()
        for number in range(5):
            capture_id = f"c-{number}"
            mine = [name for name in got if name.split()[0] == capture_id]
            assert mine == expected(capture_id, 10)
            check_nothing_left(servers, prefix, "g", capture_id)


async def test_consumers_of_a_group_share_and_groups_do_not(
    servers: Servers, prefix: str
) -> None:
    """Each capture goes to one consumer of each group, more than max_captures wait."""
    url = servers.url(prefix=prefix)
    got: dict[str, list[str]] = {"a": [], "b": [], "other": []}
    ended = {"g": trio.Event(), "h": trio.Event()}

    async def consume(name: str, group: str, names: list[str]) -> None:
        async with open_valkey_feed(url, group=group, consumer=name, max_captures=2) as feed:
            async for message, _ in feed:
                got[name].append(name_of(message))
                if sum(s.endswith("close") for n in names for s in got[n]) == 12:
                    ended[group].set()

    async with trio.open_nursery() as nursery, open_link(Address.parse(url)) as link:
        nursery.start_soon(consume, "a", "g", ["a", "b"])
        nursery.start_soon(consume, "b", "g", ["a", "b"])
        nursery.start_soon(consume, "other", "h", ["other"])
        await joined(servers, prefix, "g")
        await joined(servers, prefix, "h")
        for number in range(12):
            writer = await Writer(link, f"c-{number}").begin()
            await (await writer.frames(2)).end()
        with trio.fail_after(PATIENCE_S):
            for event in ended.values():
                await event.wait()
        nursery.cancel_scope.cancel()
    wanted = sorted(name for number in range(12) for name in expected(f"c-{number}", 2))
    assert sorted(got["a"] + got["b"]) == wanted == sorted(got["other"])
    captures = [{name.split()[0] for name in got[consumer]} for consumer in ("a", "b")]
    assert not captures[0] & captures[1]


@pytest.mark.parametrize("name", ["first", "second"])
async def test_a_consumer_that_died_is_followed_from_what_it_had_not_processed(
    servers: Servers, prefix: str, name: str
) -> None:
    """The same consumer at once, another after claim_s; nothing is lost, one frame repeated."""
    url = servers.url(prefix=prefix)
    async with open_link(Address.parse(url)) as link:
        async with open_valkey_feed(url, group="g", consumer="first", claim_s=0.6) as feed:
            await joined(servers, prefix, "g")
            writer = await (await Writer(link, "cap-1").begin()).frames(5)
            before = await read(feed, 4)  # and the fourth is not processed
        await (await writer.frames(5)).end()
        began = trio.current_time()
        async with open_valkey_feed(url, group="g", consumer=name, claim_s=0.6) as feed:
            after = await read(feed, 9)
            await feed.processed()
        assert before == expected("cap-1", 10)[:4]
        assert after == expected("cap-1", 10)[3:]
        if name == "second":
            assert trio.current_time() - began >= 0.2
        check_nothing_left(servers, prefix, "g", "cap-1")


async def test_a_consumer_learns_that_its_capture_was_taken_away(
    one_server: Servers, prefix: str
) -> None:
    """Claimed by another while it slept: it stops there and goes on with other captures."""
    url, names = one_server.url(prefix=prefix), Names.of(prefix, "cap-1")
    async with (
        open_link(Address.parse(url)) as link,
        open_valkey_feed(url, group="g", consumer="sleeper", claim_s=3) as feed,
    ):
        await joined(one_server, prefix, "g")
        await (await (await Writer(link, "cap-1").begin()).frames(3)).end()
        assert await read(feed, 1) == ["cap-1 opened"]
        ((entry, _),) = one_server.client().xrange(names.index)
        one_server.client().xclaim(names.index, "g", "other", 0, [entry])
        await until(lambda: feed.taken_away == 1)
        await (await Writer(link, "cap-2").begin()).end()
        assert await read(feed, 2) == ["cap-2 opened", "cap-2 close"]


async def test_a_capture_that_expired_is_counted_and_given_up(
    one_server: Servers, prefix: str
) -> None:
    """Its stream is gone before its end was read, and its reader is told so."""
    url, names = one_server.url(prefix=prefix), Names.of(prefix, "cap-1")
    async with (
        open_link(Address.parse(url)) as link,
        open_valkey_feed(url, group="g", claim_s=0.6) as feed,
    ):
        await joined(one_server, prefix, "g")
        await (await Writer(link, "cap-1").begin()).frames(1)
        assert await read(feed, 2) == ["cap-1 opened", "cap-1 1"]
        one_server.client().delete(names.frames("cap-1", 1))
        await until(lambda: feed.expired == 1)
        with trio.fail_after(PATIENCE_S):
            end, _ = await feed.__anext__()
        assert isinstance(end, FeedAbort)
        assert (end.error_code, end.frames_forwarded) == (ErrorCode.FORWARD_FAILED, 1)
    assert one_server.client().xpending(names.index, "g")["pending"] == 0


@pytest.mark.parametrize(("kept", "missed"), [(4, 0), (3, 1), (1, 3), (0, 4)])
async def test_a_reader_slower_than_maxlen_is_told_what_it_missed(
    one_server: Servers, prefix: str, kept: int, missed: int
) -> None:
    """Of opened and three frames the newest are left; the terminal always is."""
    url, names = one_server.url(prefix=prefix), Names.of(prefix, "cap-1")
    async with (
        open_link(Address.parse(url)) as link,
        open_valkey_feed(url, group="g", max_captures=1) as feed,
    ):
        await joined(one_server, prefix, "g")
        first = await (await Writer(link, "cap-0").begin()).frames(1)
        assert await read(feed, 1) == ["cap-0 opened"]  # and has no room for another
        writer = await (await Writer(link, "cap-1").begin()).frames(3)
        await writer.end(frames_forwarded=3)
        one_server.client().xtrim(names.frames("cap-1", 1), maxlen=kept + 1, approximate=False)
        await first.end()
        got = await read(feed, 2 + kept + 1)
        assert got == ["cap-0 1", "cap-0 close", *expected("cap-1", 3)[4 - kept :]]
        assert feed.missed == missed


async def test_a_consumer_whose_connections_are_cut_goes_on(
    one_server: Servers, prefix: str
) -> None:
    """Whatever it was asking for, it asks again, and nothing is repeated or left out."""
    url = one_server.url(prefix=prefix)
    async with (
        open_link(Address.parse(url)) as link,
        open_valkey_feed(url, group="g") as feed,
    ):
        await joined(one_server, prefix, "g")
        writer = await (await Writer(link, "cap-1").begin()).frames(1)
        got = await read(feed, 2)
        await trio.sleep(0.2)
        one_server.client().execute_command("CLIENT KILL TYPE normal SKIPME yes")
        await (await writer.frames(2)).end()
        assert got + await read(feed, 3) == expected("cap-1", 3)


async def test_a_server_that_dies_ends_the_iteration(mortal: Servers, prefix: str) -> None:
    """With a plain error that names it; and an error of the reader comes out as it is."""
    url = mortal.url(prefix=prefix)
    with pytest.raises(KeyError, match="mine"):
        async with open_valkey_feed(url, group="g") as feed:
            raise KeyError("mine")
    async with open_valkey_feed(url, group="g", claim_s=0.5) as feed:
        await joined(mortal, prefix, "g")
        mortal.kill()
        with pytest.raises(ValkeyFailed, match=r"127\.0\.0\.1"):
            await read(feed, 1)


@pytest.mark.parametrize(
    "options", [{"max_captures": 0}, {"claim_s": 0.2}, {"claim_s": 601}, {"consumer": ""}]
)
async def test_wrong_numbers_are_refused(options: Any) -> None:
    """Before anything is opened."""
    with pytest.raises(ValueError, match="must"):
        async with open_valkey_feed("valkey://127.0.0.1:1", group="g", **options):
            pass


# --- the command ------------------------------------------------------------------------------


def tap(url: str, *options: str) -> list[str]:
    return [sys.executable, "-m", "cfw.cli", "tap", url, "--format", "json", *options]


async def test_tap_writes_a_capture_and_the_next_tap_does_not_repeat_it(
    one_server: Servers, prefix: str
) -> None:
    """What was written counts as processed, the terminal included."""
    url = one_server.url(prefix=prefix)
    async with open_link(Address.parse(url)) as link:
        async with open_valkey_feed(url, group="tap"):
            await joined(one_server, prefix, "tap")
        for capture_id in ("cap-1", "cap-2"):
            await (await (await Writer(link, capture_id).begin()).frames(2)).end()
            with trio.fail_after(PATIENCE_S):
                ran = await trio.run_process(
                    tap(url, "--captures", "1"), capture_stdout=True, capture_stderr=True
                )
            lines = [json.loads(line) for line in ran.stdout.splitlines()]
            assert [line["capture_id"] for line in lines] == [capture_id] * 4
            assert b"group tap" in ran.stderr


async def test_a_tap_that_is_killed_is_followed_by_one_of_its_name(
    one_server: Servers, prefix: str
) -> None:
    """SIGKILL in mid-capture; together they have written all, one message perhaps twice."""
    url = one_server.url(prefix=prefix)
    async with open_link(Address.parse(url)) as link:
        process = await trio.lowlevel.open_process(
            tap(url, "--consumer", "one"), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        try:
            await joined(one_server, prefix, "tap")
            writer = await (await Writer(link, "cap-1").begin()).frames(5)
            assert process.stdout is not None
            written = bytearray()
            with trio.fail_after(PATIENCE_S):
                while written.count(b"\n") < 4:
                    written += await process.stdout.receive_some()
            process.send_signal(signal.SIGKILL)
            await (await writer.frames(5)).end()
            with contextlib.suppress(trio.ClosedResourceError):
                while more := await process.stdout.receive_some():
                    written += more
        finally:
            process.kill()
            with trio.move_on_after(5, shield=True):
                await process.wait()
                if process.stdout is not None:
                    await process.stdout.aclose()
        with trio.fail_after(PATIENCE_S):
            ran = await trio.run_process(
                tap(url, "--consumer", "one", "--captures", "1"),
                capture_stdout=True,
                capture_stderr=True,
            )
    texts = [*bytes(written).splitlines(), *ran.stdout.splitlines()]
    names = [name_of(_message(text)) for text in texts]
    repeated = len(names) - len(set(names))
    assert repeated <= 1
    assert list(dict.fromkeys(names)) == expected("cap-1", 10)


def _message(text: bytes) -> Any:
    return parse_feed(text)


@pytest.mark.parametrize("option", ["--mode=live", "--capture-id=c"])
async def test_tap_refuses_options_that_a_group_does_not_have(option: str) -> None:
    """With exit code 2 and the reason."""
    ran = await trio.run_process(
        tap("valkey://127.0.0.1:1", option), capture_stderr=True, check=False
    )
    assert ran.returncode == 2
    assert b"admin listener" in ran.stderr


async def test_tap_says_that_the_server_is_not_there() -> None:
    """In one line, with exit code 1."""
    ran = await trio.run_process(
        tap("valkey://ada:hunter2@127.0.0.1:1"), capture_stderr=True, check=False
    )
    assert ran.returncode == 1
    assert b"127.0.0.1:1" in ran.stderr
    assert b"Traceback" not in ran.stderr
    assert b"hunter2" not in ran.stderr
