"""One dialect: what CONTRIBUTING.md asks of the code's looks that ruff does not.

Each rule finds what breaks it, and is shown a piece of code that does.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from itertools import zip_longest
from typing import TypeAlias

import pytest

from tests.guards.source import ROOT, nodes, parsed, sources, text_of

ROOMS = ("cfw", "schemas", "tests")
#: A module, its lines, and what it is called.
Rule: TypeAlias = Callable[[ast.Module, list[str], str], Iterator[int]]

#: The sweep is for other people's suites and stands on Trio alone; its values are dataclasses.
SWEEP = "cfw.testing.sweep"
#: Rooms whose parts with an underscore another room may import, as both are of one thing: a
#: recorder writes what a recording is.
OF_ONE_THING = {("cfw.record", "cfw.recording")}
PREDICATES = ("is", "has", "may", "can", "was", "in")
#: Names that Python's own files have, and one that suites ask of a report.
GIVEN = ("writable", "readable", "isatty", "complete")


def absolute_imports(tree: ast.Module, _: list[str], __: str) -> Iterator[int]:
    """`from cfw.room import name`: what is imported is found by searching for it."""
    for node in nodes(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            yield node.lineno


def attrs_for_values(tree: ast.Module, _: list[str], name: str) -> Iterator[int]:
    """`@attrs.frozen` and `@attrs.define`; dataclasses in the sweep alone, and only those."""
    wrong = r"attrs?\." if name.startswith(SWEEP) else r"(dataclasses\.)?dataclass\b"
    for node in nodes(tree):
        if isinstance(node, ast.ClassDef):
            decorators = map(ast.unparse, node.decorator_list)
            if any(re.match(wrong, decorator) for decorator in decorators):
                yield node.lineno


def single_backticks(_: ast.Module, lines: list[str], name: str) -> Iterator[int]:
    """Code within a sentence stands in one pair of backticks, in docstrings and comments."""
    if name.startswith("tests"):
        return
    for number, line in enumerate(lines, 1):
        if re.search(r"(?<!`)``(?!`)", line):
            yield number


def comments_of_constants(tree: ast.Module, lines: list[str], _: str) -> Iterator[int]:
    """What a constant means stands above it, behind `#:`, and not below it as a text."""
    for node, behind in zip_longest(tree.body, tree.body[1:]):
        if not isinstance(node, ast.Assign | ast.AnnAssign):
            continue
        if isinstance(behind, ast.Expr) and isinstance(behind.value, ast.Constant):
            yield behind.lineno
        above = lines[node.lineno - 2] if node.lineno > 1 else ""
        if re.match(r"#(?![:!])(?! -{3})", above) and "# ruff" not in above:
            yield node.lineno - 1


def rooms_keep_their_parts(tree: ast.Module, _: list[str], name: str) -> Iterator[int]:
    """A module with an underscore is imported within its own room alone, and by tests."""
    for node in nodes(tree):
        if not isinstance(node, ast.ImportFrom) or node.module is None or node.level:
            continue
        for imported in (node.module, *(f"{node.module}.{each.name}" for each in node.names)):
            room, dot, part = imported.rpartition("._")
            path = ROOT.joinpath(*room.split("."), f"_{part}.py")
            if not dot or name.startswith(("tests", f"{room}.")) or name == room:
                continue
            if path.exists() and (name.rpartition(".")[0], room) not in OF_ONE_THING:
                yield node.lineno


def named_predicates(tree: ast.Module, _: list[str], __: str) -> Iterator[int]:
    """What only answers yes or no is `is_x`, `has_x`, or a verb that says so: `allows`."""
    for node in nodes(tree):
        if not isinstance(node, ast.FunctionDef) or node.returns is None:
            continue
        name, body = node.name.lstrip("_"), node.body[bool(ast.get_docstring(node)) :]
        answers = any("property" in ast.unparse(each) for each in node.decorator_list) or (
            len(body) == 1 and isinstance(body[0], ast.Return)
        )
        is_told = name.split("_")[0] in PREDICATES or name.split("_")[0].endswith("s")
        is_known = node.name.startswith("__") or name in GIVEN
        if ast.unparse(node.returns) == "bool" and answers and not is_told and not is_known:
            yield node.lineno


#: What each rule is there for.
BROKEN: dict[Rule, tuple[str, ...]] = {
    absolute_imports: (
        "from . import a",
        "from ..b import a",
        "def f():\n    from .a import b",
    ),
    attrs_for_values: (
        "@dataclass\nclass A: ...",
        "@dataclasses.dataclass(frozen=True)\nclass A: ...",
    ),
    single_backticks: ("x = 1  # as ``y``",),
    comments_of_constants: (
        "# Seconds.\nX = 1",
        "X = 1\n'''Seconds.'''",
        "# Of one\n# kind.\nX: int = 1",
    ),
    rooms_keep_their_parts: (
        "from cfw.client._link import Link",
        "from cfw.client import _link",
    ),
    named_predicates: (
        "def empty(self) -> bool:\n    return not self",
        "@property\ndef closed(self) -> bool:\n    x = 1\n    return x",
    ),
}


def modules() -> Iterator[tuple[str, ast.Module, list[str], str]]:
    """All modules that the rules are for: path, tree, lines and name."""
    for path in sources(*ROOMS):
        place = path.relative_to(ROOT)
        name = ".".join(place.with_suffix("").parts).removesuffix(".__init__")
        yield place.as_posix(), parsed(path), text_of(path).splitlines(), name


@pytest.mark.parametrize("rule", BROKEN, ids=lambda rule: rule.__name__)
def test_all_code_is_written_alike(rule: Rule) -> None:
    """A stranger who has read one room can read them all."""
    found = [
        f"{path}:{at}"
        for path, tree, lines, name in modules()
        for at in rule(tree, lines, name)
    ]
    assert not found, f"{rule.__doc__}\n" + "\n".join(found)


@pytest.mark.parametrize("rule", BROKEN, ids=lambda rule: rule.__name__)
def test_the_guard_sees_what_is_written_otherwise(rule: Rule) -> None:
    """A guard that cannot fail is none."""
    for code in BROKEN[rule]:
        assert list(rule(ast.parse(code), code.splitlines(), "cfw.elsewhere")), code
    if rule is attrs_for_values:
        (line,) = rule(ast.parse("@attrs.frozen\nclass A: ..."), [], f"{SWEEP}.points")
        assert line
