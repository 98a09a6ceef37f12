"""What tests do alike they do in one place, and with one patience."""

from __future__ import annotations

import ast
import runpy
from collections.abc import Callable, Iterator
from typing import TypeAlias

import pytest

from tests.guards.source import ROOT, nodes, parsed, sources

Rule: TypeAlias = Callable[[ast.AST], Iterator[str]]


def starts(tree: ast.AST) -> Iterator[str]:
    """Command lines of `cfw serve`, as a list of words."""
    for node in nodes(tree):
        if isinstance(node, ast.List | ast.Tuple):
            words = [ast.unparse(each).strip("'*") for each in node.elts]
            if "serve" in words and {"CFW", "cfw.cli"} & {*words}:
                yield ast.unparse(node)


def patiences(tree: ast.AST) -> Iterator[str]:
    """Constants that say how long a step may take."""
    for node in nodes(tree):
        if isinstance(node, ast.Assign):
            names = map(ast.unparse, node.targets)
            yield from (name for name in names if name == "PATIENCE_S")


@pytest.mark.parametrize("rule", [starts, patiences])
def test_no_test_has_a_way_of_its_own(rule: Rule) -> None:
    """Of starting a worker, or of waiting: see `tests/serving.py`, `tests/patience.py`."""
    for path in sources("tests/unit", "tests/whole"):
        assert not list(rule(parsed(path))), path.relative_to(ROOT)


@pytest.mark.parametrize(
    ("rule", "code"),
    [
        (starts, "[sys.executable, '-m', 'cfw.cli', 'serve', '--port', '0']"),
        (starts, "run([*CFW, 'serve', *options])"),
        (patiences, "PATIENCE_S = 20"),
    ],
)
def test_the_guard_sees_them(rule: Rule, code: str) -> None:
    """A guard that cannot fail is none."""
    assert list(rule(ast.parse(code)))


#: Where a worker in a process of its own comes from.
STARTERS = {"tests.serving", "tests.whole.hostile.kit"}


def interpreters(tree: ast.AST) -> Iterator[str]:
    """What starts a Python, or has one started."""
    for node in nodes(tree):
        if isinstance(node, ast.Attribute) and ast.unparse(node) == "sys.executable":
            yield "sys.executable"
        elif isinstance(node, ast.ImportFrom) and node.module in STARTERS:
            yield node.module


def test_what_is_run_after_every_change_starts_no_interpreter() -> None:
    """Which takes most of the time of those that do; a plain `nox` runs them."""
    pytest.importorskip("nox", reason="nox is not installed; the extra dev brings it")
    light: list[str] = [*runpy.run_path(str(ROOT / "noxfile.py"))["LIGHT"]]
    left_out = [each.removeprefix("--ignore=") for each in light if each.startswith("--")]
    places = [each for each in light if not each.startswith("--")]
    modules = sources(*(each for each in places if not each.endswith(".py")))
    modules += tuple(ROOT / each for each in places if each.endswith(".py"))
    for path in modules:
        if not any(path.is_relative_to(ROOT / each) for each in left_out):
            assert not list(interpreters(parsed(path))), path.relative_to(ROOT)
    assert list(interpreters(ast.parse("run([sys.executable, '-c', ''])")))
    assert list(interpreters(ast.parse("from tests.serving import refused")))
