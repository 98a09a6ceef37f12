"""Workers that hang, babble or cannot start: real processes under a supervisor in this one."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import psutil
import pytest
import trio
from structlog.testing import capture_logs
from websockets.trio.client import connect

from cfw.api import Addresses, longest_stop_s
from cfw.api.config import Config, load_config
from cfw.cli import workers
from cfw.cli.lifeline import MAX_LINE_BYTES, Hearing, NotALine
from cfw.cli.workers import SILENT_S, WorkerFailed, supervise
from cfw.limits import Times
from tests.factories import jpeg
from tests.unit.cli.test_workers import capture, pytestmark, several
from tests.whole.hostile.figures import figure
from tests.whole.hostile.kit import PATIENCE_S, until
from tests.whole.smoke.worker import ending, meta, opening

__all__ = ["pytestmark"]

SABOTAGE = Path(__file__).with_name("sabotage")


@attrs.define
class Supervised:
    """Workers of a supervisor that runs in this process.

    Args:
        logs: what the supervisor has logged so far.
        once: armed with `arm`, taken away by the worker that misbehaves.
    """

    logs: list[Any]
    once: Path
    ready: list[Addresses] = attrs.Factory(list)
    has_ended: trio.Event = attrs.Factory(trio.Event)
    failure: WorkerFailed | None = None

    def lines(self, event: str) -> list[Any]:
        return [line for line in self.logs if line["event"] == event]

    def pid(self, index: int) -> int:
        """The process that was ready last of the worker with this number."""
        mine = [line["pid"] for line in self.lines("worker.ready") if line["worker"] == index]
        pid: int = mine[-1]
        return pid

    def arm(self) -> None:
        """Have the next worker that starts misbehave."""
        self.once.touch()

    async def readies(self, count: int) -> None:
        """Wait until workers were ready so often, starts anew included."""
        await until(lambda: len(self.lines("worker.ready")) >= count)

    async def stop(self, *numbers: int) -> float:
        """Send signals to the supervisor; how long it then took to end, in seconds."""
        began = trio.current_time()
        for number in numbers:
            os.kill(os.getpid(), number)
            await trio.sleep(0.1)
        with trio.fail_after(PATIENCE_S):
            await self.has_ended.wait()
        return trio.current_time() - began


def configured(count: int, **settings: object) -> Config:
    keys: dict[str, object] = {
        "server.port": 0,
        "admin.port": 0,
        "server.workers": count,
        "sink.url": "null:",
        "sessions.static": ["ada:s-1"],
    }
    keys |= {name.replace("__", "."): value for name, value in settings.items()}
    return load_config(None, keys.items())


@asynccontextmanager
async def supervised(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    count: int,
    sabotage: str = "",
    **settings: object,
) -> AsyncIterator[Supervised]:
    """Run so many workers, of which one may misbehave once `arm` was called.

    Silence ends a worker after 5 s here.
    """
    monkeypatch.setattr(workers, "SILENT_S", 5.0)
    once = tmp_path / "once"
    monkeypatch.setenv("PYTHONPATH", str(SABOTAGE))
    monkeypatch.setenv("CFW_SABOTAGE", sabotage)
    monkeypatch.setenv("CFW_SABOTAGE_ONCE", str(once))
    with capture_logs() as logs:
        made = Supervised(logs, once)
        async with trio.open_nursery() as nursery:

            async def run() -> None:
                try:
                    await supervise(
                        configured(count, **settings),
                        lambda *addresses: made.ready.extend(addresses),
                        lambda: None,
                    )
                except WorkerFailed as exc:
                    made.failure = exc
                finally:
                    made.has_ended.set()

            nursery.start_soon(run)
            yield made
            nursery.cancel_scope.cancel()


async def started(made: Supervised, count: int) -> None:
    """Wait until the supervisor has announced them."""
    await until(lambda: len(made.ready) == count)


async def filmed(made: Supervised) -> None:
    """A capture by whichever worker the system gives it to."""
    assert (await trio.to_thread.run_sync(capture, made.ready[0].capture))["frames"] == 1


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
        assert await made.stop(signal.SIGTERM) < PATIENCE_S


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


async def test_a_worker_may_die_again_and_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Each time with a longer pause; so is one that the system has no room for."""
    async with supervised(monkeypatch, tmp_path, 1) as made:
        await started(made, 1)
        open_process, full = workers._open_process, [1]

        async def fail(lifeline: int) -> Any:
            if full:
                full.pop()
                raise OSError(errno.EAGAIN, "Resource temporarily unavailable")
            return await open_process(lifeline)

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


