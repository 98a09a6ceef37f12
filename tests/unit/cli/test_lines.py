"""Lines that wait for a descriptor, and what becomes of them when it does not take them."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from cfw.cli import _lines
from cfw.cli._lines import Lines
from tests.patience import PATIENCE_S, soon


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """Its two ends."""
    reader, writer = os.pipe()
    yield reader, writer
    for end in (reader, writer):
        with suppress(OSError):
            os.close(end)


def fill(descriptor: int) -> int:
    """Put into a pipe what it takes; how much that was."""
    os.set_blocking(descriptor, False)
    size = 0
    try:
        while True:
            size += os.write(descriptor, bytes(4096))
    except BlockingIOError:
        os.set_blocking(descriptor, True)
        return size


def test_lines_come_in_order(pipe: tuple[int, int]) -> None:
    """All that were put before the end, and none after it."""
    reader, writer = pipe
    lines = Lines(writer)
    for number in range(100):
        lines.put(b"%d\n" % number)
    lines.close(PATIENCE_S)
    lines.put(b"late\n")
    os.close(writer)
    assert os.read(reader, 65536) == b"".join(b"%d\n" % number for number in range(100))
    assert lines.lost == 1


def test_a_full_queue_takes_no_byte_more_and_nobody_waits(pipe: tuple[int, int]) -> None:
    """The line that is being written counts; one that fills it is taken, a byte more is not."""
    reader, writer = pipe
    stuffed = fill(writer)
    lines = Lines(writer, most_bytes=10)
    lines.put(b"1234\n")
    lines.put(b"12345\n")
    assert lines.lost == 1
    lines.put(b"abcd\n")
    lines.put(b"\n")
    assert lines.lost == 2
    assert (lines.take_untold(), lines.take_untold()) == (2, 0)
    while stuffed:
        stuffed -= len(os.read(reader, stuffed))
    lines.close(PATIENCE_S)
    assert os.read(reader, 100) == b"1234\nabcd\n"


def test_a_lost_line_that_told_of_others_makes_them_untold(pipe: tuple[int, int]) -> None:
    """Whether it found no room or could not be written: no count is lost with its line."""
    reader, writer = pipe
    os.close(reader)
    lines = Lines(writer)
    lines.put(b"1\n")
    lines.put(b"2\n")
    soon(lambda: lines.lost >= 2)
    assert lines.take_untold() == 2
    lines.put(b"3\n", tells=2)
    soon(lambda: lines.lost >= 3)
    assert lines.take_untold() == 3
    lines.close(PATIENCE_S)
    lines.put(b"4\n", tells=3)
    assert (lines.take_untold(), lines.lost) == (4, 4)


def test_the_end_has_a_deadline(pipe: tuple[int, int]) -> None:
    """A descriptor that takes nothing holds nobody longer than that."""
    _, writer = pipe
    fill(writer)
    lines = Lines(writer)
    lines.put(b"1\n")
    began = time.monotonic()
    lines.close(0.05)
    assert time.monotonic() - began < 20
    os.read(pipe[0], 65536)  # lets the thread go


def test_a_descriptor_that_does_not_block_gets_every_byte(pipe: tuple[int, int]) -> None:
    """Made so by another process that shares it; it takes a line in parts."""
    reader, writer = pipe
    os.set_blocking(writer, False)
    line = os.urandom(300_000).hex().encode() + b"\n"
    lines = Lines(writer)
    lines.put(line)
    lines.put(b"next\n")
    got = b""
    while len(got) < len(line) + 5:
        got += os.read(reader, 65536)
    assert got == line + b"next\n"
    assert lines.lost == 0
    lines.close(PATIENCE_S)


def test_a_line_that_was_cut_is_not_continued(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that fills up takes a part of it; the next begins on a line of its own."""
    taken: list[bytes] = []
    room = [3, None, None, 100, 100]

    def write(_: int, data: memoryview) -> int:
        size = room.pop(0)
        if size is None:
            raise OSError(errno.ENOSPC, "full")
        taken.append(bytes(data[:size]))
        return len(taken[-1])

    monkeypatch.setattr(_lines, "write_some", write)
    lines = Lines(2)
    for line in (b"first\n", b"second\n", b"third\n", b"fourth\n"):
        lines.put(line)
    lines.close(PATIENCE_S)
    assert b"".join(taken) == b"fir\nthird\nfourth\n"
    assert lines.lost == 2


