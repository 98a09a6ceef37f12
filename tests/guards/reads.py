"""Which attributes of which classes some code reads, as far as its annotations tell."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from typing import TypeAlias

from tests.guards.source import nodes

Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef
#: Names of the classes that a value may be of; empty when that is not known.
Types: TypeAlias = frozenset[str]
NOTHING: Types = frozenset()


class Reads:
    """What modules read of classes.

    Every function says what it takes and gives, and every class what its attributes are: what
    a name or a chain of attributes is of is followed from there, through assignments.

    Args:
        modules: trees of all that declare a class or function.

    Attributes:
        found: pairs of a class and an attribute of it that is read.
    """

    def __init__(self, modules: Iterable[ast.Module]) -> None:
        self.found: set[tuple[str, str]] = set()
        self._attributes: dict[str, dict[str, Types]] = {}
        self._gives: dict[str, Types] = {}
        for tree in modules:
            for node in nodes(tree):
                if isinstance(node, ast.ClassDef):
                    self._attributes.setdefault(node.name, {}).update(self._declared(node))
                elif isinstance(node, Function):
                    self._gives[node.name] = self._gives.get(node.name, NOTHING) | _named(
                        node.returns
                    )

    def add(self, module: ast.Module) -> None:
        """Find what a module reads."""
        self._block(module.body, {}, "")

    @staticmethod
    def _declared(cls: ast.ClassDef) -> dict[str, Types]:
        found: dict[str, Types] = {}
        for node in cls.body:
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                found[node.target.id] = _named(node.annotation)
            elif isinstance(node, Function):
                found[node.name] = _named(node.returns)
                taken = _taken(node)
                for inner in ast.walk(node):
                    if isinstance(inner, ast.Assign | ast.AnnAssign):
                        found |= _kept(inner, taken)
        return found

    def _block(self, body: Iterable[ast.AST], known: dict[str, Types], cls: str) -> None:
        for node in body:
            self._statement(node, known, cls)

    def _statement(self, node: ast.AST, known: dict[str, Types], cls: str) -> None:
        if isinstance(node, ast.ClassDef):
            self._block(node.body, dict(known), node.name)
        elif isinstance(node, Function):
            inner = known | _taken(node) | ({"self": frozenset({cls})} if cls else {})
            self._block([*node.args.defaults, *node.body], inner, "")
        elif isinstance(node, ast.Lambda):
            self._statement(node.body, dict(known), cls)
        elif isinstance(node, ast.Assign):
            self._statement(node.value, known, cls)
            for target in node.targets:
                self._bind(target, node.value, known)
        elif isinstance(node, ast.For | ast.comprehension):
            self._statement(node.iter, known, cls)
            for each in getattr(node.iter, "elts", []):
                self._bind(node.target, each, known)
            self._block(node.body if isinstance(node, ast.For) else node.ifs, known, cls)
        elif isinstance(node, ast.GeneratorExp | ast.ListComp | ast.SetComp | ast.DictComp):
            parts = [*node.generators, *ast.iter_child_nodes(node)]
            self._block(parts, dict(known), cls)
        else:
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
                self.found |= {(name, node.attr) for name in self._type(node.value, known)}
            self._block(ast.iter_child_nodes(node), known, cls)

    def _bind(self, target: ast.AST, value: ast.AST, known: dict[str, Types]) -> None:
        if isinstance(target, ast.Name):
            known[target.id] = known.get(target.id, NOTHING) | self._type(value, known)
        elif isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
            for part, each in zip(target.elts, value.elts, strict=False):
                self._bind(part, each, known)

    def _type(self, node: ast.AST, known: Mapping[str, Types]) -> Types:
        if isinstance(node, ast.Name):
            return known.get(node.id, NOTHING)
        if isinstance(node, ast.Attribute):
            owners = self._type(node.value, known)
            attributes = (self._attributes.get(owner, {}) for owner in owners)
            return frozenset().union(*(each.get(node.attr, NOTHING) for each in attributes))
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func).rpartition(".")[2]
            if name == "evolve":
                return self._type(node.args[0], known)
            if name in self._attributes:
                return frozenset({name})
            return self._gives.get(name, NOTHING)
        if isinstance(node, ast.IfExp):
            return self._type(node.body, known) | self._type(node.orelse, known)
        if isinstance(node, ast.BoolOp):
            return frozenset().union(*(self._type(each, known) for each in node.values))
        if isinstance(node, ast.Await | ast.NamedExpr):
            return self._type(node.value, known)
        return NOTHING


def _named(annotation: ast.AST | None) -> Types:
    """The classes that an annotation names: `A`, `m.A`, `A | None`, `"A"`."""
    if isinstance(annotation, ast.Name):
        return frozenset({annotation.id})
    if isinstance(annotation, ast.Attribute):
        return frozenset({annotation.attr})
    if isinstance(annotation, ast.BinOp):
        return _named(annotation.left) | _named(annotation.right)
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        return _named(ast.parse(annotation.value, mode="eval").body)
    return NOTHING


def _taken(function: Function) -> dict[str, Types]:
    arguments = function.args
    every = (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)
    return {each.arg: _named(each.annotation) for each in every}


def _kept(node: ast.Assign | ast.AnnAssign, taken: Mapping[str, Types]) -> dict[str, Types]:
    """What an assignment to `self` keeps: what is annotated, or was taken."""
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    names = [each.attr for each in targets if isinstance(each, ast.Attribute)]
    if isinstance(node, ast.AnnAssign):
        return dict.fromkeys(names, _named(node.annotation))
    if isinstance(node.value, ast.Name):
        return dict.fromkeys(names, taken.get(node.value.id, NOTHING))
    return {}
