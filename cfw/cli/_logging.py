"""Structured logs on standard error: one line per event, never a payload or a secret.

A call to the log never waits and never raises, whatever is in the event and whatever has become
of standard error; what is not written is counted.
"""

from __future__ import annotations

import io
import json
import logging
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, TextIO

import structlog

from cfw.cli._lines import Lines
from cfw.cli._streams import standard_error
from cfw.printable import printable


def configure_logging(log_format: str, level: str) -> Lines:
    """Set up structlog for this process; gives the lines that it writes, and has lost.

    Args:
        log_format: `console` for people, `json` for machines.
        level: the least severe level that is written: debug, info, warning or error.
    """
    lines = standard_error()
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _drop_none,
    ]
    if log_format == "json":
        ends: list[Any] = [
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
            _printable_line,
        ]
    else:
        ends = [
            _printable_values,
            structlog.dev.ConsoleRenderer(
                colors=_wants_colors(lines.fd), exception_formatter=_printable_traceback
            ),
        ]
    structlog.configure(
        processors=[_Chain([*shared, *ends], lines)],
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelName(level.upper())
        ),
        logger_factory=lambda *_: _Logger(lines),
        cache_logger_on_first_use=True,
    )
    return lines


def _wants_colors(fd: int) -> bool:
    """A terminal gets colours, unless its user has set NO_COLOR (no-color.org)."""
    return os.isatty(fd) and not os.environ.get("NO_COLOR")


class _Logger:
    """What structlog gives a finished line to."""

    def __init__(self, lines: Lines) -> None:
        self._lines = lines

    def msg(self, line: str, *, tells: int) -> None:
        self._lines.put(f"{line}\n".encode("utf-8", "backslashreplace"), tells=tells)

    debug = info = warning = error = critical = msg


class _Chain:
    """Runs processors over an event. Of whatever is in it comes a line, and no exception.

    Args:
        processors: the last gives the line.
        lines: asked for the lost ones, which the next line tells of.
    """

    def __init__(self, processors: Sequence[Any], lines: Lines) -> None:
        self._processors = processors
        self._lines = lines

    def __call__(
        self, logger: Any, name: str, event: structlog.types.EventDict
    ) -> tuple[tuple[str], dict[str, int]]:
        untold = self._lines.take_untold()
        if untold:
            # A throttle has a number of its own there: of lines that were held back.
            held_back = event.get("unwritten")
            event["unwritten"] = untold + (held_back if isinstance(held_back, int) else 0)
        done: Any = dict(event)
        try:
            for process in self._processors:
                done = process(logger, name, done)
        except Exception as exc:
            done = _line_of_odd_event(name, event, exc)
        return (done,), {"tells": untold}


def _line_of_odd_event(level: str, event: structlog.types.EventDict, problem: Exception) -> str:
    """All that can be said of an event which the processors could not take."""
    told = {key: _sayable(value) for key, value in event.items() if key != "exc_info"}
    told |= {"level": level, "timestamp": datetime.now(UTC).isoformat()}
    return printable(json.dumps(told | {"log_failed": type(problem).__name__}))


def _sayable(value: object) -> object:
    try:
        json.dumps(value)
    except Exception:
        try:
            return repr(value)
        except Exception:
            return f"<{type(value).__name__}>"
    return value


def _drop_none(_: Any, __: str, event: structlog.types.EventDict) -> structlog.types.EventDict:
    return {key: value for key, value in event.items() if value is not None}


def _printable_line(_: Any, __: str, line: str) -> str:
    return printable(line)  # JSON has DEL as it is


def _printable_values(
    _: Any, __: str, event: structlog.types.EventDict
) -> structlog.types.EventDict:
    return {
        key: value
        if key == "exc_info" or isinstance(value, int | float)
        else printable(value if isinstance(value, str) else repr(value))
        for key, value in event.items()
    }


def _printable_traceback(sio: TextIO, exc_info: structlog.types.ExcInfo) -> None:
    """Write a traceback, indented: no line of an exception's text passes for one of the log."""
    text = io.StringIO()
    structlog.dev.plain_traceback(text, exc_info)
    lines = text.getvalue().strip("\n").split("\n")
    sio.write("".join(f"\n    {printable(line)}" for line in lines))
