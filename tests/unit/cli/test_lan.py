"""`cfw serve --lan`: what it sets, and the certificate that it makes and keeps."""

from __future__ import annotations

import os
import ssl
import stat
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trio

from cfw.api.config import Config, load_config
from cfw.cli import lan
from cfw.cli.certificate import (
    RENEW,
    VALID,
    CertificateError,
    certificate_file,
    keep_certificate,
)
from cfw.cli.lan import GUEST, is_kept_here, keep_up, lan_defaults, look_after
from cfw.identity import TlsFiles
from tests.patience import PATIENCE_S

NOW = datetime.now(UTC)
NAMES, ADDRESSES = ["lab", "lab.local"], ["192.0.2.7"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a certificate is kept, in a folder that has to be made."""
    return tmp_path / "data" / "cfw" / "lan.pem"


def with_lan(*settings: tuple[str, object]) -> Config:
    return load_config(None, settings, defaults=lan_defaults)


def test_it_sets_what_is_not_set() -> None:
    """Every address, a certificate, people invited, and somebody who may film."""
    config = with_lan()
    assert config.server.host == "0.0.0.0"
    assert config.server.cert_file == config.server.key_file == str(certificate_file())
    assert config.invitations.enabled
    assert config.sessions.static == (GUEST,)
    assert config.admin.host == "127.0.0.1"
    assert is_kept_here(config)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("server.host", "127.0.0.1"),
        ("invitations.enabled", False),
        ("sessions.static", ["ada:s1"]),
    ],
)
def test_what_is_set_stays_as_it_is(key: str, value: object) -> None:
    """By the command line or a file."""
    section, _, name = key.partition(".")
    found = getattr(getattr(with_lan((key, value)), section), name)
    assert found == (tuple(value) if isinstance(value, list) else value)


def test_a_certificate_of_one_s_own_wins() -> None:
    """Nothing is made or looked after then."""
    config = with_lan(("server.cert_file", "c.pem"), ("server.key_file", "k.pem"))
    assert (config.server.cert_file, config.server.key_file) == ("c.pem", "k.pem")
    assert not is_kept_here(config)


def test_another_authority_is_given_no_sessions() -> None:
    """It would refuse a list beside it."""
    assert with_lan(("sessions.url", "allow:")).sessions.static == ()


def test_a_certificate_is_made_once(path: Path) -> None:
    """And kept: each new one has to be accepted at each phone again."""
    made = keep_certificate(path, NAMES, ADDRESSES, NOW)
    again = keep_certificate(path, NAMES, ADDRESSES, NOW + timedelta(days=100))
    assert made.is_new
    assert not again.is_new
    assert again.fingerprint == made.fingerprint
    assert TlsFiles(path, path).fingerprint == made.fingerprint


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such modes")
def test_nobody_else_can_read_the_key(path: Path) -> None:
    """Whatever the umask is; and one that others could read is a secret no more."""
    before = os.umask(0)
    try:
        made = keep_certificate(path, NAMES, ADDRESSES, NOW)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    path.chmod(0o640)
    assert keep_certificate(path, NAMES, ADDRESSES, NOW).fingerprint != made.fingerprint
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [each.name for each in path.parent.iterdir()] == ["lan.pem"]


@pytest.mark.parametrize("early", [timedelta(seconds=1), timedelta(0)])
def test_it_is_made_anew_before_it_ends(path: Path, early: timedelta) -> None:
    """So many days before, to the second."""
    # A certificate counts in whole seconds.
    now = NOW.replace(microsecond=0)
    made = keep_certificate(path, NAMES, ADDRESSES, now)
    assert made.ends == now + VALID
    later = keep_certificate(path, NAMES, ADDRESSES, now + VALID - RENEW - early)
    assert later.is_new is (not early)


def test_it_is_made_anew_for_a_new_address(path: Path) -> None:
    """But not when one is gone, which may come back."""
    made = keep_certificate(path, NAMES, [*ADDRESSES, "192.0.2.8"], NOW)
    assert not keep_certificate(path, NAMES, ADDRESSES, NOW).is_new
    other = keep_certificate(path, NAMES, ["192.0.2.9"], NOW)
    assert other.is_new
    assert other.fingerprint != made.fingerprint


@pytest.mark.parametrize("content", [b"", b"no certificate", b"-----BEGIN CERTIFICATE-----\n"])
def test_what_is_no_certificate_is_replaced(path: Path, content: bytes) -> None:
    """Half of a file that another program has left, for example."""
    keep_certificate(path, NAMES, ADDRESSES, NOW)
    path.write_bytes(content)
    assert keep_certificate(path, NAMES, ADDRESSES, NOW).is_new
    TlsFiles(path, path)


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    """With what to do instead."""
    (tmp_path / "data").write_text("a file is in the way")
    with pytest.raises(CertificateError, match=r"--cert-file"):
        keep_certificate(tmp_path / "data" / "cfw" / "lan.pem", NAMES, ADDRESSES, NOW)


async def test_programs_can_check_it_strictly(path: Path) -> None:
    """`--ca-file` with a copy of it, as newer versions of Python look at certificates."""
    keep_certificate(path, NAMES, ADDRESSES)
    context = ssl.create_default_context(cafile=str(path))
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    for name in ("localhost", "127.0.0.1", "lab.local", "192.0.2.7"):
        near, far = trio.testing.memory_stream_pair()
        client = trio.SSLStream(near, context, server_hostname=name)
        server = TlsFiles(path, path).wrap(far)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.do_handshake)
            nursery.start_soon(server.do_handshake)


async def test_a_running_worker_gets_a_new_one(
    monkeypatch: pytest.MonkeyPatch, path: Path
) -> None:
    """When this machine has another address, and not before."""
    found, looks = ["192.0.2.7"], 0

    def addresses() -> list[str]:
        nonlocal looks
        looks += 1
        return list(found)

    monkeypatch.setattr(lan, "LOOK_S", 0.001)
    monkeypatch.setattr(lan, "own_addresses", addresses)
    monkeypatch.setattr(lan, "certificate_file", lambda: path)
    config = with_lan()
    first = look_after(config)
    changed = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keep_up, config, first.fingerprint, changed.set)
        with trio.fail_after(PATIENCE_S):
            while looks < 5:  # noqa: ASYNC110 - threads look
                await trio.sleep(0.001)
            assert not changed.is_set()
            found[:] = ["192.0.2.9"]
            await changed.wait()
        nursery.cancel_scope.cancel()
    assert TlsFiles(path, path).fingerprint != first.fingerprint
