"""Wrong versions of the code under test, written as lines of it and what stands there instead.

    with planted(Change("cfw/repository.py", "self.frames += 1", "self.frames += 2")):
        ...

Nothing of the code is named but its own lines, so it can be moved and renamed at will; lines
that are gone are told at once, with their file. What is planted is the inside of functions:
those that exist get the code of the changed file for as long as the context lasts, whoever
holds them. Closures that were made before keep theirs.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cached_property
from importlib import import_module
from pathlib import Path
from textwrap import dedent, indent
from types import CodeType, FunctionType, ModuleType
from typing import Any, TypeAlias

import attrs

ROOT = Path(__file__).parent.parent

_Def: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef
#: A function's qualified name, and the line where it begins with its decorators.
_Key: TypeAlias = tuple[str, int]

#: Functions that are wrong just now.
_wrong: set[FunctionType] = set()


class CannotPlant(AssertionError):
    """The change is none of this code; the message says of which file, and why."""


def _block(text: str) -> str:
    return dedent(text).strip("\n")


@attrs.frozen
class Change:
    """Whole lines of a file, and those that stand there instead.

    Args:
        file: below the root of the repository, "cfw/repository.py".
        lines: one or more, which stand there exactly once, however far they are indented.
        instead: as many as it takes, indented as the first of them was.
    """

    file: str
    lines: str = attrs.field(converter=_block)
    instead: str = attrs.field(converter=_block)

    def apply(self, source: str) -> str:
        """The source with the other lines.

        Raises:
            CannotPlant: the lines are gone, or stand there more than once.
        """
        there = source.splitlines()
        count = self.lines.count("\n") + 1
        head = self.lines.partition("\n")[0].strip()
        found = [
            at
            for at, line in enumerate(there)
            if line.strip() == head and _block("\n".join(there[at : at + count])) == self.lines
        ]
        if len(found) != 1:
            times = f"{len(found)} times" if found else "no more"
            lines = indent(self.lines, "    ")
            raise CannotPlant(
                f"{self.file} has these lines {times}, not once:\n{lines}\n"
                "write the mutant anew for the code as it is now"
            )
        (at,) = found
        first = there[at]
        margin = first[: len(first) - len(first.lstrip())]
        there[at : at + count] = indent(self.instead, margin).splitlines()
        return "\n".join(there) + "\n"


@contextmanager
def planted(*changes: Change) -> Iterator[list[str]]:
    """Let functions be wrong for a while; gives the names of those that are.

    Raises:
        CannotPlant: a file or lines that are gone, lines that stand there twice, a change of
            nothing, or of something else than the inside of a function.
    """
    swaps: list[tuple[FunctionType, CodeType]] = []
    for file in dict.fromkeys(change.file for change in changes):
        swaps += _swaps(file, [change for change in changes if change.file == file])
    before = [(function, function.__code__) for function, _ in swaps]
    try:
        for function, code in swaps:
            _wrong.add(function)
            function.__code__ = code
        yield [function.__qualname__ for function, _ in swaps]
    finally:
        for function, code in before:
            function.__code__ = code
            _wrong.discard(function)


def _swaps(file: str, changes: list[Change]) -> Iterator[tuple[FunctionType, CodeType]]:
    """Each function that is changed, and the code it is to have."""
    path = ROOT / file
    if not path.is_file():
        raise CannotPlant(f"{file}: there is no such file; where is the code now?")
    old = new = path.read_text("utf-8")
    for change in changes:
        new = change.apply(new)
    was, now = _Text.of(old), _Text.of(new)
    if was.outside != now.outside:
        raise CannotPlant(
            f"{file}: only the inside of a function can be planted, and this is more:\n"
            + "\n".join(indent(change.instead, "    ") for change in changes)
        )
    if was.functions == now.functions:
        raise CannotPlant(f"{file}: what is planted is no other code:\n{changes[0].instead}")
    module = import_module(file.removesuffix(".py").replace("/", "."))
    exist = {_key(function.__code__): function for function in _functions(module)}
    # Not compared with the code that exists: pytest writes assertions in another way.
    codes = {_key(code): code for code in _codes(_compiled(new, path))}
    pairs = zip(was.functions, now.functions, was.keys, now.keys, strict=True)
    for before, after, was_at, is_at in pairs:
        if before == after:
            continue
        name, function, code = was_at[0], exist.get(was_at), codes[is_at]
        if function is None:
            raise CannotPlant(f"{file}: there is no {name}, or it is not what the file says")
        if function in _wrong:
            raise CannotPlant(f"{file}: {name} is wrong already; plant both changes at once")
        if function.__code__.co_freevars != code.co_freevars:
            raise CannotPlant(f"{file}: {name} would need other variables from around it")
        yield function, code


# --- the text -------------------------------------------------------------------------------


@attrs.frozen
class _Text:
    """A source, taken apart; none of it knows its line but the keys.

    Args:
        outside: all that is run when it is imported.
        functions: those that are in no other one.
        keys: of those.
    """

    outside: str
    functions: list[str]
    keys: list[_Key]

    @classmethod
    def of(cls, source: str) -> _Text:
        tree = ast.parse(source)
        found = [*_outermost(tree)]
        functions = [ast.dump(node) for _, node in found]
        for _, node in found:
            node.body = []
        return cls(ast.dump(tree), functions, [(name, _line(node)) for name, node in found])


def _outermost(node: ast.AST, prefix: str = "") -> Iterator[tuple[str, _Def]]:
    """The functions that are in no other one, with their qualified names."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, _Def):
            yield prefix + child.name, child
        elif isinstance(child, ast.ClassDef):
            yield from _outermost(child, f"{prefix}{child.name}.")
        else:
            yield from _outermost(child, prefix)


def _line(node: _Def) -> int:
    return min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])


# --- the code -------------------------------------------------------------------------------


def _key(code: CodeType) -> _Key:
    return code.co_qualname, code.co_firstlineno


def _compiled(source: str, path: Path) -> CodeType:
    return compile(source, str(path), "exec", dont_inherit=True)


def _codes(code: CodeType) -> Iterator[CodeType]:
    for const in code.co_consts:
        if isinstance(const, CodeType):
            yield const
            yield from _codes(const)


def _functions(module: ModuleType) -> Iterator[FunctionType]:
    """The functions of a module and of its classes, also those that others are made of."""
    ahead: list[Iterable[Any]] = [vars(module).values()]
    seen = set()
    while ahead:
        for thing in ahead.pop():
            if id(thing) in seen:
                continue
            seen.add(id(thing))
            if isinstance(thing, type):
                if thing.__module__ == module.__name__:
                    ahead.append(vars(thing).values())
            elif isinstance(thing, property):
                ahead.append((thing.fget, thing.fset, thing.fdel))
            elif isinstance(thing, cached_property):
                ahead.append((thing.func,))
            elif isinstance(thing, staticmethod | classmethod):
                ahead.append((thing.__func__,))
            else:
                # Not by `hasattr`: a logger has whatever it is asked for.
                ahead.append((getattr(thing, "__dict__", {}).get("__wrapped__"),))
                is_function = isinstance(thing, FunctionType)
                if is_function and thing.__code__.co_filename == module.__file__:
                    yield thing
