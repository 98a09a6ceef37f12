"""Signals to a supervisor, while its workers film, start, flood or hang: real processes."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import psutil
import pytest
import trio

from cfw.cli import workers
from tests.factories import jpeg
from tests.patience import until
from tests.unit.cli.supervised import (
    SOON_S,
    filmed,
    filming,
    started,
    supervised,
    told,
)
from tests.unit.cli.test_workers import pytestmark
from tests.whole.smoke.worker import ending, meta

__all__ = ["pytestmark"]


async def test_a_worker_that_floods_is_read_slowly(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its standard output goes to its log; its signs of life cost the supervisor little."""
    async with supervised(monkeypatch, tmp_path, 2, "floods") as made:
        made.arm()
        await started(made, 2)
        began, cpu = time.monotonic(), time.process_time()
        await trio.sleep(2)
        assert time.process_time() - cpu < 0.5 * (time.monotonic() - began)
        await filmed(made)
        await made.stop(signal.SIGTERM)


async def test_a_hang_up_waits_for_a_worker_that_starts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It would end a process that does not listen for it yet."""
    me = psutil.Process()
    before = set(me.children())
    async with supervised(monkeypatch, tmp_path, 2, "is slow") as made:
        made.arm()
        await until(lambda: len({*me.children()} - before) == 2 and not made.once.exists())
        await told(signal.SIGHUP)
        await started(made, 2)
        assert await made.stop(signal.SIGTERM) < SOON_S
        assert made.lines("worker.died") == []


async def test_a_second_signal_ends_captures_at_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Whichever of both it is, while the first one would wait for the capture."""
    async with supervised(monkeypatch, tmp_path, 2, times__drain_s=60) as made:
        await started(made, 2)
        async with filming(made) as ws:
            await told(signal.SIGTERM)
            await ws.send(meta(2))
            await ws.send(jpeg())
            took = await made.stop(signal.SIGINT)
            abort, code, _ = await ending(ws)
        assert (abort and abort.error_code, code) == ("server_shutdown", 1001)
        assert made.lines("worker.killed") == []
        assert took < SOON_S


async def test_a_worker_that_does_not_end_in_its_time_is_killed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Behind the sum of the deadlines, although it gives signs of life."""
    monkeypatch.setattr(workers, "longest_stop_s", lambda times, drain: 1.0)
    monkeypatch.setattr(workers, "EXIT_S", 1.0)
    async with supervised(monkeypatch, tmp_path, 1, times__drain_s=60) as made:
        await started(made, 1)
        async with filming(made):
            await made.stop(signal.SIGTERM)
        (killed,) = made.lines("worker.killed")
        assert killed["reason"] == "it did not end within 2 s"


async def test_a_third_signal_kills(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing is waited for any more, not even silence."""
    async with supervised(monkeypatch, tmp_path, 2) as made:
        await started(made, 2)
        monkeypatch.setattr(workers, "SILENT_S", 600.0)
        os.kill(made.pid(0), signal.SIGSTOP)
        for _ in range(2):
            await told(signal.SIGTERM)
        await until(lambda: not psutil.pid_exists(made.pid(1)))
        took = await made.stop(signal.SIGINT)
        (killed,) = made.lines("worker.killed")
        assert killed["reason"] == "three signals have asked for the end"
        assert took < 10
