"""How a setting is declared: its default, what it may be, its unit and what it means.

Everything that is said of a setting is said where it is declared, and read back from there:
by the check of its value, by its option of the command line, by a URL that it stands in, by
`cfw config` and by `cfw/CONFIG.md`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import attrs

from schemas import MOST_INTEGER

T = TypeVar("T")

#: Above 10 years of seconds the sums of instants would leave what a float can hold.
MOST_SECONDS = 315_360_000


@attrs.define(slots=False, eq=False)
class SettingError(ValueError):
    """A setting has a value that is not allowed.

    Args:
        name: the setting.
        problem: what is allowed, and what it was.
    """

    name: str
    problem: str

    def __str__(self) -> str:
        return f"{self.name} {self.problem}"


def _as_is(text: str) -> Any:
    return text


@attrs.frozen
class Allowed:
    """What a setting may be, as a check and in words.

    Args:
        words: what it may be, as in "must be WORDS".
        accepts: True for a value that may be.
        read: the value that a text of a command line or URL stands for; the text itself where
            it stands for none, which is then refused.
        shown: what stands for its value behind an option.
    """

    words: str
    accepts: Callable[[Any], bool]
    read: Callable[[str], Any] = _as_is
    shown: str = "TEXT"

    def __call__(self, _: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
        """Check a value.

        Raises:
            SettingError: it is not allowed.
        """
        if not self.accepts(value):
            raise SettingError(attribute.name, f"must be {self.words}, not {value!r}")


@attrs.frozen
class About:
    """What is said of a setting.

    Args:
        text: what it means, one sentence.
        unit: of its value; empty when it has none.
        allowed: what it may be.
        option: of the command line, for it alone; empty when it has none.
    """

    text: str
    unit: str
    allowed: Allowed
    option: str


def read_integer(text: str) -> int | str:
    """A whole number, if the text is one."""
    return int(text) if re.fullmatch("[0-9]{1,16}", text) else text


def read_number(text: str) -> float | str:
    """A number with or without a fraction, if the text is one."""
    try:
        return float(text)
    except ValueError:
        return text


def _is_port(value: Any) -> bool:
    return type(value) is int and 0 <= value <= 65_535


def _is_list_of_texts(value: Any) -> bool:
    return isinstance(value, tuple) and all(type(item) is str for item in value)


def _to_tuple(value: Iterable[str]) -> tuple[str, ...]:
    return tuple(value) if isinstance(value, list) else value  # type: ignore[return-value]


#: Nothing in it can end a word of a content security policy, which names scheme, host and port.
_SOCKET_URL = re.compile(
    r"wss?://(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::(?P<port>[0-9]{1,5}))?(?:/[!-~]*)?"
)


def _is_socket_url(value: Any) -> bool:
    match = _SOCKET_URL.fullmatch(value) if type(value) is str else None
    if match is None or set(value) & set("?#"):
        return False
    return match["port"] is None or 1 <= int(match["port"]) <= 65_535


#: What goes into a URL as it is, and comes back from every client as it was.
_PATH = re.compile(r"(/[A-Za-z0-9._~!$&'()*+,;=:@-]+)+/?|/")


def _is_path(value: Any) -> bool:
    if type(value) is not str or _PATH.fullmatch(value) is None:
        return False
    # Clients work these out before they ask.
    return not {".", ".."} & set(value.split("/"))


AT_LEAST_ONE = Allowed(
    f"an integer of 1 to {MOST_INTEGER}",
    lambda value: type(value) is int and 1 <= value <= MOST_INTEGER,
    read_integer,
    "N",
)
SECONDS = Allowed(
    f"a number of seconds above 0 and up to {MOST_SECONDS}",
    lambda value: type(value) in (int, float) and 0 < value <= MOST_SECONDS,
    read_number,
    "S",
)
YES_OR_NO = Allowed(
    "true or false",
    lambda value: type(value) is bool,
    lambda text: {"true": True, "false": False}.get(text, text),
    "true|false",
)
TEXT = Allowed("a text that is not empty", lambda value: type(value) is str and value != "")
URL = attrs.evolve(TEXT, shown="URL")
#: As a text, so that a file of settings can say that there is none.
FILE_OR_NONE = Allowed(
    "the path of a file, or an empty text", lambda value: type(value) is str, shown="FILE"
)
TEXTS = Allowed("a list of texts", _is_list_of_texts)
PORT = Allowed("0 (any free port) to 65535", _is_port, read_integer, "PORT")
PORT_OR_OFF = Allowed(
    '0 (any free port) to 65535 or "off"',
    lambda value: value == "off" or _is_port(value),
    read_integer,
    "PORT",
)
PATH = Allowed(
    "a path such as /api/cameras: it begins with /, has no query and no empty, . or .. part, "
    "and is made of A-Z a-z 0-9 and ._~!$&'()*+,;=:@-",
    _is_path,
    shown="PATH",
)
SOCKET_URL_OR_NONE = Allowed(
    "a URL such as wss://cameras.example.org or ws://10.0.0.7:8765, or empty",
    lambda value: value == "" or _is_socket_url(value),
    shown="URL",
)


def one_of(*values: str) -> Allowed:
    """One of these texts."""
    return Allowed(
        f"one of {', '.join(values)}", lambda value: value in values, shown="|".join(values)
    )


def setting(default: T, text: str, allowed: Allowed, *, unit: str = "", option: str = "") -> T:
    """Declare a setting, as a field of an attrs class.

    Args:
        default: its value when none is given.
        text: what it means, one sentence; Markdown code marks are welcome.
        allowed: what it may be; a list may be given for a tuple.
        unit: of its value; empty when it has none.
        option: of `cfw serve`, such as `--port`, for what is set often; empty for none.
    """
    value: T = attrs.field(
        default=default,
        converter=_to_tuple if isinstance(default, tuple) else None,
        validator=allowed,
        metadata={About: About(text, unit, allowed, option)},
    )
    return value


def about(field: attrs.Attribute[Any]) -> About:
    """What is said of a setting.

    Raises:
        LookupError: its field was not declared by `setting`.
    """
    try:
        found: About = field.metadata[About]
    except KeyError:
        raise LookupError(
            f"{field.name} has no text; declare it with "
            "cfw.settings.setting(default, text, allowed)"
        ) from None
    return found
