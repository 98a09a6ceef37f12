"""What is in this folder is hostile."""

from __future__ import annotations

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All of it is one session of its own; a plain run of the tests need not wait for it."""
    for item in items:
        if "tests/whole/hostile/" in item.nodeid:
            item.add_marker("hostile")
