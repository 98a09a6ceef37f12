"""`cfw/CONFIG.md` is what `cfw config --reference` prints."""

from __future__ import annotations

import re
from pathlib import Path

import attrs
import pytest
from click.testing import CliRunner

import cfw
from cfw.api.config import config_fields
from cfw.cli import main
from cfw.cli.options import OPTION_KEYS
from cfw.cli.serve import serve
from cfw.settings import about
from cfw.valkey._address import Options

PAGE = Path(cfw.__file__).parent / "CONFIG.md"
KEYS = config_fields()


#: Those of the configuration, and those of a `valkey://` URL.
DECLARED = KEYS | {f"valkey.{field.name}": field for field in attrs.fields(Options)}


@pytest.mark.parametrize("key", DECLARED)
def test_every_key_says_what_it_means(key: str) -> None:
    """One sentence or two, declared with the key itself."""
    known = about(DECLARED[key])
    assert re.fullmatch(r"[A-Z0-9`].*\S[.]", known.text), f"{key}: the text is no sentence"
    assert "|" not in known.text + known.allowed.words, f"{key}: | would end the cell"
    assert known.allowed is DECLARED[key].validator


@pytest.mark.parametrize("key", DECLARED)
def test_every_key_can_be_set_by_a_text(key: str) -> None:
    """As a command line and a URL have it: of its default one gets the default."""
    default, allowed = DECLARED[key].default, about(DECLARED[key]).allowed
    if isinstance(default, tuple) or default is None:
        return  # repeated, each by itself; or there is no text for it
    is_switch = type(default) is bool
    texts = (str(default).lower(), str(int(default))) if is_switch else (str(default),)
    assert default in [read for text in texts if allowed.accepts(read := allowed.read(text))]


def test_the_page_is_what_the_command_prints() -> None:
    """Whoever adds or changes a key runs the command again."""
    printed = CliRunner().invoke(main, ["config", "--reference"])
    assert printed.exit_code == 0, printed.output or printed.exception
    again = "CONFIG.md is old; run: cfw config --reference > cfw/CONFIG.md"
    assert PAGE.read_text("utf-8") == printed.stdout, again


def test_the_page_has_every_key_with_its_option() -> None:
    """The keys in their order, and each option of `cfw serve` that sets one."""
    page, _, _ = PAGE.read_text().partition("\n## Profiles\n")
    rows = re.findall(r"^\| `(\w+\.\w+)` \|.*?(?:\| `(--[\w-]+)` )?\|$", page, re.M)
    assert [key for key, _ in rows] == list(KEYS)
    options = {OPTION_KEYS[p.name]: p.opts[0] for p in serve.params if p.name in OPTION_KEYS}
    assert {key: option for key, option in rows if option} == options
    assert set(OPTION_KEYS.values()) <= set(KEYS)
