"""How a tracked resource is read at the end of a run."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import Any

import trio

_LOCKS = (trio.Lock, trio.StrictFIFOLock)


@dataclass(frozen=True)
class Tracked:
    """A resource's question and its right answers; `verdict` compares them."""

    what: str
    read: Callable[[], object]
    is_right: Callable[[object], bool]
    expected: str

    def verdict(self) -> str | None:
        """What is wrong with the resource, or None."""
        got = self.read()
        return None if self.is_right(got) else f"{self.what}: {got!r}, not {self.expected}"

    @staticmethod
    def of(
        name: str,
        resource: object,
        closes: Collection[int] | None,
        reader: Callable[[], object] | None,
        expect: object,
    ) -> Tracked:
        """Choose what to read from the kind of `resource`.

        Raises:
            TypeError: there is nothing to check on such an object.
        """
        if reader is not None:
            return Tracked("state", reader, lambda got: got == expect, repr(expect))
        found: Any = resource
        if closes is None:
            if isinstance(found, trio.MemorySendChannel):
                return _zero(
                    "items left in the buffer", lambda: found.statistics().current_buffer_used
                )
            if isinstance(found, trio.MemoryReceiveChannel):
                return _zero("items left in or thrown away with the buffer", _unread(found))
            if isinstance(found, trio.CapacityLimiter):
                return _zero("tokens still borrowed", lambda: found.borrowed_tokens)
            if isinstance(found, trio.Semaphore):
                full = found.value
                return Tracked(
                    "value", lambda: found.value, lambda got: got == full, repr(full)
                )
            if isinstance(found, _LOCKS):
                return Tracked("locked", found.locked, lambda got: got is False, "False")
        count = _count_closes(name, resource)
        right = (1,) if closes is None else closes
        wanted = " or ".join(str(number) for number in sorted(right))
        return Tracked("times closed", count, lambda got: got in right, wanted)


def _zero(what: str, read: Callable[[], object]) -> Tracked:
    return Tracked(what, read, lambda got: got == 0, "0")


def _unread(channel: Any) -> Callable[[], int]:
    """Count items never received: closing the last receive end empties the buffer."""
    thrown_away = 0
    close = channel.close

    @wraps(close)
    def counting_close() -> None:
        nonlocal thrown_away
        before = channel.statistics()
        close()
        thrown_away += before.current_buffer_used - channel.statistics().current_buffer_used

    channel.close = counting_close
    return lambda: thrown_away + int(channel.statistics().current_buffer_used)


def _count_closes(name: str, resource: object) -> Callable[[], int]:
    """Count calls of `aclose` and `close` by putting a counter before the instance's own."""
    found: Any = resource
    calls = 0
    closing: set[int] = set()

    @contextmanager
    def counted_once() -> Iterator[None]:
        nonlocal calls
        task = id(trio.lowlevel.current_task()) if trio.lowlevel.in_trio_task() else 0
        # `aclose` that calls `close` is one close; two tasks that close are two.
        inner = task in closing
        calls += not inner
        closing.add(task)
        try:
            yield
        finally:
            if not inner:
                closing.discard(task)

    def sync_counter(close: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(close)
        def counting(*args: Any, **kwargs: Any) -> Any:
            with counted_once():
                return close(*args, **kwargs)

        return counting

    def async_counter(aclose: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(aclose)
        async def counting(*args: Any, **kwargs: Any) -> Any:
            with counted_once():
                return await aclose(*args, **kwargs)

        return counting

    counted = False
    for attribute, counter in (("aclose", async_counter), ("close", sync_counter)):
        method = getattr(found, attribute, None)
        if callable(method):
            try:
                setattr(found, attribute, counter(method))
            except AttributeError:
                continue
            counted = True
    if not counted:
        raise TypeError(
            f"nothing to check on {name!r}, a {type(resource).__name__}: "
            "pass state= and expect="
        )
    return lambda: calls
