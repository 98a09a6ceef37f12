"""Listen to what Python and Trio can only warn about, hook or log, and pause the collector."""

from __future__ import annotations

import gc
import logging
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from typing import Any

from cfw.testing.sweep import options
from cfw.testing.sweep.facts import Noise

#: Trio reports to these loggers what it cannot raise.
_TRIO_LOGGERS = ("trio.abc.Instrument", "trio.async_generator_errors")


@contextmanager
def listening(noise: Noise, keep_output: bool = False) -> Iterator[None]:
    """Collect warnings, unraisable exceptions and Trio's own error logs; pause the GC.

    Args:
        noise: where they go.
        keep_output: whether what is printed and logged goes there as well, or nowhere.
    """

    def hook(unraisable: Any) -> None:
        noise.unraisable.append(f"{unraisable.exc_value!r} in {unraisable.object!r}")

    saved_hook, gc_was_on = sys.unraisablehook, gc.isenabled()
    with ExitStack() as stack:
        noise.warnings = stack.enter_context(warnings.catch_warnings(record=True))
        warnings.filters[:] = _filters()  # type: ignore[index]
        # What no filter matches; adding a filter also voids what was warned of before.
        warnings.simplefilter("always", append=True)
        for name in _TRIO_LOGGERS:
            stack.enter_context(_overheard(logging.getLogger(name), noise.logged.append))
        stack.enter_context(_hushed(noise, keep_output))
        sys.unraisablehook = hook
        gc.disable()
        try:
            yield
        finally:
            if gc_was_on:
                gc.enable()
            sys.unraisablehook = saved_hook


@contextmanager
def _hushed(noise: Noise, keep: bool) -> Iterator[None]:
    """Take what is printed, and note what is logged: hundreds of runs say the same.

    With `options.live` it goes where it always goes.
    """
    if options.current.live:
        yield
        return
    text = StringIO()
    handler = logging.StreamHandler(text)
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    with redirect_stdout(text), redirect_stderr(text):
        if keep:
            logging.getLogger().addHandler(handler)
        try:
            yield
        finally:
            logging.getLogger().removeHandler(handler)
            noise.output += text.getvalue() if keep else ""


def _filters() -> list[Any]:
    """The filters in force, with what would hide a leak taken out.

    Leaks, which is what `ResourceWarning` and `RuntimeWarning` tell of, are always heard, and
    never raised, as that would be where nobody can see it: in a finaliser. Only a filter that
    ignores a message or a module of its own comes before that. Everything else is as the
    caller has it, except that what is shown is not only shown once for each line.
    """
    own: list[Any] = []
    rest: list[Any] = []
    for action, message, category, module, line in warnings.filters:
        if action == "ignore" and (message or module):
            own.append((action, message, category, module, line))
        else:
            shown = action in ("default", "module", "once")
            rest.append(("always" if shown else action, message, category, module, line))
    leaks = [("always", None, kind, None, 0) for kind in (ResourceWarning, RuntimeWarning)]
    return own + leaks + rest


@contextmanager
def _overheard(logger: logging.Logger, note: Callable[[str], None]) -> Iterator[None]:
    """Take every record of a logger, whatever its level, its filters or `logging.disable`."""

    def handle(record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        note(f"{record.getMessage()} {error!r}")

    # Found before the methods of the class; what the scenario sets up is never asked.
    logger.__dict__.update(isEnabledFor=lambda level: True, handle=handle)
    try:
        yield
    finally:
        for name in ("isEnabledFor", "handle"):
            logger.__dict__.pop(name, None)
