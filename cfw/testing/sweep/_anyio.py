"""Tests that AnyIO's pytest plugin runs on Trio, and the one name of it that is replaced.

The plugin asks for a runner, which keeps one run of Trio going from a test's first asynchronous
fixture to its end, with pytest's own steps in between. A sweep enters Trio once in each run,
for the test itself. So a test with such fixtures cannot be swept; one without them can.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, NoReturn

import pytest

from cfw.testing.sweep._trio import replaced
from cfw.testing.sweep.errors import CannotSweep

PLUGIN = "anyio.pytest_plugin"

TRIO = "trio"

_BACKENDS = f"{os.sep}anyio{os.sep}_backends{os.sep}"

Main = Callable[[], Awaitable[object]]


def is_registered(manager: pytest.PytestPluginManager) -> bool:
    """Whether the plugin runs tests in this session."""
    return manager.is_registered(sys.modules.get(PLUGIN))


def is_run_on_trio(item: pytest.Function) -> bool:
    """Whether the plugin would run an asynchronous test, as far as is known on Trio."""
    if "anyio_backend" not in item.fixturenames or not is_registered(item.config.pluginmanager):
        return False
    callspec = getattr(item, "callspec", None)
    backend = TRIO if callspec is None else callspec.params.get("anyio_backend", TRIO)
    return (backend if isinstance(backend, str) else backend[0]) == TRIO


def is_transparent(filename: str) -> bool:
    """Whether a file only hands on to Trio what a program asks of AnyIO's task groups."""
    return _BACKENDS in filename


@contextmanager
def runners(enter: Callable[[Main], None]) -> Iterator[None]:
    """Let the plugin run tests by `enter` inside."""

    def wrap(_: Callable[..., Any]) -> Callable[..., Any]:
        @contextmanager
        def get_runner(backend: str, options: Mapping[str, object]) -> Iterator[_Runner]:
            if backend != TRIO:
                raise CannotSweep(f"it runs on {backend}")
            yield _Runner(enter)

        return get_runner

    with replaced(PLUGIN, "get_runner", wrap):
        yield


class _Runner:
    """As much of AnyIO's test runner as its plugin needs."""

    def __init__(self, enter: Callable[[Main], None]) -> None:
        self._enter = enter

    def is_running(self) -> bool:
        return False

    def run_test(self, test: Callable[..., Awaitable[object]], kwargs: dict[str, Any]) -> None:
        self._enter(partial(test, **kwargs))

    def run_fixture(self, *_: object) -> NoReturn:
        raise CannotSweep(
            "AnyIO's plugin runs its asynchronous fixtures apart, between pytest's own steps"
        )

    run_asyncgen_fixture = run_fixture
