"""`cfw explain`: what an error code means, why it comes, and what to do on either side."""

from __future__ import annotations

import difflib
import json
import re
import textwrap
from typing import Any

import attrs
import click

from cfw.explanations import EXPLANATIONS
from cfw.routes.outcome import LADDER
from schemas import ErrorCode

_MOST_COLUMNS = 96


def _name(code: ErrorCode | int) -> str:
    return code.value if isinstance(code, ErrorCode) else f"http_{code}"


def _key(text: str) -> str:
    """Without case and separators: limit-fps-exceeded, LimitFpsExceeded, HTTP 404, 404."""
    return "".join(filter(str.isalnum, text.lower())).removeprefix("http")


def find_code(text: str) -> ErrorCode | int:
    """Find the code somebody means.

    Raises:
        click.UsageError: there is none; close matches are named.
    """
    known = {_key(_name(code)): code for code in EXPLANATIONS}
    if (key := _key(text)) in known:
        return known[key]
    with_close_code = [code for code, (number, _) in LADDER.items() if str(number) == key]
    if with_close_code:
        names = ", ".join(map(_name, with_close_code))
        raise click.UsageError(
            f"{key} is a close code, used for {names}; its reason names the one"
        )
    close = _close_matches(text, known)
    hint = f"did you mean {' or '.join(close)}?" if close else "`cfw explain` lists them all"
    raise click.UsageError(f"there is no error code {text!r}; {hint}")


def _close_matches(text: str, known: dict[str, ErrorCode | int]) -> list[str]:
    """Names that are spelt alike, else those with the most words in common."""
    spelt_alike = difflib.get_close_matches(_key(text), known)
    if spelt_alike:
        return [_name(known[match]) for match in spelt_alike]
    words = set(re.findall("[a-z]+", text.lower())) - {"http"}
    shared = {name: len(words & set(name.split("_"))) for name in map(_name, EXPLANATIONS)}
    most = max(shared.values())
    return [name for name, count in shared.items() if count == most > 0]


def _as_dict(code: ErrorCode | int) -> dict[str, Any]:
    entry = EXPLANATIONS[code]
    numbers = (
        {"close_code": LADDER[code][0], "http_status": None}
        if isinstance(code, ErrorCode)
        else {"close_code": None, "http_status": code}
    )
    known = attrs.asdict(entry, filter=lambda attribute, _: attribute.name != "keys")
    return {"code": _name(code), **numbers, **known, "settings": entry.defaults}


def _page(code: ErrorCode | int) -> str:
    entry = EXPLANATIONS[code]
    width = click.HelpFormatter(max_width=_MOST_COLUMNS).width

    def wrapped(text: str, bullet: str = "  ") -> str:
        indent = " " * len(bullet)
        return textwrap.fill(text, width, initial_indent=bullet, subsequent_indent=indent)

    number = "instead of a WebSocket"
    if isinstance(code, ErrorCode):
        number = f"close code {LADDER[code][0]}"
    blocks = [
        f"{_name(code)} ({number})\n{wrapped(entry.meaning)}",
        "Causes\n" + "\n".join(wrapped(cause, "  - ") for cause in entry.causes),
        f"At the rig\n{wrapped(entry.rig)}",
        f"At the worker\n{wrapped(entry.operator)}",
    ]
    for detail, case in entry.cases.items():
        said = wrapped(f"{case.meaning} {case.rig}")
        blocks.append(f'With the detail "{detail}"\n{said}\n{wrapped(case.operator)}')
    if entry.keys:
        lines = [f"  {name} = {value}" for name, value in entry.defaults.items()]
        blocks.append("\n".join(["Settings, with their defaults", *lines]))
    return "\n\n".join(blocks)


@click.command()
@click.argument("code", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def explain(code: str | None, as_json: bool) -> None:
    """Say what an error CODE means, why it comes and what to do; without CODE, list all.

    CODE is an error code such as limit_fps_exceeded, the exception of cfw.client of that
    name, or an HTTP status such as 503.
    """
    if code is not None:
        found = find_code(code)
        click.echo(json.dumps(_as_dict(found), indent=2) if as_json else _page(found))
    elif as_json:
        click.echo(json.dumps([_as_dict(each) for each in EXPLANATIONS], indent=2))
    else:
        width = max(len(_name(each)) for each in EXPLANATIONS)
        for each, entry in EXPLANATIONS.items():
            click.echo(f"{_name(each):{width}}  {entry.meaning}")
