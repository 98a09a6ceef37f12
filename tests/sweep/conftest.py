"""What all sweeps share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import structlog

from tests.sweep.scenario import quiet


@pytest.fixture(autouse=True)
def no_logs() -> Iterator[None]:
    """Thousands of connections would log thousands of lines."""
    before = structlog.get_config()
    quiet()
    yield
    structlog.configure(**before)
