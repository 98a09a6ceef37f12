"""The sign-in page in the language of who reads it: English where it is none of the others."""

from __future__ import annotations

from typing import Final

import attrs


@attrs.frozen(kw_only=True)
class SignInWords:
    """All that the page says; each language has all of it, or there is no such language.

    Args:
        page: the title of the window.
        title: of the page.
        name: of the field for password managers.
        token: of the field.
        show: the button that shows what is typed.
        paste: the button that fills in what was copied.
        sign_in: the button.
        hint: where a token is had.
        wrong: said of a token that is none.
    """

    page: str
    title: str
    name: str
    token: str
    show: str
    paste: str
    sign_in: str
    hint: str
    wrong: str


ENGLISH: Final = "en"
SIGN_IN: Final = {
    ENGLISH: SignInWords(
        page="cfw sign in",
        title="This worker asks who you are",
        name="Name for your password manager",
        token="Token",
        show="Show",
        paste="Paste",
        sign_in="Sign in",
        hint="Whoever runs the worker has it: a line of the file that admin.token_file names. "
        "This browser is remembered until it or the worker is closed.",
        wrong="That is not a token of this worker.",
    ),
    "de": SignInWords(
        page="cfw Anmeldung",
        title="Dieser Worker fragt, wer Sie sind",
        name="Name für Ihren Passwortmanager",
        token="Token",
        show="Anzeigen",
        paste="Einfügen",
        sign_in="Anmelden",
        hint="Wer den Worker betreibt, hat es: eine Zeile der Datei, die admin.token_file "
        "nennt. Dieser Browser bleibt angemeldet, bis er oder der Worker beendet wird.",
        wrong="Das ist kein Token dieses Workers.",
    ),
    "fr": SignInWords(
        page="cfw connexion",
        title="Ce worker demande qui vous êtes",
        name="Nom pour votre gestionnaire de mots de passe",
        token="Jeton",
        show="Afficher",
        paste="Coller",
        sign_in="Se connecter",
        hint="La personne qui exploite le worker l'a : une ligne du fichier que nomme "
        "admin.token_file. Ce navigateur reste connecté jusqu'à sa fermeture ou celle du "
        "worker.",
        wrong="Ce n'est pas un jeton de ce worker.",
    ),
}


def language_of(accept_language: str) -> str:
    """The language of these that a browser likes most, by its header `Accept-Language`."""
    best, weight = ENGLISH, 0.0
    for item in accept_language.lower().split(","):
        tag, _, parameter = item.strip().partition(";")
        language = tag.strip().partition("-")[0]
        likes = _weight(parameter.strip())
        if language in SIGN_IN and likes > weight:
            best, weight = language, likes
    return best


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
