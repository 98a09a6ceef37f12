"""Which awaits of a package a sweep has cut, how often, and which never.

An await counts as cut when a `Cancelled` of a fault came out of it, also on its way from an
await further in. Where an await stands is read from the package's source; its own tests are
left out.
"""

from __future__ import annotations

import ast
import importlib.util
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cfw.testing.sweep.sites import short_path

#: How often each line, by file, was cut.
Cuts = Counter[tuple[str, int]]


@dataclass(frozen=True)
class Await:
    """One await, `async for` or `async with`: its first line, and the last it may show at."""

    line: int
    last: int


@dataclass(frozen=True)
class Covered:
    """The awaits of one file.

    Attributes:
        file: its path.
        cut: lines with awaits that were cut, and how often.
        never: lines with awaits that never were.
    """

    file: str
    cut: dict[int, int] = field(default_factory=dict)
    never: tuple[int, ...] = ()


def files_of(package: str) -> list[Path]:
    """The source files of a package or module, without tests.

    Raises:
        ValueError: there is no such package.
    """
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        spec = None
    if spec is None or not (spec.submodule_search_locations or spec.origin):
        raise ValueError(f"there is no package {package!r} to import")
    if spec.submodule_search_locations is None:
        return [Path(str(spec.origin))]
    folders = [Path(folder) for folder in spec.submodule_search_locations]
    found = (path for folder in folders for path in sorted(folder.rglob("*.py")))
    return [path for path in found if not _is_test(path, folders)]


def _is_test(path: Path, folders: Iterable[Path]) -> bool:
    inside = next(path.relative_to(one) for one in folders if path.is_relative_to(one))
    if {"tests", "_tests"} & set(inside.parts[:-1]):
        return True
    return path.name == "conftest.py" or path.name.startswith("test_")


def awaits_in(source: str) -> list[Await]:
    """Every place in a source at which it may be cancelled, in order."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Await):
            found.append(Await(node.lineno, node.end_lineno or node.lineno))
        elif isinstance(node, ast.AsyncFor | ast.AsyncWith):
            found.append(Await(node.lineno, max(node.lineno, node.body[0].lineno - 1)))
        elif isinstance(node, ast.comprehension) and node.is_async:
            found.append(Await(node.target.lineno, node.iter.end_lineno or node.iter.lineno))
    return sorted(found, key=lambda one: (one.line, one.last))


def covered(package: str, cuts: Mapping[tuple[str, int], int]) -> Iterator[Covered]:
    """What was cut of each file of a package that has an await."""
    for path in files_of(package):
        awaits = awaits_in(path.read_text("utf-8"))
        if not awaits:
            continue
        counts = dict.fromkeys((one.line for one in awaits), 0)
        for (file, line), times in cuts.items():
            around = [one for one in awaits if one.line <= line <= one.last]
            if around and file == str(path):
                # The innermost of those that span the line.
                counts[min(around, key=lambda one: one.last - one.line).line] += times
        yield Covered(
            short_path(str(path)),
            {line: times for line, times in counts.items() if times},
            tuple(line for line, times in counts.items() if not times),
        )


def lines_of(package: str, found: Iterable[Covered]) -> Iterator[str]:
    """The coverage of a package, for a terminal."""
    rows = [("file", "awaits", "cut", "times", "never cut")]
    for one in found:
        number, times = len(one.cut) + len(one.never), sum(one.cut.values())
        never = " ".join(map(str, one.never)) or "-"
        rows.append((one.file, str(number), str(len(one.cut)), str(times), never))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        yield "  ".join([*cells, row[4]])
    if not any(one.cut for one in found):
        yield f"No await of {package} was cut: these sweeps say nothing about it."
