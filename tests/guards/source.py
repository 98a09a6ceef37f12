"""The code of this repository as trees, which all guards of one run share."""

from __future__ import annotations

import ast
import gc
from functools import cache
from pathlib import Path

import cfw

ROOT = Path(cfw.__file__).parent.parent


@cache
def sources(*folders: str) -> tuple[Path, ...]:
    """All modules below some folders, in order."""
    found = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    assert found
    return tuple(found)


@cache
def text_of(path: Path) -> str:
    """What stands in a module."""
    return path.read_text("utf-8")


@cache
def parsed(path: Path) -> ast.Module:
    """A module's tree."""
    # The collector would look through all trees again for each that is added: 3/4 of the time.
    was_on = gc.isenabled()
    gc.disable()
    try:
        return ast.parse(text_of(path), str(path))
    finally:
        if was_on:
            gc.enable()


@cache
def nodes(tree: ast.AST) -> tuple[ast.AST, ...]:
    """All nodes of a tree, found once."""
    return tuple(ast.walk(tree))


def forget() -> None:
    """Let go of all trees, which are a million objects to the collector."""
    parsed.cache_clear()
    nodes.cache_clear()
