"""Replay tokens: one failing point in one line that survives a shell and another process.

A token names the test, the sweep in it and the point, and carries checks that it still is
the same point: checksums of the parameters and of the settings that decide the verdict,
Trio's version, and the number of the whole prefix of steps at each fault. Any difference is
a `StaleToken`; no other point is ever run in its place.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote
from zlib import crc32

import trio

from cfw.testing.sweep.errors import StaleToken, TokenError
from cfw.testing.sweep.facts import Settings
from cfw.testing.sweep.points import AFTER, BEFORE, Fault, Point
from cfw.testing.sweep.schedule import parse_schedule, schedule_text
from cfw.testing.sweep.sites import ADDRESS

VERSION = "sweep2"

#: What decides the verdict on a run beside its point; the rest only chooses points.
_JUDGED = ("heal", "limit", "seed", "allow", "without")


@dataclass(frozen=True, slots=True)
class Sweep:
    """Which sweep a token belongs to.

    Attributes:
        test: pytest's node id, parameters included; outside pytest the scenario's module
            and qualified name.
        name: of the scenario.
        nth: which sweep of that name in the test, from 1.
    """

    test: str
    name: str
    nth: int = 1

    def is_of(self, test: str) -> bool:
        """Whether it is of this test, named from here or from a folder above or below."""
        (one, _, name), (two, _, other) = self.test.partition("::"), test.partition("::")
        parts, others = one.split("/"), two.split("/")
        least = min(len(parts), len(others))
        return name == other and parts[-least:] == others[-least:]

    def __str__(self) -> str:
        nth = f" (sweep {self.nth} of that name)" if self.nth > 1 else ""
        return f"{self.name} in {self.test}{nth}"


@dataclass(frozen=True)
class Token:
    """What a replay token says.

    Attributes:
        sweep: the test and the sweep in it.
        point: parameters (by index), schedule and faults.
        params: checksum of the parameter set.
        trio: version of Trio the point was found on.
        batches: how many batches a run of it may take, as when it was found.
        settings: checksum of what decides the verdict.
    """

    sweep: Sweep
    point: Point
    params: str
    trio: str
    batches: int
    settings: str

    def __str__(self) -> str:
        faults = "+".join(
            f"{fault.step}{fault.when}{fault.hash:x}={_quote(fault.name)}"
            for fault in self.point.faults
        )
        return ":".join(
            [
                VERSION,
                _quote(self.sweep.test),
                f"{_quote(self.sweep.name)}@{self.sweep.nth}",
                f"{self.point.params}-{self.params}",
                schedule_text(self.point.schedule),
                faults,
                _quote(self.trio),
                str(self.batches),
                self.settings,
            ]
        )

    @classmethod
    def of(
        cls,
        sweep: Sweep,
        point: Point,
        params: Mapping[str, object],
        settings: Settings,
        batches: int,
    ) -> Token:
        """The token of a point found by this process."""
        checks = params_checksum(params), trio.__version__, batches, settings_checksum(settings)
        return cls(sweep, point, *checks)

    @classmethod
    def parse(cls, text: str) -> Token:
        """Read a token.

        Raises:
            TokenError: it is none, or of another format version.
        """
        parts = text.strip().split(":")
        if parts[0] != VERSION:
            raise TokenError(f"not a {VERSION} token: {text!r}")
        try:
            _, test, name, params, schedule, faults, version, batches, settings = parts
            name, _, nth = name.partition("@")
            index, _, checksum = params.partition("-")
            point = Point(
                int(index),
                parse_schedule(schedule),
                tuple(_parse_fault(item) for item in faults.split("+") if item),
            )
            sweep = Sweep(unquote(test), unquote(name), int(nth))
            return cls(sweep, point, checksum, unquote(version), int(batches), settings)
        except ValueError as exc:
            raise TokenError(f"not a whole token: {text!r}") from exc

    @classmethod
    def read(cls, text: str) -> Token:
        """A token as it stands, or the first one in a file: its own, a report, a log of CI.

        Raises:
            TokenError: it is neither.
        """
        if text.strip().startswith(VERSION):
            return cls.parse(text)
        try:
            content = Path(text).read_text("utf-8", "replace")
        except OSError as exc:
            raise TokenError(f"neither a {VERSION} token nor a file with one: {exc}") from exc
        found = re.search(rf"\b{VERSION}:[\w%:@.+=~-]+", content)
        if found is None:
            raise TokenError(f"no {VERSION} token in {text}")
        return cls.parse(found[0])

    def check(self, sweep: Sweep, params: list[dict[str, object]], settings: Settings) -> None:
        """Refuse a token that does not belong here.

        Raises:
            TokenError: it belongs to another sweep.
            StaleToken: the parameters, the settings or Trio are other ones now.
        """
        if self.sweep != sweep:
            raise TokenError(f"this token belongs to {self.sweep}, not to {sweep}")
        if self.trio != trio.__version__:
            raise StaleToken(
                f"stale token: made with trio {self.trio}, this is trio {trio.__version__}"
            )
        index = self.point.params
        if index >= len(params) or params_checksum(params[index]) != self.params:
            raise StaleToken(f"stale token: parameter set {index} is not what it was")
        if settings_checksum(settings) != self.settings:
            raise StaleToken(
                f"stale token: {', '.join(_JUDGED[:-1])} or {_JUDGED[-1]} is not what it was "
                "when the token was made; pass the sweep's own settings"
            )


def params_checksum(params: Mapping[str, object]) -> str:
    """Eight hex digits over names and values, equal in every process."""
    text = ";".join(f"{name}={stable(value)}" for name, value in sorted(params.items()))
    return f"{crc32(text.encode()):08x}"


def settings_checksum(settings: Settings) -> str:
    """Eight hex digits over the settings that decide the verdict on a run."""
    return params_checksum({name: getattr(settings, name) for name in _JUDGED})


def stable(value: object) -> str:
    """A `repr` without addresses, functions by name, sets and dicts in one order."""
    kind = type(value)
    if kind in (set, frozenset):
        assert isinstance(value, set | frozenset)
        return f"{kind.__name__}({', '.join(sorted(map(stable, value)))})"
    if kind is dict:
        assert isinstance(value, dict)
        items = (f"{stable(key)}: {stable(item)}" for key, item in value.items())
        return f"{{{', '.join(sorted(items))}}}"
    if kind in (list, tuple):
        assert isinstance(value, list | tuple)
        return f"{kind.__name__}({', '.join(map(stable, value))})"
    qualname = getattr(value, "__qualname__", None)
    if callable(value) and isinstance(qualname, str):
        return f"{getattr(value, '__module__', None)}.{qualname}{_body(value)}"
    return ADDRESS.sub("", repr(value))


def _body(value: object) -> str:
    """What a lambda does: all of one function have one name."""
    code = getattr(value, "__code__", None)
    if code is None or code.co_name != "<lambda>":
        return ""
    constants = [stable(one) for one in code.co_consts if not isinstance(one, type(code))]
    return f" {crc32(f'{code.co_code!r}{constants}{code.co_names}'.encode()):x}"


def _parse_fault(text: str) -> Fault:
    where, _, name = text.partition("=")
    digits = len(where) - len(where.lstrip("0123456789"))
    step, when, number = where[:digits], where[digits : digits + 1], where[digits + 1 :]
    if when not in (BEFORE, AFTER) or not name:
        raise ValueError(text)
    return Fault(unquote(name), int(step), when, int(number, 16))


def _quote(text: str) -> str:
    return quote(text, safe="")
