"""The server that the load is tried on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cfw.bench.servers import Server, cores, running
from cfw.bench.tables import BASELINE


@pytest.fixture(scope="module")
def stamped() -> Iterator[Server]:
    """The worker, which notes the delays of stamped frames."""
    with running([BASELINE], cores()[0], is_stamped=True) as ((server,), _):
        yield server
