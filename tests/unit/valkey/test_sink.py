"""A whole worker with the sink `valkey://`, on sockets, against real servers."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from cfw.client import (
    CaptureAborted,
    ConnectionLost,
    ForwardFailed,
    ProtocolViolation,
    open_capture,
)
from cfw.valkey import LAST_ID, Names
from schemas import ErrorCode, FeedAbort, FeedClose, FeedFrame, FeedOpened, parse_feed
from tests.factories import jpeg
from tests.patience import until
from tests.serving import Served, refused, serving_beside
from tests.unit.valkey.servers import Servers
from tests.whole.smoke.worker import Worker, ending, meta, opening, running

PICTURES = [jpeg(60 + seq, fill=seq) for seq in range(1, 11)]


def capture(address: str, capture_id: str = "cap-1") -> Any:
    return open_capture(
        address,
        user_id="ada",
        session_id="s-1",
        capture_id=capture_id,
        width=640,
        height=480,
        fps=15,
    )


async def film_until(address: str, capture_id: str, event: Callable[[], object]) -> None:
    """Send a frame, let something happen, and send on until the worker ends it."""
    async with capture(address, capture_id) as rig:
        await rig.send_frame(PICTURES[0])
        await trio.sleep(0.2)
        event()
        for picture in [*PICTURES[1:], *20 * PICTURES]:
            await rig.send_frame(picture)
            await trio.sleep(0.05)


def nothing() -> None:
    """The event that is none."""


@asynccontextmanager
async def worker_with(
    monkeypatch: pytest.MonkeyPatch, url: str, **settings: Any
) -> AsyncIterator[Worker]:
    async with running(monkeypatch, sink__url=url, **settings) as worker:
        yield worker


def check_stream(entries: list[tuple[bytes, dict[bytes, bytes]]], sent: list[bytes]) -> Any:
    """Opened, the first of the frames sent in order and byte for byte; returns the end."""
    opened, *frames, (last_id, terminal) = entries
    assert opened[0] == b"0-1"
    assert isinstance(parse_feed(opened[1][b"message"]), FeedOpened)
    for seq, (entry_id, fields) in enumerate(frames, 1):
        assert entry_id == f"{seq}-0".encode()
        message = parse_feed(fields[b"message"])
        assert isinstance(message, FeedFrame)
        assert (message.seq, message.byte_length) == (seq, len(sent[seq - 1]))
        assert fields[b"jpeg"] == sent[seq - 1]
    assert last_id.decode() == LAST_ID
    ending = parse_feed(terminal[b"message"])
    assert isinstance(ending, FeedClose | FeedAbort)
    return len(frames), ending


async def test_a_capture_arrives_byte_for_byte_with_one_terminal(
    servers: Servers, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the rig has a receipt for is in the stream."""
    async with worker_with(monkeypatch, servers.url(prefix=prefix)) as worker:
        async with capture(worker.addresses.capture) as rig:
            for picture in PICTURES:
                await rig.send_frame(picture)
        assert rig.receipt.frames == len(PICTURES)
    frames, ending = check_stream(servers.stream(prefix, "cap-1"), PICTURES)
    assert isinstance(ending, FeedClose)
    assert frames == ending.frames_forwarded == len(PICTURES)


