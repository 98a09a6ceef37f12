"""Whether a running worker says that it is ready, and how a capture at it ends."""

from __future__ import annotations

from typing import Any

import httpx

from tests.whole.smoke.worker import Worker, closing, ending, opening


async def capture(worker: Worker, user_id: str = "ada") -> int | None:
    """Open and close a capture of this user; gives its close code."""
    async with worker.connect() as ws:
        await ws.send(opening(user_id=user_id))
        await ws.send(closing(user_id=user_id))
        return (await ending(ws))[1]


async def readyz(worker: Worker) -> dict[str, Any]:
    """What `/readyz` says."""
    async with httpx.AsyncClient(trust_env=False) as client:
        answer = await client.get(f"{worker.addresses.admin}/readyz")
    said: dict[str, Any] = answer.json()
    assert answer.status_code == (200 if said == {"status": "ready"} else 503)
    return said
