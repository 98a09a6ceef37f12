"""Files of tokens: what they may hold, what is said of a bad one, and that no token shows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner
from structlog.testing import capture_logs

from cfw.cli import main
from cfw.identity import TokenFileError, Tokens, make_token
from cfw.identity.files import MAX_FILE_BYTES
from cfw.identity.tokens import MAX_TOKEN_CHARS, MIN_TOKEN_CHARS

ONE, TWO = "one-" + "a" * 30, "two-" + "b" * 30


def written(tmp_path: Path, text: str | bytes, mode: int = 0o600) -> Path:
    """A file of tokens."""
    path = tmp_path / "rigs.tokens"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    path.chmod(mode)
    return path


def user_of(tokens: Tokens, token: str) -> str | None:
    """The user of a token, which must be known."""
    entry = tokens.find(token)
    assert entry is not None
    return entry.user_id


def test_a_line_is_a_token_and_perhaps_its_user(tmp_path: Path) -> None:
    """Comments, empty lines, tabs, other line ends and a byte order mark are no tokens."""
    text = f"\ufeff# rigs\r\n\n{ONE}\n  {TWO}\t Ada Lovelace \r\n   # end\n"
    tokens = Tokens(written(tmp_path, text))
    assert len(tokens.entries) == 2
    assert user_of(tokens, ONE) is None
    assert user_of(tokens, TWO) == "Ada Lovelace"


@pytest.mark.parametrize("wrong", ["", ONE[:-1], ONE + "a", ONE.upper(), "ada", f"{TWO} ada"])
def test_what_is_not_a_whole_token_is_unknown(tmp_path: Path, wrong: str) -> None:
    """No prefix, no other case, no user."""
    assert Tokens(written(tmp_path, f"{ONE}\n{TWO} ada\n")).find(wrong) is None


def test_every_token_is_compared_whichever_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """How long a look-up takes tells nothing about what was found."""
    tokens = Tokens(written(tmp_path, f"{ONE}\n{TWO}\n" + "c" * 30))
    compared = []

    def compare(left: bytes, right: bytes) -> bool:
        compared.append(left)
        assert len(left) == len(right) == 32
        return left == right

    monkeypatch.setattr("cfw.identity.tokens.hmac.compare_digest", compare)
    for token in (ONE, "c" * 30, "unknown"):
        compared.clear()
        tokens.find(token)
        assert compared == [entry.digest for entry in tokens.entries]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "holds no token; `cfw token` makes one"),
        ("# nothing yet\n", "holds no token"),
        (
            f"{ONE}\nshort\n",
            f"line 2: a token has at least {MIN_TOKEN_CHARS} characters, not 5",
        ),
        ("a" * (MIN_TOKEN_CHARS - 1), "line 1: a token has at least"),
        ("a" * (MAX_TOKEN_CHARS + 1), f"line 1: a token has at most {MAX_TOKEN_CHARS}"),
        (f"{ONE}/=\n", "line 1: a token is made of A-Z a-z 0-9"),
        (f"{ONE},ada\n", "line 1: a token is made of"),
        (f"{ONE} ada\n\n{TWO}\n{ONE}\n", "line 4: this token is on line 1 already"),
        (f"{ONE} {'u' * 129}\n", "line 1: user_id"),
        (f"{ONE} # the rig at the door\n", "line 1: a comment has a line of its own"),
        (f"{ONE} ada # the rig at the door\n", "line 1: a comment has a line of its own"),
        (b"\xff\xfe" + ONE.encode(), "is not UTF-8 text"),
        (f"{ONE}\n".encode() + b"#" * MAX_FILE_BYTES, f"is larger than {MAX_FILE_BYTES}"),
    ],
)
def test_a_file_that_cannot_be_used_says_where_and_why(
    tmp_path: Path, text: str | bytes, words: str
) -> None:
    """The line, what is allowed, and no word of a token."""
    path = written(tmp_path, text)
    with pytest.raises(TokenFileError, match=re.escape(words)) as caught:
        Tokens(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert ONE not in str(caught.value)


@pytest.mark.parametrize("length", [MIN_TOKEN_CHARS, MIN_TOKEN_CHARS + 1, MAX_TOKEN_CHARS])
def test_a_token_may_be_as_short_or_long_as_this(tmp_path: Path, length: int) -> None:
    """The bounds themselves are allowed; so is every character that may be."""
    alphabet = "AZaz09._~+-"
    token = (alphabet * length)[:length]
    assert Tokens(written(tmp_path, token)).find(token) is not None


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    """With the reason of the system."""
    with pytest.raises(TokenFileError, match="cannot be read: No such file"):
        Tokens(tmp_path / "none")


def test_a_bad_new_file_leaves_the_old_tokens(tmp_path: Path) -> None:
    """And a good one replaces all of them."""
    path = written(tmp_path, ONE)
    tokens = Tokens(path)
    path.write_text("short")
    with pytest.raises(TokenFileError):
        tokens.read_again()
    assert tokens.find(ONE) is not None
    path.write_text(TWO)
    use = tokens.read_again()
    assert tokens.find(ONE) is not None
    use()
    assert tokens.find(ONE) is None
    assert tokens.find(TWO) is not None


@pytest.mark.parametrize(("mode", "is_told"), [(0o600, 0), (0o640, 0), (0o644, 1), (0o602, 1)])
def test_a_file_open_to_others_is_warned_of(tmp_path: Path, mode: int, is_told: int) -> None:
    """Read or written by anyone on the machine; a group may be meant to."""
    path = written(tmp_path, ONE, mode)
    with capture_logs() as logs:
        Tokens(path)
    assert [line["event"] for line in logs] == ["tokens.readable_by_others"] * is_told
    assert ONE not in repr(logs)


def test_no_object_shows_a_token(tmp_path: Path) -> None:
    """Only digests are kept."""
    tokens = Tokens(written(tmp_path, f"{ONE} ada"))
    assert ONE not in repr(vars(tokens)) + repr(tokens.entries)


def test_the_command_makes_tokens_that_a_file_takes(tmp_path: Path) -> None:
    """Each is new; with a user it is a line that binds it."""
    plain = CliRunner().invoke(main, ["token"]).stdout
    bound = CliRunner().invoke(main, ["token", "ada"]).stdout
    tokens = Tokens(written(tmp_path, plain + bound))
    assert [entry.user_id for entry in tokens.entries] == [None, "ada"]
    assert len({make_token() for _ in range(100)}) == 100
