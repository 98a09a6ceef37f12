"""`cfw/DOMAIN.md` says what the code does: its tables are read here."""

from __future__ import annotations

import re
from pathlib import Path

import attrs
import pytest

import cfw
from cfw import actions, errors, service, state
from cfw.limits import Limits, Times
from cfw.routes import PATH
from cfw.routes.outcome import LADDER, PRECEDENCE
from schemas import ErrorCode

TEXT = (Path(cfw.__file__).parent / "DOMAIN.md").read_text("utf-8")


def table(first: str) -> list[list[str]]:
    """The rows of the table whose first heading is `first`."""
    lines = iter(TEXT.splitlines())
    for line in lines:
        if line.startswith(f"| {first} |"):
            break
    else:
        pytest.fail(f"DOMAIN.md has no table of {first}")
    next(lines)
    rows = []
    for line in lines:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


@pytest.mark.parametrize(("first", "values"), [("limit", Limits()), ("time", Times())])
def test_limits_and_times_are_the_defaults(first: str, values: attrs.AttrsInstance) -> None:
    """Every limit and time is in its table, in order, with its default."""
    rows = [(name, float(default)) for name, default, _ in table(first)]
    assert rows == [(name, float(value)) for name, value in attrs.asdict(values).items()]


def test_the_error_table_is_the_ladder() -> None:
    """Every error code is there with its type and close code."""
    rows = table("error_code")
    assert [code for code, *_ in rows] == [
        code.value for code in ErrorCode if code is not ErrorCode.CLIENT_DISCONNECTED
    ]
    for code, typed, close_code, when in rows:
        error = getattr(errors, typed)
        assert error.code == code
        assert LADDER[ErrorCode(code)][0] == int(close_code)
        assert when
    assert set(LADDER) == set(ErrorCode)


def test_every_domain_error_has_a_rank_and_a_code_of_its_own() -> None:
    """No two errors share a code, and each has its place in the order of precedence."""

    def leaves(kind: type[errors.DomainError]) -> list[type[errors.DomainError]]:
        below = kind.__subclasses__()
        return [leaf for sub in below for leaf in leaves(sub)] if below else [kind]

    found = leaves(errors.DomainError)
    assert sorted(error.code for error in found) == sorted(ErrorCode)
    for error in found:
        assert issubclass(error, PRECEDENCE)


def test_the_state_table_names_what_exists() -> None:
    """States, events and actions of the table are classes of the core."""
    known = {"bytes", "none", "anything else", "raises ProtocolViolation", "or none"}
    for module in (state, actions, service):
        known |= set(vars(module))
    rows = table("state")
    for start, event, _, after, todo in rows:
        names = [start, after, *re.split(", ", event), *re.split(", ", todo)]
        assert set(names) <= known, names
    assert PATH in TEXT
