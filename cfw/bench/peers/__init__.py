"""What cfw is measured against: small servers that do the worker's work with other libraries.

Each is written the way its library is used when speed counts, and each checks what the worker
checks of a frame: see `checks`. `python -m cfw.bench.peers NAME` runs one.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec

import attrs


@attrs.frozen
class Peer:
    """One server to measure against.

    Args:
        module: its file in this folder.
        needs: packages that it imports; the extra `bench` brings them.
        about: what it is, in a few words.
        has_tls: it can be measured over TLS.
    """

    module: str
    needs: tuple[str, ...]
    about: str
    has_tls: bool = True

    def missing(self) -> list[str]:
        """The packages that are not installed."""
        return [name for name in self.needs if find_spec(name) is None]


#: Peers that look at nothing, so they have no part in what asks for checks or delays.
BARE = ("receive_some", "recv")
PEERS: Mapping[str, Peer] = {
    "trio-websocket": Peer(
        "trio_websocket_loop", ("msgspec",), "trio-websocket, 64 KiB reads, msgspec"
    ),
    "websockets/trio": Peer("websockets_trio", ("msgspec",), "websockets on Trio, msgspec"),
    "websockets/asyncio": Peer(
        "websockets_asyncio", ("msgspec",), "websockets on asyncio with uvloop, msgspec"
    ),
    "aiohttp": Peer("aiohttp_server", ("aiohttp", "msgspec"), "aiohttp with uvloop, msgspec"),
    "fastapi": Peer(
        "fastapi_app",
        ("fastapi", "uvicorn", "websockets"),
        "FastAPI on uvicorn with uvloop, pydantic",
    ),
    "picows": Peer("picows_listener", ("picows", "msgspec"), "picows with uvloop, msgspec"),
    "receive_some": Peer("receive_some", (), "bare receive_some on Trio, nothing parsed"),
    "recv": Peer("recv", (), "bare recv on Trio, nothing parsed: the ceiling", has_tls=False),
}
