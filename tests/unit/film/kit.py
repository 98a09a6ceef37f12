"""A worker that invites people, and what a browser does there, without one."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from cfw.cli.certificate import keep_certificate
from tests.whole.smoke.worker import Worker, running

#: As a browser says where a page comes from.
USER = {"user_id": "ada", "session_id": "s-1"}


@asynccontextmanager
async def inviting(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, **settings: Any
) -> AsyncIterator[Worker]:
    """As `cfw serve --lan` runs it, on loopback."""
    path = tmp_path / "lan.pem"
    keep_certificate(path, [], [])
    keys: dict[str, Any] = {"server__cert_file": str(path), "server__key_file": str(path)}
    async with running(monkeypatch, invitations__enabled=True, **keys, **settings) as worker:
        yield worker


def trusting(tmp_path: Path) -> ssl.SSLContext:
    """Trusts the certificate of `inviting`, and nothing else."""
    return ssl.create_default_context(cafile=str(tmp_path / "lan.pem"))


def phone(worker: Worker, tmp_path: Path) -> httpx.AsyncClient:
    """Asks for what a phone's browser asks for."""
    assert worker.addresses.film is not None
    here = urlsplit(worker.addresses.film)
    return httpx.AsyncClient(
        base_url=f"{here.scheme}://{here.netloc}",
        headers={"Origin": f"{here.scheme}://{here.netloc}"},
        verify=trusting(tmp_path),
        trust_env=False,
    )


def operator(worker: Worker) -> httpx.AsyncClient:
    """Asks the admin listener."""
    assert worker.addresses.admin is not None
    return httpx.AsyncClient(base_url=worker.addresses.admin, trust_env=False)


async def invited(worker: Worker, **names: str) -> dict[str, Any]:
    """An invitation, with its link."""
    async with operator(worker) as admin:
        answer = await admin.post("/invitations", json=USER | names)
    assert answer.status_code == 201, answer.text
    told: dict[str, Any] = answer.json()
    return told


def secret_of(told: dict[str, Any]) -> str:
    """What the link hands to the page."""
    name, _, secret = urlsplit(told["url"]).fragment.partition("=")
    assert name == "i"
    return str(secret)


async def joined(worker: Worker, tmp_path: Path, secret: str) -> httpx.Response:
    """What the page is told that comes with an invitation."""
    async with phone(worker, tmp_path) as browser:
        return await browser.post("/join", json={"invitation": secret})
