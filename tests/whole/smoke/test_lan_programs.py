"""What `cfw serve --lan` says at a terminal to whoever sends with a program: it is followed."""

from __future__ import annotations

import re
import shlex
import subprocess
from contextlib import AbstractContextManager
from pathlib import Path

from tests.patience import PATIENCE_S
from tests.serving import CFW, serving_at_terminal


def lan(folder: Path, *options: str) -> AbstractContextManager[str]:
    """A worker at a terminal, in this folder; what it shows."""
    line = r"cfw send \S+ .*--token-file \S+\r?\n"
    return serving_at_terminal(
        "--lan", "--host", "127.0.0.1", *options, home=folder, until=line
    )


def commands(shown: str, program: str) -> list[list[str]]:
    """The command lines of a program in what is shown."""
    lines = re.findall(rf"^({program} .*?)\r?$", shown, flags=re.MULTILINE)
    return [shlex.split(line) for line in lines]


def test_a_program_sends_by_what_is_shown(tmp_path: Path) -> None:
    """Without a file of tokens it says how to have one; with it the line works as it stands."""
    with lan(tmp_path) as shown:
        assert "Programs need a token, and this worker has none" in shown
        assert "(umask 077; cfw token > cameras.tokens)" in shown
        assert "start it with --token-file cameras.tokens" in shown
    made = subprocess.run([*CFW, "token"], capture_output=True, check=True)
    (tmp_path / "cameras.tokens").write_bytes(made.stdout)
    (tmp_path / "cameras.tokens").chmod(0o600)
    with lan(tmp_path, "--token-file", "cameras.tokens") as shown:
        assert "Programs need a token" not in shown
        ((_, *words),) = commands(shown, "cfw send")
        words[words.index("camera:")] = "pattern:32x16?frames=3"
        sent = subprocess.run(
            [*CFW, *words], cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE_S
        )
        assert sent.returncode == 0, sent.stderr
        assert "the worker has 3 frames" in sent.stdout
        # The link of the code lets nobody but a browser in.
        bare = words[: words.index("--token-file")]
        refused = subprocess.run(
            [*CFW, *bare], cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE_S
        )
        assert (refused.returncode, "HTTP status 401" in refused.stderr) == (1, True)
