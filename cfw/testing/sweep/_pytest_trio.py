"""The one module that touches pytest-trio's private names: the order of its fixtures.

pytest-trio keeps the fixtures of a test, and the events they wait for, in sets, so they start
and end in another order in every run. Here they come in the order in which they were made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import wraps
from itertools import count
from typing import Any

from cfw.testing.sweep._trio import replaced

_MODULE = "pytest_trio.plugin"
_numbers = count()


class _Ordered(dict[Any, None]):
    """As much of a set as pytest-trio needs, in the order of insertion."""

    def add(self, item: object) -> None:
        self[item] = None


@contextmanager
def fixtures_in_order() -> Iterator[None]:
    """Let pytest-trio start and end fixtures in one order inside."""
    with (
        replaced(_MODULE, "TrioFixture.__init__", _numbering),
        replaced(_MODULE, "TrioFixture.register_and_collect_dependencies", _sorting),
    ):
        yield


def _numbering(init: Callable[..., None]) -> Callable[..., None]:
    @wraps(init)
    def numbered(fixture: Any, *args: Any, **kwargs: Any) -> None:
        init(fixture, *args, **kwargs)
        fixture._sweep_number = next(_numbers)
        fixture.user_done_events = _Ordered()

    return numbered


def _sorting(collect: Callable[..., Iterable[Any]]) -> Callable[..., Iterable[Any]]:
    @wraps(collect)
    def collected(fixture: Any) -> list[Any]:
        return sorted(collect(fixture), key=lambda one: one._sweep_number)

    return collected