async def test_two_workers_and_one_capture_id(
    servers: Servers, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second open is a protocol violation on whatever worker; the first goes on."""
    url = servers.url(prefix=prefix)
    async with (
        worker_with(monkeypatch, url) as one,
        worker_with(monkeypatch, url) as other,
    ):
        async with capture(one.addresses.capture) as rig:
            await rig.send_frame(PICTURES[0])
            await servers.wait_for_frames(prefix, "cap-1", 1)  # so it was the first
            with pytest.raises(ProtocolViolation, match="active on another connection"):
                await film_until(other.addresses.capture, "cap-1", nothing)
            await rig.send_frame(PICTURES[1])
        assert rig.receipt.frames == 2
    frames, ending = check_stream(servers.stream(prefix, "cap-1"), PICTURES)
    assert (frames, ending.event) == (2, "capture.close")


async def test_a_server_that_dies_is_forward_failed(
    mortal: Servers, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rig is told, there is no receipt, and the next capture fails at its open."""
    async with worker_with(monkeypatch, mortal.url(prefix=prefix)) as worker:
        with pytest.raises(ForwardFailed):
            await film_until(worker.addresses.capture, "cap-1", mortal.kill)
        with pytest.raises(ForwardFailed):
            await film_until(worker.addresses.capture, "cap-2", nothing)


async def test_a_server_that_hangs_is_forward_failed(
    mortal: Servers, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No answer within timeout_s ends the capture; once it answers again, captures work."""
    url = mortal.url(prefix=prefix)
    process = mortal.nodes[0]._process
    async with worker_with(monkeypatch, url, limits__max_forward_buffer_frames=100) as worker:
        with pytest.raises(ForwardFailed):
            await film_until(
                worker.addresses.capture, "cap-1", lambda: process.send_signal(signal.SIGSTOP)
            )
        process.send_signal(signal.SIGCONT)
        async with capture(worker.addresses.capture, "cap-2") as rig:
            await rig.send_frame(PICTURES[0])
        assert rig.receipt.frames == 1


async def test_a_node_that_dies_takes_its_own_captures_only(
    tmp_path: Any, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Captures on the other nodes do not notice, nor do new ones there."""
    from tests.unit.valkey.servers import cluster

    with cluster(tmp_path) as servers:
        ids: list[str] = []
        for node in (0, 1, 2, 1):
            ids.append(
                next(
                    name
                    for name in (f"c-{number}" for number in range(1000))
                    if servers.node_of(name) == node and name not in ids
                )
            )
        ends: dict[str, object] = {}
        async with worker_with(monkeypatch, servers.url(prefix=prefix)) as worker:
            killed = trio.Event()

            async def film(capture_id: str) -> None:
                try:
                    async with capture(worker.addresses.capture, capture_id) as rig:
                        for picture in PICTURES[:5]:
                            await rig.send_frame(picture)
                        await trio.sleep(0.1)
                        await killed.wait()
                        for picture in PICTURES[5:]:
                            await rig.send_frame(picture)
                            await trio.sleep(0.1)
                    ends[capture_id] = rig.receipt.frames
                except CaptureAborted as exc:
                    ends[capture_id] = exc.code

            async with trio.open_nursery() as nursery:
                for capture_id in ids[:3]:
                    nursery.start_soon(film, capture_id)
                await trio.sleep(0.5)
                servers.kill(0)
                killed.set()
            await film(ids[3])
        assert ends == {
            ids[0]: ErrorCode.FORWARD_FAILED,
            **{name: len(PICTURES) for name in ids[1:]},
        }


async def test_a_worker_killed_in_mid_capture_is_told_once_by_another(
    servers: Servers, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGKILL; when its lease has run out, its capture has one terminal: worker_lost."""
    url = servers.url(prefix=prefix, lease_s=8)
    async with (
        serving_beside(Served.start("--sink", url, "--admin-port", "off")) as apart,
        worker_with(monkeypatch, url) as one,
        worker_with(monkeypatch, url),
    ):

        async def film() -> None:
            async with capture(apart.url) as rig:
                await rig.send_frame(PICTURES[0])
                await servers.wait_for_frames(prefix, "cap-1", 1)
                apart.process.kill()
                await trio.to_thread.run_sync(apart.process.wait)
                await rig.send_frame(PICTURES[1])

        with pytest.raises(ConnectionLost):
            await film()
        servers.expire(prefix, "cap-1")
        await until(lambda: servers.stream(prefix, "cap-1")[-1][0] == LAST_ID.encode())
        frames, ending = check_stream(servers.stream(prefix, "cap-1"), PICTURES)
        assert ending.error_code is ErrorCode.WORKER_LOST
        assert frames == ending.frames_forwarded >= 1
        assert ending.bytes_forwarded == sum(map(len, PICTURES[:frames]))
        assert ending.session_id == "s-1"
        # The id is free again.
        async with capture(one.addresses.capture) as rig:
            await rig.send_frame(PICTURES[0])
        assert rig.receipt.frames == 1


async def test_a_capture_whose_lease_was_taken_ends(
    one_server: Servers, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when no frame comes any more: the renewal finds out."""
    url = one_server.url(prefix=prefix, lease_s=2)
    key = Names.of(prefix, "cap-1").lease("cap-1")
    patience = {"times__idle_s": 60, "limits__max_duration_s": 60}
    async with (
        worker_with(monkeypatch, url, **patience) as worker,
        worker.connect() as ws,
    ):
        await ws.send(opening())
        await ws.send(meta(1, len(PICTURES[0])))
        await ws.send(PICTURES[0])
        await one_server.wait_for_frames(prefix, "cap-1", 1)
        one_server.client().hset(key, "owner", "somebody else")
        abort, code, _ = await ending(ws)
    assert abort is not None
    assert abort.error_code is ErrorCode.FORWARD_FAILED
    assert abort.detail == "the sink has lost its hold on the capture"
    assert code == 1011


async def test_wait_counts_replicas(
    one_server: Servers, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With wait=1 and no replica nothing is ever taken, not even the open."""
    url = one_server.url(prefix=prefix, wait=1, timeout_s=0.5)
    async with worker_with(monkeypatch, url) as worker:
        with pytest.raises(ForwardFailed):
            await film_until(worker.addresses.capture, "cap-1", nothing)


@pytest.mark.parametrize("url", ["valkey://127.0.0.1:1", "valkey://127.0.0.1:1/?cluster=1"])
def test_a_server_that_is_not_there_ends_the_start_with_a_reason(url: str) -> None:
    """`cfw serve` says which server and why, and exits with 1."""
    ran = refused("--sink", url)
    assert ran.returncode == 1
    assert "127.0.0.1:1" in ran.stderr.splitlines()[-1]
    assert "Traceback" not in ran.stderr
