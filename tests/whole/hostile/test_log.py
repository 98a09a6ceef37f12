"""Whatever becomes of the log, captures go on, and the worker ends when it is told to."""

from __future__ import annotations

import json
import os
import pty
import socket
import termios
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import attrs
import psutil
import pytest
import trio

from tests.factories import jpeg
from tests.patience import PATIENCE_S, until
from tests.serving import SESSIONS
from tests.unit.wire.peer import binary, text
from tests.whole.hostile.figures import figure
from tests.whole.hostile.kit import Worker, worker
from tests.whole.smoke.worker import closing, meta, opening

#: Longer than the deadlines of a stop together, on a machine that is busy.
STOP_S = 20
#: A rig that waits while others come and go is not idle on a machine that is busy.
SETTINGS: dict[str, object] = {
    "times.drain_s": 1,
    "times.idle_s": 120,
    "limits.max_duration_s": 120,
}
LOST = "cfw_log_lines_lost_total"


@attrs.define
class Stderr:
    """What a worker has for standard error.

    Attributes:
        given: the descriptor, or the shell's words for it.
        spoil: makes it what it is here about, before a worker runs or while it does.
        is_stuck: lines that it does not take wait, until there are too many.
    """

    given: int | str | None
    spoil: Callable[[Worker | None], object] = lambda _: None
    is_stuck: bool = False


Fault: TypeAlias = "Callable[[], Any]"