SCRIPT = """
import faulthandler, logging, sys, threading, warnings
from cfw.cli._streams import own_streams, standard_error
own_streams()

class Leaves:
    def __del__(self):
        raise ValueError("unraisable")

def fails():
    raise ValueError("in a thread")

import click
for _ in range(int(sys.argv[1])):
    click.echo("click", err=True)
    print("print", file=sys.stderr)
    warnings.warn("a warning", stacklevel=1)
    warnings.resetwarnings()
    logging.getLogger("somebody").warning("last resort")
    Leaves()
    thread = threading.Thread(target=fails)
    thread.start()
    thread.join()
print(standard_error().lost, flush=True)
raise ValueError("the last")
"""


def test_nothing_else_that_speaks_on_standard_error_waits_or_fails(
    pipe: tuple[int, int],
) -> None:
    """Warnings, the last resort of logging, what no one could raise: a pipe nobody reads."""
    _, writer = pipe
    fill(writer)
    command = [sys.executable, "-c", SCRIPT]
    for shell in ([], ["sh", "-c", 'exec "$@" 2>&-', "sh"]):
        ran = subprocess.run(
            [*shell, *command, "2000"],
            stdout=subprocess.PIPE,
            stderr=writer,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        assert ran.returncode == 1
        assert int(ran.stdout) > 1000
    told = subprocess.run(
        [*command, "1"], capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    said = ("click\n", "print\n", "a warning", "last resort\n", "unraisable", "in a thread")
    assert all(words in told.stderr for words in said), told.stderr
    assert told.stderr.endswith("ValueError: the last\n")
    assert (told.stdout, told.returncode) == ("0\n", 1)


ODD = """
import json, sys
from cfw.cli._logging import configure_logging
import structlog
lines = configure_logging(sys.argv[1], "info")
log = structlog.get_logger("odd")

class Odd:
    def __repr__(self):
        raise ZeroDivisionError
    __str__ = __repr__

class OddError(Exception):
    def __str__(self):
        raise ZeroDivisionError

ring = []
ring.append(ring)
deep = {}
for _ in range(100_000):
    deep = {"deep": deep}
values = [Odd(), {("a", 1): 2}, ring, deep, "\\ud800", 10 ** 5000, {Odd()}, b"\\xff", object]
for value in values:
    log.info("odd.value", value=value, user_id="ada", unwritten=0)
try:
    raise OddError
except OddError:
    log.exception("odd.error", user_id="ada")
try:
    raise ValueError("x\\x1b[2J\\x9b\\n2026-01-01 [info] forged")
except ValueError:
    log.exception("odd.text", detail="y\\x1b\\x7f\\n2026 forged\\u202e")
log.info("odd.count", unwritten=Odd())
log.info("odd.nothing", value=None)
"""


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_no_value_of_an_event_raises_out_of_the_log(log_format: str) -> None:
    """Of each a line comes, with all in it that can be said."""
    ran = subprocess.run(
        [sys.executable, "-c", ODD, log_format],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    lines = ran.stderr.splitlines()
    assert sum("odd.value" in line for line in lines) == 9
    assert all("ada" in line for line in lines if "odd.value" in line)
    assert sum("odd.error" in line for line in lines) == 1
    assert "odd.nothing" in lines[-1]
    assert "None" not in lines[-1]
    assert "null" not in lines[-1]
    assert all(line.isprintable() for line in lines)
    assert not [line for line in lines if line.startswith("2026-01-01 [info]")]
    if log_format == "json":
        told: list[dict[str, Any]] = [json.loads(line) for line in lines]
        assert {line["level"] for line in told} == {"info", "error"}
        text = next(line for line in told if line["event"] == "odd.text")
        assert text["detail"] == "y\x1b\x7f\n2026 forged\u202e"
