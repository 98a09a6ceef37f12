"""Workers that stand still, and a machine that does: real processes under a supervisor."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
import trio

from cfw.api import longest_stop_s
from cfw.cli import workers
from cfw.cli.workers import SILENT_S
from cfw.limits import Times
from tests.unit.cli.supervised import (
    SOON_S,
    filmed,
    started,
    supervised,
)
from tests.unit.cli.test_workers import pytestmark, several
from tests.whole.hostile.figures import figure

__all__ = ["pytestmark"]


async def test_a_worker_that_stands_still_is_started_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Stopped by a signal or spinning in C code; the third goes on, and all can be stopped."""
    async with supervised(monkeypatch, tmp_path, 3, "spins when told") as made:
        made.arm()
        await started(made, 3)
        first = {index: made.pid(index) for index in range(3)}
        taken = [pid for pid in first.values() if caught(pid, signal.SIGUSR2)]
        (spinning,) = taken
        stopped, well = (pid for pid in first.values() if pid != spinning)
        os.kill(stopped, signal.SIGSTOP)
        os.kill(spinning, signal.SIGUSR2)
        await made.readies(5)
        assert well in {made.pid(index) for index in range(3)}
        killed, died = made.lines("worker.killed"), made.lines("worker.died")
        assert {line["pid"] for line in killed} == {stopped, spinning}
        assert {line["reason"] for line in died} == {"it gave no sign of life for 5 s"}
        assert {line["restart_in_s"] for line in died} == {workers.SHORTEST_S}
        for _ in range(6):
            await filmed(made)
        assert await made.stop(signal.SIGTERM) < SOON_S


def caught(pid: int, number: int) -> bool:
    """Whether a process has a handler for a signal."""
    status = Path(f"/proc/{pid}/status").read_text()
    (mask,) = (line.split()[1] for line in status.splitlines() if line.startswith("SigCgt"))
    return bool(int(mask, 16) & 1 << (number - 1))


async def test_a_machine_that_stood_still_blames_no_worker(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A supervisor that had no CPU itself for longer than it lets workers be silent."""
    async with supervised(monkeypatch, tmp_path, 2) as made:
        await started(made, 2)
        for index in range(2):
            os.kill(made.pid(index), signal.SIGSTOP)
        time.sleep(8)  # noqa: ASYNC251 - the event loop of the supervisor stands still, too
        for index in range(2):
            os.kill(made.pid(index), signal.SIGCONT)
        await trio.sleep(2)
        assert made.lines("worker.killed") == []


def test_a_hung_worker_does_not_keep_the_supervisor_from_ending() -> None:
    """With the times that are shipped: it is silent, so it is not waited for to the end."""
    with several(2) as served:
        served.process.children()[0].suspend()
        began = time.monotonic()
        code, _, log = served.stopped(within_s=longest_stop_s(Times()))
        took = time.monotonic() - began
    assert code == 0
    (killed,) = [line for line in log if line["event"] == "worker.killed"]
    assert killed["reason"] == f"it gave no sign of life for {SILENT_S:g} s"
    figure("stop of two workers, one of them hung", f"{took:.1f} s after SIGTERM, exit code 0")


def test_the_time_for_a_stop_is_the_sum_of_its_deadlines() -> None:
    """As OPERATIONS.md has it, and without the drain behind a second signal."""
    assert longest_stop_s(Times()) == 34
    assert longest_stop_s(Times(), drain=False) == 14
