"""What the service manager hears of a worker, and that a worker that hangs is silent."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from cfw.cli._systemd import Systemd
from tests.patience import PATIENCE_S
from tests.whole.hostile.kit import worker


def listening(path: Path) -> socket.socket:
    """A service manager's socket."""
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    manager.bind(str(path))
    manager.settimeout(PATIENCE_S)
    return manager


def heard(manager: socket.socket) -> list[bytes]:
    """What has come and was not read."""
    manager.setblocking(False)
    messages = []
    while True:
        try:
            messages.append(manager.recv(4096))
        except BlockingIOError:
            return messages


async def test_systemd_is_told_of_ready_and_stopping(tmp_path: Path) -> None:
    """READY when connections are taken, WATCHDOG meanwhile, STOPPING at the first signal."""
    with listening(tmp_path / "notify") as manager:
        env = {**os.environ, "NOTIFY_SOCKET": str(tmp_path / "notify")}
        async with worker(tmp_path, env={**env, "WATCHDOG_USEC": "200000"}) as made:
            while b"READY=1\n" not in await trio.to_thread.run_sync(manager.recv, 4096):
                pass
            for _ in range(3):
                assert await trio.to_thread.run_sync(manager.recv, 4096) == b"WATCHDOG=1"
            rig = await made.rig("cap-1")  # one that it must wait for
            await made.captures(1)
            made.process.send_signal(signal.SIGTERM)
            while b"STOPPING=1" not in await trio.to_thread.run_sync(manager.recv, 4096):
                pass
            assert await trio.to_thread.run_sync(manager.recv, 4096) == b"WATCHDOG=1"
            await rig.receipt()
            assert await made.exit_code() == 0
            assert made.log("server.notify_failed") == []


async def test_a_stalled_event_loop_starves_the_watchdog(tmp_path: Path) -> None:
    """A process that stands still is silent for longer than the watchdog's time."""
    with listening(tmp_path / "notify") as manager:
        env = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "200000"}
        async with worker(tmp_path, env={**os.environ, **env}) as made:
            while b"READY=1\n" not in await trio.to_thread.run_sync(manager.recv, 4096):
                pass
            made.process.suspend()
            await trio.sleep(0.5)
            heard(manager)
            await trio.sleep(0.5)
            assert heard(manager) == []
            made.process.resume()
            manager.settimeout(PATIENCE_S)
            assert await trio.to_thread.run_sync(manager.recv, 4096) == b"WATCHDOG=1"


@pytest.mark.parametrize(
    ("environ", "sent"),
    [
        ({"WATCHDOG_USEC": "10000000"}, 7),
        ({"WATCHDOG_USEC": "10000000", "WATCHDOG_PID": str(os.getpid())}, 7),
        ({"WATCHDOG_USEC": "10000000", "WATCHDOG_PID": "1"}, 0),
        ({"WATCHDOG_USEC": "0"}, 0),
        ({"WATCHDOG_USEC": "soon"}, 0),
        ({}, 0),
    ],
)
async def test_the_watchdog_is_fed_twice_in_its_time(
    environ: dict[str, str], sent: int, tmp_path: Path, autojump_clock: MockClock
) -> None:
    """Every 5 of 10 s in 30 s; never when it is off or meant for another process."""
    with listening(tmp_path / "notify") as manager:
        systemd = Systemd({"NOTIFY_SOCKET": str(tmp_path / "notify"), **environ})
        with trio.move_on_after(31):
            await systemd.feed_watchdog()
            await trio.sleep_forever()
        assert heard(manager) == [b"WATCHDOG=1"] * sent


async def test_no_service_manager_is_no_matter(autojump_clock: MockClock) -> None:
    """Without NOTIFY_SOCKET nothing is sent; with one that is gone a line is logged."""
    silent = Systemd({"WATCHDOG_USEC": "10000000"})
    silent.ready()
    silent.stopping()
    await silent.feed_watchdog()
    Systemd({"NOTIFY_SOCKET": "/nowhere/at/all"}).ready()


def test_an_abstract_address_is_understood() -> None:
    """`@name` is a socket without a file, in systemd's spelling."""
    name = f"cfw-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"\0{name}")
        Systemd({"NOTIFY_SOCKET": f"@{name}"}).stopping()
        assert heard(manager)[0].startswith(b"STOPPING=1")
