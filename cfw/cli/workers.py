"""`cfw serve --workers N`: processes that share a port, each with all of its own.

The supervisor holds the port and nothing of a capture. It starts each worker with the
configuration on standard input, so that no secret is seen in a list of processes, and with one
end of a socket pair (`cfw.cli.lifeline`), on which the worker gives signs of life, and which
closes when the supervisor is gone: no worker outlives it.

    supervise
    |-- the signals          passed on; the third one kills
    `-- each Worker          one Child after the other, with a pause between
        `-- Child            its configuration, its signs of life, its deadlines

Nothing of a worker is waited for without a deadline. Time is counted in beats of the
supervisor's own, so that a machine that stood still is held against nobody.
"""

from __future__ import annotations

import math
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager, suppress

import attrs
import structlog
import trio

from cfw.api import Addresses, Reload, longest_stop_s, naming
from cfw.api.config import Config, config_toml
from cfw.cli.inviting import answer_worker
from cfw.cli.lifeline import BEAT_S, Hearing, NotALine, stream_of
from cfw.cli.signals import HEARD, STOP, Terminal
from cfw.identity import Inviting, page_origins
from cfw.limits import Times
from cfw.net import bind_sockets

#: Seconds until a worker that ended by itself is started again: doubled each time, up to the
#: longest; a worker that ran for so long begins again with the shortest.
SHORTEST_S = 0.5
LONGEST_S = 30.0
STEADY_S = 60.0
#: From the start of a process until it takes connections: its imports, the files of tokens and
#: certificates, and a sink and an authority that it connects to.
READY_S = 60.0
#: The same that the unit for systemd gives the supervisor (`WatchdogSec=`).
SILENT_S = 10.0
#: Beyond the deadlines of a stop: the rest of the log, the end of the interpreter.
EXIT_S = 5.0
#: From SIGKILL until the system has taken a process away, which no file system may delay.
KILLED_S = 5.0
#: The option of `cfw serve` that makes it one of several; the lifeline's descriptor follows.
SUPERVISED_BY = "--supervised-by"
#: The one that has it ask its supervisor for invitations; the descriptor of that follows.
INVITATIONS_OF = "--invitations-of"
#: The signals of a person in a hurry: let captures finish, end them, end the processes.
_IN_A_HURRY, _OUT_OF_PATIENCE = 2, 3

_log: structlog.stdlib.BoundLogger = structlog.get_logger("cfw.workers")


class WorkerFailed(Exception):
    """A worker ended before it was ready for the first time; its log says why.

    Args:
        reason: what the supervisor knows of it.
        code: its exit code; None if it has none of its own.
    """

    def __init__(self, reason: str, code: int | None) -> None:
        super().__init__(reason)
        self.code = code


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


async def supervise(
    config: Config,
    announce: Callable[..., None],
    stopping: Callable[[], object],
    reload: Reload,
    inviting: Inviting,
) -> None:
    """Run `server.workers` processes until SIGTERM or SIGINT, and until they have ended.

    A worker that ends by itself, or is silent for `SILENT_S`, is started again after a while.
    A second signal ends captures at once, a third one kills. SIGHUP is passed on, unless the
    terminal is closed.

    Args:
        config: of all workers.
        announce: called once with the addresses of each, when all take connections.
        stopping: called when the end begins.
        reload: has all of them read their files again, as SIGHUP does.
        inviting: keeps the invitations of all of them.

    Raises:
        ListenError: the port cannot be had.
        WorkerFailed: a worker could not be started at all; the others have stopped.

    Cancellation: the workers are killed.
    """
    async with _reserved_port(config) as port:
        config = attrs.evolve(config, server=attrs.evolve(config.server, port=port))
        workers: list[Worker] = []

        def stop() -> None:
            stopping()
            for worker in workers:
                worker.stop()

        workers += [
            Worker(config, index, stop, inviting) for index in range(config.server.workers)
        ]
        await _run_all(workers, announce, stop, reload)
    for worker in workers:
        if worker.failure is not None:
            raise worker.failure


async def _run_all(
    workers: Sequence[Worker],
    announce: Callable[..., None],
    stop: Callable[[], None],
    reload: Reload,
) -> None:
    terminal = Terminal()
    with trio.open_signal_receiver(*HEARD) as signals:
        async with trio.open_nursery() as nursery:

            async def listen() -> None:
                async for number in signals:
                    if number in STOP or terminal.is_closed():
                        stop()
                    else:
                        reload.request()

            async def read_again() -> None:
                while True:
                    await reload.wait_requested()
                    for worker in workers:
                        worker.reload()

            nursery.start_soon(listen)
            nursery.start_soon(read_again)
            async with trio.open_nursery() as running:
                for worker in workers:
                    running.start_soon(worker.run)
                for worker in workers:
                    await worker.settled.wait()
                if all(worker.addresses for worker in workers):
                    announce(*(worker.addresses for worker in workers))
            nursery.cancel_scope.cancel()


