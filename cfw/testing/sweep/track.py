"""How a tracked resource is read at the end of a run."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import Any, Literal, TypeVar

import trio

T = TypeVar("T")

AT_LEAST_ONCE: Literal["at least once"] = "at least once"

_LOCKS = (trio.Lock, trio.StrictFIFOLock)


@dataclass(frozen=True)
class Tracked:
    """What is wrong with a resource, or None; asked when the run is over."""

    verdict: Callable[[], str | None]

    @staticmethod
    def of(
        name: str,
        resource: T,
        closes: Collection[int] | Literal["at least once"] | None,
        closed: Callable[[T], object] | None,
        reader: Callable[[], object] | None,
        expect: object,
    ) -> Tracked:
        """Choose what to read from the kind of `resource`.

        Raises:
            TypeError: there is nothing to check on such an object.
        """
        if reader is not None:
            return Tracked(_equal("state", reader, expect))
        found: Any = resource
        if closes is None and closed is None:
            if isinstance(found, trio.MemorySendChannel):
                return Tracked(lambda: _send_end(found))
            if isinstance(found, trio.MemoryReceiveChannel):
                return Tracked(_receive_end(found))
            if isinstance(found, trio.CapacityLimiter):
                return Tracked(_equal("tokens borrowed", lambda: found.borrowed_tokens, 0))
            if isinstance(found, trio.Semaphore):
                return Tracked(_equal("value", lambda: found.value, found.value))
            if isinstance(found, _LOCKS):
                return Tracked(_equal("locked", found.locked, False))
        right = closes
        if right is None:
            is_stream = isinstance(found, (trio.abc.SendStream, trio.abc.ReceiveStream))
            right = AT_LEAST_ONCE if is_stream else (1,)
        if isinstance(found, trio.StapledStream) and closed is None and right == AT_LEAST_ONCE:
            return Tracked(_halves(name, found))
        return Tracked(_Closes(name, found, right, closed).verdict)


def _halves(name: str, stream: Any) -> Callable[[], str | None]:
    """Both halves are closed, each by itself or by the whole, which closes both."""
    halves = {
        half: _Closes(f"{name}.{half}", getattr(stream, half), AT_LEAST_ONCE, None)
        for half in ("send_stream", "receive_stream")
    }

    def verdict() -> str | None:
        for half, closing in halves.items():
            wrong = closing.verdict()
            if wrong is not None:
                return f"{half}: {wrong}"
        return None

    return verdict


def _equal(what: str, read: Callable[[], object], expected: object) -> Callable[[], str | None]:
    def verdict() -> str | None:
        got = read()
        return None if got == expected else f"{what}: {got!r}, not {expected!r}"

    return verdict


def _send_end(channel: Any) -> str | None:
    now = channel.statistics()
    if now.current_buffer_used:
        return f"items left in the buffer: {now.current_buffer_used}, not 0"
    if now.open_send_channels:
        return f"send ends left open, clones included: {now.open_send_channels}, not 0"
    return None


def _receive_end(channel: Any) -> Callable[[], str | None]:
    """Count items never received: closing the last receive end empties the buffer."""
    thrown_away = 0

    def follow(end: Any) -> None:
        close, clone = end.close, end.clone

        @wraps(close)
        def counting_close() -> None:
            nonlocal thrown_away
            before = end.statistics()
            close()
            thrown_away += before.current_buffer_used - end.statistics().current_buffer_used

        @wraps(clone)
        def followed_clone() -> Any:
            another = clone()
            follow(another)
            return another

        end.close, end.clone = counting_close, followed_clone

    def verdict() -> str | None:
        now = channel.statistics()
        unread = thrown_away + now.current_buffer_used
        if unread:
            return f"items left in or thrown away with the buffer: {unread}, not 0"
        if now.open_receive_channels:
            return (
                f"receive ends left open, clones included: {now.open_receive_channels}, not 0"
            )
        return None

    follow(channel)
    return verdict


class _Closes:
    """Counts calls of `aclose` and `close`, and whether one of them came to its end.

    The counters are put before the instance's own methods. `aclose` that calls `close` is
    one close; two tasks that close are two.
    """

    def __init__(
        self,
        name: str,
        resource: Any,
        right: Collection[int] | Literal["at least once"],
        closed: Callable[[Any], object] | None,
    ) -> None:
        self._resource = resource
        self._right = right
        self._closed = closed
        self._begun = 0
        self._is_done = False
        self._broken_by: str = ""
        self._closing: set[int] = set()
        wrappers = (("aclose", self._async_counter), ("close", self._sync_counter))
        counted = [self._count(attribute, wrap) for attribute, wrap in wrappers]
        if not any(counted):
            raise TypeError(
                f"nothing to check on {name!r}, a {type(resource).__name__}: "
                "pass state= and expect="
            )

    def verdict(self) -> str | None:
        """What is wrong, or None."""
        if isinstance(self._right, str):
            # Whatever closed it: also what has no close of its own, such as a reset.
            if not self._begun and not self._says_so():
                return f"times closed: 0, not {self._right}"
        elif self._begun not in self._right:
            wanted = " or ".join(str(number) for number in sorted(self._right))
            return f"times closed: {self._begun}, not {wanted}"
        if self._begun and not self._is_closed():
            return (
                f"left open: {self._broken_by} ended its close before it was over. If it "
                "closes itself even then, pass closed=, a function that reads whether it is"
            )
        return None

    def _is_closed(self) -> bool:
        return self._says_so() or (self._closed is None and self._is_done)

    def _says_so(self) -> bool:
        """Whether the resource itself says that it is closed."""
        if self._closed is not None:
            return bool(self._closed(self._resource))
        return any(
            getattr(self._resource, flag, None) is True for flag in ("closed", "is_closed")
        )

    def _count(self, attribute: str, wrap: Callable[[Callable[..., Any]], object]) -> bool:
        method = getattr(self._resource, attribute, None)
        if not callable(method):
            return False
        try:
            setattr(self._resource, attribute, wrap(method))
        except AttributeError:
            return False
        return True

    @contextmanager
    def _counted_once(self) -> Iterator[None]:
        task = id(trio.lowlevel.current_task()) if trio.lowlevel.in_trio_task() else 0
        inner = task in self._closing
        self._begun += not inner
        self._closing.add(task)
        try:
            yield
        except BaseException as exc:
            # Its name alone: a traceback would keep alive what the run has let go.
            self._broken_by = self._broken_by or type(exc).__name__
            raise
        else:
            # A `close` inside an `aclose` that is cancelled at its end has closed it.
            self._is_done = True
        finally:
            if not inner:
                self._closing.discard(task)

    def _sync_counter(self, close: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(close)
        def counting(*args: Any, **kwargs: Any) -> Any:
            with self._counted_once():
                return close(*args, **kwargs)

        return counting

    def _async_counter(self, aclose: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(aclose)
        async def counting(*args: Any, **kwargs: Any) -> Any:
            with self._counted_once():
                return await aclose(*args, **kwargs)

        return counting
