"""Replay tokens: one failing point in one line that survives a shell and another process.

A token names the point and carries checks that it still is the same point: the parameters'
checksum, Trio's version, and the number of the whole prefix of steps at each fault. Any
difference is a `StaleToken`; no other point is ever run in its place.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote, unquote
from zlib import crc32

import trio

from .errors import StaleToken, TokenError
from .points import AFTER, BEFORE, Fault, Point
from .run import MIN_BATCHES
from .schedule import parse_schedule, schedule_text
from .sites import ADDRESS

VERSION = "sweep1"


@dataclass(frozen=True)
class Token:
    """What a replay token says.

    Attributes:
        test: the scenario's qualified name.
        point: parameters (by index), schedule and faults.
        params: checksum of the parameter set.
        trio: version of Trio the point was found on.
        batches: how many batches a run of it may take, as when it was found.
    """

    test: str
    point: Point
    params: str
    trio: str
    batches: int

    def __str__(self) -> str:
        faults = "+".join(
            f"{fault.step}{fault.when}{fault.hash:x}={_quote(fault.name)}"
            for fault in self.point.faults
        )
        return ":".join(
            [
                VERSION,
                _quote(self.test),
                f"{self.point.params}-{self.params}",
                schedule_text(self.point.schedule),
                faults,
                _quote(self.trio),
                str(self.batches),
            ]
        )

    @classmethod
    def of(
        cls, test: str, point: Point, params: Mapping[str, object], batches: int = MIN_BATCHES
    ) -> Token:
        """The token of a point found by this process."""
        return cls(test, point, params_checksum(params), trio.__version__, batches)

    @classmethod
    def parse(cls, text: str) -> Token:
        """Read a token.

        Raises:
            TokenError: it is none, or of another format version.
        """
        fields = text.strip().split(":")
        if fields[0] != VERSION:
            raise TokenError(f"not a {VERSION} token: {text!r}")
        try:
            _, test, params, schedule, faults, version, batches = fields
            index, _, checksum = params.partition("-")
            point = Point(
                int(index),
                parse_schedule(schedule),
                tuple(_parse_fault(item) for item in faults.split("+") if item),
            )
            return cls(unquote(test), point, checksum, unquote(version), int(batches))
        except ValueError as exc:
            raise TokenError(f"not a whole token: {text!r}") from exc

    def check(self, test: str, params: list[dict[str, object]]) -> None:
        """Refuse a token that does not belong here.

        Raises:
            TokenError: it belongs to another test.
            StaleToken: the parameters or Trio are other ones now.
        """
        if self.test != test:
            raise TokenError(f"this token belongs to {self.test}, not to {test}")
        if self.trio != trio.__version__:
            raise StaleToken(
                f"stale token: made with trio {self.trio}, this is trio {trio.__version__}"
            )
        index = self.point.params
        if index >= len(params) or params_checksum(params[index]) != self.params:
            raise StaleToken(f"stale token: parameter set {index} is not what it was")


def params_checksum(params: Mapping[str, object]) -> str:
    """Eight hex digits over names and values, equal in every process."""
    text = ";".join(f"{name}={_stable(value)}" for name, value in sorted(params.items()))
    return f"{crc32(text.encode()):08x}"


def _stable(value: object) -> str:
    """A `repr` without addresses, functions by name, sets and dicts in one order."""
    kind = type(value)
    if kind in (set, frozenset):
        assert isinstance(value, set | frozenset)
        return f"{kind.__name__}({', '.join(sorted(map(_stable, value)))})"
    if kind is dict:
        assert isinstance(value, dict)
        items = (f"{_stable(key)}: {_stable(item)}" for key, item in value.items())
        return f"{{{', '.join(sorted(items))}}}"
    if kind in (list, tuple):
        assert isinstance(value, list | tuple)
        return f"{kind.__name__}({', '.join(map(_stable, value))})"
    qualname = getattr(value, "__qualname__", None)
    if callable(value) and isinstance(qualname, str):
        return f"{getattr(value, '__module__', None)}.{qualname}"
    return ADDRESS.sub("", repr(value))


def _parse_fault(text: str) -> Fault:
    where, _, name = text.partition("=")
    digits = len(where) - len(where.lstrip("0123456789"))
    step, when, number = where[:digits], where[digits : digits + 1], where[digits + 1 :]
    if when not in (BEFORE, AFTER) or not name:
        raise ValueError(text)
    return Fault(unquote(name), int(step), when, int(number, 16))


def _quote(text: str) -> str:
    return quote(text, safe="")
