"""Structured logs on standard error: one line per event, never a payload or a secret."""

from __future__ import annotations

import logging
import sys

import structlog

from cfw.printable import printable


def configure_logging(log_format: str, level: str) -> None:
    """Set up structlog for this process.

    Args:
        log_format: `console` for people, `json` for machines.
        level: the least severe level that is written: debug, info, warning or error.
    """
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _printable,
    ]
    if log_format == "json":
        ends: list[structlog.types.Processor] = [
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ]
    else:
        ends = [
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
            )
        ]
    structlog.configure(
        processors=[*shared, *ends],
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelName(level.upper())
        ),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )


def _printable(
    _: structlog.types.WrappedLogger, __: str, event: structlog.types.EventDict
) -> structlog.types.EventDict:
    """Leave out what is None, and escape what a rig could move a terminal's cursor with."""
    return {
        key: printable(value) if isinstance(value, str) else value
        for key, value in event.items()
        if value is not None
    }
