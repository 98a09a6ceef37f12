"""Sessions on a server: looked up, changed by command, and revoked at once."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest
import trio

from cfw.client import SessionClosed, SessionInvalid
from cfw.sessions import (
    AuthorityUnreachable,
    SessionStatus,
    SessionUrlError,
    UnusableAnswer,
    check_authority_url,
    open_authority,
)
from cfw.valkey import Address, open_link, set_session
from tests.patience import until
from tests.unit.valkey.servers import Servers
from tests.unit.valkey.test_sink import film_until
from tests.whole.smoke.worker import running


async def put(url: str, status: str, user: str = "ada", session: str = "s-1") -> None:
    async with open_link(Address.parse(url)) as link:
        await set_session(link, user, session, status)


async def test_what_a_session_key_says(servers: Servers, prefix: str) -> None:
    """Active, closed, another's and nobody's; ids of any characters."""
    url = servers.url(prefix=prefix)
    odd = "é {x} \r\n:*"
    await put(url, "active")
    await put(url, "closed", session="s-2")
    await put(url, "active", user=odd, session=odd)
    async with open_authority(url) as authority:
        assert await authority.check("ada", "s-1") is SessionStatus.ACTIVE
        assert await authority.check("ada", "s-2") is SessionStatus.CLOSED
        assert await authority.check("bob", "s-1") is SessionStatus.INVALID
        assert await authority.check("ada", "s-3") is SessionStatus.INVALID
        assert await authority.check(odd, odd) is SessionStatus.ACTIVE
        servers.client().hset(f"{prefix}:session:s-1", "status", "perhaps")
        with pytest.raises(UnusableAnswer, match="must be active or closed"):
            await authority.check("ada", "s-1")
        servers.client().set(f"{prefix}:session:s-4", "active")
        with pytest.raises(UnusableAnswer, match=f"{prefix}:session:s-4 is no hash"):
            await authority.check("ada", "s-4")


async def test_an_expired_session_is_unknown(one_server: Servers, prefix: str) -> None:
    """And a session that is set again without an end has none."""
    async with open_link(Address.parse(one_server.url(prefix=prefix))) as link:
        await set_session(link, "ada", "s-1", "active", expire_s=0.05)
        await set_session(link, "ada", "s-2", "active", expire_s=0.05)
        await set_session(link, "ada", "s-2", "active")
    await trio.sleep(0.1)
    async with open_authority(one_server.url(prefix=prefix)) as authority:
        assert await authority.check("ada", "s-1") is SessionStatus.INVALID
        assert await authority.check("ada", "s-2") is SessionStatus.ACTIVE


async def test_a_server_that_is_gone_is_unreachable(mortal: Servers, prefix: str) -> None:
    """Its absence says nothing about the session."""
    async with open_authority(mortal.url(prefix=prefix)) as authority:
        mortal.kill()
        with pytest.raises(AuthorityUnreachable, match=r"127\.0\.0\.1"):
            await authority.check("ada", "s-1")


def test_wrong_urls_are_refused() -> None:
    """And sessions given beside it, which nobody would look at."""
    with pytest.raises(ValueError, match="names no host"):
        check_authority_url("valkey://")
    with pytest.raises(SessionUrlError, match="does not use"):
        check_authority_url("valkey://h", sessions=["ada:s-1"])


def is_heard(servers: Servers, prefix: str) -> bool:
    """Whether a worker listens for changes of sessions, at whatever node."""
    return any(
        node.client().pubsub_numsub(f"{prefix}:sessions")[0][1] for node in servers.nodes
    )


async def revoked(
    servers: Servers,
    prefix: str,
    monkeypatch: pytest.MonkeyPatch,
    before: Callable[[], Any] = lambda: None,
) -> float:
    """Revoke a session in mid-capture; seconds until its rig has heard of it."""
    url = servers.url(prefix=prefix)
    await put(url, "active")
    settings: dict[str, Any] = {
        "sessions__url": url,
        "sessions__static": [],
        "times__session_recheck_s": 60,
    }
    async with running(monkeypatch, **settings) as worker, trio.open_nursery() as nursery:
        await until(lambda: is_heard(servers, prefix))
        before()
        times: list[float] = []

        def revoke() -> None:
            times.append(trio.current_time())
            nursery.start_soon(put, url, "closed")

        with pytest.raises(SessionClosed):
            await film_until(worker.addresses.capture, "cap-1", revoke)
        return trio.current_time() - times[0]


async def test_a_session_that_is_closed_ends_its_capture_at_once(
    servers: Servers, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Long before a re-check; on a cluster too."""
    assert await revoked(servers, prefix, monkeypatch) < 8


async def test_a_listener_that_was_cut_off_listens_again(
    one_server: Servers, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And has all its captures checked, for it may have missed something."""

    def cut() -> None:
        assert one_server.client().execute_command("CLIENT", "KILL", "TYPE", "pubsub") >= 1

    assert await revoked(one_server, prefix, monkeypatch, before=cut) < 8


async def test_a_change_that_nobody_published_is_seen_at_the_next_recheck(
    one_server: Servers, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key that is deleted by hand counts as well."""
    url = one_server.url(prefix=prefix)
    await put(url, "active")
    settings: dict[str, Any] = {
        "sessions__url": url,
        "sessions__static": [],
        "times__session_recheck_s": 0.2,
    }

    def delete() -> None:
        one_server.client().delete(f"{prefix}:session:s-1")

    async with running(monkeypatch, **settings) as worker:
        with pytest.raises(SessionInvalid):
            await film_until(worker.addresses.capture, "cap-1", delete)


async def test_the_command_sets_a_session(one_server: Servers, prefix: str) -> None:
    """It says what it did; a wrong status, name or server is told."""
    url = one_server.url(prefix=prefix)
    command = [sys.executable, "-m", "cfw.cli", "session", "set"]

    async def run(*arguments: str, stdout: str = "&1") -> tuple[int, bytes]:
        shell = ["sh", "-c", f'exec "$@" >{stdout}', "sh"]
        ran = await trio.run_process(
            [*shell, *command, *arguments],
            capture_stdout=True,
            capture_stderr=True,
            check=False,
        )
        return ran.returncode, ran.stdout + ran.stderr

    for status in ("active", "closed"):
        assert await run("ada", "s-1", status, "--url", url) == (
            0,
            f"session s-1 of ada is {status}\n".encode(),
        )
        async with open_authority(url) as authority:
            assert (await authority.check("ada", "s-1")).value == status
    # It was said, which a full disk does not undo.
    code, said = await run("ada", "s-1", "closed", "--url", url, stdout="/dev/full")
    assert (code, said.count(b"\n")) == (0, 1)
    assert said.endswith(b"No space left on device: session s-1 of ada is closed\n")
    code, said = await run("ada", "s-1", "open", "--url", url)
    assert code == 2
    assert b"active" in said
    code, said = await run("ada", "s" * 129, "active", "--url", url)
    assert code == 2
    assert b"1 to 128" in said
    for never in ("nan", "inf", "1e300", "0"):
        code, said = await run("ada", "s-1", "active", "--url", url, "--expire-s", never)
        assert code == 2
        assert b"0.001 to 315360000 seconds" in said
    async with open_authority(url) as authority:
        assert (await authority.check("ada", "s-1")).value == "closed"
    code, said = await run("ada", "s-1", "active", "--url", "valkey://127.0.0.1:1")
    assert code == 1
    assert b"127.0.0.1:1" in said
    assert b"Traceback" not in said
