"""Standard output and standard error of a `cfw` process, whatever is at their other end.

Python's own cannot be used where either may be stuck or broken: writing to them waits and
raises, and what they could not write they try again when the interpreter ends.
"""

from __future__ import annotations

import atexit
import errno
import io
import os
import sys
import threading
from collections.abc import Callable
from functools import cache
from typing import IO, Any, Final, TextIO, TypeAlias

import click

from cfw.cli._lines import Lines, write_some

#: Seconds that what waits for standard error has when the process ends.
FLUSH_S: Final = 2.0
#: No descriptor.
_NONE: Final = -1
#: A line that is longer is written before it has ended.
_MOST_BEGUN_BYTES: Final = 64 * 1024

_Data: TypeAlias = bytes | bytearray | memoryview


class OutputError(click.ClickException):
    """Standard output is closed, full or broken; ends a command with one line."""


class ReaderLeft(OutputError):
    """Nobody reads standard output any more: enough has been seen, which is no failure."""

    exit_code = 0

    def __init__(self) -> None:
        super().__init__("the reader of standard output has left")

    def show(self, file: IO[Any] | None = None) -> None:
        """Say it on standard error."""
        click.echo(self.message, file, err=True)


def _output_error(cause: OSError) -> OutputError:
    if cause.errno == errno.EPIPE:
        return ReaderLeft()
    if cause.errno == errno.EBADF:
        return OutputError("standard output is closed")
    return OutputError(f"standard output cannot be written: {cause.strerror or cause}")


def own_streams() -> None:
    """Put streams that can be relied on in the place of `sys.stdout` and `sys.stderr`.

    Writing to the first raises `OutputError`. Writing to the second never waits and never
    raises, so that nothing else that speaks there, such as a warning, holds a worker up.
    What is not the interpreter's own, such as that of a test, stays.
    """
    _reserve_descriptors()
    if sys.stdout is sys.__stdout__:
        sys.stdout = _text(_Output(_descriptor(sys.__stdout__)), sys.__stdout__)
    if sys.stderr is sys.__stderr__:
        told = _Told(standard_error())
        sys.stderr = _text(told, sys.__stderr__)
        atexit.register(told.flush)  # before the lines are closed: last in, first out


@cache
def standard_error() -> Lines:
    """The lines of this process's standard error; at its end they have `FLUSH_S`."""
    lines = Lines(_descriptor(sys.__stderr__))
    atexit.register(lines.close, FLUSH_S)
    return lines


def put_result(text: str) -> None:
    """Print what came of something that is done and cannot be undone.

    Where standard output cannot be written, standard error is told instead, and the command
    has not failed for that.
    """
    try:
        click.echo(text)
    except OutputError as exc:
        click.echo(f"{exc.message}: {text}", err=True)


def _reserve_descriptors() -> None:
    """Let no socket get the number of a standard stream that is closed.

    Code below Python writes its last words to 2, which would be a rig's connection. Opened
    for reading, each still says that it cannot be written.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDONLY)  # gets the lowest number that is free


def _descriptor(stream: TextIO | None) -> int:
    try:
        return _NONE if stream is None else stream.fileno()
    except (OSError, ValueError):
        return _NONE


def _text(raw: io.RawIOBase, like: TextIO | None) -> TextIO:
    encoding = "utf-8" if like is None else like.encoding
    # Written through: nothing is kept for the interpreter to try again at its end.
    return io.TextIOWrapper(raw, encoding, "backslashreplace", write_through=True)  # type: ignore[type-var]


class _Raw(io.RawIOBase):
    def __init__(self, fd: int) -> None:
        self._fd = fd

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._fd

    def isatty(self) -> bool:
        return os.isatty(self._fd)


class _Output(_Raw):
    """Writes at once or raises `OutputError`; no lock that a thread left behind could hold."""

    #: As Python's own has it; click and others ask for it.
    name = "<stdout>"

    def write(self, data: _Data) -> int:  # type: ignore[override]
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[write_some(self._fd, rest) :]
        except OSError as exc:
            raise _output_error(exc) from None
        return len(data)


class _Told(_Raw):
    """Hands whole lines over to be written, and what is no line yet when it is flushed."""

    name = "<stderr>"

    def __init__(self, lines: Lines) -> None:
        super().__init__(lines.fd)
        self._put: Callable[[bytes], None] = lines.put
        self._lock = threading.RLock()
        self._begun = b""

    def write(self, data: _Data) -> int:  # type: ignore[override]
        with self._lock:
            *whole, self._begun = (self._begun + data).split(b"\n")
            for line in whole:
                self._put(line + b"\n")
            if len(self._begun) > _MOST_BEGUN_BYTES:
                self.flush()
        return len(data)

    def flush(self) -> None:
        with self._lock:
            begun, self._begun = self._begun, b""
        if begun:
            self._put(begun)
