"""Sweeps of other people's projects on Trio: what they find, or that it is clean.

`nox -s sweep-elsewhere` runs them, in an environment with the versions that the extra
`elsewhere` pins. Where a bug is known, its test asserts that it is found at its place: it fails
when the project has mended it and the pin is moved.
"""

from __future__ import annotations

import tomllib
from importlib import metadata
from pathlib import Path

import pytest

from cfw.testing.sweep import SweepFailure

_PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"


def need(project: str) -> None:
    """Skip the module that calls this, unless the version that is pinned is installed."""
    extras = tomllib.loads(_PYPROJECT.read_text())["project"]["optional-dependencies"]
    pins = dict(pin.split("==") for pin in extras["elsewhere"] if "==" in pin)
    try:
        installed = metadata.version(project)
    except metadata.PackageNotFoundError:
        installed = "none"
    if installed != pins[project]:
        what = f"{project} {pins[project]}, of the extra `elsewhere`; installed is {installed}"
        pytest.skip(f"sweeps {what}", allow_module_level=True)


def check_found(failure: SweepFailure, invariant: str, *places: str) -> None:
    """Assert that one failure is of this invariant, and names all of these places."""
    found = [one for one in failure.failures if one.invariant == invariant]
    told = [f"{one.message}\n{one.site}\n{one.details}" for one in found]
    assert told, f"not {invariant}, but:\n{failure}"
    assert any(all(place in one for place in places) for one in told), "\n".join(told)
