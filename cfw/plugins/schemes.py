"""Find the installed factory that a URL's scheme names.

Sinks (`cfw.sinks`) and session authorities (`cfw.sessions`) are chosen by URL. An entry
point of the group is named after the scheme, so a package adds a scheme by being installed.

    PluginError (ValueError)
    |-- UnknownScheme     nobody registered the scheme, or the text is no URL
    |-- AmbiguousScheme   two packages registered it differently
    `-- BrokenPlugin      registered, but its module cannot be imported
    OutOfReach            the world's: what it names does not answer
"""

from __future__ import annotations

import re
from importlib import metadata
from typing import Any

import attrs

#: RFC 3986, section 3.1.
SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")


class PluginError(ValueError):
    """A URL that leads to no usable plugin; the message says what to do."""


@attrs.define(slots=False, eq=False)
class UnknownScheme(PluginError):
    """No entry point of the group carries the URL's scheme.

    Args:
        group: the entry-point group that was searched.
        scheme: the scheme asked for, in lower case; empty if the text has none.
        allowed: the schemes that are registered, sorted.
    """

    group: str
    scheme: str
    allowed: tuple[str, ...]

    def __str__(self) -> str:
        problem = f"no {self.group} scheme '{self.scheme}:'" if self.scheme else "no scheme"
        if not self.allowed:
            return f"{problem}; none is registered in {self.group}: install the cfw package"
        choices = ", ".join(f"{name}:" for name in self.allowed)
        return (
            f"{problem}; allowed: {choices}. Use one of these, "
            "or install the package that provides it"
        )


@attrs.define(slots=False, eq=False)
class AmbiguousScheme(PluginError):
    """Several packages registered one scheme differently, and guessing would be unsafe.

    Args:
        group: the entry-point group that was searched.
        scheme: the scheme asked for, in lower case.
        targets: what it could mean, sorted.
    """

    group: str
    scheme: str
    targets: tuple[str, ...]

    def __str__(self) -> str:
        return (
            f"{self.group} scheme '{self.scheme}:' is registered more than once "
            f"({', '.join(self.targets)}); uninstall all but one of these packages"
        )


@attrs.define(slots=False, eq=False)
class BrokenPlugin(PluginError):
    """The scheme is registered, but its factory cannot be imported.

    Args:
        group: the entry-point group that was searched.
        scheme: the scheme asked for, in lower case.
        target: the factory as registered, `module:name`.
        reason: what the import said.
    """

    group: str
    scheme: str
    target: str
    reason: str

    def __str__(self) -> str:
        return (
            f"{self.group} scheme '{self.scheme}:' is {self.target}, which cannot be "
            f"imported ({self.reason}); repair or reinstall its package"
        )


class OutOfReach(Exception):
    """What a URL names cannot be reached; entering a sink or an authority may raise it.

    Its text says what and why, for the operator, and holds no secret.
    """


def load_scheme(group: str, url: str) -> Any:
    """Return the factory registered in `group` for the scheme of `url`.

    Schemes are compared without regard to case. Nothing is cached: this runs at start.

    Args:
        group: an entry-point group, such as `cfw.sinks`.
        url: any text that starts with `scheme:`.

    Raises:
        UnknownScheme: the scheme is missing or not registered.
        AmbiguousScheme: it is registered for several factories.
        BrokenPlugin: its factory cannot be imported.
    """
    match = SCHEME.match(url)
    scheme = match[1].lower() if match else ""
    registered = metadata.entry_points(group=group)
    found = {point.value: point for point in registered if point.name.lower() == scheme}
    if not found:
        allowed = sorted({point.name.lower() for point in registered})
        raise UnknownScheme(group, scheme, tuple(allowed))
    if len(found) > 1:
        raise AmbiguousScheme(group, scheme, tuple(sorted(found)))
    ((target, point),) = found.items()
    try:
        return point.load()
    except (ImportError, AttributeError) as exc:
        raise BrokenPlugin(group, scheme, target, str(exc)) from exc
