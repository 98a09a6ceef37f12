"""What cannot be read is put aside: moved where nobody looks, counted, and told once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from cfw.valkey import _scripts as scripts
from cfw.valkey._link import Link, WrongKind
from cfw.valkey._names import aside, kind_of
from cfw.valkey._pipeline import Argument
from cfw.valkey._replies import Unreadable

_T = TypeVar("_T")


class Partitions:
    """Runs the scripts of partitions, whatever type somebody has given to a key of them.

    Such a key is moved to `unreadable:` in its partition, where it expires after `keep_s`, and
    the script is run again.

    Args:
        link: an open connection.
        told: called with each thing that cannot be read; must not raise.

    Attributes:
        unreadable: how many there were.
    """

    def __init__(self, link: Link, told: Callable[[Unreadable], object]) -> None:
        self.unreadable = 0
        self._link = link
        self._told = told

    def note(self, odd: Unreadable) -> None:
        """Count and tell what was not of a wrong type, but held what cannot be read."""
        self.unreadable += 1
        self._told(odd)

    async def run(self, script: str, keys: Sequence[str], args: Sequence[Argument]) -> Any:
        """Run a script whose keys are of one partition; see `Link.script`.

        Raises:
            ValkeyFailed: out of reach, late, or refused.

        Cancellation: it may have been run, or will be.
        """
        return await self.over(keys, lambda: self._link.script(script, keys, args))

    async def over(self, keys: Sequence[str], ask: Callable[[], Awaitable[_T]]) -> _T:
        """Ask what reads these keys of one partition, and once more without the odd ones.

        Raises:
            ValkeyFailed: as for `run`.
        """
        try:
            return await ask()
        except WrongKind:
            if not await self._sort_out(keys):
                raise
        return await ask()

    async def _sort_out(self, keys: Sequence[str]) -> bool:
        pairs = [name for key in keys for name in (key, aside(key))]
        kinds = [kind_of(key) for key in keys]
        keep_ms = round(1000 * self._link.address.keep_s)
        found = await self._link.script(scripts.SORT_OUT, pairs, [keep_ms, *kinds])
        for key in found:
            text = key.decode()
            self.note(Unreadable(text, f"is no {kind_of(text)}"))
        return bool(found)
