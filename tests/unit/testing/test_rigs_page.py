"""The examples of RIGS.md, pasted unchanged."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

import cfw.testing

PAGE = (Path(cfw.testing.__path__[0]) / "RIGS.md").read_text("utf-8")
CODE = "\n\n".join(re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE))


def example() -> dict[str, Any]:
    """All the code of the page as one module."""
    namespace: dict[str, Any] = {"__name__": "example"}
    exec(compile(CODE, "RIGS.md", "exec"), namespace)
    return namespace


@pytest.mark.parametrize("name", re.findall(r"^async def (test_\w+)", CODE, re.MULTILINE))
def test_the_examples_run(name: str) -> None:
    """Each test on the page passes under a virtual clock."""
    clock = MockClock(autojump_threshold=0)
    trio.run(example()[name], clock, clock=clock)


def test_the_page_names_the_parameters_there_are() -> None:
    """The table of fakes agrees with the code."""
    rows = re.findall(r"^\| `(\w+)\((.*?)\)` \|", PAGE, re.MULTILINE)
    assert len(rows) == 6
    for name, arguments in rows:
        fake = getattr(__import__("cfw.testing.fakes", fromlist=[name]), name)
        parameters = set(inspect.signature(fake).parameters)
        assert {word.strip("= ") for word in arguments.split(",")} <= parameters, name
