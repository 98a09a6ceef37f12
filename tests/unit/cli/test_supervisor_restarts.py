"""Workers that babble, die or cannot start: real processes under a supervisor."""

from __future__ import annotations

import errno
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import trio

from cfw.cli import workers
from tests.patience import PATIENCE_S, until
from tests.serving import refused
from tests.unit.cli.supervised import filmed, started, supervised
from tests.unit.cli.test_workers import pytestmark

__all__ = ["pytestmark"]


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("is never ready", "it was not ready within 4 s"),
        ("writes garbage", "it wrote what is no sign of life"),
        ("writes a line without end", "it wrote what is no sign of life"),
        ("exits with 3", "it ended with 3"),
    ],
)
async def test_a_restart_that_fails_is_tried_again_later_and_says_why(
    how: str, reason: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With a longer pause; the other worker is not touched."""
    async with supervised(monkeypatch, tmp_path, 2, how) as made:
        await started(made, 2)
        other = made.pid(1)
        monkeypatch.setattr(workers, "READY_S", 4.0)
        made.arm()
        os.kill(made.pid(0), signal.SIGKILL)
        await until(lambda: len(made.lines("worker.died")) >= 2)
        monkeypatch.setattr(workers, "READY_S", float(PATIENCE_S))
        await made.readies(3)
        first, second = made.lines("worker.died")[:2]
        assert (first["reason"], second["reason"]) == ("it was ended by SIGKILL", reason)
        assert second["restart_in_s"] == 2 * first["restart_in_s"]
        assert made.pid(1) == other
        await filmed(made)


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("is never ready", "it was not ready within 4 s"),
        ("writes garbage", "it wrote what is no sign of life"),
        ("exits with 3", "it ended with 3"),
    ],
)
async def test_a_worker_that_cannot_start_at_all_ends_the_others_gently(
    how: str, reason: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With its reason as the error; the other worker is asked to stop, not killed."""
    monkeypatch.setattr(workers, "READY_S", 4.0)
    async with supervised(monkeypatch, tmp_path, 2, how) as made:
        made.arm()
        with trio.fail_after(PATIENCE_S):
            await made.has_ended.wait()
        assert made.failure is not None
        assert reason in str(made.failure)
        assert made.ready == []
        assert {line["reason"] for line in made.lines("worker.killed")} <= {reason}


async def test_a_worker_may_die_again_and_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Each time with a longer pause; so is one that the system has no room for."""
    async with supervised(monkeypatch, tmp_path, 1) as made:
        await started(made, 1)
        open_process, full = workers._open_process, [1]

        async def fail(*descriptors: int) -> Any:
            if full:
                full.pop()
                raise OSError(errno.EAGAIN, "Resource temporarily unavailable")
            return await open_process(*descriptors)

        monkeypatch.setattr(workers, "_open_process", fail)
        os.kill(made.pid(0), signal.SIGKILL)
        await made.readies(2)
        os.kill(made.pid(0), signal.SIGSEGV)
        await made.readies(3)
        died = [(line["reason"], line["restart_in_s"]) for line in made.lines("worker.died")]
        assert died == [
            ("it was ended by SIGKILL", 0.5),
            ("it could not be started: Resource temporarily unavailable", 1.0),
            ("it was ended by SIGSEGV", 2.0),
        ]


def test_a_wrong_configuration_is_one_among_workers_too() -> None:
    """Exit code 2, with which no service manager starts it again."""
    words = ["--workers", "2", "--sink", "null:", "--admin-port", "off"]
    ran = refused(*words, "--token-file", "/nowhere/at/all")
    assert ran.returncode == 2
    assert "server.token_file: /nowhere/at/all: cannot be read" in ran.stderr
    assert "Traceback" not in ran.stderr
