"""A loopback listener cannot be read under a name that somebody else chose."""

from __future__ import annotations

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.trio.client import connect

from cfw.identity import is_loopback
from tests.whole.smoke.worker import running

OURS = ["localhost", "LOCALHOST.", "127.0.0.1", "127.8.9.10", "[::1]"]
OTHERS = [
    "evil.example",
    "localhost.evil.example",
    "127.0.0.1.evil.example",
    "10.0.0.7",
    "",
    "[",
]


async def test_only_loopback_names_are_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any other Host gets 421, on the pages and on the feed."""
    async with running(monkeypatch) as worker:
        assert worker.addresses.admin is not None
        url = worker.addresses.admin
        async with httpx.AsyncClient(trust_env=False) as client:
            for names, status in ((OURS, 200), (OTHERS, 421)):
                for name in names:
                    for host in (name, f"{name}:8766"):
                        answer = await client.get(f"{url}/captures", headers={"Host": host})
                        assert answer.status_code == status, host
        feed = url.replace("http", "ws") + "/feed"
        rebound = {"additional_headers": {"Host": "evil.example"}, "proxy": None}
        with pytest.raises(InvalidStatus) as caught:
            async with connect(feed, **rebound):  # type: ignore[arg-type]
                pass
        assert caught.value.response.status_code in (400, 421)
        async with connect(feed, proxy=None):
            pass


@pytest.mark.parametrize(
    ("host", "is_ours"), [("localhost", True), ("::1", True), ("0.0.0.0", False), ("x", False)]
)
def test_what_loopback_is(host: str, is_ours: bool) -> None:
    """Names and addresses; a listener on all interfaces is not on loopback."""
    assert is_loopback(host) is is_ours
