"""`cfw serve --workers N`: processes that share a port, started again, and ended together."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager

import httpx
import pytest
from click.testing import CliRunner
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from cfw.api.config import load_config
from cfw.cli import main
from cfw.cli.workers import LONGEST_S, SHORTEST_S, STEADY_S, back_off, worker_config
from tests.factories import jpeg
from tests.patience import PATIENCE_S, soon
from tests.serving import Served, refused, serving
from tests.whole.smoke.worker import closing, meta, opening

pytestmark = pytest.mark.skipif(
    not hasattr(os, "posix_spawn") or sys.platform != "linux",
    reason="SO_REUSEPORT shares connections between processes on Linux",
)


def several(count: int = 2, *options: str) -> AbstractContextManager[Served]:
    """A supervisor with so many workers."""
    return serving("--workers", str(count), "--sink", "null:", *options)


def capture(url: str, token: str = "") -> dict[str, int]:
    """Send a capture of one frame; the receipt."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    with connect(url, proxy=None, additional_headers=headers) as ws:
        for message in (opening(), meta(), jpeg(), closing()):
            ws.send(message)
        with pytest.raises(ConnectionClosed) as caught:
            ws.recv(timeout=PATIENCE_S)
    assert caught.value.rcvd is not None
    receipt: dict[str, int] = json.loads(caught.value.rcvd.reason)
    return receipt


def test_they_share_a_port_and_a_dead_one_is_started_again() -> None:
    """Captures are taken by whoever lives; SIGTERM ends all, with exit code 0."""
    with several(2) as served:
        supervisor = served.process
        workers = supervisor.children()
        assert len(workers) == 2
        assert len(set(served.ready["admins"])) == 2
        for _ in range(6):
            assert capture(served.url)["frames"] == 1
        workers[0].kill()
        soon(lambda: workers[0] not in supervisor.children())
        for _ in range(6):
            assert capture(served.url)["frames"] == 1
        soon(lambda: len(supervisor.children()) == 2)
        code, _, log = served.stopped()
    assert code == 0
    (died,) = [line for line in log if line["event"] == "worker.died"]
    assert (died["code"], died["restart_in_s"]) == (-signal.SIGKILL, SHORTEST_S)
    assert not [each for each in workers if each.is_running()]
    # The one that was started again may have been told to stop before it could say so.
    stopped = [line["worker"] for line in log if line["event"] == "server.stopped"]
    assert workers[1].pid in stopped


def test_no_worker_outlives_its_supervisor() -> None:
    """A supervisor that is killed takes its workers with it."""
    with several(2) as served:
        supervisor = served.process
        workers = supervisor.children()
        supervisor.kill()
        soon(lambda: not any(each.is_running() for each in workers))


def test_ctrl_c_lets_captures_finish() -> None:
    """SIGINT reaches each worker once, as a request to drain."""
    with several(2) as served:
        supervisor = served.process
        with connect(served.url, proxy=None) as ws:
            ws.send(opening())
            ws.send(meta())
            ws.send(jpeg())
            supervisor.send_signal(signal.SIGINT)
            time.sleep(0.3)
            ws.send(closing())
            with pytest.raises(ConnectionClosed) as caught:
                ws.recv(timeout=PATIENCE_S)
            assert caught.value.rcvd is not None
            assert caught.value.rcvd.code == 1000
        assert served.ended()[0] == 0


def test_a_port_that_is_taken_is_said_once() -> None:
    """Also by another set of workers: two sets never share a port by accident."""
    with several(2) as served:
        port = served.url.split(":")[2].split("/")[0]
        second = refused("--workers", "2", "--sink", "null:", "--port", port)
    assert second.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port}" in second.stderr


def test_the_hub_is_refused_with_what_to_do() -> None:
    """What lives in one process cannot be shared by two."""
    result = CliRunner().invoke(main, ["serve", "--workers", "2"])
    assert result.exit_code == 2
    assert "sink.url" in result.output
    assert "valkey://" in result.output