class Worker:
    """One of the processes, started again as often as it ends by itself.

    Args:
        config: that of all.
        index: its number among the workers, from 0.
        give_up: called when it cannot be started at all.
        inviting: keeps the invitations of all.

    Attributes:
        settled: set when it takes connections for the first time, or never will.
        addresses: where it is reached; None before that.
        failure: why it never took connections.
    """

    def __init__(
        self,
        config: Config,
        index: int,
        give_up: Callable[[], object],
        inviting: Inviting,
    ) -> None:
        self.settled = trio.Event()
        self.addresses: Addresses | None = None
        self.failure: WorkerFailed | None = None
        self._config = worker_config(config, index)
        self._give_up = give_up
        self._inviting = inviting
        self._log = _log.bind(worker=index)
        self._child: Child | None = None
        self._asked = 0
        self._is_asked = trio.Event()

    def stop(self) -> None:
        """Have it end and not start again; asked again, faster and faster."""
        self._asked += 1
        self._is_asked.set()
        if self._child is not None:
            self._child.stop(self._asked)

    def reload(self) -> None:
        """Have it read its files again; one that is not ready yet, once it is."""
        if self._child is not None:
            self._child.reload()

    async def run(self) -> None:
        """Run it until it is told to stop and has ended.

        Cancellation: the process is killed.
        """
        wait_s: float | None = None
        try:
            while not self._is_stopping():
                started = trio.current_time()
                reason, code = await self._run_once()
                if self._is_stopping():
                    return
                if self.addresses is None:
                    words = f"a worker was never ready: {reason}"
                    self.failure = WorkerFailed(words, code)
                    self._give_up()
                    return
                wait_s = back_off(wait_s, trio.current_time() - started)
                self._log.error("worker.died", code=code, reason=reason, restart_in_s=wait_s)
                with trio.move_on_after(wait_s):
                    await self._is_asked.wait()
        finally:
            self.settled.set()

    def _is_stopping(self) -> bool:
        return self._asked > 0

    async def _run_once(self) -> tuple[str, int | None]:
        """Why it ended, and its exit code if it had one."""
        ours, theirs = socket.socketpair()
        asked, asking = socket.socketpair()
        try:
            with theirs, asking:
                process = await _open_process(theirs.fileno(), asking.fileno())
        except OSError as exc:
            ours.close()
            asked.close()
            return f"it could not be started: {exc.strerror or exc}", None
        child = self._child = Child(process, self._config.times, self._note_ready, self._log)
        if self._asked:
            child.stop(self._asked)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(answer_worker, asked, self._inviting)
                await child.run(config_toml(self._config).encode(), stream_of(ours))
                nursery.cancel_scope.cancel()
        finally:
            self._child = None
        return child.reason, process.returncode

    def _note_ready(self, addresses: Addresses, pid: int) -> None:
        self.addresses = addresses
        self._log.info("worker.ready", pid=pid, **attrs.asdict(addresses))
        self.settled.set()


