"""A reader made for one class: what arrives for every frame should cost little.

It reads only what is right in every field, in a third of the time that the converter and
the validators need, and leaves everything else to them. Both follow the rules of the same
fields, so nothing is allowed or refused twice.

`_native.pyx` does the same many times faster, and takes its place where it is compiled.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import attrs
import orjson

_M = TypeVar("_M", bound=attrs.AttrsInstance)


def make_reader(
    cls: type[_M],
    *,
    required: frozenset[str] = frozenset(),
    forbidden: frozenset[str] = frozenset(),
) -> Callable[[str | bytes], _M | None]:
    """Compile a function that reads a `cls` from JSON text.

    Args:
        cls: a frozen class with slots whose fields have a `Rule` each.
        required: names that the object must have although the class has a default.
        forbidden: names that it must not have, unless they are null.

    Returns:
        A function of the text. None from it says that this is no text, or not one that is
        right, but not why.
    """
    names: dict[str, Any] = {"new": object.__new__, "cls": cls}
    names |= {"loads": orjson.loads, "NotJson": orjson.JSONDecodeError}
    checks, sets = [], []
    for field in attrs.fields(cls):
        name = field.name
        names[f"problem_{name}"] = field.validator.problem
        # A slot is set directly: the class is frozen, and its checks have been made here.
        names[f"set_{name}"] = getattr(cls, name).__set__
        value = f"value[{name!r}]"
        if field.converter is not None:
            names[f"convert_{name}"] = field.converter
            value = f"convert_{name}({value})"
        check = [f"{name} = {value}", f"if problem_{name}({name}) is not None: return None"]
        if field.default is not attrs.NOTHING and name not in required:
            names[f"default_{name}"] = field.default
            lines = [f"    {line}" for line in check]
            check = [f"if {name!r} in value:", *lines, "else:", f"    {name} = default_{name}"]
        checks += check
        sets.append(f"set_{name}(made, {name})")
    lines = [
        "def read(text):",
        "    if type(text) is not str: return None",
        "    try:",
        "        value = loads(text)",
        "        if type(value) is not dict: return None",
        *(f"        if value.get({name!r}) is not None: return None" for name in forbidden),
        *(f"        {line}" for line in checks),
        "    except (NotJson, KeyError):",
        "        return None",
        "    made = new(cls)",
        *(f"    {line}" for line in sets),
        "    return made",
    ]
    exec(compile("\n".join(lines), f"<reader of {cls.__name__}>", "exec"), names)
    read: Callable[[str | bytes], _M | None] = names["read"]
    return read
