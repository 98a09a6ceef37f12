"""Workflows and hooks: YAML that is understood, which calls sessions of nox that exist."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import cfw
from tests.guards.test_pages import each_page, marked

ROOT = Path(cfw.__file__).parent.parent
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
HOOKS = ROOT / ".pre-commit-config.yaml"
NOXFILE = ROOT / "noxfile.py"
each_workflow = pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)


def load(path: Path) -> dict[str, Any]:
    """A file of YAML, in which `on` is a key and no truth value."""
    tree = yaml.load(path.read_text("utf-8"), Loader=yaml.BaseLoader)
    assert isinstance(tree, dict)
    return tree


def sessions() -> set[str]:
    """The sessions of the noxfile."""
    return {
        _name(node.name, mark)
        for node in ast.parse(NOXFILE.read_text("utf-8")).body
        if isinstance(node, ast.FunctionDef)
        for mark in node.decorator_list
        if "nox.session" in ast.unparse(mark)
    }


def _name(function: str, mark: ast.expr) -> str:
    """What nox calls a session: `name=`, or what its function is called."""
    given = mark.keywords if isinstance(mark, ast.Call) else []
    names = [ast.literal_eval(one.value) for one in given if one.arg == "name"]
    return str(names[0]) if names else function


def jobs(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    yield from load(path)["jobs"].items()


def commands(path: Path) -> Iterator[str]:
    """What a workflow runs, once for each value of its matrix."""
    for _, job in jobs(path):
        matrix = job.get("strategy", {}).get("matrix", {})
        for step in job.get("steps", ()):
            names = re.findall(r"\$\{\{ matrix\.(\w+) \}\}", step.get("run", ""))
            for value in matrix[names[0]] if names else [""]:
                yield re.sub(r"\$\{\{ matrix\.\w+ \}\}", value, step.get("run", ""))


@each_workflow
def test_every_job_is_bounded_and_may_only_read(path: Path) -> None:
    """A job that hangs ends, and a step of somebody else's writes nothing but a release."""
    assert load(path)["permissions"] == {"contents": "read"}
    for name, job in jobs(path):
        assert "uses" in job or int(job["timeout-minutes"]) <= 60, name
        assert "permissions" not in job or (path.name, name) == ("release.yml", "publish")


@each_workflow
def test_workflows_run_sessions_of_nox_that_exist(path: Path) -> None:
    """Whatever tests or builds is a session, so that everybody can run it at home."""
    told = [name for line in commands(path) for name in re.findall(r"nox -s (\S+)", line)]
    assert set(told) <= sessions()
    for line in commands(path):
        assert re.match(r"$|nox|python -m pip install nox$|sudo apt-get|gh release", line), line


def test_hooks_are_local_and_run_sessions_of_nox() -> None:
    """They fetch nothing from anywhere."""
    for repository in load(HOOKS)["repos"]:
        assert repository["repo"] == "local"
        for hook in repository["hooks"]:
            assert hook["entry"].removeprefix("nox -s ") in sessions(), hook


@each_page
def test_pages_tell_sessions_of_nox_that_exist(page: Path) -> None:
    """Several behind one `-s`, and what goes to pytest behind `--`."""
    for code in marked(page):
        for names in re.findall(r"nox -s ((?:[a-z]+ ?)+)", code):
            assert set(names.split()) <= sessions(), code


def test_every_long_session_is_run_by_a_workflow() -> None:
    """What a plain nox leaves out is not forgotten."""
    ran = " ".join(commands(ROOT / ".github/workflows/tests.yml"))
    assert "nox" in ran.split()
    told = (ROOT / "noxfile.py").read_text("utf-8").partition("but of what .github/")[2]
    told = told.partition("When they are asked for")[0]
    long = set(re.findall(r"^([a-z-]+)(?:  |$)", told, re.MULTILINE))
    assert {"sweep", "sweep-elsewhere", "fuzz", "slow", "hostile"} <= long
    assert {"quick"} | long <= set(re.findall(r"nox -s (\S+)", ran))


def test_every_python_is_tested_and_gets_a_wheel() -> None:
    """The workflow, nox, cibuildwheel and the classifiers name the same versions."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    told = re.findall(r"Python :: (3\.\d+)", "\n".join(project["project"]["classifiers"]))
    assert project["project"]["requires-python"] == f">={told[0]}"
    (versions,) = re.findall(r"for version in \((.*?)\)", NOXFILE.read_text("utf-8"))
    assert re.findall(r"3\.\d+", versions) == told
    quick = load(ROOT / ".github/workflows/tests.yml")["jobs"]["quick"]
    assert quick["strategy"]["matrix"]["python"] == told
    wheels = project["tool"]["cibuildwheel"]["build"]
    assert wheels == [f"cp{version.replace('.', '')}-*" for version in told]
