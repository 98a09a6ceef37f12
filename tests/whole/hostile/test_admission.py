"""Too many connections, from everywhere or from one place, and too few descriptors."""

from __future__ import annotations

import contextlib
import errno
import re
import socket
from pathlib import Path
from typing import Any

import pytest
import trio
from structlog.testing import capture_logs
from trio.testing import MockClock

from cfw.net import (
    COMPLAIN_EVERY_S,
    RETRY_S,
    Throttle,
    address_of,
    group_of,
    serve_listeners,
)
from cfw.routes.registry import ENDED_KEPT
from tests.patience import until
from tests.unit.wire.peer import REQUEST
from tests.whole.hostile.figures import figure
from tests.whole.hostile.kit import Worker, read_rest, worker

CROWD = 1000
FULL = b"the worker has no room for another connection"


async def status_of(made: Worker, took: list[float]) -> str:
    """What one more WebSocket client is told, and how long that took."""
    began = trio.current_time()
    stream = await made.dial()
    with contextlib.suppress(trio.BrokenResourceError):
        await stream.send_all(REQUEST)
    answer = await read_rest(stream)
    took.append(trio.current_time() - began)
    await stream.aclose()
    found = re.match(rb"HTTP/1.1 (\d+)", answer)
    return found[1].decode() if found else "reset"


# --- too many connections -------------------------------------------------------------------


@pytest.mark.alone
async def test_a_thousand_connections_beyond_the_cap_starve_nobody(tmp_path: Path) -> None:
    """They are told 503; the captures inside go on, and who leaves makes room at once."""
    told: list[str] = []
    took: list[float] = []
    waits: list[float] = []
    settings = {"limits.max_connections": 5, "times.idle_s": 120}
    async with worker(tmp_path, settings=settings) as made:
        rigs = [await made.rig(f"cap-{n}") for n in range(5)]
        before = made.rss
        async with trio.open_nursery() as nursery:
            limit = trio.CapacityLimiter(200)

            async def crowd() -> None:
                async with limit:
                    told.append(await status_of(made, took))

            for _ in range(CROWD):
                nursery.start_soon(crowd)
            for _ in range(40):
                for rig in rigs:
                    began = trio.current_time()
                    await rig.frame()
                    waits.append(trio.current_time() - began)
        idle = [await made.dial() for _ in range(100)]  # too many that ask nothing
        # The kernel connects them before the worker takes them: one that it took only when
        # the first rig has left would get its place.
        await made.settle('cfw_connections_refused_total{reason="capacity"}', CROWD + 100)
        assert (await rigs.pop().receipt())["frames"] == 40
        await made.connections(4)
        began = trio.current_time()
        rigs.append(await made.rig("another"))
        next_in = trio.current_time() - began
        assert [(await rig.receipt())["frames"] for rig in rigs] == [40] * 4 + [0]
        grown = made.rss - before
        lines = len(made.log("connection.refused"))
        for stream in idle:
            await stream.aclose()
    assert set(told) <= {"503", "reset"}
    assert told.count("503") >= 0.9 * CROWD
    assert lines <= CROWD / 10, "a flood must not fill the log"
    figure(
        f"{CROWD} connections beyond the cap",
        f"{told.count('503')} read 503, slowest answer {max(took):.2f} s; captures inside wait "
        f"{max(waits) * 1e3:.0f} ms at most, the next is let in after {next_in * 1e3:.0f} ms; "
        f"worker {grown / 1e6:+.1f} MB, {lines} log lines",
    )


async def test_one_address_cannot_take_every_place(tmp_path: Path) -> None:
    """n-1 and n are let in, n+1 gets 503; another address is let in beside them."""
    settings = {"limits.max_connections": 10, "limits.max_connections_per_address": 3}
    async with worker(tmp_path, settings=settings) as made:
        rigs = [await made.rig(f"cap-{n}") for n in range(3)]
        told: list[str] = []
        told.append(await status_of(made, []))
        assert told == ["503"]
        # A thread of the worker's writes it, behind the answer.
        await until(lambda: made.log("connection.refused"))
        (line,) = made.log("connection.refused")
        assert (line["address"], "per_address" in line["reason"]) == ("127.0.0.1", True)
        host, port = made.capture
        with socket.create_connection((host, port), source_address=("127.0.0.2", 0)) as other:
            other.sendall(REQUEST)
            assert other.recv(12) == b"HTTP/1.1 101"
        await rigs.pop().receipt()
        await made.connections(2)
        rigs.append(await made.rig("cap-9"))
        for rig in rigs:
            await rig.receipt()
        refused = await made.metric('cfw_connections_refused_total{reason="address"}')
    assert refused == 1


