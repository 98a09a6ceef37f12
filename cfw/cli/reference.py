"""`cfw config --reference`: every key of the configuration, as the page `cfw/CONFIG.md`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, get_type_hints

import attrs

from cfw.api.config import Config, config_fields, toml_value
from cfw.api.profiles import PROFILES, profile_settings
from cfw.settings import about

_INTRO = """\
# Configuration

Every key of `cfw serve`, as `cfw config --reference` prints it.

- `cfw config > cfw.toml` writes a file with every key, its meaning and its value;
  `cfw serve --config cfw.toml` reads it. A key that the file leaves out has its default.
- `--set KEY=VALUE` sets one key, for example `--set limits.max_fps=60`, and may be repeated.
  The value is TOML, or a text without quotes.
- Some keys have an option of their own, which is named with them. Options win over `--set`,
  that over `--for`, and all of them over the file. No key is read from an environment
  variable.
- `--for NAME` sets the limits that belong together, for what is filmed; see
  [profiles](#profiles).
- `cfw config` takes the same options and prints what they come to, without starting anything.
- A section, key or value that is not allowed ends the start with exit code 2 and one line that
  says what is. A changed file counts from the next start, but for those of tokens and
  certificates, which SIGHUP has read again.
"""
_PROFILES = """\
## Profiles

What `--for` sets; `cfw config --profiles` prints it, `cfw config --for video > cfw.toml` writes
a file with it.

"""
_WIDEST = max(map(len, PROFILES))
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
    parts.append(f"{_PROFILES}{_table(_profile_rows('`'))}")
    return "\n".join(parts)


def profiles_table() -> str:
    """What `--for` may be, and what each sets, for a terminal."""
    texts = [f"--for {name:<{_WIDEST}}  {known.text}" for name, known in PROFILES.items()]
    rows = _profile_rows("")
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join([first.ljust(widths[0]), *map(str.rjust, rest, widths[1:])]).rstrip()
        for first, *rest in rows
    ]
    return "\n".join([*texts, "", *lines, ""])


def _profile_rows(mark: str) -> list[tuple[str, ...]]:
    """A row for each key that a profile sets, with its value in each of them."""
    columns = [profile_settings(name) for name in PROFILES]
    rows = [("key", *(f"{mark}--for {name}{mark}" for name in PROFILES), "unit")]
    for key, field in config_fields().items():
        if key in columns[0]:
            values = (toml_value(column[key]) for column in columns)
            rows.append((f"{mark}{key}{mark}", *values, about(field).unit))
    return rows


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