@pytest.mark.parametrize(("port", "fits"), [(65_534, True), (65_535, False)])
def test_the_admin_ports_must_fit(port: int, fits: bool) -> None:
    """The last worker's admin port is a port too."""
    arguments = ["config", "--workers", "2", "--sink", "null:", "--admin-port", str(port)]
    result = CliRunner().invoke(main, arguments)
    assert (result.exit_code == 0) == fits
    assert fits or "65534" in result.output


def test_each_has_an_admin_port_of_its_own() -> None:
    """The ports behind the one that is set; any free one, and none, for each alike."""
    for port, ports in ((8766, [8766, 8767]), (0, [0, 0]), ("off", ["off", "off"])):
        config = load_config(
            None, [("admin.port", port), ("server.workers", 2), ("sink.url", "null:")]
        )
        assert [worker_config(config, i).admin.port for i in range(2)] == ports


def test_the_pause_before_a_restart_doubles_up_to_a_limit() -> None:
    """A worker that cannot live is not started in a loop; one that lived long is."""
    waited = back_off(None, 0)
    assert waited == SHORTEST_S
    for _ in range(10):
        waited = back_off(waited, STEADY_S - 1)
    assert waited == LONGEST_S
    assert back_off(waited, STEADY_S) == SHORTEST_S


def test_an_invitation_counts_once_whichever_worker_is_asked() -> None:
    """Made at one, used at any, taken back at another: the supervisor keeps them all."""
    with several(3, "--set", "invitations.enabled=true") as served:
        assert served.ready["film"].endswith("/capture")
        page, admins = served.ready["film"].removesuffix("/capture"), served.ready["admins"]

        def invited(number: int) -> tuple[str, str]:
            names = {"user_id": "ada", "session_id": "s-1"}
            made = httpx.post(f"{admins[number % 3]}/invitations", json=names, trust_env=False)
            assert made.status_code == 201, made.text
            return made.json()["invitation_id"], made.json()["url"].partition("#i=")[2]

        def join(secret: str) -> httpx.Response:
            # A connection of its own each time: the kernel gives it to any of the workers.
            body = {"invitation": secret}
            return httpx.post(f"{page}/join", json=body, trust_env=False, timeout=PATIENCE_S)

        for number in range(6):
            name, secret = invited(number)
            with ThreadPoolExecutor(6) as phones:
                answers = list(phones.map(join, [secret] * 6))
            assert sorted(each.status_code for each in answers) == [200] + [403] * 5
            (joined,) = (each.json() for each in answers if each.status_code == 200)
            for _ in range(4):
                assert capture(served.url, joined["token"]) == {"frames": 1, "bytes": 200}
            listed = httpx.get(f"{admins[(number + 1) % 3]}/invitations", trust_env=False)
            assert listed.json()["invitations"][0]["invitation_id"] == name
            ended = httpx.delete(
                f"{admins[(number + 2) % 3]}/invitations/{name}", trust_env=False
            )
            assert ended.status_code == 204
            for _ in range(4):
                with pytest.raises(InvalidStatus):
                    capture(served.url, joined["token"])


def test_invitations_outlive_a_worker() -> None:
    """They are not its own; one that is started again knows them too."""
    with several(1 + 1, "--set", "invitations.enabled=true") as served:
        supervisor = served.process
        page, admins = served.ready["film"].removesuffix("/capture"), served.ready["admins"]
        names = {"user_id": "ada", "session_id": "s-1"}
        made = httpx.post(f"{admins[0]}/invitations", json=names, trust_env=False).json()
        before = {child.pid for child in supervisor.children()}
        for child in supervisor.children():
            child.kill()
        soon(lambda: len({each.pid for each in supervisor.children()} - before) == 2)

        def is_back() -> bool:
            try:
                return httpx.get(f"{page}/capture", trust_env=False).is_success
            except httpx.HTTPError:
                return False

        soon(is_back)
        body = {"invitation": made["url"].partition("#i=")[2]}
        joined = httpx.post(f"{page}/join", json=body, trust_env=False)
        assert joined.status_code == 200, joined.text