@pytest.mark.parametrize(
    ("host", "counts_as"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::9", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::1", "::/64"),
    ],
)
def test_whom_an_address_counts_for(host: str, counts_as: str) -> None:
    """An IPv4 address is one peer, and so is an IPv6 /64, which one host has all of."""
    assert group_of(host) == counts_as


async def test_what_has_no_address_is_not_counted() -> None:
    """Memory streams and sockets of the file system have none."""
    ours, _ = trio.testing.memory_stream_pair()
    assert address_of(ours) is None
    one, two = trio.socket.socketpair()
    with one, two:
        assert address_of(trio.SocketStream(one)) is None


@pytest.mark.alone
async def test_idle_connections_do_not_lock_the_health_check_out(tmp_path: Path) -> None:
    """Silent ones, half requests and half bodies fill the admin listener; it answers."""
    parts = [
        b"",
        b"GET /healthz HT",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\nx",
    ]
    async with worker(tmp_path, settings={"admin.max_connections": 20}) as made:
        host, _, port = made.admin.removeprefix("http://").partition(":")
        held = []
        for part in parts * 20:
            stream = await trio.open_tcp_stream(host, int(port))
            held.append(stream)
            with contextlib.suppress(trio.BrokenResourceError):
                await stream.send_all(part)
        began = trio.current_time()
        answers = [(await made.get("/healthz")).status_code for _ in range(5)]
        took = (trio.current_time() - began) / 5
        assert answers == [200] * 5
        assert made.log("admin.connection_failed") == []
        for stream in held:
            await stream.aclose()
    figure("60 connections held on an admin listener of 20", f"/healthz in {took * 1e3:.0f} ms")


# --- too few descriptors --------------------------------------------------------------------


@pytest.mark.alone
async def test_descriptors_used_up_and_freed(tmp_path: Path) -> None:
    """Captures go on meanwhile, the others are told 503, and afterwards all are served."""
    waits = []
    async with worker(tmp_path, settings={"times.idle_s": 120}, descriptors=100) as made:
        rigs = [await made.rig(f"cap-{n}") for n in range(10)]
        held = [await made.dial() for _ in range(150)]
        # Let in or refused, each connection is decided on before the next.
        await until(lambda: made.log("connection.refused"))
        for _ in range(10):
            for rig in rigs:
                await rig.frame()
        assert (await made.get("/healthz")).status_code == 200, "the admin has its reserve"
        assert made.descriptors < 100
        told = await status_of(made, [])
        assert told in ("503", "reset")
        for stream in held:
            await stream.aclose()
        for _ in range(20):
            began = trio.current_time()
            while True:  # from the moment they are free until a WebSocket is open
                stream = await made.dial()
                with contextlib.suppress(trio.BrokenResourceError):
                    await stream.send_all(REQUEST)
                    if (await stream.receive_some(12)) == b"HTTP/1.1 101":
                        break
                await stream.aclose()
            waits.append(trio.current_time() - began)
            await stream.aclose()
        assert [(await rig.receipt())["frames"] for rig in rigs] == [10] * 10
        assert made.log("server.accept_failed") == []
        assert (await made.metric('cfw_connections_refused_total{reason="descriptors"}')) > 50
    assert max(waits) < 10
    figure(
        "descriptors used up (100), then freed",
        f"next WebSocket open after {waits[0] * 1e3:.0f} ms, "
        f"worst of 20 {max(waits) * 1e3:.0f} ms",
    )


