"""The files of cfw/deploy agree with the worker, with systemd, HAProxy, and each other."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import click
import pytest
import trio
import yaml

import cfw
from cfw.api import longest_stop_s
from cfw.cli import main
from cfw.cli.workers import EXIT_S
from cfw.limits import Limits, Times
from cfw.net import RESERVE
from tests.unit.valkey.servers import alone
from tests.whole.deploy.proxies import FOLDER, haproxy_config, program
from tests.whole.hostile.kit import worker

ROOT = Path(cfw.__file__).parent.parent
LIMITS, TIMES = Limits(), Times()
#: What OPERATIONS.md says that stopping takes; tests/guards holds it to the code.
STOP_S = longest_stop_s(TIMES) + EXIT_S


def shipped(name: str) -> str:
    return (FOLDER / name).read_text("utf-8")


def unit() -> dict[str, list[str]]:
    """The keys of the unit's sections, each with all of its values."""
    found: dict[str, list[str]] = {}
    for key, value in re.findall(r"^(\w+)=(.*)$", shipped("cfw.service"), re.MULTILINE):
        found.setdefault(key, []).append(value)
    return found


def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(shipped("compose.yaml"))
    return loaded


def understood(words: list[str]) -> None:
    """Refuse a command line of `cfw` that it would refuse, as far as its options go."""
    assert isinstance(main, click.Group)
    name, *arguments = words
    with click.Context(main) as context:
        command = main.get_command(context, name)
        assert command is not None
        command.make_context(name, arguments, parent=context)


def seconds(file: str, key: str) -> float:
    """A time of a proxy's configuration."""
    (value,) = re.findall(rf"^ *{key} (\d+)s;?$", shipped(file), re.MULTILINE)
    return float(value)


def test_haproxy_takes_its_file(tmp_path: Path) -> None:
    """Without a warning; the addresses of workers come from a name."""
    (line,) = re.findall(r"^ +server-template .*$", shipped("haproxy.cfg"), re.MULTILINE)
    path = haproxy_config(tmp_path, 8443, [line])
    command = [program("haproxy"), "-c", "-f", str(path)]
    checked = subprocess.run(command, capture_output=True, text=True)
    assert (checked.returncode, "WARNING" in checked.stderr) == (0, False), checked.stderr


def test_systemd_takes_its_unit_and_finds_it_closed(tmp_path: Path) -> None:
    """`systemd-analyze verify` says nothing, and `security` finds little to expose."""
    analyze = program("systemd-analyze")
    path = tmp_path / "cfw.service"
    text = shipped("cfw.service").replace("/opt/cfw/bin/cfw", sys.executable)
    path.write_text(text)
    verified = subprocess.run([analyze, "verify", str(path)], capture_output=True, text=True)
    if "Failed to" in verified.stderr:
        pytest.skip(f"systemd-analyze cannot work here: {verified.stderr.strip()}")
    assert (verified.returncode, verified.stderr) == (0, "")
    command = [analyze, "security", "--offline=yes", "--threshold=25", str(path)]
    found = subprocess.run(command, capture_output=True, text=True)
    assert found.returncode == 0, found.stdout


def test_the_unit_gives_the_worker_its_time_and_one_signal() -> None:
    """It is killed later than it ends by itself, and its workers hear of SIGTERM once."""
    told = unit()
    assert told["Type"] == ["notify"]
    assert float(told["TimeoutStopSec"][0]) > STOP_S
    assert told["KillMode"] == ["mixed"]
    assert told["RestartPreventExitStatus"] == ["2"]
    assert int(told["LimitNOFILE"][0]) > LIMITS.max_connections + 2 * RESERVE + 100
    program_path, *words = shlex.split(told["ExecStart"][0])
    assert program_path.endswith("/cfw")
    words[words.index("--config") + 1] = "/dev/null"
    understood(words)


@pytest.mark.parametrize(
    ("file", "silence", "linger"),
    [
        ("haproxy.cfg", ["timeout tunnel"], ["timeout client-fin", "timeout server-fin"]),
        (
            "nginx.conf",
            ["proxy_read_timeout", "proxy_send_timeout"],
            ["lingering_time", "lingering_timeout"],
        ),
    ],
)
def test_proxies_wait_longer_than_the_worker(
    file: str, silence: list[str], linger: list[str]
) -> None:
    """A ping comes before silence ends a connection, and a rig may read why it was ended."""
    assert min(seconds(file, key) for key in silence) > TIMES.keepalive_s
    assert min(seconds(file, key) for key in linger) > TIMES.linger_s


