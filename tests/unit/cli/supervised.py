"""A supervisor in this process over real workers, one of which may misbehave."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
import trio.testing
from structlog.testing import capture_logs
from websockets.trio.client import connect

from cfw.api import Addresses, Reload
from cfw.api.config import Config, load_config
from cfw.cli import workers
from cfw.cli.workers import WorkerFailed, supervise
from cfw.identity import Invitations
from tests.factories import jpeg
from tests.patience import PATIENCE_S, until
from tests.unit.cli.test_workers import capture
from tests.whole.hostile.kit import metric
from tests.whole.smoke.worker import meta, opening

SABOTAGE = Path(__file__).with_name("sabotage")
#: What a stop takes that waits for no capture; less than the drain of any of these tests.
SOON_S = 30


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
            await told(number)
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
                        Reload(),
                        Invitations(600, 600, 10),
                    )
                except WorkerFailed as exc:
                    made.failure = exc
                finally:
                    made.has_ended.set()

            nursery.start_soon(run)
            yield made
            nursery.cancel_scope.cancel()


async def told(number: int) -> None:
    """Send the supervisor a signal, and wait until it has seen it: two alike could be one."""
    signal.raise_signal(number)
    await trio.testing.wait_all_tasks_blocked()


async def started(made: Supervised, count: int) -> None:
    """Wait until the supervisor has announced them."""
    await until(lambda: len(made.ready) == count)


async def filmed(made: Supervised) -> None:
    """A capture by whichever worker the system gives it to."""
    assert (await trio.to_thread.run_sync(capture, made.ready[0].capture))["frames"] == 1


@asynccontextmanager
async def filming(made: Supervised) -> AsyncIterator[Any]:
    """A capture that has begun."""
    async with connect(made.ready[0].capture, compression=None, proxy=None) as ws:
        for message in (opening(), meta(), jpeg()):
            await ws.send(message)
        await until_running(made)
        yield ws


async def until_running(made: Supervised) -> None:
    """Wait until a worker has a capture, by its own count."""
    with trio.fail_after(PATIENCE_S):
        while True:
            for each in made.ready:
                assert each.admin is not None
                if await metric(each.admin, "cfw_captures_running"):
                    return
