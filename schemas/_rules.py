"""Rules of fields: each is an attrs validator and knows its JSON Schema."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import attrs

from schemas._time import TIMESTAMP_PATTERN, Timestamp
from schemas.errors import SchemaError

#: What Python makes of bytes that are no text, such as those of a command line; JSON has none.
_HALF = re.compile("[\ud800-\udfff]")


def shown(value: object) -> str:
    """A JSON value for an error message: at most 40 characters of it, nothing nested."""
    if isinstance(value, list | tuple):
        return "a list"
    if isinstance(value, dict):
        return "an object"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    text = repr(value[:40] if isinstance(value, str) else value)
    return text if len(text) <= 40 else text[:37] + "..."


class Rule(ABC):
    """What a field may hold, as an attrs validator; `schema` says the same as JSON Schema."""

    schema: Mapping[str, object]

    def __call__(self, _: object, attribute: attrs.Attribute[Any], value: Any) -> None:
        """Raise SchemaError, naming the field, for a value that is not allowed."""
        problem = self.problem(value)
        if problem is not None:
            raise SchemaError(attribute.name, problem)

    @abstractmethod
    def problem(self, value: Any) -> str | None:
        """What is wrong with the value and what is allowed; None when it is right."""


class Text(Rule):
    def __init__(self, min_length: int = 0, max_length: int | None = None) -> None:
        self._min, self._max = min_length, max_length
        self.schema = {"type": "string", "minLength": min_length}
        if max_length is not None:
            self.schema["maxLength"] = max_length

    def problem(self, value: Any) -> str | None:
        if type(value) is not str:
            return f"must be a string, not {shown(value)}"
        if len(value) < self._min or (self._max is not None and len(value) > self._max):
            return f"must have {self._min} to {self._max} characters, not {len(value)}"
        if not value.isascii() and _HALF.search(value) is not None:
            return f"must be Unicode text, which has no half of a character: {shown(value)}"
        return None


class Pattern(Rule):
    def __init__(self, pattern: str, meaning: str) -> None:
        self._matches = re.compile(pattern).fullmatch
        self._meaning = meaning
        self.schema = {"type": "string", "pattern": f"^{pattern}$"}

    def problem(self, value: Any) -> str | None:
        if type(value) is str and self._matches(value) is not None:
            return None
        return f"must be {self._meaning}, not {shown(value)}"


class Hex(Pattern):
    """Groups of so many hexadecimal digits each, with a hyphen between two groups."""

    def __init__(self, *digits: int, meaning: str) -> None:
        self.digits = digits
        super().__init__("-".join(f"[0-9A-Fa-f]{{{count}}}" for count in digits), meaning)


class OneOf(Rule):
    def __init__(self, *values: str) -> None:
        self._values = values
        self.schema = {"enum": [*map(str, values)]}

    def problem(self, value: Any) -> str | None:
        if isinstance(value, str) and value in self._values:
            return None
        return f"must be one of {', '.join(self._values)}; not {shown(value)}"


class Integer(Rule):
    def __init__(self, minimum: int | None = None) -> None:
        self.minimum = minimum
        self.schema = {"type": "integer"}
        if minimum is not None:
            self.schema["minimum"] = minimum

    def problem(self, value: Any) -> str | None:
        if type(value) is not int:
            return f"must be an integer, not {shown(value)}"
        if self.minimum is not None and value < self.minimum:
            return f"must be at least {self.minimum}, not {value}"
        return None


class Number(Rule):
    def __init__(self) -> None:
        self.schema = {"type": "number"}

    def problem(self, value: Any) -> str | None:
        if type(value) is int or type(value) is float:
            return None
        return f"must be a number, not {shown(value)}"


class Instant(Rule):
    def __init__(self) -> None:
        self.schema = {"type": "string", "pattern": f"^{TIMESTAMP_PATTERN}$"}

    def problem(self, value: Any) -> str | None:
        if type(value) is Timestamp:
            return None
        if type(value) is not str:
            return f"must be an ISO 8601 string, not {shown(value)}"
        try:
            Timestamp.parse(value)
        except ValueError as exc:
            return f"is {exc}"
        return None


class OrNull(Rule):
    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self.schema = {"anyOf": [rule.schema, {"type": "null"}]}

    def problem(self, value: Any) -> str | None:
        return None if value is None else self.rule.problem(value)
