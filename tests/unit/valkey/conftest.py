"""Servers that are started once for all tests of a module."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.valkey.servers import Servers, alone, cluster


@pytest.fixture(scope="session")
def one_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """A server that no test kills."""
    with alone(tmp_path_factory.mktemp("alone")) as servers:
        yield servers


@pytest.fixture(scope="session")
def three_nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """A cluster that no test kills."""
    with cluster(tmp_path_factory.mktemp("cluster")) as servers:
        yield servers


@pytest.fixture(params=["alone", "cluster"])
def servers(request: pytest.FixtureRequest) -> Servers:
    """Each test with one server, and with a cluster of three."""
    name = {"alone": "one_server", "cluster": "three_nodes"}[request.param]
    found: Servers = request.getfixturevalue(name)
    return found


@pytest.fixture
def mortal(tmp_path: Path) -> Iterator[Servers]:
    """A server of the test's own, to be killed."""
    with alone(tmp_path) as servers:
        yield servers


@pytest.fixture
def prefix(request: pytest.FixtureRequest) -> str:
    """Keys of the test's own."""
    return f"t{abs(hash(request.node.nodeid)) % 10**9}"
