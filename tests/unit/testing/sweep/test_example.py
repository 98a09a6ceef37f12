"""The documented example is the tested one, and runs where only Trio and pytest exist."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import cfw.testing

RunAlone = Callable[..., str]

HERE = Path(__file__).parent
EXAMPLE = HERE / "example_sweep.py"
PAGE = Path(cfw.testing.__file__).parent / "SWEEP.md"

#: Everything Trio and pytest are made of, and the toolkit; nothing of cfw beside it.
ALONE = '''
import importlib.abc
import sys

class Nothing(importlib.abc.MetaPathFinder):
    """Refuses what a project that only sweeps its own code would not have."""

    absent = {absent}

    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        inside = name.startswith("cfw.") and not name.startswith("cfw.testing")
        beside = name.startswith("cfw.testing.") and not name.startswith(
            ("cfw.testing.sweep", "cfw.testing.pytest_plugin")
        )
        if top in self.absent or inside or beside:
            raise ModuleNotFoundError(f"{{name}} is not here", name=name)
        return None

sys.meta_path.insert(0, Nothing())
import pytest
sys.exit(pytest.main(sys.argv[1:]))
'''

#: `attr` and `attrs` are left: Trio itself is built on them.
ABSENT = (
    "cattrs",
    "orjson",
    "structlog",
    "httpx",
    "h11",
    "websockets",
    "trio_websocket",
    "wsproto",
    "click",
    "rich",
    "PIL",
    "schemas",
    "pytest_trio",
    "hypothesis",
)


@pytest.fixture
def run_alone(tmp_path: Path) -> RunAlone:
    """Runs a test file in a process in which nothing else can be imported."""
    (tmp_path / "alone.py").write_text(ALONE.format(absent=ABSENT))

    def run(text: str, *arguments: str) -> str:
        (tmp_path / "test_pasted.py").write_text(text)
        done = subprocess.run(
            [sys.executable, "alone.py", "-p", "cfw.testing.pytest_plugin", *arguments],
            cwd=tmp_path,
            env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        return done.stdout + done.stderr

    return run


def test_page_shows_the_tested_file() -> None:
    """The first Python block of the page is the example, to the letter."""
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert blocks[0] == EXAMPLE.read_text()


def test_example_passes_alone(run_alone: RunAlone) -> None:
    """Pasted unchanged beside Trio and pytest, the example is swept completely."""
    output = run_alone(EXAMPLE.read_text())
    assert "1 passed" in output, output
    assert re.search(r"test_pasted\.test_pump .* 1/1 .* complete", output), output


def test_the_bug_the_page_tells_the_reader_to_plant_is_found(run_alone: RunAlone) -> None:
    """Each edit the page suggests fails by the name it says."""
    edits = re.findall(r"```diff\n(.*?)```.*?`([\w ]+)`", PAGE.read_text(), re.DOTALL)
    assert edits
    for edit, invariant in edits:
        lines = edit.splitlines()
        old = "\n".join(line[2:] for line in lines if line.startswith("- "))
        new = "\n".join(line[2:] for line in lines if line.startswith("+ "))
        text = EXAMPLE.read_text()
        assert text.count(old) == 1
        output = run_alone(text.replace(old, new))
        assert f"invariant '{invariant}' does not hold" in output, output


def test_page_names_what_exists() -> None:
    """Every `world.x` and every option on the page exists."""
    text = PAGE.read_text()
    for name in set(re.findall(r"world\.(\w+)", text)):
        assert hasattr(cfw.testing.World(), name), name
    files = "pytest_plugin.py", "sweep/memory.py"
    plugin = "".join((PAGE.parent / file).read_text() for file in files)
    for option in set(re.findall(r"--sweep-[\w-]+", text)):
        assert f'"{option}"' in plugin
