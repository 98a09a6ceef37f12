"""What sweeps leave in pytest's cache for the next time, and what they say meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext, suppress
from typing import Any

import pytest

from cfw.testing.sweep import options
from cfw.testing.sweep.errors import TokenError
from cfw.testing.sweep.tokens import Token

#: Attribute of a test's report: tokens of the points that failed in it.
FAILED = "sweeps_failed"

_CACHE = "sweep/lastfailed"
_EVERY_S = 30.0

_failed: dict[str, list[str]] = {}


def add_options(group: pytest.OptionGroup) -> None:
    """Those of this module."""
    group.addoption(
        "--sweep-last-failed",
        action="store_true",
        help="run the points that failed last time first; a sweep ends if one fails again",
    )
    group.addoption(
        "--sweep-continue",
        action="store_true",
        help="go on where a long sweep was stopped, by Ctrl-C, a time limit or a crash",
    )
    group.addoption(
        "--sweep-no-fork",
        action="store_true",
        help="run each point from the beginning, in one process",
    )


def configure(config: pytest.Config, now: options.Options) -> None:
    """Pass on what the cache has, and where it is."""
    _failed.clear()
    cache: Any = getattr(config, "cache", None)
    now.fork = False if config.getoption("--sweep-no-fork") else None
    now.resume = config.getoption("--sweep-continue")
    if cache is not None:
        # Where nothing can be written, nothing is kept.
        with suppress(OSError):
            now.folder = cache.mkdir("sweep")
        if config.getoption("--sweep-last-failed"):
            known = cache.get(_CACHE, {})
            now.failed = tuple(token for tokens in known.values() for token in tokens)
            now.failed = tuple(filter(_is_token, now.failed))
    if not hasattr(config, "workerinput"):
        now.progress = _progress(config)


def note(report: pytest.TestReport) -> None:
    """Take what a report says of its sweeps, also if they ran in another process."""
    failed = getattr(report, FAILED, None)
    if failed is not None:
        _failed[report.nodeid] = failed


def write(config: pytest.Config) -> None:
    """Write down which points of this session's tests failed; those of others stay known."""
    cache: Any = getattr(config, "cache", None)
    if cache is None or hasattr(config, "workerinput") or not _failed:
        return
    known = {**cache.get(_CACHE, {}), **_failed}
    cache.set(_CACHE, {test: tokens for test, tokens in known.items() if tokens})


def _is_token(text: str) -> bool:
    try:
        Token.parse(text)
    except TokenError:
        return False
    return True


def _progress(config: pytest.Config) -> Callable[[str], None]:
    """Shows one line that changes on a terminal, or now and then a new one elsewhere."""
    shown = ""
    since = time.monotonic()

    def show(line: str) -> None:
        nonlocal shown, since
        reporter: Any = config.pluginmanager.getplugin("terminalreporter")
        capture: Any = config.pluginmanager.getplugin("capturemanager")
        if reporter is None or not (line or shown):
            return
        is_terminal = reporter.isatty
        if not is_terminal and (not line or time.monotonic() - since < _EVERY_S):
            return
        since = time.monotonic()
        with capture.global_and_fixture_disabled() if capture is not None else nullcontext():
            if is_terminal:
                reporter.write(
                    "\r" + line.ljust(len(shown)) + ("" if line else "\r"), flush=True
                )
            else:
                reporter.write_line(line)
        shown = line

    return show
