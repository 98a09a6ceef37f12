"""What the ready line says to people."""

from __future__ import annotations

import json

import pytest

from cfw.api import Addresses
from cfw.cli.serve import _ready_line


@pytest.fixture(autouse=True)
def _own_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cfw.net.own.own_address", lambda: "192.0.2.7")


@pytest.mark.parametrize("host", ["0.0.0.0", "[::]"])
def test_an_address_that_can_be_used_stands_before_every_one(host: str) -> None:
    """No client connects to `0.0.0.0` or `::`; where it listens is told as well."""
    addresses = Addresses(f"wss://{host}:8765/api", f"http://{host}:8766")
    assert _ready_line(addresses, log_format="console") == (
        f"ready: rigs at wss://192.0.2.7:8765/api (listening at wss://{host}:8765/api), "
        f"admin at http://192.0.2.7:8766 (listening at http://{host}:8766)"
    )


def test_what_can_be_used_is_told_alone() -> None:
    """And a URL of a proxy is what rigs use, whatever is listened at."""
    local = Addresses("ws://127.0.0.1:8765/api", None)
    assert _ready_line(local, log_format="console") == (
        "ready: rigs at ws://127.0.0.1:8765/api, admin at off"
    )
    proxied = Addresses("ws://0.0.0.0:8765/api", None, public="wss://lab.example/api")
    assert _ready_line(proxied, log_format="console") == (
        "ready: rigs at wss://lab.example/api (listening at ws://0.0.0.0:8765/api), "
        "admin at off"
    )


def test_programs_read_where_it_listens() -> None:
    """In JSON the addresses are those of the configuration."""
    told = json.loads(
        _ready_line(Addresses("ws://[::]:1/", "http://[::]:2"), log_format="json")
    )
    assert (told["capture"], told["admin"]) == ("ws://[::]:1/", "http://[::]:2")