async def test_a_hang_up_waits_for_a_worker_that_starts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It would end a process that does not listen for it yet."""
    async with supervised(monkeypatch, tmp_path, 2, "is slow") as made:
        made.arm()
        me = psutil.Process()
        await until(lambda: len(me.children()) == 2 and not made.once.exists())
        os.kill(os.getpid(), signal.SIGHUP)
        await started(made, 2)
        assert await made.stop(signal.SIGTERM) < PATIENCE_S
        assert made.lines("worker.died") == []


@asynccontextmanager
async def filming(made: Supervised) -> AsyncIterator[Any]:
    """A capture that has begun."""
    async with connect(made.ready[0].capture, compression=None, proxy=None) as ws:
        for message in (opening(), meta(), jpeg()):
            await ws.send(message)
        await trio.sleep(0.3)
        yield ws


async def test_a_second_signal_ends_captures_at_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Whichever of both it is, while the first one would wait for the capture."""
    async with supervised(monkeypatch, tmp_path, 2, times__drain_s=60) as made:
        await started(made, 2)
        async with filming(made) as ws:
            os.kill(os.getpid(), signal.SIGTERM)
            await trio.sleep(0.5)
            await ws.send(meta(2))
            await ws.send(jpeg())
            took = await made.stop(signal.SIGINT)
            abort, code, _ = await ending(ws)
        assert (abort and abort.error_code, code) == ("server_shutdown", 1001)
        assert made.lines("worker.killed") == []
        assert took < PATIENCE_S


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
    monkeypatch.setattr(workers, "SILENT_S", 600.0)
    async with supervised(monkeypatch, tmp_path, 2) as made:
        await started(made, 2)
        monkeypatch.setattr(workers, "SILENT_S", 600.0)
        os.kill(made.pid(0), signal.SIGSTOP)
        took = await made.stop(signal.SIGTERM, signal.SIGTERM, signal.SIGINT)
        (killed,) = made.lines("worker.killed")
        assert killed["reason"] == "three signals have asked for the end"
        assert took < 10


def test_a_hung_worker_does_not_keep_the_supervisor_from_ending() -> None:
    """With the times that are shipped: it is silent, so it is not waited for to the end."""
    with several(2) as (supervisor, _):
        supervisor.children()[0].suspend()
        began = time.monotonic()
        supervisor.send_signal(signal.SIGTERM)
        _, err = supervisor.communicate(timeout=longest_stop_s(Times()))
        took = time.monotonic() - began
    assert supervisor.returncode == 0
    log = [json.loads(line) for line in err.splitlines()]
    (killed,) = [line for line in log if line["event"] == "worker.killed"]
    assert killed["reason"] == f"it gave no sign of life for {SILENT_S:g} s"
    figure("stop of two workers, one of them hung", f"{took:.1f} s after SIGTERM, exit code 0")


def test_a_wrong_configuration_is_one_among_workers_too() -> None:
    """Exit code 2, with which no service manager starts it again."""
    command = [sys.executable, "-m", "cfw.cli", "serve", "--workers", "2", "--port", "0"]
    command += ["--sink", "null:", "--admin-port", "off", "--token-file", "/nowhere/at/all"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 2
    assert "server.token_file: /nowhere/at/all: cannot be read" in ran.stderr
    assert "Traceback" not in ran.stderr


ADDRESSES = b'{"capture": "ws://a", "admin": null, "public": "wss://b"}'


@pytest.mark.parametrize("cut", range(0, len(ADDRESSES) + 5, 7))
def test_a_line_is_heard_however_it_is_cut(cut: int) -> None:
    """Signs of life around it count for nothing but that."""
    said = b"\n\n" + ADDRESSES + b"\n\n"
    hearing = Hearing()
    heard = [hearing.take(said[:cut]), hearing.take(said[cut:])]
    assert [each for each in heard if each] == [Addresses("ws://a", None, "wss://b")]


@pytest.mark.parametrize(
    "said",
    [
        b"hello\n",
        b"{}\n",
        b"[1, 2, 3]\n",
        b"[" * 60_000 + b"\n",
        b'{"capture": 5, "admin": null}\n',
        b'{"capture": "a", "admin": 5}\n',
        b'{"capture": "a", "admin": null, "more": 1}\n',
        b"\xff\n",
        ADDRESSES + b"\n" + ADDRESSES + b"\n",
        b"x" * (MAX_LINE_BYTES + 1),
    ],
)
def test_what_is_no_such_line_is_refused(said: bytes) -> None:
    """A worker's words are foreign input."""
    with pytest.raises(NotALine):
        Hearing().take(said)


def test_a_line_may_be_so_long() -> None:
    """The bound itself is allowed."""
    assert Hearing().take(b"x" * MAX_LINE_BYTES) is None


def test_the_time_for_a_stop_is_the_sum_of_its_deadlines() -> None:
    """As OPERATIONS.md has it, and without the drain behind a second signal."""
    assert longest_stop_s(Times()) == 34
    assert longest_stop_s(Times(), drain=False) == 14
