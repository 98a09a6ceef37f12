"""Options made of the settings they set: name, values, default and words are the settings'.

And arguments held to the rules of the message that they go into.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, TypeVar

import click

from cfw.api.config import config_fields, toml_value
from cfw.settings import about
from schemas import CaptureOpen, SchemaError, check_field

_C = TypeVar("_C", bound=Callable[..., Any])
_Text = TypeVar("_Text", bound=str | None)

#: Parameter of a command -> the key that it sets.
OPTION_KEYS: Final = {
    key.replace(".", "_"): key for key, field in config_fields().items() if about(field).option
}


def sets(*keys: str) -> Callable[[_C], _C]:
    """The options of these keys, for a command; without any, of all that have one.

    The command is given each under its name in `OPTION_KEYS`, for `laid_over`.
    """

    def give(command: _C) -> _C:
        for name, key in reversed(OPTION_KEYS.items()):
            if key in keys or not keys:
                command = _option(name, key)(command)
        return command

    return give


def may_be(field: str) -> Callable[[click.Context, click.Parameter, _Text], _Text]:
    """A callback that takes what this field of `capture.open` may hold, or nothing."""

    def check(_: click.Context, parameter: click.Parameter, value: _Text) -> _Text:
        try:
            if value is not None:
                check_field(CaptureOpen, field, value)
        except SchemaError as exc:
            raise click.BadParameter(exc.problem, param=parameter) from None
        return value

    return check


def laid_over(named: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    """What was given of such options, as keys and values for `cfw.api.config.load_config`."""
    for name, value in named.items():
        if value is not None and value != ():
            yield OPTION_KEYS[name], list(value) if isinstance(value, tuple) else value


def _option(name: str, key: str) -> Callable[[_C], _C]:
    field = config_fields()[key]
    known, is_list = about(field), isinstance(field.default, tuple)
    set_with = f"{key}; repeatable" if is_list else key
    default = f"  [default: {_shown(field.default)}]" if field.default else ""
    return click.option(
        known.option,
        name,
        type=known.allowed.read,
        metavar=known.allowed.shown,
        multiple=is_list,
        help=f"{known.text.removesuffix('.')} ({set_with}).{default}",
    )


def _shown(default: object) -> str:
    return default if isinstance(default, str) else toml_value(default)
