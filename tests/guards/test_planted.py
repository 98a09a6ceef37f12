"""Wrong versions are what they say: in place for a while, and refused where they cannot be."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import tests.planted as module
from cfw.repository import ForwardBuffer
from tests.planted import CannotPlant, Change, planted
from tests.sweep.mutants import MUTANTS
from tests.sweep.other_mutants import OF_THE_ADMIN, OF_THE_RECORDER, OF_THE_TIME
from tests.unit.valkey.mutants import OF_THE_FEED, OF_THE_LEASE, OF_THE_PIPELINE

SOURCE = """\
from contextlib import contextmanager
from functools import cache, cached_property

LIMIT = 3


def outer(n):
    n += 1

    def inner():
        return n

    return inner


@cache
def cached():
    return "cached right"


class Box:
    size = 1

    @property
    def filled(self):
        return "filled right"

    @cached_property
    def kept(self):
        return "kept right"

    @staticmethod
    def static():
        return "static right"

    @contextmanager
    def open(self):
        yield "open right"

    def twice(self):
        size = self.size
        return size * 2

    def again(self, by=2):
        size = self.size
        return [size] * by


def keep(word):
    def kept():
        return word

    return kept


kept = keep("kept")
"""


@pytest.fixture
def code(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """A module of its own, in a repository of its own."""
    path = tmp_path / "planted_code.py"
    path.write_text(SOURCE, "utf-8")
    found = ModuleType("planted_code")
    found.__file__ = str(path)
    monkeypatch.setitem(sys.modules, found.__name__, found)
    exec(compile(SOURCE, str(path), "exec", dont_inherit=True), vars(found))
    monkeypatch.setattr(module, "ROOT", tmp_path)
    return found


def change(lines: str, instead: str) -> Change:
    return Change("planted_code.py", lines, instead)


def test_a_function_is_wrong_for_as_long_as_the_context_lasts(code: Any) -> None:
    """For whoever holds it; a closure that was made before stays what it was."""
    outer = code.outer
    before = outer(1)
    with planted(change("n += 1", "# Longer.\n\nn += 10"), change("return n", "return -n")):
        assert (outer(1)(), before()) == (-11, 2)
        assert code.Box().twice() == 2  # behind lines that have moved
    assert outer(1)() == 2


def test_it_is_right_again_whatever_happens(code: Any) -> None:
    """Also when the test fails; then it can be planted again."""
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), planted(change("n += 1", "n /= 0")):
            code.outer(1)
        assert code.outer(1)() == 2


@pytest.mark.parametrize(
    ("name", "look"),
    [
        ("cached", lambda code: code.cached()),
        ("filled", lambda code: code.Box().filled),
        ("kept", lambda code: code.Box().kept),
        ("static", lambda code: code.Box.static()),
        ("open", lambda code: code.Box().open().__enter__()),
    ],
)
def test_all_kinds_of_functions_can_be_wrong(
    code: Any, name: str, look: Callable[[Any], str]
) -> None:
    """What a decorator has made of a function is made of it."""
    word = "yield" if name == "open" else "return"
    with planted(change(f'{word} "{name} right"', f'{word} "wrong"')) as names:
        assert look(code) == "wrong"
    assert [each.rpartition(".")[-1] for each in names] == [name]


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        ("self.size = 7", "planted_code.py has these lines no more, not once"),
        ("size = self.size", "planted_code.py has these lines 2 times, not once"),
        ("size = self", "planted_code.py has these lines no more, not once"),
    ],
    ids=["gone", "twice", "not a whole line"],
)
def test_a_mutant_whose_text_is_gone_says_which_file_and_text(
    code: Any, lines: str, why: str
) -> None:
    """Nothing is planted, and the message has both."""
    with (
        pytest.raises(CannotPlant, match=rf"{why}:\n    {re.escape(lines)}\n"),
        planted(change(lines, "size = 7")),
    ):
        raise AssertionError("it was planted")


@pytest.mark.parametrize(
    ("lines", "instead"),
    [
        ("LIMIT = 3", "LIMIT = 4"),
        ("size = 1", "size = 2"),
        ("def again(self, by=2):", "def again(self, by=3):"),
        ("@contextmanager", ""),
        ("size = 1", "size = 1\n\ndef __len__(self):\n    return 1"),
    ],
    ids=["a constant", "an attribute", "a default", "a decorator", "a new method"],
)
def test_what_is_not_inside_a_function_is_refused(code: Any, lines: str, instead: str) -> None:
    """An import is over: nothing would come of it."""
    with (
        pytest.raises(CannotPlant, match=r"planted_code\.py: only the inside of"),
        planted(change(lines, instead)),
    ):
        raise AssertionError("it was planted")


def test_a_function_cannot_be_given_another_surrounding(code: Any) -> None:
    """Its variables from around it were bound when it was made."""
    with (
        pytest.raises(CannotPlant, match=r"Box\.twice would need other variables"),
        planted(change("return size * 2", "return super().size")),
    ):
        raise AssertionError("it was planted")


def test_a_function_is_not_planted_twice_at_once(code: Any) -> None:
    """The second would undo the first."""
    with planted(change("n += 1", "n += 10")):
        with (
            pytest.raises(CannotPlant, match="outer is wrong already"),
            planted(change("return n", "return -n")),
        ):
            raise AssertionError("it was planted")
        assert code.outer(1)() == 11


def test_a_mutant_that_changes_nothing_is_refused(code: Any) -> None:
    """A comment is not wrong."""
    with (
        pytest.raises(CannotPlant, match="is no other code"),
        planted(change("n += 1", "n += 1  # wrong")),
    ):
        raise AssertionError("it was planted")


def test_a_file_that_was_moved_is_told(code: Any) -> None:
    """By the name it had."""
    with (
        pytest.raises(CannotPlant, match=r"gone/code\.py: there is no such file"),
        planted(Change("gone/code.py", "n += 1", "n += 10")),
    ):
        raise AssertionError("it was planted")


METHODS = {each: vars(ForwardBuffer)[each] for each in ("put", "discard", "forward")}
BESIDE = (*OF_THE_ADMIN, *OF_THE_RECORDER, *OF_THE_TIME)
FAMILIES = (*MUTANTS, *OF_THE_FEED, *OF_THE_LEASE, *OF_THE_PIPELINE, *BESIDE)
ALL = {mutant.name: mutant.changes for mutant in FAMILIES}


@pytest.mark.parametrize("name", ALL)
def test_every_mutant_fits_the_code(name: str) -> None:
    """In a moment, what the sweeps would find in minutes: one that is to be written anew. And
    the code of everybody else is what it was."""
    before = {each: function.__code__ for each, function in METHODS.items()}
    with planted(*ALL[name]) as names:
        assert names
    assert {each: function.__code__ for each, function in METHODS.items()} == before
