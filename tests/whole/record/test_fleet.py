"""`cfw record valkey://` against a real server: lossless, and taken up where it stopped."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from cfw.recording import open as open_recording
from cfw.recording import recordings
from cfw.valkey import PARTITIONS, Names
from tests.patience import until
from tests.unit.valkey.servers import Servers, alone
from tests.unit.valkey.test_feed import joined
from tests.unit.valkey.test_sink import PICTURES, capture
from tests.whole.smoke.worker import running

PREFIX = "fleet"
#: For what takes a few seconds on a machine that has nothing else to do.
LONG_S = 90


@asynccontextmanager
async def fleet(
    monkeypatch: pytest.MonkeyPatch, folder: Path
) -> AsyncIterator[tuple[Servers, str, str]]:
    """A server, the URL of a worker that writes to it, and the one to record from."""
    with alone(folder) as servers:
        url = servers.url(prefix=PREFIX, lease_s=20, timeout_s=20)
        async with running(monkeypatch, sink__url=url) as worker:
            yield servers, worker.addresses.capture, url


@asynccontextmanager
async def recorder(url: str, folder: Path, *options: str) -> AsyncIterator[trio.Process]:
    """`cfw record` as a process; killed at the end if it has not ended."""
    command = [sys.executable, "-m", "cfw.cli", "record", url, str(folder), *options]
    async with trio.open_nursery() as nursery:
        process = await nursery.start(
            partial(trio.run_process, command, check=False, capture_stderr=True)
        )
        try:
            with trio.fail_after(LONG_S):
                yield process
        finally:
            if process.returncode is None:
                process.kill()


async def send(rig: Any, numbers: range) -> None:
    for number in numbers:
        await rig.send_frame(PICTURES[number])


def frames_of(folder: Path) -> dict[tuple[str, str], list[bytes]]:
    """What was recorded, by capture and state."""
    found = [open_recording(path) for path in recordings(folder)]
    return {
        (one.opened.capture_id, "whole" if one.cut is None else "cut"): [
            frame.jpeg for frame in one
        ]
        for one in found
    }


def pending(servers: Servers, group: str) -> int:
    """Captures that the group was given and is not done with."""
    indexes = [Names(PREFIX, number).index for number in range(PARTITIONS)]
    return sum(servers.client().xpending(index, group)["pending"] for index in indexes)


async def test_a_fleet_is_recorded_whole(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Every frame of every capture, and nothing is left to be done with."""
    folder = tmp_path / "recordings"
    async with fleet(monkeypatch, tmp_path) as (servers, address, url):
        async with recorder(url, folder, "--captures", "3", "--format", "mkv") as process:
            await joined(servers, PREFIX, "record")
            for name in ("a", "b", "c"):
                async with capture(address, name) as rig:
                    await send(rig, range(10))
            assert await process.wait() == 0
        assert frames_of(folder) == {(name, "whole"): PICTURES for name in "abc"}
        assert pending(servers, "record") == 0


async def test_a_recorder_takes_up_where_it_was_killed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What was whole does not come again; what was not comes from its beginning."""
    folder = tmp_path / "recordings"
    options = ("--consumer", "one", "--group", "g")
    async with fleet(monkeypatch, tmp_path) as (servers, address, url):
        async with recorder(url, folder, *options) as process:
            await joined(servers, PREFIX, "g")
            async with capture(address, "before") as rig:
                await send(rig, range(10))
            await until(lambda: pending(servers, "g") == 0 and [*recordings(folder)])
            async with capture(address, "during") as rig:
                await send(rig, range(4))
                await until(lambda: [*folder.glob("**/*.part/jpeg/000004.jpg")])
                process.kill()
                await process.wait()
                await send(rig, range(4, 10))
        async with recorder(url, folder, *options) as process:
            await until(lambda: ("during", "whole") in frames_of(folder))
            await until(lambda: pending(servers, "g") == 0)
        found = frames_of(folder)
        assert found["before", "whole"] == found["during", "whole"] == PICTURES
        # The first attempt is kept for what it is.
        cut = found.pop(("during", "cut"))
        assert cut == PICTURES[: len(cut)]
        assert len(found) == 2
