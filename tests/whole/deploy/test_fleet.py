"""Two workers behind HAProxy, fifty rigs, one Valkey, and somebody who dies."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import psutil
import trio

from cfw.client import ConnectionLost, open_capture
from cfw.valkey import PARTITIONS, Names
from schemas import ErrorCode
from tests.factories import jpeg
from tests.unit.identity.certificates import client_context
from tests.unit.valkey.servers import Servers, alone
from tests.whole.deploy.proxies import Proxy, running_proxy
from tests.whole.deploy.test_proxies import PATIENT
from tests.whole.hostile.kit import Worker, worker

RIGS = 50
#: Frames before what happens, and after it.
BEFORE, AFTER = 5, 5
#: For what takes a few seconds on a machine that has nothing else to do.
LONG_S = 120


@attrs.define
class Fleet:
    """All of it, running."""

    servers: Servers
    url: str
    workers: list[Worker]
    proxy: Proxy


@asynccontextmanager
async def fleet(folder: Path) -> AsyncIterator[Fleet]:
    """Two workers behind the proxy; none loses its lease because the machine is busy."""
    with alone(folder) as servers:
        url = servers.url(lease_s=20, timeout_s=30, maxlen=100)
        settings = {**PATIENT, "sink.url": url, "limits.max_forward_buffer_frames": 100}
        async with AsyncExitStack() as stack:
            workers = []
            for name in ("a", "b"):
                (folder / name).mkdir()
                made = worker(folder / name, settings=settings)
                workers.append(await stack.enter_async_context(made))
            proxy = await stack.enter_async_context(running_proxy("haproxy", folder, workers))
            yield Fleet(servers, url, workers, proxy)


def picture(rig: int, seq: int) -> bytes:
    """A frame like no other."""
    return jpeg(1000 + 20 * rig + seq, fill=rig)


@attrs.define
class Filming:
    """Fifty rigs that film, wait for something to happen, and go on.

    Attributes:
        receipts: frames confirmed, by capture.
        lost: captures whose connection ended without a word.
    """

    proxy: Proxy
    receipts: dict[str, int] = attrs.Factory(dict)
    lost: set[str] = attrs.Factory(set)
    _waiting: int = 0
    _all_wait: trio.Event = attrs.Factory(trio.Event)
    _go_on: trio.Event = attrs.Factory(trio.Event)

    async def halfway(self) -> None:
        """Wait until every rig has sent its first frames."""
        with trio.fail_after(LONG_S):
            await self._all_wait.wait()

    def go_on(self) -> None:
        self._go_on.set()

    async def rig(self, number: int) -> None:
        capture_id = f"rig-{number}"
        try:
            async with open_capture(
                self.proxy.url,
                user_id="ada",
                session_id="s-1",
                capture_id=capture_id,
                width=640,
                height=480,
                fps=15,
                ssl_context=client_context(),
                connect_timeout=LONG_S,
                close_timeout=LONG_S,
            ) as capture:
                for seq in range(1, BEFORE + 1):
                    await capture.send_frame(picture(number, seq))
                self._waiting += 1
                if self._waiting == RIGS:
                    self._all_wait.set()
                await self._go_on.wait()
                for seq in range(BEFORE + 1, BEFORE + AFTER + 1):
                    await capture.send_frame(picture(number, seq))
            assert capture.receipt is not None
            self.receipts[capture_id] = capture.receipt.frames
        except ConnectionLost:
            self.lost.add(capture_id)


def check_stream(servers: Servers, number: int, end: dict[str, Any]) -> int:
    """Opened, frames from 1 on byte for byte, one terminal that is last; the frames there."""
    entries = servers.stream("cfw", f"rig-{number}")
    messages = [json.loads(fields[b"message"]) for _, fields in entries]
    assert messages[0]["event"] == "capture.opened"
    frames = entries[1:-1]
    for seq, (_, fields) in enumerate(frames, 1):
        assert messages[seq]["seq"] == seq
        assert fields[b"jpeg"] == picture(number, seq)
    assert {key: messages[-1].get(key) for key in end} == end
    assert messages[-1]["frames_forwarded"] == len(frames)
    return len(frames)


CLOSED = {"event": "capture.close"}
LOST = {"event": "capture.abort", "error_code": ErrorCode.WORKER_LOST.value}


async def test_a_worker_killed_takes_its_own_captures_only(tmp_path: Path) -> None:
    """SIGKILL: the captures it had end as worker_lost, each other one with its receipt."""
    async with fleet(tmp_path) as running:
        filming = Filming(running.proxy)
        async with trio.open_nursery() as nursery:
            for number in range(RIGS):
                nursery.start_soon(filming.rig, number)
            await filming.halfway()
            answer = await running.workers[0].get("/captures")
            doomed = {each["capture_id"] for each in answer.json()["captures"]}
            running.workers[0].process.kill()
            running.workers[0].process.wait()
            filming.go_on()
        assert filming.lost == doomed
        # The proxy has given both of them something to do.
        assert RIGS / 4 <= len(doomed) <= 3 * RIGS / 4
        assert len(filming.receipts) == RIGS - len(doomed)
        for capture_id in doomed:
            running.servers.expire("cfw", capture_id)
        await leases_gone(running.servers)
        for number in range(RIGS):
            if f"rig-{number}" in doomed:
                assert check_stream(running.servers, number, LOST) <= BEFORE
            else:
                assert check_stream(running.servers, number, CLOSED) == BEFORE + AFTER


async def leases_gone(servers: Servers) -> None:
    """Wait until no capture runs, or is thought to."""
    keys = [Names("cfw", number).deadlines for number in range(PARTITIONS)]
    with trio.fail_after(LONG_S):
        while any(servers.client().exists(key) for key in keys):  # noqa: ASYNC110
            await trio.sleep(0.1)


async def test_a_consumer_killed_goes_on_where_it_was(tmp_path: Path) -> None:
    """SIGKILL and a start later, all has been read in order; nothing else came twice than what
    was being processed."""
    lines = tmp_path / "lines"
    async with fleet(tmp_path) as running:
        filming = Filming(running.proxy)
        first = consumer(running.url, lines)
        try:
            await group_there(running.servers)
            async with trio.open_nursery() as nursery:
                for number in range(RIGS):
                    nursery.start_soon(filming.rig, number)
                await filming.halfway()
                await told(lines, 50)
                first.kill()
                filming.go_on()
        finally:
            first.kill()
            first.wait()
        assert filming.receipts == {f"rig-{n}": BEFORE + AFTER for n in range(RIGS)}
        whole_lines(lines)
        before = len(lines.read_bytes().splitlines())
        second = consumer(running.url, lines)
        try:
            await ended(lines, RIGS)
        finally:
            second.kill()
            second.wait()
        for number in range(RIGS):
            check_stream(running.servers, number, CLOSED)
    read = [json.loads(line) for line in lines.read_bytes().splitlines()]
    assert 0 < before < len(read)
    repeated = 0
    for number in range(RIGS):
        told_of = [line for line in read if line["capture"] == f"rig-{number}"]
        once = [
            line for line, last in zip(told_of, [None, *told_of], strict=False) if line != last
        ]
        repeated += len(told_of) - len(once)
        hashes = [
            hashlib.sha256(picture(number, seq)).hexdigest()
            for seq in range(1, BEFORE + AFTER + 1)
        ]
        assert [line["hash"] for line in once] == [None, *hashes, None]
        assert [line["event"] for line in once[:: BEFORE + AFTER + 1]] == [
            "capture.opened",
            "capture.close",
        ]
    assert repeated <= 1


def consumer(url: str, lines: Path) -> psutil.Popen:
    """Start the reader; it has the same name each time."""
    return psutil.Popen([sys.executable, "-m", "tests.whole.deploy.reader", url, str(lines)])


def whole_lines(path: Path) -> None:
    """Cut off a line that was not written to its end."""
    data = path.read_bytes()
    path.write_bytes(data[: data.rfind(b"\n") + 1])


async def group_there(servers: Servers) -> None:
    """Wait until the consumer has joined; it is told of captures from then on."""
    keys = [Names("cfw", number).index for number in range(PARTITIONS)]
    with trio.fail_after(LONG_S):
        while not all(servers.client().exists(key) for key in keys):  # noqa: ASYNC110
            await trio.sleep(0.05)


def times(lines: Path, what: bytes) -> int:
    """How often something has been written; 0 before the file is there."""
    return lines.read_bytes().count(what) if lines.exists() else 0


async def told(lines: Path, count: int) -> None:
    """Wait until the consumer has read so many messages."""
    with trio.fail_after(LONG_S):
        while times(lines, b"\n") < count:  # noqa: ASYNC110
            await trio.sleep(0.02)


async def ended(lines: Path, count: int) -> None:
    """Wait until it has read so many terminals."""
    with trio.fail_after(LONG_S):
        while times(lines, b"capture.close") < count:  # noqa: ASYNC110
            await trio.sleep(0.1)
