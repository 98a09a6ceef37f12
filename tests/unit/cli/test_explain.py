"""`cfw explain`: every code has an entry, and what an entry names exists."""

from __future__ import annotations

import ast
import json
import re

import attrs
import pytest
from click.testing import CliRunner, Result

import cfw
import cfw.client
from cfw.cli import main
from cfw.client import CaptureAborted
from cfw.explanations import EXPLANATIONS, Explanation
from cfw.limits import Limits, Times
from cfw.routes.outcome import LADDER
from schemas import ErrorCode
from tests.guards.source import nodes, parsed, sources

KEYS = {
    f"{section}.{field.name}": field.default
    for section, cls in (("limits", Limits), ("times", Times))
    for field in attrs.fields(cls)
}


def explain(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["explain", *arguments])


def told(entry: Explanation) -> str:
    return " ".join((entry.meaning, *entry.causes, entry.rig, entry.operator))


def test_every_code_is_explained() -> None:
    """None is missing, whether the protocol has it or the handshake."""
    codes = {code for code in EXPLANATIONS if isinstance(code, ErrorCode)}
    assert codes == set(ErrorCode) == set(LADDER)
    statuses = {
        call.args[0].value
        for path in sources("cfw/wire", "cfw/routes", "cfw/identity")
        for call in nodes(parsed(path))
        if isinstance(call, ast.Call)
        and ast.unparse(call.func) == "HandshakeReject"
        and isinstance(call.args[0], ast.Constant)
    }
    assert {400, 401, 403, 404, 408, 431, 503} <= statuses
    assert statuses <= set(EXPLANATIONS) - codes


@pytest.mark.parametrize("entry", EXPLANATIONS.values(), ids=map(str, EXPLANATIONS))
def test_no_entry_is_without_a_remedy(entry: Explanation) -> None:
    """What it means, why it comes, and what either side can do, in whole sentences."""
    assert entry.causes
    cases = [text for case in entry.cases.values() for text in attrs.astuple(case)[1:]]
    for text in (entry.meaning, *entry.causes, entry.rig, entry.operator, *cases):
        assert re.fullmatch(r"(?s)\S.*\S[.]", text)
        assert "  " not in text
    assert "\n" not in entry.meaning


@pytest.mark.parametrize("entry", EXPLANATIONS.values(), ids=map(str, EXPLANATIONS))
def test_every_key_exists(entry: Explanation) -> None:
    """Settings in the list and in the text are those of the configuration."""
    assert entry.defaults == {key: KEYS[key] for key in entry.keys}
    assert len(set(entry.keys)) == len(entry.keys)
    # A text shows the default of what it tells somebody to change.
    assert set(re.findall(r"\b(?:limits|times)\.\w+", told(entry))) <= set(entry.keys)


def test_every_limit_of_a_capture_is_a_setting_of_its_code() -> None:
    """Each limit and each time is behind one of the codes, but for the two that are none."""
    behind = {key for entry in EXPLANATIONS.values() for key in entry.keys}
    assert set(KEYS) - behind == {"times.linger_s"}


@pytest.mark.parametrize("code", ErrorCode)
def test_page(code: ErrorCode) -> None:
    """All of an entry is on its page, with the close code of the ladder."""
    result = explain(code.value)
    page = " ".join(result.stdout.split())
    entry = EXPLANATIONS[code]
    assert result.exit_code == 0
    assert page.startswith(f"{code.value} (close code {LADDER[code][0]}) {entry.meaning}")
    cases = [text for case in entry.cases.values() for text in attrs.astuple(case)[1:]]
    for text in (*entry.causes, entry.rig, entry.operator, *entry.cases, *cases):
        assert text in page
    for key, default in entry.defaults.items():
        assert f"{key} = {default}" in page
    assert all(len(line) <= 96 for line in result.stdout.splitlines())


def test_the_list() -> None:
    """One line each."""
    lines = explain().stdout.splitlines()
    names = [
        code.value if isinstance(code, ErrorCode) else f"http_{code}" for code in EXPLANATIONS
    ]
    assert [line.split()[0] for line in lines] == names
    assert [line.split(maxsplit=1)[1] for line in lines] == [
        entry.meaning for entry in EXPLANATIONS.values()
    ]


def test_json() -> None:
    """One object or all of them, with everything that the page has."""
    one = json.loads(explain("session_closed", "--json").stdout)
    everything = json.loads(explain("--json").stdout)
    assert one in everything
    assert len(everything) == len(EXPLANATIONS)
    assert set(one) == {
        *("code", "close_code", "http_status", "meaning", "causes", "rig", "operator"),
        *("settings", "cases"),
    }
    assert (one["code"], one["close_code"], one["http_status"]) == (
        "session_closed",
        1008,
        None,
    )
    assert one["settings"]["times.session_grace_s"] == Times().session_grace_s
    status = json.loads(explain("503", "--json").stdout)
    assert (status["code"], status["close_code"], status["http_status"]) == (
        "http_503",
        None,
        503,
    )


@pytest.mark.parametrize(
    "text",
    ["limit_fps_exceeded", "LIMIT-FPS-EXCEEDED", "LimitFpsExceeded", " limit fps exceeded"],
)
def test_a_code_may_be_written_in_many_ways(text: str) -> None:
    """With other separators and cases, and as the client's exceptions."""
    assert explain(text).stdout.startswith("limit_fps_exceeded")


@pytest.mark.parametrize("text", ["404", "http_404", "HTTP 404"])
def test_a_status_may_be_written_in_many_ways(text: str) -> None:
    """With and without HTTP."""
    assert explain(text).stdout.startswith("http_404 (instead of a WebSocket)")


def test_every_exception_of_the_client_is_found() -> None:
    """The name in a traceback is enough."""
    for name, cls in vars(cfw.client).items():
        if isinstance(cls, type) and issubclass(cls, CaptureAborted) and hasattr(cls, "code"):
            assert explain(name).stdout.startswith(cls.code.value)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("limit_fsp_exceeded", "did you mean limit_fps_exceeded"),
        ("session_invald", "did you mean session_invalid"),
        ("fps", "did you mean limit_fps_exceeded?"),
        ("too many frames, frame count", "did you mean limit_frame_count_exceeded?"),
        ("1013", "close code, used for server_at_capacity"),
        ("1009", "close code, used for limit_frame_bytes_exceeded"),
        ("504", "did you mean http_"),
        ("xyz", "`cfw explain` lists them all"),
        ("", "`cfw explain` lists them all"),
    ],
)
def test_an_unknown_code(text: str, part: str) -> None:
    """Exit code 2, and what is close to it."""
    result = explain(text)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert part in result.stderr