class Child:
    """One process of a worker: what it was told, and what is held against it.

    Args:
        process: has its configuration still to come.
        times: how long it may take to stop.
        ready: called with its addresses and its number when it takes connections.
        log: bound to the worker.
    """

    def __init__(
        self,
        process: trio.Process,
        times: Times,
        ready: Callable[[Addresses, int], None],
        log: structlog.stdlib.BoundLogger,
    ) -> None:
        self._process = process
        self._times = times
        self._note_ready = ready
        self._log = log
        self._is_ready = False
        self._reload_then = False
        self._was_heard = False
        self._fault = ""
        #: Seconds that are left until it is killed, whatever it says, and those it had.
        self._left_s = math.inf
        self._given_s = math.inf

    @property
    def reason(self) -> str:
        """Why it ended."""
        if self._fault:
            return self._fault
        code = self._process.returncode
        if code is None:
            return "it cannot be killed"
        return f"it was ended by {_signal_name(-code)}" if code < 0 else f"it ended with {code}"

    def stop(self, asked: int) -> None:
        """Ask it to end.

        Args:
            asked: how often that was asked for by now.
        """
        if asked >= _OUT_OF_PATIENCE:
            self._kill("three signals have asked for the end")
            return
        # Another signal each time: a worker may find two of a kind to be one.
        self._process.send_signal(STOP[asked - 1])
        in_a_hurry = asked >= _IN_A_HURRY
        self._given_s = longest_stop_s(self._times, drain=not in_a_hurry) + EXIT_S
        self._left_s = min(self._left_s, self._given_s)

    def reload(self) -> None:
        """Pass SIGHUP on; while it does not listen for it yet, that would end it."""
        if self._is_ready:
            self._process.send_signal(signal.SIGHUP)
        else:
            self._reload_then = True

    async def run(self, config: bytes, stream: trio.SocketStream) -> None:
        """Run it to its end.

        Args:
            config: for its standard input.
            stream: the lifeline.

        Cancellation: it is killed.
        """
        async with stream:
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._tell, config)
                    nursery.start_soon(self._hear, stream)
                    nursery.start_soon(self._watch, nursery.cancel_scope)
                    await self._process.wait()
                    nursery.cancel_scope.cancel()
            finally:
                if self._process.returncode is None:
                    self._process.kill()
                    with trio.CancelScope(shield=True, deadline=trio.current_time() + KILLED_S):
                        await self._process.wait()

    async def _tell(self, config: bytes) -> None:
        assert self._process.stdin is not None
        async with self._process.stdin as stdin:
            with suppress(trio.BrokenResourceError):
                await stdin.send_all(config)

    async def _hear(self, stream: trio.SocketStream) -> None:
        """Take in what it says; its end, and nonsense, are the same as silence."""
        hearing = Hearing()
        try:
            while data := await stream.receive_some(4_096):
                addresses = hearing.take(data)
                self._was_heard = True
                if addresses is not None and not self._is_ready:
                    self._be_ready(addresses)
                # A flood is read no faster than it takes to tell that it lives.
                await trio.sleep(BEAT_S / 10)
        except trio.BrokenResourceError:
            pass
        except NotALine:
            self._kill("it wrote what is no sign of life")

    def _be_ready(self, addresses: Addresses) -> None:
        self._is_ready = True
        self._note_ready(addresses, self._process.pid)
        if self._reload_then:
            self.reload()

    async def _watch(self, waiting: trio.CancelScope) -> None:
        """Kill it when one of its times is over, and do not wait long for that."""
        silent_s = starting_s = killed_s = 0.0
        while killed_s < KILLED_S:
            await trio.sleep(BEAT_S)
            silent_s = 0.0 if self._was_heard else silent_s + BEAT_S
            self._was_heard = False
            starting_s += BEAT_S
            self._left_s -= BEAT_S
            if self._fault:
                killed_s += BEAT_S
            elif self._left_s <= 0:
                self._kill(f"it did not end within {self._given_s:g} s")
            elif self._is_ready and silent_s >= SILENT_S:
                self._kill(f"it gave no sign of life for {SILENT_S:g} s")
            elif not self._is_ready and starting_s >= READY_S:
                self._kill(f"it was not ready within {READY_S:g} s")
        waiting.cancel()

    def _kill(self, fault: str) -> None:
        if self._process.returncode is None:
            self._fault = fault
            self._log.error("worker.killed", pid=self._process.pid, reason=fault)
            self._process.kill()


async def _open_process(lifeline: int, invitations: int) -> trio.Process:
    """Start a worker that waits for its configuration.

    Raises:
        OSError: the system has no room for it, or no such program any more.
    """
    return await trio.lowlevel.open_process(
        [
            *(sys.executable, "-m", "cfw.cli", "serve", "--config", "/dev/stdin"),
            *(SUPERVISED_BY, str(lifeline)),
            *(INVITATIONS_OF, str(invitations)),
        ],
        stdin=subprocess.PIPE,
        # What code in it prints goes where its log goes: the supervisor's has one line.
        stdout=2,
        pass_fds=(lifeline, invitations),
        # Ctrl-C in a terminal reaches the supervisor alone, which passes it on once.
        start_new_session=True,
    )


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


@asynccontextmanager
async def _reserved_port(config: Config) -> AsyncIterator[int]:
    """Hold the port without listening, so that it stays ours while no worker runs."""
    host, port = config.server.host, config.server.port
    with ExitStack() as held:
        with naming(config.server):
            # Not shared: whoever listens there already is no worker of ours.
            for probe in await bind_sockets(host, port, share=False):
                probe.close()
            sockets = await bind_sockets(host, port, share=True)
        for sock in sockets:
            held.enter_context(sock)
        yield sockets[0].getsockname()[1]
