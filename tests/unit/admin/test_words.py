"""The texts of the pages: every language has all of them, with the same gaps."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from importlib import resources
from typing import Any

import pytest

from cfw.admin.words import ENGLISH, WORDS, Text, filled
from cfw.errors import INVITATION_ENDED, OPERATOR_ENDED, SESSION_ENDED, SESSION_UNCHECKED
from cfw.explanations import explained_codes

STATIC = resources.files("cfw.admin") / "static"
#: What has a name of its own in the code.
CONSTANTS = {INVITATION_ENDED, OPERATOR_ENDED, SESSION_ENDED, SESSION_UNCHECKED}
OTHERS = sorted(set(WORDS) - {ENGLISH})
#: The plural forms of each language, as Unicode has them and browsers ask for them.
FORMS = {"en": {"one", "other"}, "de": {"one", "other"}, "fr": {"one", "many", "other"}}
each_language = pytest.mark.parametrize("language", sorted(WORDS))
each_other = pytest.mark.parametrize("language", OTHERS)


def texts(language: str) -> dict[tuple[str, str], Text]:
    """All but those of codes, by section and name."""
    words = WORDS[language]
    sections: dict[str, Any] = {
        "sign_in": words.sign_in,
        "capture": words.capture,
        "film": words.film,
        "details": words.details,
    }
    return {
        (section, name): text
        for section, named in sections.items()
        for name, text in named.items()
    }


def forms(text: Text) -> Iterator[str]:
    yield from [text] if isinstance(text, str) else text.values()


def gaps(text: str) -> set[str]:
    return set(re.findall(r"\{(\w*)\}", text))


def test_each_language_is_one_file() -> None:
    """And each file is one of them."""
    folder = resources.files("cfw.admin") / "words"
    files = {entry.name for entry in folder.iterdir() if entry.name.endswith(".json")}
    assert files == {f"{language}.json" for language in WORDS}


@each_other
def test_each_language_says_everything(language: str) -> None:
    """Every text of the English, and none besides, with the same gaps to fill in."""
    english, here = texts(ENGLISH), texts(language)
    assert here.keys() == english.keys()
    for name, text in here.items():
        (expected,) = {frozenset(gaps(each)) for each in forms(english[name])}
        for each in forms(text):
            assert each.strip() == each != ""
            assert gaps(each) == expected, name
            # A sentence is one in every language.
            last = next(iter(forms(english[name])))[-1]
            assert (each[-1] == ".") == (last == "."), name


@each_language
def test_a_text_that_counts_has_every_form_of_its_language(language: str) -> None:
    """And counts: one without a number needs no forms."""
    for name, text in texts(language).items():
        if not isinstance(text, str):
            assert set(text) == FORMS[language], name
            assert all("n" in gaps(each) for each in text.values()), name


@each_other
def test_each_language_uses_words_of_its_own(language: str) -> None:
    """What is the same as in English is a name, a unit, or a word of both."""
    english = texts(ENGLISH)
    same = {name for name, text in texts(language).items() if text == english[name] and name[1]}
    names = {name for _, name in same}
    assert names <= {
        *("token", "live", "session", "capture", "fact_code", "fact_status", "fact_capture"),
        *("fact_captures", "fact_bytes", "captures"),
        "capture_number",
    }, names


@each_other
def test_each_code_is_explained_in_each_language(language: str) -> None:
    """Meaning, remedies and cases; the details of cases stay as the worker sends them."""
    english, here = explained_codes(), WORDS[language].codes
    differ = here.keys() ^ english.keys()
    assert not differ, f"cfw/admin/words/{language}.json and cfw/explanations.py: {differ}"
    for code, told in here.items():
        assert set(told) == {"meaning", "rig", "operator", "cases"}
        known: Any = english[code]
        assert told["cases"].keys() == known["cases"].keys()
        for case in told["cases"].values():
            assert set(case) == {"label", "meaning", "rig", "operator"}
        # Keys, options and log lines are named as they are.
        assert set(re.findall(r"\b[a-z]+\.[a-z_]+_[a-z_]+\b", told["operator"])) == set(
            re.findall(r"\b[a-z]+\.[a-z_]+_[a-z_]+\b", known["operator"])
        ), code


def test_the_details_are_those_that_are_said() -> None:
    """A sentence of the worker that is changed has to be translated anew."""
    said = "".join(
        path.read_text("utf-8").replace('"\n            "', "")
        for room in ("identity", "film", "routes", "admin")
        for path in resources.files(f"cfw.{room}").iterdir()
        if path.name.endswith(".py")
    )
    said += (resources.files("cfw") / "service.py").read_text("utf-8")
    for detail in WORDS[ENGLISH].details:
        assert detail in CONSTANTS or f'"{detail}"' in said, detail


def test_scripts_say_what_there_is_and_nothing_is_unused() -> None:
    """Each name in them is a text, and each text is said somewhere."""
    scripts = "".join(
        path.read_text("utf-8") for path in STATIC.iterdir() if path.name.endswith(".js")
    )
    film = set(WORDS[ENGLISH].film)
    for name in re.findall(r'\bsay\(\s*"(\w+)"', scripts):
        assert name in film, name
    for name in film:
        stem = re.sub(r"^(now|paused|skipped)_.*", r"\1_", name)
        assert f'"{name}"' in scripts or f"`{stem}$" in scripts, name
    pages = (STATIC / "capture.html").read_text("utf-8")
    assert gaps(pages) == {*WORDS[ENGLISH].capture, "lang"}


def test_a_text_is_text_wherever_it_stands() -> None:
    """No markup but that of code, and no gap that another text brings along."""
    page = filled('<p title="{a}">{b}</p>', {"a": '"><b>', "b": "{a} `x<y`"})
    assert page == '<p title="&quot;&gt;&lt;b&gt;">{a} <code>x&lt;y</code></p>'
    with pytest.raises(KeyError):
        filled("{missing}", {})


def test_the_tables_are_written_in_one_order() -> None:
    """So that two languages can be read side by side."""
    folder = resources.files("cfw.admin") / "words"
    orders = []
    for language in WORDS:
        table = json.loads((folder / f"{language}.json").read_text("utf-8"))
        orders.append([(section, list(table[section])) for section in list(table)[:4]])
    assert all(order == orders[0] for order in orders)
