"""The server that the load is tried on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cfw.bench.cores import cores
from cfw.bench.servers import Server, running
from cfw.bench.tables import BASELINE
from cfw.bench.tls import Certificate, making_certificate


@pytest.fixture(scope="module")
def stamped() -> Iterator[Server]:
    """The worker, which notes the delays of stamped frames."""
    with running([BASELINE], cores()[0], is_stamped=True) as ((server,), _):
        yield server


@pytest.fixture(scope="session")
def certificate() -> Iterator[Certificate]:
    """What servers show over TLS."""
    with making_certificate() as made:
        yield made
