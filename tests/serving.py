"""`cfw serve` as a process: every test starts it, waits for it and ends it in this one way."""

from __future__ import annotations

import codecs
import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, Self, TypedDict, TypeVar, Unpack

import attrs
import psutil
import pytest
import trio

from tests.patience import PATIENCE_S

CFW = [sys.executable, "-m", "cfw.cli"]
FREE = ("--port", "0", "--admin-port", "0")
SESSIONS = ("--session", "ada:s-1")
#: For a worker to end by itself when a test is done with it, after each of two signals.
GRACE_S = 1.5


class How(TypedDict, total=False):
    """What is special about a worker.

    Args:
        sessions: the words that say who may send; those of ada's s-1 unless given.
        prefix: words before the command, as of a shell that closes a descriptor.
        folder: for what it says; one of its own, for as long as it runs, unless given.
        stdin: a descriptor instead of that of the tests.
        stdout: a descriptor instead of a file that is read.
        stderr: a descriptor instead of a file that is read.
        env: its environment, instead of that of the tests.
        cwd: where it runs, instead of where the tests do.
        start_new_session: whether it has no terminal.
    """

    sessions: Sequence[str]
    prefix: Sequence[str]
    folder: Path
    stdin: int | None
    stdout: int | None
    stderr: int | None
    env: Mapping[str, str] | None
    cwd: Path
    start_new_session: bool


@attrs.define(eq=False)
class Served:
    """A `cfw serve` on free ports that logs JSON, unless its options say otherwise.

    What it says goes into files: a pipe that a test does not read would fill and hold it up.

    Attributes:
        process: which may be one of the shell, or of a supervisor.
        out_file: its standard output.
        log_file: its standard error.
        ready: what its ready line says; empty before `until_ready`.
    """

    process: psutil.Popen
    out_file: Path
    log_file: Path
    _own: TemporaryDirectory[str]
    ready: dict[str, Any] = attrs.field(factory=dict, init=False)
    _lines_read: int = attrs.field(default=0, init=False)

    @classmethod
    def start(cls, *options: str, **how: Unpack[How]) -> Self:
        """Start one; it may not be ready yet. Leaving its `with` ends it."""
        own = TemporaryDirectory(prefix="cfw-served-", ignore_cleanup_errors=True)
        folder = how.pop("folder", Path(own.name))
        out, log = folder / "worker.out", folder / "worker.log"
        words = [*how.pop("prefix", ()), *CFW, "serve", *FREE, "--log-format", "json"]
        words += [*how.pop("sessions", SESSIONS), *options]
        with out.open("wb") as stdout, log.open("wb") as stderr:
            files: dict[str, Any] = {"stdout": stdout, "stderr": stderr}
            given = {name: value for name, value in how.items() if value is not None}
            process = psutil.Popen(words, **{**files, **given})
        return cls(process, out, log, own)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.end()

    @property
    def url(self) -> str:
        """Where rigs connect."""
        return str(self.ready["capture"])

    @property
    def admin(self) -> str:
        """Where operators and consumers connect."""
        return str(self.ready["admin"])

    def until_ready(self) -> None:
        """Wait for its ready line.

        Raises:
            AssertionError: it does not come; with what the worker said instead.
        """
        self.ready = json.loads(self.first_line())

    def first_line(self) -> str:
        """The first line of its standard output, as it comes.

        Raises:
            AssertionError: as `until_ready`.
        """
        until = time.monotonic() + PATIENCE_S
        while "\n" not in (said := self.out_file.read_text("utf-8")):
            code = self.process.poll()
            assert code is None, f"it ended with {code} before it was ready: {self.said()}"
            assert time.monotonic() < until, f"not ready in {PATIENCE_S} s: {self.said()}"
            time.sleep(0.01)
        return said.partition("\n")[0]

    def said(self) -> str:
        """All of its standard error so far."""
        return self.log_file.read_text("utf-8", errors="replace")

    def log(self, event: str = "") -> list[dict[str, Any]]:
        """The lines of the log so far: all, or those whose event begins so."""
        whole, _, _ = self.said().rpartition("\n")
        lines = [json.loads(line) for line in whole.splitlines()]
        return [line for line in lines if line["event"].startswith(event)]

    def next_line(self, event: str = "") -> dict[str, Any]:
        """Wait for a line of the log behind those that were waited for before.

        Args:
            event: how its event begins; others are passed over.

        Raises:
            AssertionError: it does not come.
        """
        until = time.monotonic() + PATIENCE_S
        while True:
            has_ended = self.process.poll() is not None
            for line in self.log()[self._lines_read :]:
                self._lines_read += 1
                if line["event"].startswith(event):
                    return line
            assert not has_ended, f"it ended without {event}: {self.said()}"
            assert time.monotonic() < until, f"no {event} in {PATIENCE_S} s: {self.said()}"
            time.sleep(0.01)

    def ended(self, within_s: float = PATIENCE_S) -> tuple[int, str, list[dict[str, Any]]]:
        """Wait for its end: exit code, what it printed behind its ready line, its log."""
        code: int = self.process.wait(within_s)
        return code, self.out_file.read_text("utf-8").partition("\n")[2], self.log()

    def stopped(self, within_s: float = PATIENCE_S) -> tuple[int, str, list[dict[str, Any]]]:
        """Have it end by SIGTERM, and wait for that as `ended` does."""
        self.process.send_signal(signal.SIGTERM)
        return self.ended(within_s)

    def end(self) -> None:
        """Have it end, as gently as it can be done soon, with all that it has started."""
        family: list[psutil.Process] = [self.process]
        with suppress(psutil.NoSuchProcess):
            family += self.process.children(recursive=True)
        # The first signal lets captures finish, the second does not.
        for _ in range(2):
            if self.process.poll() is None:
                with suppress(psutil.NoSuchProcess):
                    self.process.terminate()
                with suppress(psutil.TimeoutExpired):
                    self.process.wait(GRACE_S)
        for each in family:
            with suppress(psutil.NoSuchProcess):
                each.kill()
        self.process.wait()
        self._own.cleanup()


