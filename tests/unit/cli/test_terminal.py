"""What the terminal of `cfw serve` is told: colours, addresses that are taken."""

from __future__ import annotations

import os
import pty
import socket
import subprocess
import sys

import pytest
from click.testing import CliRunner

from cfw.cli import main


@pytest.mark.parametrize(("no_color", "is_coloured"), [(None, True), ("", True), ("1", False)])
def test_no_color_is_heard(no_color: str | None, is_coloured: bool) -> None:
    """A terminal gets colours unless NO_COLOR is set to anything, as no-color.org has it."""
    env = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    if no_color is not None:
        env["NO_COLOR"] = no_color
    script = (
        "import structlog\n"
        "from cfw.cli._logging import configure_logging\n"
        "lines = configure_logging('console', 'info')\n"
        "structlog.get_logger().info('a line')\n"
        "lines.close(5)\n"
    )
    ours, theirs = pty.openpty()
    process = subprocess.Popen([sys.executable, "-c", script], stderr=theirs, env=env)
    os.close(theirs)
    told = b""
    try:
        while data := os.read(ours, 4096):
            told += data
    except OSError:
        pass  # EIO: the other end is closed
    finally:
        os.close(ours)
    assert process.wait() == 0
    assert b"a line" in told
    assert (b"\x1b[" in told) == is_coloured, told


@pytest.mark.parametrize(
    ("taken", "other"), [("--port", "--admin-port"), ("--admin-port", "--port")]
)
def test_an_address_in_use_names_the_option(taken: str, other: str) -> None:
    """That of the listener whose address it is."""
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
        result = CliRunner().invoke(
            main, ["serve", "--session", "ada:s1", taken, str(port), other, "0"]
        )
    assert result.exit_code == 1
    host = taken.replace("port", "host")
    assert (
        f"cannot listen on 127.0.0.1:{port}: Address already in use; {taken} chooses another "
        f"port (0: any free one), {host} another address"
    ) in result.stderr
