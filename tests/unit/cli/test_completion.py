"""Completion in shells, as the page about installing says."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import cfw

BASH = shutil.which("bash")
PAGE = Path(cfw.__file__).parent / "INSTALL.md"
#: What bash does when its reader presses the tabulator: the words so far are in COMP_WORDS.
PRESS = """
COMP_WORDS=({words}); COMP_CWORD=$(( ${{#COMP_WORDS[@]}} - 1 ))
_cfw_completion cfw "${{COMP_WORDS[COMP_CWORD]}}" ""
echo "${{COMPREPLY[@]}}"
"""


def is_new_enough() -> bool:
    """Whether there is a bash that completion of this kind works with."""
    if BASH is None or sys.platform == "win32":
        return False
    asked = [BASH, "-c", "(( BASH_VERSINFO[0] * 100 + BASH_VERSINFO[1] >= 404 ))"]
    return subprocess.run(asked, check=False).returncode == 0


def line_for(shell: str) -> str:
    """What the page has one write into a shell's file."""
    (found,) = re.findall(rf"^eval .*_CFW_COMPLETE={shell}_source.*$", PAGE.read_text(), re.M)
    return str(found)


def as_program(folder: Path) -> Path:
    """The command under its own name, whether it is installed or not."""
    start = 'import sys; sys.argv[0] = "cfw"; from cfw.cli import main; main()'
    program = folder / "cfw"
    program.write_text(f"#!/bin/sh\nexec '{sys.executable}' -c '{start}' \"$@\"\n")
    program.chmod(0o755)
    return program


@pytest.mark.skipif(not is_new_enough(), reason="completion needs bash 4.4 or later")
@pytest.mark.parametrize(
    ("words", "completed"),
    [
        ("cfw ta", "tap"),
        ("cfw tap --rec", "--reconnect"),
        ("cfw serve --for ''", "quick video hd"),
        ("cfw tap --format j", "json"),
    ],
    ids=["a command", "an option", "a value", "another value"],
)
def test_bash_completes_by_the_line_of_the_page(
    tmp_path: Path, words: str, completed: str
) -> None:
    """Commands, options, and what an option may be."""
    assert BASH is not None
    as_program(tmp_path)
    ran = subprocess.run(
        [BASH, "--norc", "-c", line_for("bash") + PRESS.format(words=words)],
        env=os.environ | {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert ran.stdout.split() == completed.split(), ran.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such shells")
@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_the_command_prints_what_the_page_has_a_shell_read(tmp_path: Path, shell: str) -> None:
    """And it is for the command of this name."""
    (value,) = re.findall(r"_CFW_COMPLETE=(\w+)", line_for(shell))
    ran = subprocess.run(
        [as_program(tmp_path)],
        env=os.environ | {"_CFW_COMPLETE": value},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    # Without a bash at all, or with one that is too old, it says so besides.
    assert "_CFW_COMPLETE" in ran.stdout, ran.stderr
