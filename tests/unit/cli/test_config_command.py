"""`cfw config`: the file it prints, and the reference of all keys."""

from __future__ import annotations

import tomllib

import attrs
import click
import pytest
from click.testing import CliRunner

from cfw.api.config import Config, config_fields
from cfw.cli import main
from cfw.cli.demo import demo
from cfw.cli.options import OPTION_KEYS
from cfw.cli.reference import reference
from cfw.cli.serve import serve
from cfw.limits import Limits
from cfw.settings import (
    AT_LEAST_ONE,
    SettingError,
    about,
    read_integer,
    read_number,
    setting,
)

#: Those that `cfw demo` sets as well.
DEMO_KEYS = ("server.port", "admin.port")


def printed(*options: str) -> str:
    ran = CliRunner().invoke(main, ["config", *options])
    assert ran.exit_code == 0, ran.output
    return ran.stdout


def test_what_is_printed_is_toml_with_the_text_of_each_key_above_it() -> None:
    """The values are those asked for; the comments are the texts, wrapped."""
    text = printed("--set", "limits.max_fps=60", "--admin-port", "off")
    tree = tomllib.loads(text)
    assert (tree["limits"]["max_fps"], tree["admin"]["port"]) == (60, "off")
    assert all(len(line) <= 96 for line in text.splitlines())
    told = " ".join(line.removeprefix("# ") for line in text.splitlines())
    for section in attrs.fields(Config):
        for field in attrs.fields(section.default.factory):  # type: ignore[union-attr]
            assert f"{about(field).text} {field.name} = " in told, field.name
    assert "\nmax_fps = 60  # frames/s\n" in text


def test_the_reference_is_of_the_defaults() -> None:
    """Whatever else is asked for, a page must come out the same."""
    assert printed("--set", "limits.max_fps=60", "--reference") == printed("--reference")


def test_a_setting_that_was_declared_without_a_text_is_named() -> None:
    """Whoever adds one is told how to declare it."""

    @attrs.frozen
    class Bare:
        max_cats: int = attrs.field(default=3)

    with pytest.raises(LookupError, match=r"max_cats has no text; declare it with .*setting"):
        about(attrs.fields(Bare).max_cats)


def test_a_type_without_a_name_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever adds a key of a new type is told where to name the type."""
    kinds = dict.fromkeys(Limits.__annotations__, "complex")
    monkeypatch.setattr(Limits, "__annotations__", kinds)
    with pytest.raises(LookupError, match=r"limits\.max_duration_s: say in .*_TYPES"):
        reference()


def test_a_declared_setting_is_checked_and_says_what_is_allowed() -> None:
    """The words of the reference are those of the error."""

    @attrs.frozen
    class Cats:
        max_cats: int = setting(3, "Cats at a time.", AT_LEAST_ONE, unit="cats")

    assert Cats().max_cats == 3
    known = about(attrs.fields(Cats).max_cats)
    assert (known.text, known.unit) == ("Cats at a time.", "cats")
    with pytest.raises(SettingError) as caught:
        Cats(max_cats=0)
    assert str(caught.value) == f"max_cats must be {known.allowed.words}, not 0"


@pytest.mark.parametrize("name", OPTION_KEYS)
def test_an_option_is_what_its_setting_says(name: str) -> None:
    """Its help, its default and what it may be stand with the setting, and nowhere else."""
    key = OPTION_KEYS[name]
    field = config_fields()[key]
    known = about(field)
    for command in (serve, demo) if key in DEMO_KEYS else (serve,):
        (option,) = (option for option in command.params if option.name == name)
        assert isinstance(option, click.Option)
        told = option.help or ""
        assert told.startswith(known.text.removesuffix("."))
        assert f"({key}" in told
        assert (f"[default: {field.default}]" in told) == bool(field.default)
    is_open = known.allowed.accepts("no such thing") or isinstance(field.default, tuple)
    if not is_open:
        ran = CliRunner().invoke(main, ["config", known.option, "no such thing"])
        assert ran.exit_code == 2
        assert f"{key}: must be {known.allowed.words}, not 'no such thing'" in ran.stderr


@pytest.mark.parametrize(
    ("text", "value"),
    [("1", 1), ("0", 0), ("off", "off"), ("1.0", "1.0"), ("-1", "-1"), ("", ""), ("²", "²")],
)
def test_an_option_with_a_number_reads_whole_ones(text: str, value: object) -> None:
    """All else stays the text that it is, which the setting refuses or knows."""
    assert read_integer(text) == value
    assert type(read_integer(text)) is type(value)
    assert read_integer("9" * 5000) == "9" * 5000


@pytest.mark.parametrize(
    ("text", "value"), [("1", 1.0), (".5", 0.5), ("2.", 2.0), ("1e3", 1000.0), ("1 s", "1 s")]
)
def test_an_option_with_a_number_reads_fractions(text: str, value: object) -> None:
    """All else stays the text that it is."""
    assert read_number(text) == value


def test_the_demo_is_watched_somewhere() -> None:
    """Its admin listener is what it is for."""
    ran = CliRunner().invoke(main, ["demo", "--admin-port", "off"])
    assert ran.exit_code == 2
    assert "admin.port: the demo is watched there" in ran.stderr
