"""`cfw/CONFIG.md` is what `cfw config --reference` prints."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

import cfw
from cfw.api.config import config_fields
from cfw.cli import main
from cfw.cli.options import OPTION_KEYS
from cfw.cli.serve import serve
from cfw.settings import about

PAGE = Path(cfw.__file__).parent / "CONFIG.md"
KEYS = config_fields()


@pytest.mark.parametrize("key", KEYS)
def test_every_key_says_what_it_means(key: str) -> None:
    """One sentence or two, declared with the key itself."""
    try:
        known = about(KEYS[key])
    except LookupError as exc:
        pytest.fail(f"{key}: {exc}")
    assert re.fullmatch(r"[A-Z`].*\S[.]", known.text), f"{key}: the text is no sentence"
    assert "|" not in known.text + known.allowed.words, f"{key}: | would end the cell"
    assert known.allowed is KEYS[key].validator


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