def test_haproxy_knows_how_many_a_worker_takes() -> None:
    """`maxconn` of a server is the default of limits.max_connections."""
    (line,) = re.findall(r"^ +default-server .*$", shipped("haproxy.cfg"), re.MULTILINE)
    assert re.findall(r"maxconn (\d+)", line) == [str(LIMITS.max_connections)]
    assert LIMITS.max_connections_per_address >= LIMITS.max_connections


def test_the_parts_of_the_compose_file_fit_together() -> None:
    """Options, ports, secrets, networks and the time to stop."""
    told = compose()
    services = told["services"]
    words = services["worker"]["command"]
    understood(words)
    options = dict(word.removeprefix("--").split("=", 1) for word in words[1:])
    haproxy = shipped("haproxy.cfg")
    assert f"server-template worker 16 worker:{options['port']} " in haproxy
    assert f"check port {options['admin-port']} " in haproxy
    assert re.findall(r"bind :(\d+) ", haproxy)[0] in services["haproxy"]["ports"][0]
    assert "crt /run/secrets/rigs.pem " in haproxy
    assert 1 <= services["worker"]["deploy"]["replicas"] <= 16
    assert float(services["worker"]["stop_grace_period"].removesuffix("s")) > STOP_S
    for service in services.values():
        assert set(service["networks"]) <= set(told["networks"])
        assert set(service.get("secrets", [])) <= set(told["secrets"])
        assert set(service.get("depends_on", {})) <= set(services)
    assert services["worker"]["build"] == {
        "context": "../..",
        "dockerfile": "cfw/deploy/Dockerfile",
    }
    assert set(services["haproxy"]["networks"]) & set(services["worker"]["networks"])
    # Rigs and whoever reaches the proxy do not reach the frames.
    assert services["valkey"]["networks"] == ["data"]
    assert told["networks"]["data"]["internal"]


async def test_the_worker_of_the_compose_file_is_healthy(tmp_path: Path) -> None:
    """Its command runs as it stands, but for addresses; so do its check and HAProxy's."""
    service = compose()["services"]["worker"]
    tokens = tmp_path / "admin.tokens"
    tokens.write_text("t" * 32 + "\n")
    tokens.chmod(0o600)
    with alone(tmp_path) as servers:
        secret, token_file = "/run/secrets/admin.tokens", str(tokens)
        changed = {
            "--port=8765": "--port=0",
            "--admin-port=8766": "--admin-port=0",
            f"--set=admin.token_file={secret}": f"--set=admin.token_file={token_file}",
            "--sink=valkey://valkey:6379": f"--sink={servers.url()}",
            "--sessions=valkey://valkey:6379": f"--sessions={servers.url()}",
        }
        words = [changed.pop(word, word) for word in service["command"][1:]]
        assert not changed
        async with worker(tmp_path, *words, sessions=[]) as made:
            port = made.admin.rsplit(":", 1)[1]
            _, python, option, code = service["healthcheck"]["test"]
            assert (python, option) == ("python", "-c")
            code = code.replace(":8766/", f":{port}/")
            await trio.run_process([sys.executable, "-c", code])
            # HAProxy asks no more than this.
            assert (await made.get("/readyz")).status_code == 200
            # What shows pictures asks for a token.
            assert (await made.get("/captures")).status_code == 401


def test_the_image_has_what_an_installation_needs() -> None:
    """All that the build reads is copied into it, and nothing of that is ignored."""
    dockerfile = shipped("Dockerfile")
    copied = [
        source
        for line in re.findall(r"^COPY (.*)$", dockerfile, re.MULTILINE)
        for source in line.split()[:-1]
    ]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    build = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = {"pyproject.toml", project["project"]["readme"], *build["packages"]}
    needed |= set(project["project"]["license-files"])
    needed.add(str(Path(build["hooks"]["custom"]["path"]).parent))
    assert set(copied) == needed
    ignored = shipped("Dockerfile.dockerignore").splitlines()
    assert ignored[0] == "*"
    assert {line.removeprefix("!") for line in ignored if line.startswith("!")} == needed
    (extra,) = re.findall(r"pip install .*'/src\[(\w+)\]'", dockerfile)
    assert extra in project["project"]["optional-dependencies"]
    (command,) = re.findall(r"^CMD \[(.*)\]$", dockerfile, re.MULTILINE)
    understood([word.strip(' "') for word in command.split(",")])
