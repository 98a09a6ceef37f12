"""What the pages say to who signs in or films, in the language of who reads it.

A language is one file here, and has every text or is none. English is what everybody gets whose
language is not among them, and what the page for operators speaks. What error codes mean stands
in English in `cfw.explanations`, beside what else there is to say of them.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Mapping
from importlib import resources
from typing import Any, Final, TypeAlias

import attrs

from cfw.explanations import explained_codes

#: One text, or one for each plural form of the language, as `Intl.PluralRules` calls them.
Text: TypeAlias = str | Mapping[str, str]


@attrs.frozen(kw_only=True)
class Words:
    """All texts of one language. What stands in braces is filled in.

    Args:
        language: of RFC 5646, as in `<html lang>`.
        sign_in: of the page that asks for a token, by name.
        capture: of the page that films, as it comes.
        film: what its scripts say later.
        details: what the worker says in English to who films -> the same in this language.
        codes: error code -> meaning, `rig`, `operator` and `cases`, as `explained_codes`.
    """

    language: str
    sign_in: Mapping[str, str]
    capture: Mapping[str, str]
    film: Mapping[str, Text]
    details: Mapping[str, str]
    codes: Mapping[str, Any]

    @property
    def for_scripts(self) -> str:
        """The texts of the scripts, as JSON that may stand within a page."""
        told = {"film": self.film, "details": self.details}
        return json.dumps(told, ensure_ascii=False, separators=(",", ":")).replace(
            "<", "\\u003c"
        )


def _read(language: str) -> Words:
    text = resources.files("cfw.admin").joinpath("words", f"{language}.json").read_text("utf-8")
    return Words(language=language, **{"codes": explained_codes(), **json.loads(text)})


ENGLISH: Final = "en"
WORDS: Final = {language: _read(language) for language in (ENGLISH, "de", "fr")}


def words_for(accept_language: str | None) -> Words:
    """The words that a browser likes most of these, by its header `Accept-Language`."""
    best, weight = ENGLISH, 0.0
    for item in (accept_language or "").lower().split(","):
        tag, _, parameter = item.strip().partition(";")
        language = tag.strip().partition("-")[0]
        likes = _weight(parameter.strip())
        if language in WORDS and likes > weight:
            best, weight = language, likes
    return WORDS[best]


def filled(page: str, texts: Mapping[str, str]) -> str:
    """A page with its texts where it has their names in braces, all of them as text.

    What stands in `backticks` in one is code.

    Raises:
        KeyError: it names one that is not there.
    """
    return re.sub(r"\{([a-z_]+)\}", lambda name: _marked(texts[name[1]]), page)


def _marked(text: str) -> str:
    return re.sub(r"`([^`]*)`", r"<code>\1</code>", html.escape(text))


def _weight(parameter: str) -> float:
    """What stands behind a language: `q=0.8`; 1 where nothing does, 0 where it is none."""
    if not parameter:
        return 1.0
    name, _, value = parameter.partition("=")
    try:
        likes = float(value)
    except ValueError:
        return 0.0
    return likes if name.strip() == "q" and 0 <= likes <= 1 else 0.0
