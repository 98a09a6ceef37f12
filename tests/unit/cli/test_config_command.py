"""`cfw config`: the file it prints, and the reference of all keys."""

from __future__ import annotations

import tomllib

import attrs
import click
import pytest
from click.testing import CliRunner

from cfw.api.config import Config
from cfw.cli import main
from cfw.cli.reference import reference
from cfw.limits import Limits
from cfw.settings import AT_LEAST_ONE, SettingError, about, setting


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
        reference(click.Command("config"), {})


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
