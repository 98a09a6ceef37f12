"""`cfw serve --workers N`: processes that share a port, each with all of its own.

The supervisor holds the port and nothing of a capture. It starts each worker with the
configuration on standard input, so that no secret is seen in a list of processes, and with
the read end of a pipe that closes when the supervisor is gone: no worker outlives it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager

import attrs
import structlog
import trio

from cfw.api import Addresses, ListenError
from cfw.config import Config, config_toml
from cfw.identity import page_origins
from cfw.net import bind_sockets

#: Seconds until a worker that ended by itself is started again: doubled each time, up to the
#: longest; a worker that ran for so long begins again with the shortest.
SHORTEST_S = 0.5
LONGEST_S = 30.0
STEADY_S = 60.0
#: The option of `cfw serve` that makes it one of several; the pipe's descriptor follows.
SUPERVISED_BY = "--supervised-by"

#: What asks a worker to end.
STOP = (signal.SIGTERM, signal.SIGINT)

_log: structlog.stdlib.BoundLogger = structlog.get_logger("cfw.workers")


class WorkerFailed(Exception):
    """A worker ended before it was ready for the first time; its log says why."""


def signals_for(config: Config) -> list[signal.Signals]:
    """The signals that `cfw serve` waits for."""
    sections = (config.server, config.admin)
    has_files = any(section.cert_file or section.token_file for section in sections)
    # Otherwise it goes on ending a worker whose terminal is closed; Windows has none.
    hang_up = [signal.SIGHUP] if has_files and hasattr(signal, "SIGHUP") else []
    return [*STOP, *hang_up]


def back_off(previous_s: float | None, lasted_s: float) -> float:
    """Seconds to wait before a worker is started again.

    Args:
        previous_s: what was waited the last time; None if it never was.
        lasted_s: how long the worker ran.
    """
    if previous_s is None or lasted_s >= STEADY_S:
        return SHORTEST_S
    return min(2 * previous_s, LONGEST_S)


def worker_config(config: Config, index: int) -> Config:
    """What one of several workers runs with.

    Args:
        config: that of all; its port is a real one.
        index: 0 for the first; each has the admin port behind that of the one before.
    """
    admin, origins = config.admin, config.server.origins
    if isinstance(admin.port, int) and admin.port:
        scheme = "https" if admin.cert_file else "http"
        # The port for rigs is that of all: the page of one films with any of them.
        for port in range(admin.port, admin.port + config.server.workers):
            origins += page_origins(scheme, admin.host, port)
        admin = attrs.evolve(admin, port=admin.port + index)
    server = attrs.evolve(config.server, workers=1, share_port=True, origins=origins)
    return attrs.evolve(config, server=server, admin=admin)


async def supervise(config: Config, announce: Callable[..., None]) -> None:
    """Run `server.workers` processes until SIGTERM or SIGINT, and until they have ended.

    A worker that ends by itself is started again after a while. SIGTERM, SIGINT and SIGHUP
    are passed on.

    Args:
        config: of all workers.
        announce: called once with the addresses of each, when all take connections.

    Raises:
        ListenError: the port cannot be had.
        WorkerFailed: a worker could not be started at all.

    Cancellation: the workers are killed.
    """
    async with _reserved_port(config) as port:
        config = attrs.evolve(config, server=attrs.evolve(config.server, port=port))
        with _pipe() as held:
            workers = [
                Worker(worker_config(config, i), i, held) for i in range(config.server.workers)
            ]
            await _run_all(config, workers, announce)


async def _run_all(
    config: Config, workers: list[Worker], announce: Callable[..., None]
) -> None:
    with trio.open_signal_receiver(*signals_for(config)) as signals:
        async with trio.open_nursery() as nursery:

            async def watch() -> None:
                async for number in signals:
                    for worker in workers:
                        worker.signal(number)

            async def run_all() -> None:
                try:
                    async with trio.open_nursery() as running:
                        for worker in workers:
                            running.start_soon(worker.run)
                        for worker in workers:
                            await worker.ready.wait()
                        announce(*(worker.addresses for worker in workers))
                finally:
                    nursery.cancel_scope.cancel()

            nursery.start_soon(watch)
            nursery.start_soon(run_all)


class Worker:
    """One process, started again as often as it ends by itself.

    Args:
        config: what it runs with.
        index: its number among the workers, from 0.
        held: the read end of the supervisor's pipe.

    Attributes:
        ready: set when it takes connections for the first time, or never will.
        addresses: where it is reached; None before that.
    """

    def __init__(self, config: Config, index: int, held: int) -> None:
        self.ready = trio.Event()
        self.addresses: Addresses | None = None
        self._config = config_toml(config).encode()
        self._held = held
        self._log = _log.bind(worker=index)
        self._process: trio.Process | None = None
        self._stop = trio.CancelScope()

    def signal(self, number: int) -> None:
        """Pass a signal on; after SIGTERM or SIGINT the worker is not started again."""
        if number in STOP:
            self._stop.cancel()
            number = signal.SIGTERM
        if self._process is not None:
            self._process.send_signal(number)

    async def run(self) -> None:
        """Run it until it is told to stop and has ended.

        Raises:
            WorkerFailed: it ended before it was ready for the first time.

        Cancellation: the process is killed.
        """
        wait_s: float | None = None
        try:
            while not self._is_stopping():
                started = trio.current_time()
                code = await self._run_once()
                if self._is_stopping():
                    return
                if self.addresses is None:
                    raise WorkerFailed(f"a worker ended with {code} before it was ready")
                wait_s = back_off(wait_s, trio.current_time() - started)
                self._log.error("worker.died", code=code, restart_in_s=wait_s)
                await self._sleep(wait_s)
        finally:
            self.ready.set()

    def _is_stopping(self) -> bool:
        return self._stop.cancel_called

    async def _sleep(self, seconds: float) -> None:
        """Wait, but not once it is to stop."""
        with self._stop:
            await trio.sleep(seconds)

    async def _run_once(self) -> int:
        process = self._process = await trio.lowlevel.open_process(
            [
                *(sys.executable, "-m", "cfw.cli", "serve", "--config", "/dev/stdin"),
                *(SUPERVISED_BY, str(self._held)),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=(self._held,),
            # Ctrl-C in a terminal reaches the supervisor alone, which passes it on once.
            start_new_session=True,
        )
        try:
            if self._is_stopping():
                process.terminate()
            await self._tell_and_hear(process)
            return await process.wait()
        finally:
            self._process = None
            if process.returncode is None:
                process.kill()
                with trio.CancelScope(shield=True, deadline=trio.current_time() + 5):
                    await process.wait()

    async def _tell_and_hear(self, process: trio.Process) -> None:
        """Give the worker its configuration, and read its ready line."""
        assert process.stdin is not None
        assert process.stdout is not None
        line = b""
        async with process.stdin, process.stdout:
            try:
                await process.stdin.send_all(self._config)
                await process.stdin.aclose()
                while not line.endswith(b"\n"):
                    more = await process.stdout.receive_some()
                    if not more:
                        return
                    line += more
            except trio.BrokenResourceError:
                return
        told = json.loads(line)
        del told["event"]
        self.addresses = Addresses(**told)
        self._log.info("worker.ready", pid=process.pid, **attrs.asdict(self.addresses))
        self.ready.set()


async def stop_with_supervisor(held: int, stop: Callable[[], object]) -> None:
    """In a worker: wait until the supervisor is gone, and then stop.

    Args:
        held: the descriptor of the pipe, as given behind `SUPERVISED_BY`.
        stop: called once.
    """
    async with trio.lowlevel.FdStream(held) as pipe:
        while await pipe.receive_some():
            pass
    _log.error("worker.orphaned", detail="the supervisor is gone; shutting down")
    stop()


@asynccontextmanager
async def _reserved_port(config: Config) -> AsyncIterator[int]:
    """Hold the port without listening, so that it stays ours while no worker runs."""
    host, port = config.server.host, config.server.port
    with ExitStack() as held:
        try:
            # Not shared: whoever listens there already is no worker of ours.
            for probe in await bind_sockets(host, port, share=False):
                probe.close()
            sockets = await bind_sockets(host, port, share=True)
        except OSError as exc:
            problem = f"cannot listen on {host}:{port}: {exc.strerror or exc}"
            raise ListenError(exc.errno, problem) from exc
        for sock in sockets:
            held.enter_context(sock)
        yield sockets[0].getsockname()[1]


@contextmanager
def _pipe() -> Iterator[int]:
    """A pipe whose write end lives as long as this process; gives the read end."""
    read, write = os.pipe()
    try:
        yield read
    finally:
        os.close(read)
        os.close(write)
