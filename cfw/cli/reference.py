"""`cfw config --reference`: every key of the configuration, as the page `cfw/CONFIG.md`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, get_type_hints

import attrs

from cfw.api.config import Config, toml_value
from cfw.settings import about

_INTRO = """\
# Configuration

Every key of `cfw serve`, as `cfw config --reference` prints it.

- `cfw config > cfw.toml` writes a file with every key, its meaning and its value;
  `cfw serve --config cfw.toml` reads it. A key that the file leaves out has its default.
- `--set KEY=VALUE` sets one key, for example `--set limits.max_fps=60`, and may be repeated.
  The value is TOML, or a text without quotes.
- Some keys have an option of their own, which is named with them. Options win over `--set`,
  and both over the file. No key is read from an environment variable.
- `cfw config` takes the same options and prints what they come to, without starting anything.
- A section, key or value that is not allowed ends the start with exit code 2 and one line that
  says what is. A changed file counts from the next start, but for those of tokens and
  certificates, which SIGHUP has read again.
"""
_TYPES: dict[Any, str] = {
    str: "text",
    int: "integer",
    float: "number",
    bool: "boolean",
    tuple[str, ...]: "list of texts",
    int | Literal["off"]: 'integer or "off"',
}
_HEADINGS = ("key", "type", "unit", "default", "allowed", "meaning", "option")


def reference() -> str:
    """The page.

    Raises:
        LookupError: a key has no text, or a type that has no name here.
    """
    parts = [_INTRO]
    for section in attrs.fields(Config):
        cls = section.default.factory  # type: ignore[union-attr]
        headline = (cls.__doc__ or "").partition("\n")[0]
        rows = [_HEADINGS, *_rows(section.name, cls)]
        parts.append(f"## {section.name}\n\n{headline}\n\n{_table(rows)}")
    return "\n".join(parts)


def _rows(section: str, cls: Any) -> Iterator[tuple[str, ...]]:
    types = get_type_hints(cls)
    for field in attrs.fields(cls):
        key, kind = f"{section}.{field.name}", types[field.name]
        if kind not in _TYPES:
            raise LookupError(f"{key}: say in {__name__}._TYPES what {kind} is called")
        known = about(field)
        yield (
            f"`{key}`",
            _TYPES[kind],
            known.unit,
            f"`{toml_value(field.default)}`",
            known.allowed.words,
            known.text,
            f"`{known.option}`" if known.option else "",
        )


def _table(rows: list[tuple[str, ...]]) -> str:
    """A Markdown table, without the columns that are empty but for their heading."""
    columns = [column for column in zip(*rows, strict=True) if any(column[1:])]
    head, *body = ["| " + " | ".join(cells) + " |" for cells in zip(*columns, strict=True)]
    return "\n".join([head, "|---" * len(columns) + "|", *body, ""])
