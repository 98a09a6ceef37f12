"""The build hook compiles what it can, and never ends an installation."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from tests.guards.test_native import can_compile
from tests.pure import ROOT

GOOD = "def answer():\n    return 42\n"
BAD = "def answer(:\n"


def load_hook() -> ModuleType:
    spec = importlib.util.spec_from_file_location("build_hook", ROOT / ".build" / "native.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Project:
    """A project with two native modules, which is built again and again."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.hook = load_hook()
        self.told: list[str] = []
        for package in ("schemas", "cfw"):
            (root / package).mkdir()
            (root / package / "__init__.py").touch()
            self.write(package, GOOD)

    def write(self, package: str, source: str) -> None:
        (self.root / package / "_native.pyx").write_text(source)

    def made(self) -> dict[str, os.stat_result]:
        """The compiled modules that lie beside their sources, by their package."""
        suffix = self.hook.SUFFIX
        return {p.parent.name: p.stat() for p in self.root.glob(f"*/_native{suffix}")}

    def builder(self) -> Any:
        app = SimpleNamespace(display_warning=self.told.append)
        config: Any = None
        return self.hook.NativeBuildHook(str(self.root), {}, config, config, "", "wheel", app)

    def build(self, version: str) -> dict[str, Any]:
        """What an installation of this kind is told to take."""
        self.told.clear()
        data: dict[str, Any] = {"force_include": {}, "pure_python": True, "infer_tag": False}
        builder = self.builder()
        builder.initialize(version, data)
        assert all(Path(path).exists() for path in data["force_include"])
        builder.finalize(version, data, "")
        assert not builder.made.exists()
        return data


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """In a folder whose name has a space."""
    monkeypatch.delenv("CFW_BUILD", raising=False)
    root = tmp_path / "a project"
    root.mkdir()
    return Project(root)


@pytest.fixture
def no_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))


@can_compile
def test_a_wheel_takes_the_compiled_modules_along(project: Project) -> None:
    """It is for one platform then, and nothing is left beside the sources."""
    data = project.build("standard")
    suffix = project.hook.SUFFIX
    taken = {f"schemas/_native{suffix}", f"cfw/_native{suffix}"}
    assert set(data["force_include"].values()) == taken
    assert (data["pure_python"], data["infer_tag"]) == (False, True)
    assert project.made() == {}
    assert project.told == []


@can_compile
def test_a_source_that_cannot_be_compiled_is_left_out(project: Project) -> None:
    """The others are compiled, and one line names it."""
    project.write("schemas", BAD)
    data = project.build("standard")
    assert set(data["force_include"].values()) == {f"cfw/_native{project.hook.SUFFIX}"}
    (line,) = project.told
    assert "schemas._native" in line
    assert "cfw._native" not in line


@can_compile
def test_an_editable_install_compiles_what_has_changed(project: Project) -> None:
    """Each module lies beside its source, and none outlives the source it was made from."""
    data = project.build("editable")
    assert data["pure_python"]
    first = project.made()
    assert set(first) == {"schemas", "cfw"}

    project.write("cfw", GOOD + "\n")
    project.build("editable")
    second = project.made()
    assert second["schemas"].st_ino == first["schemas"].st_ino
    assert second["cfw"].st_mtime_ns > first["cfw"].st_mtime_ns

    project.write("cfw", BAD)
    project.build("editable")
    assert set(project.made()) == {"schemas"}
    assert len(project.told) == 1


def test_two_installations_at_a_time_do_not_meet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each puts a whole module in place, also if the other comes in between."""
    hook = load_hook()
    target = tmp_path / f"_native{hook.SUFFIX}"
    compiled = [tmp_path / name for name in ("one", "two")]
    for path in compiled:
        path.write_text(path.name)
    utime = os.utime

    def other_comes(path: Path, ns: tuple[int, int]) -> None:
        monkeypatch.setattr(hook.os, "utime", utime)
        hook.place(compiled[1], target, 2)
        assert target.read_text() == "two"
        utime(path, ns=ns)

    monkeypatch.setattr(hook.os, "utime", other_comes)
    hook.place(compiled[0], target, 1)
    assert target.read_text() == "one"
    assert set(tmp_path.iterdir()) == {*compiled, target}


@can_compile
def test_no_compiled_part_is_made_or_left_if_none_is_wanted(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CFW_BUILD=pure needs no compiler, takes nothing along and removes what was made."""
    project.build("editable")
    assert project.made()
    monkeypatch.setenv("CFW_BUILD", "pure")
    project.build("editable")
    assert project.made() == {}
    data = project.build("standard")
    assert (data["force_include"], data["pure_python"]) == ({}, True)
    assert "CFW_BUILD=pure" in project.told[0]
    assert project.builder().dependencies() == []


def test_another_interpreter_gets_the_pure_code(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is fetched to compile with, and the line says why."""
    monkeypatch.setattr(project.hook.sys, "implementation", SimpleNamespace(name="pypy"))
    assert project.builder().dependencies() == []
    assert project.build("standard")["force_include"] == {}
    assert "pypy" in project.told[0]


@pytest.mark.usefixtures("no_compiler")
@pytest.mark.parametrize(("more", "is_used"), [(-1, False), (0, True), (1, True)])
def test_without_a_compiler_one_is_fetched_if_there_is_room(
    project: Project, monkeypatch: pytest.MonkeyPatch, more: int, is_used: bool
) -> None:
    """One that cannot be unpacked would end the installation."""
    hook = project.hook
    monkeypatch.setattr(hook.sys, "platform", "linux")
    monkeypatch.setattr(hook.platform, "machine", lambda: "x86_64")
    free = SimpleNamespace(free=hook.ZIG_BYTES + more)
    monkeypatch.setattr(hook.shutil, "disk_usage", lambda _: free)
    needed = [need.split(">")[0] for need in project.builder().dependencies()]
    assert needed == (["cython", "setuptools", "ziglang"] if is_used else [])
    if not is_used:
        assert project.build("standard")["force_include"] == {}
        assert "install gcc or clang" in project.told[0]


@pytest.mark.usefixtures("no_compiler")
def test_a_compiler_that_was_not_fetched_is_no_end_either(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An installer that heeds no dependencies of a build gets the pure code."""
    monkeypatch.setattr(project.hook, "obstacle", lambda: None)
    assert project.build("standard")["force_include"] == {}
    assert len(project.told) == 1
