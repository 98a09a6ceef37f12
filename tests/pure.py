"""A pytest plugin: `python -m pytest -p tests.pure` runs the pure code alone.

It makes every native module unimportable, here and in the workers of pytest-xdist. A process
that a test starts is not held back.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def native_sources() -> dict[str, Path]:
    """Each native module by its name, and its source."""
    found = [path for room in ("schemas", "cfw") for path in (ROOT / room).rglob("_native.pyx")]
    return {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in found}


def pytest_addoption() -> None:
    """Hold the modules back; no hook is called earlier, and no part of cfw is imported yet."""
    if late := [name for name in native_sources() if name in sys.modules]:
        raise pytest.UsageError(f"-p tests.pure came after the import of {', '.join(late)}")
    for name in native_sources():
        sys.modules[name] = None  # type: ignore[assignment]