S = TypeVar("S", bound=Served)


@contextmanager
def serving(*options: str, **how: Unpack[How]) -> Iterator[Served]:
    """A `cfw serve` that is ready, and ends with the block."""
    with Served.start(*options, **how) as started:
        started.until_ready()
        yield started


@asynccontextmanager
async def serving_beside(started: S) -> AsyncIterator[S]:
    """The same, around a block of Trio, of one that was started."""
    try:
        await trio.to_thread.run_sync(started.until_ready, abandon_on_cancel=True)
        yield started
    finally:
        # It takes no longer than its grace.
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(started.end)


@contextmanager
def serving_at_terminal(*options: str, home: Path, until: str) -> Iterator[str]:
    """A `cfw serve` at a terminal of its own; what it shows there.

    Args:
        options: of the command.
        home: where it runs and keeps its data.
        until: what it shows last, as a regular expression.
    """
    pty = pytest.importorskip("pty", reason="Windows has no such terminal")
    home.mkdir(exist_ok=True)
    words = {"HOME": str(home), "XDG_DATA_HOME": str(home), "TERM": "xterm-256color"}
    env = os.environ | words | {"COLUMNS": "120", "LINES": "80"}
    with ExitStack() as opened:
        ours, theirs = pty.openpty()
        opened.callback(os.close, ours)
        how: How = {"stdin": theirs, "stdout": theirs, "sessions": (), "env": env, "cwd": home}
        try:
            started = Served.start("--log-format", "console", *options, **how)
        finally:
            os.close(theirs)
        opened.enter_context(started)
        yield _shown(started, ours, until)


def _shown(started: Served, terminal: int, last: str) -> str:
    shown, until = "", time.monotonic() + PATIENCE_S
    # What is read may end within a character.
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    while not re.search(last, shown):
        if select.select([terminal], [], [], 0.05)[0]:
            # It fails when the worker has ended.
            with suppress(OSError):
                shown += decoder.decode(os.read(terminal, 65_536))
        code = started.process.poll()
        assert code is None, f"it ended with {code}: {shown}{started.said()}"
        assert time.monotonic() < until, f"not shown in {PATIENCE_S} s: {shown}{started.said()}"
    return shown


def refused(*options: str) -> subprocess.CompletedProcess[str]:
    """What becomes of a `cfw serve` that cannot start, and ends by itself."""
    return subprocess.run(
        [*CFW, "serve", *FREE, *options],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