class Listener(trio.abc.Listener[trio.abc.Stream]):
    """Fails as it is told to, then gives streams."""

    def __init__(self, failures: list[BaseException]) -> None:
        self.failures = failures
        self.streams: list[trio.abc.Stream] = []
        self.is_closed = False

    async def accept(self) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        if self.failures:
            raise self.failures.pop(0)
        if not self.streams:
            await trio.sleep_forever()
        return self.streams.pop()

    async def aclose(self) -> None:
        self.is_closed = True


CODES = [
    *(errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM),
    *(errno.ECONNABORTED, errno.EIO, errno.EPERM),
]


@pytest.mark.parametrize("code", CODES, ids=errno.errorcode.get)
async def test_no_error_of_accepting_stops_the_server(
    code: int, autojump_clock: MockClock
) -> None:
    """It goes on after RETRY_S, logs once a second at most, and serves who came meanwhile."""
    failures = 100
    listener = Listener([OSError(code, "planted") for _ in range(failures)])
    ours, _ = trio.testing.memory_stream_pair()
    listener.streams.append(ours)
    served: list[float] = []

    async def handler(_: trio.abc.Stream) -> None:
        served.append(trio.current_time())

    with capture_logs() as logs:
        async with trio.open_nursery() as nursery:
            await nursery.start(serve_all, handler, listener)
            await trio.sleep(failures * RETRY_S + 1)
            nursery.cancel_scope.cancel()
    assert served == [pytest.approx(failures * RETRY_S)]
    assert [line["event"] for line in logs] == ["server.accept_failed"] * len(logs)
    assert len(logs) <= failures * RETRY_S / COMPLAIN_EVERY_S + 1
    assert errno.errorcode[code] in logs[0]["error"]
    assert sum(1 + line["unwritten"] for line in logs) <= failures
    assert listener.is_closed


async def serve_all(handler: Any, listener: Listener, *, task_status: Any) -> None:
    async with trio.open_nursery() as connections:
        await serve_listeners(
            handler, [listener], connections=connections, shed=handler, task_status=task_status
        )


async def test_a_bug_in_a_handler_stops_neither_server_nor_others(
    autojump_clock: MockClock,
) -> None:
    """What a handler raises is logged, and its stream closed."""
    listener = Listener([])
    streams = [trio.testing.memory_stream_pair() for _ in range(2)]
    listener.streams += [ours for ours, _ in streams]
    served = []

    async def handler(stream: trio.abc.Stream) -> None:
        served.append(stream)
        await trio.lowlevel.checkpoint()
        raise ValueError("a bug")

    with capture_logs() as logs:
        async with trio.open_nursery() as nursery:
            await nursery.start(serve_all, handler, listener)
            await trio.sleep(1)
            nursery.cancel_scope.cancel()
    assert len(served) == 2
    assert [line["event"] for line in logs] == ["connection.failed"] * 2
    assert [await peer.receive_some() for _, peer in streams] == [b"", b""]


async def test_a_throttle_counts_what_it_keeps_from_the_log(
    autojump_clock: MockClock,
) -> None:
    """The first is written at once, then one a second with the number of those between."""
    throttle, written = Throttle(), []
    for _ in range(24):
        written.append(throttle.unwritten())
        await trio.sleep(0.125)
    assert [number for number in written if number is not None] == [0, 7, 7]


async def test_strangers_push_no_capture_out_of_what_has_ended(tmp_path: Path) -> None:
    """However many opens are refused; the last of those are remembered beside it."""
    async with worker(tmp_path) as made:
        rig = await made.rig("ours")
        await rig.frame()
        await rig.receipt()
        for number in range(ENDED_KEPT + 5):
            stranger = await made.rig()
            stranger.capture_id = f"theirs-{number}"
            await stranger.open(user_id="mallory")
            assert (await stranger.ending()).aborts
        told = (await made.get("/ended")).json()
    ids = [one["capture_id"] for one in told["ended"]]
    assert ids == [f"theirs-{number}" for number in range(ENDED_KEPT + 4, 4, -1)] + ["ours"]
    assert (told["clean"], told["aborted"]) == (1, {"session_invalid": ENDED_KEPT + 5})
