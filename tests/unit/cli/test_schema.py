"""`cfw schema`, and the group that all commands hang on."""

from __future__ import annotations

import json
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner
from jsonschema import Draft202012Validator

import cfw
from cfw import code_in_use
from cfw.cli import main
from schemas import json_schemas

COMMANDS = [
    "serve",
    "config",
    "send",
    "cameras",
    "tap",
    "record",
    "verify",
    "report",
    "session",
    "demo",
    "bench",
    "invite",
    "token",
    "schema",
    "explain",
]


def test_all_schemas() -> None:
    """Without a name: every direction, as JSON."""
    result = CliRunner().invoke(main, ["schema"])
    assert result.exit_code == 0
    assert json.loads(result.stdout) == json_schemas()


@pytest.mark.parametrize("name", ["CameraFeedWorkerInput", "CaptureOpen", "FeedAbort"])
def test_one_schema(name: str) -> None:
    """A direction or a message by its name, as a schema that stands by itself."""
    result = CliRunner().invoke(main, ["schema", name])
    assert result.exit_code == 0
    schema = json.loads(result.stdout)
    assert schema["title"] == name
    Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == Draft202012Validator.META_SCHEMA["$id"]


def test_unknown_schema() -> None:
    """The error names what there is."""
    result = CliRunner().invoke(main, ["schema", "Nothing"])
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "Error: there is no 'Nothing'; there are CameraFeedWorkerInput," in result.stderr


@pytest.mark.parametrize(
    ("typed", "meant"), [("snd", "send"), ("server", "serve"), ("cofnig", "config")]
)
def test_a_command_that_is_none_names_the_one_meant(typed: str, meant: str) -> None:
    """One that resembles none is refused as ever."""
    result = CliRunner().invoke(main, [typed, "--port", "1"])
    assert result.exit_code == 2
    assert f"There is no command {typed!r}; did you mean {meant}?" in result.stderr
    result = CliRunner().invoke(main, ["xyzzy"])
    assert (result.exit_code, "No such command 'xyzzy'" in result.stderr) == (2, True)


def test_help_names_every_command() -> None:
    """The help is enough to begin with."""
    result = CliRunner().invoke(main, ["--help"])
    assert result.exit_code == 0
    commands = result.stdout.split("Commands:")[1].splitlines()
    assert [line.split()[0] for line in commands if line.strip()] == COMMANDS
    assert "cfw send ws://" in result.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_where_the_table_says(name: str) -> None:
    """Each can be imported and has a help of its own."""
    result = CliRunner().invoke(main, [name, "--help"])
    assert result.exit_code == 0
    assert f"main {name}" in result.stdout


def test_version() -> None:
    """The version of the package, and which code runs."""
    result = CliRunner().invoke(main, ["--version"])
    told = f"cfw {cfw.__version__} ({code_in_use()})\n"
    assert (result.exit_code, result.stdout) == (0, told)


@pytest.mark.parametrize("arguments", [["nothing"], ["send"], ["tap"], ["--nothing"]])
def test_wrong_usage(arguments: list[str]) -> None:
    """Exit code 2 and one line that says what is wrong."""
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert "Error: " in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize(
    "error",
    [
        KeyboardInterrupt(),
        BaseExceptionGroup("", [BaseExceptionGroup("", [KeyboardInterrupt(), OSError()])]),
    ],
)
def test_ctrl_c(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """Exit code 130, also out of a nursery, and no traceback."""

    @click.command()
    def interrupted() -> None:
        raise error

    monkeypatch.setattr("cfw.cli.schema.schema", interrupted)
    result = CliRunner().invoke(main, ["schema"])
    assert (result.exit_code, result.output) == (130, "")


def test_other_groups_are_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug in several tasks is still seen as one."""
    bug = BaseExceptionGroup("", [OSError()])

    @click.command()
    def broken() -> None:
        raise bug

    monkeypatch.setattr("cfw.cli.schema.schema", broken)
    assert CliRunner().invoke(main, ["schema"]).exception is bug


def test_schema_imports_no_server() -> None:
    """A subcommand's module is imported when it runs, and only then."""
    script = (
        "import sys\n"
        "from cfw.cli import main\n"
        "main(['schema', 'CaptureOpen'], standalone_mode=False)\n"
        "found = {'trio', 'h11', 'PIL', 'rich', 'cfw.cli.serve'} & set(sys.modules)\n"
        "assert not found, found\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, stdout=subprocess.DEVNULL)