@contextmanager
def ends(opened: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """Two descriptors that are closed in the end, if they are not yet."""
    try:
        yield opened
    finally:
        for end in opened:
            with suppress(OSError):
                os.close(end)


def fill(descriptor: int) -> None:
    """Put into a pipe what it takes."""
    os.set_blocking(descriptor, False)
    with suppress(BlockingIOError):
        while True:
            os.write(descriptor, b"\n" * 512)
    os.set_blocking(descriptor, True)


@contextmanager
def no_reader() -> Iterator[Stderr]:
    """EPIPE: `2>&1 | head -1`."""
    with ends(os.pipe()) as (reader, writer):
        yield Stderr(writer, lambda _: os.close(reader))


@contextmanager
def full_disk() -> Iterator[Stderr]:
    """ENOSPC."""
    yield Stderr("2>/dev/full")


@contextmanager
def no_more_room() -> Iterator[Stderr]:
    """EFBIG, in the midst of a line; a disk that fills up does the same."""

    def limit(made: Worker | None) -> None:
        assert made is not None
        most = made.log_file.stat().st_size + 30
        made.process.rlimit(psutil.RLIMIT_FSIZE, (most, most))

    yield Stderr(None, limit)


@contextmanager
def terminal_gone() -> Iterator[Stderr]:
    """EIO: a terminal that has hung up."""
    with ends(pty.openpty()) as (controller, terminal):
        yield Stderr(terminal, lambda _: os.close(controller))


@contextmanager
def closed() -> Iterator[Stderr]:
    """EBADF: Python has no `sys.stderr` then, and the number 2 is free for a socket."""
    yield Stderr("2>&-")


@contextmanager
def unread_pipe() -> Iterator[Stderr]:
    """A journal that has stopped, a driver of containers that blocks."""
    with ends(os.pipe()) as (_, writer):
        yield Stderr(writer, lambda _: fill(writer), is_stuck=True)


@contextmanager
def terminal_stopped() -> Iterator[Stderr]:
    """Ctrl-S."""
    with ends(pty.openpty()) as (_, terminal):
        yield Stderr(
            terminal, lambda _: termios.tcflow(terminal, termios.TCOOFF), is_stuck=True
        )


EVERY = (no_reader, terminal_gone, unread_pipe, terminal_stopped)
AT_THE_START = (*EVERY, full_disk, closed)
IN_MID_CAPTURE = (*EVERY, no_more_room)


async def stopped(made: Worker) -> float:
    """SIGTERM; seconds until it has ended, with 0."""
    began = trio.current_time()
    with trio.fail_after(STOP_S):
        assert await made.stop() == 0
    return trio.current_time() - began


async def lost_lines(made: Worker, least: int) -> float:
    """Wait until so many are counted: a thread writes them, in its own time."""
    with trio.fail_after(PATIENCE_S):
        while (lost := await made.metric(LOST)) < least:  # noqa: ASYNC110 - another process
            await trio.sleep(0.02)
    return lost


async def come_and_go(made: Worker, count: int, **fields: Any) -> None:
    """So many captures of a frame, each with its receipt."""
    for _ in range(count):
        rig = await made.rig()
        names = {"capture_id": f"passes-{os.urandom(8).hex()}", **fields}
        await rig.send(text(opening(**names)) + text(meta(1, 200, **names)))
        await rig.send(binary(jpeg(200)) + text(closing(**names)))
        assert (await rig.ending()).receipt["frames"] == 1


@pytest.mark.parametrize(
    ("fault", "is_running"),
    [(fault, False) for fault in AT_THE_START] + [(fault, True) for fault in IN_MID_CAPTURE],
    ids=lambda value: getattr(value, "__name__", "in mid-capture" if value else "at the start"),
)
async def test_a_log_that_cannot_be_written_stops_nothing(
    fault: Fault, is_running: bool, tmp_path: Path
) -> None:
    """Captures that run, and those that come, get their receipts; lost lines are counted."""
    with fault() as stderr:
        if not is_running:
            stderr.spoil(None)
        async with worker(tmp_path, settings=SETTINGS, stderr=stderr.given) as made:
            rigs = [await made.rig(f"stays-{n}") for n in range(5)]
            for rig in rigs:
                await rig.frame()
            if is_running:
                await made.captures(len(rigs))
                stderr.spoil(made)
            await come_and_go(made, 20)
            assert (await made.get("/healthz")).status_code == 200
            for rig in rigs:
                await rig.frame()
                assert (await rig.receipt())["frames"] == 2
            lost = await lost_lines(made, 0 if stderr.is_stuck else 20 * 3)
            took = await stopped(made)
    assert not (stderr.is_stuck and lost)
    when = "in mid-capture" if is_running else "from the start"
    figure(
        f"log: {fault.__name__.replace('_', ' ')}, {when}: 25 captures",
        f"25 receipts, {lost:.0f} lines lost and counted, SIGTERM {took:.1f} s",
    )


async def test_lines_that_find_no_room_are_counted_and_told(tmp_path: Path) -> None:
    """Once the pipe is read again, lines say how many are missing, and none is cut."""
    log: list[dict[str, Any]] = []
    sessions = ["--sessions", "allow:"]
    with ends(os.pipe()) as (reader, writer):
        fill(writer)
        async with (
            worker(tmp_path, settings=SETTINGS, sessions=sessions, stderr=writer) as made,
            trio.lowlevel.FdStream(os.dup(reader)) as pipe,
        ):
            stays = await made.rig("stays")
            async with trio.open_nursery() as nursery:
                for _ in range(10):
                    # Each of them is 1.5 kB in the log.
                    nursery.start_soon(partial(come_and_go, made, 100, user_id="🎥" * 128))
            await made.connections(1)
            lost = await lost_lines(made, 100)
            os.close(writer)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(read_log, pipe, log)
                await until(lambda: len(log) > 500)
                assert (await stays.receipt())["frames"] == 0
                await stopped(made)
    assert sum(line.get("unwritten", 0) for line in log) == lost
    assert log[-1]["event"] == "server.stopped"
    figure(
        "log: nobody reads it while 1000 captures come and go",
        f"1000 receipts, {lost:.0f} lines lost, all of them told of when it is read again",
    )


async def read_log(pipe: trio.abc.ReceiveStream, log: list[dict[str, Any]]) -> None:
    begun = b""
    async for data in pipe:
        *whole, begun = (begun + data).split(b"\n")
        log += [json.loads(line) for line in whole if line]
    assert not begun


async def test_a_disk_that_has_room_again_gets_whole_lines(tmp_path: Path) -> None:
    """What was cut stays a line of its own; the next one says how many are missing."""
    async with worker(tmp_path, settings=SETTINGS) as made:
        await until(lambda: made.log("server.starting"))
        size = made.log_file.stat().st_size
        made.process.rlimit(psutil.RLIMIT_FSIZE, (size + 30, psutil.RLIM_INFINITY))
        await come_and_go(made, 5)
        lost = await lost_lines(made, 20)
        made.process.rlimit(psutil.RLIMIT_FSIZE, (psutil.RLIM_INFINITY,) * 2)
        await stopped(made)
        cut, *rest = made.log_file.read_bytes()[size:].splitlines()
    assert (len(cut), lost) == (30, 20)
    log = [json.loads(line) for line in rest]
    assert [line["event"] for line in log] == ["server.draining", "server.stopped"]
    assert [line.get("unwritten") for line in log] == [lost, None]


@pytest.mark.parametrize("fault", [no_reader, unread_pipe, closed])
async def test_the_log_of_several_workers_stops_nothing_either(
    fault: Fault, tmp_path: Path
) -> None:
    """They are started, take captures, and end with the process that started them."""
    with fault() as stderr:
        stderr.spoil(None)
        options = ["--workers", "2", "--sink", "null:"]
        async with worker(
            tmp_path, *options, settings=SETTINGS, stderr=stderr.given, sessions=SESSIONS
        ) as made:
            await come_and_go(made, 20)
            took = await stopped(made)
    figure(
        f"log of two workers: {fault.__name__.replace('_', ' ')}: 20 captures",
        f"20 receipts, SIGTERM {took:.1f} s",
    )


@contextmanager
def full_output() -> Iterator[Any]:
    """ENOSPC."""
    with open("/dev/full", "wb") as full:
        yield full.fileno()


@contextmanager
def closed_output() -> Iterator[Any]:
    """EBADF: `>&-`."""
    yield None


@contextmanager
def output_without_reader() -> Iterator[Any]:
    """EPIPE."""
    with no_reader() as stdout:
        stdout.spoil(None)
        yield stdout.given


@contextmanager
def output_that_nobody_reads() -> Iterator[Any]:
    """A pipe that is full."""
    with unread_pipe() as stdout:
        stdout.spoil(None)
        yield stdout.given


@pytest.mark.parametrize(
    "output", [full_output, closed_output, output_without_reader, output_that_nobody_reads]
)
async def test_the_ready_line_is_not_needed_to_serve(output: Fault, tmp_path: Path) -> None:
    """Where it cannot be written, the log says so, and captures are taken."""
    with ExitStack() as stack:
        free = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(2)]
        rigs, admin = (port.getsockname()[1] for port in free)
    ports = [f"--port={rigs}", f"--admin-port={admin}"]
    with output() as stdout:
        prefix = ["sh", "-c", 'exec "$@" >&-', "sh"] if stdout is None else []
        with Worker.start(*ports, folder=tmp_path, prefix=prefix, stdout=stdout) as made:
            made.ready = {
                "capture": f"ws://127.0.0.1:{rigs}",
                "admin": f"http://127.0.0.1:{admin}",
            }
            await until(lambda: made.log("server.ready_untold"))
            await come_and_go(made, 3)
            assert (await made.get("/readyz")).status_code == 200
            took = await stopped(made)
    (line,) = made.log("server.ready_untold")
    assert line["level"] == "warning"
    figure(f"ready line: {line['detail']}: 3 captures", f"3 receipts, SIGTERM {took:.1f} s")
