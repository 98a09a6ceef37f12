"""The compiled modules: there where they can be, and out of the way where they must not."""

from __future__ import annotations

import importlib
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from types import ModuleType

import pytest

import cfw
from tests.pure import ROOT, native_sources

NATIVE = native_sources()
HEADER = Path(sysconfig.get_path("include"), "Python.h")
CAN_COMPILE = (
    sys.implementation.name == "cpython" and shutil.which("cc") is not None and HEADER.exists()
)
can_compile = pytest.mark.skipif(not CAN_COMPILE, reason="CPython, `cc` or Python.h is missing")


@pytest.fixture
def is_pure(request: pytest.FixtureRequest) -> bool:
    return request.config.pluginmanager.has_plugin("tests.pure")


@can_compile
@pytest.mark.parametrize("name", NATIVE)
def test_a_native_module_is_compiled_where_it_can_be(name: str, is_pure: bool) -> None:
    """Nobody tests the pure code alone without having asked for it by `-p tests.pure`.

    If this fails, have the sources compiled as they are now: `pip install -e .`
    """
    if is_pure:
        pytest.skip("-p tests.pure asks for the pure code")
    compiled = importlib.import_module(name).__file__
    assert compiled is not None
    assert Path(compiled).stat().st_mtime >= NATIVE[name].stat().st_mtime, "of an older source"


@pytest.mark.parametrize("workers", [(), ("-n", "1")], ids=["alone", "under xdist"])
def test_no_native_module_is_loaded_under_the_pure_plugin(
    tmp_path: Path, workers: tuple[str, ...]
) -> None:
    """With `-p tests.pure` everything can be imported, and nothing compiled is."""
    path = tmp_path / "test_loaded.py"
    path.write_text(
        "import sys\n"
        "import cfw.api\n"
        "import cfw.testing.rigs\n"
        "def test_loaded():\n"
        f"    assert all(sys.modules[name] is None for name in {list(NATIVE)})\n"
    )
    command = (sys.executable, "-m", "pytest", "-q", "-c", "pyproject.toml")
    ran = subprocess.run(
        [*command, "-p", "tests.pure", *workers, str(path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.parametrize(
    ("there", "told"), [(0, "pure"), (1, "partly compiled"), (2, "compiled")]
)
def test_the_code_in_use_is_told(
    monkeypatch: pytest.MonkeyPatch, there: int, told: str
) -> None:
    """`compiled` is said only when every module can be imported."""
    monkeypatch.setattr(cfw, "MODULES", ("cfw.one._native", "cfw.two._native"))
    for name in cfw.MODULES[:there]:
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    assert cfw.code_in_use() == told


def test_every_native_module_is_asked_for() -> None:
    """What `cfw --version` says is about all that is compiled."""
    assert set(NATIVE) == set(cfw.MODULES)
