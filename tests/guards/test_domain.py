"""`cfw/DOMAIN.md` says what the code does: its tables are read here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import pytest

import cfw
import cfw.client
import schemas
from cfw import actions, errors, service, state
from cfw.explanations import EXPLANATIONS
from cfw.limits import Limits, Times
from cfw.routes import PATH
from cfw.routes.outcome import LADDER, PRECEDENCE
from cfw.settings import about
from schemas import ErrorCode
from tests.factories import START_NS, jpeg, make_close, make_meta, make_open

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
    """Every limit and time is in its table, in order, with its default and its meaning."""
    expected = [
        [field.name, str(float(field.default)), about(field).text.removesuffix(".")]
        for field in attrs.fields(type(values))
    ]
    rows = [[name, str(float(default)), text] for name, default, text in table(first)]
    assert rows == expected, "the rows of DOMAIN.md say what cfw/limits.py says of each key"


def test_the_error_table_is_the_ladder() -> None:
    """Every error code is there with its type and close code."""
    rows = table("error_code")
    assert [code for code, *_ in rows] == [
        code.value
        for code in ErrorCode
        if code not in (ErrorCode.CLIENT_DISCONNECTED, ErrorCode.WORKER_LOST)
    ]
    for code, typed, close_code, when in rows:
        error = getattr(errors, typed)
        assert error.code == code
        assert LADDER[ErrorCode(code)][0] == int(close_code)
        assert when
    assert set(LADDER) == set(ErrorCode)


@pytest.mark.parametrize("code", ErrorCode)
def test_an_error_code_has_all_that_belongs_to_it(code: ErrorCode) -> None:
    """Enum, class, ladder row, explanation: whoever adds one is told what is missing."""
    classes = [kind for kind in _leaves(schemas.CaptureAborted) if kind.code is code]
    assert len(classes) == 1, f"{code}: give it one class of its own in schemas/errors.py"
    assert schemas.ABORTS[code] is classes[0]
    name = classes[0].__name__
    assert name.lower() == code.value.replace("_", ""), f"{name} is not named as {code} is"
    assert name in schemas.errors.__all__, f"{name}: list it in __all__ of schemas/errors.py"
    assert f"─ {name}" in (schemas.errors.__doc__ or ""), (
        f"{name}: draw it in schemas/errors.py"
    )
    for surface in (schemas, errors, cfw.client):
        assert getattr(surface, name) is classes[0]
        assert name in surface.__all__
    assert code in LADDER, f"{code}: give it a row in cfw/routes/outcome.py, LADDER"
    assert issubclass(classes[0], PRECEDENCE), f"{name}: rank it in PRECEDENCE"
    assert code in EXPLANATIONS, f"{code}: explain it in cfw/explanations.py"


def _leaves(kind: type[schemas.CaptureAborted]) -> list[type[schemas.CaptureAborted]]:
    below = kind.__subclasses__()
    return [leaf for sub in below for leaf in _leaves(sub)] if below else [kind]


def test_an_error_is_one_class_for_the_core_and_for_a_rig() -> None:
    """What the worker raises is what `cfw.client` raises at the other end."""
    assert errors.DomainError is cfw.client.CaptureAborted is schemas.CaptureAborted
    assert issubclass(cfw.client.ConnectionLost, cfw.client.CaptureError)
    assert not issubclass(cfw.client.ConnectionLost, cfw.client.CaptureAborted)
    assert all(code in ErrorCode for code in LADDER)
    assert all(code in ErrorCode for code in EXPLANATIONS if isinstance(code, str))


IDLE = state.Idle(Limits(), Times())
FIRST_META, FIRST_FRAME = make_meta(), jpeg()


def reached(*events: service.Event) -> state.Active:
    """The state after events that are all accepted."""
    at_last: state.State = IDLE
    for event in events:
        at_last, _ = service.dispatch(at_last, event, START_NS)
    assert isinstance(at_last, state.Active)
    return at_last


OPENED = reached(make_open())


def due(**instants: Any) -> state.Active:
    """The state after `capture.open`, with other instants at which something is due."""
    return attrs.evolve(OPENED, terms=attrs.evolve(OPENED.terms, **instants))


ENDING = state.Ending(IDLE, errors.LimitDurationExceeded("too long"), START_NS + 1)
ANSWERED = service.SessionVerdict(service.Verdict.ACTIVE, False)

#: state, event -> a state to start from and an event that is accepted, or refused by nature.
ROWS: dict[tuple[str, str], tuple[state.State, service.Event]] = {
    ("Idle", "CaptureOpen"): (IDLE, make_open()),
    ("Idle", "Tick, Held, SessionNotice, SessionVerdict"): (IDLE, service.Tick()),
    ("Idle", "anything else"): (IDLE, FIRST_META),
    ("Active", "CaptureOpen"): (OPENED, make_open()),
    ("Active", "CaptureFrameMeta"): (OPENED, FIRST_META),
    ("Active", "bytes"): (reached(make_open(), FIRST_META), FIRST_FRAME),
    ("Active", "CaptureClose"): (OPENED, make_close()),
    ("Active", "Tick"): (due(recheck_at=START_NS), service.Tick()),
    ("Active", "Tick, a limit and a re-check due"): (
        due(recheck_at=START_NS, duration_until=START_NS),
        service.Tick(),
    ),
    ("Active", "Held"): (OPENED, service.Held(1)),
    ("Active", "SessionNotice"): (OPENED, service.SessionNotice()),
    ("Active", "SessionVerdict"): (OPENED, ANSWERED),
    ("Ending", "SessionVerdict"): (ENDING, ANSWERED),
    ("Ending", "Tick"): (attrs.evolve(ENDING, until=START_NS), service.Tick()),
    ("Ending", "anything else"): (ENDING, FIRST_META),
}


def test_the_state_table_is_what_dispatch_does() -> None:
    """Next state and actions of every row are those of the core."""
    rows = table("state")
    assert [(start, event) for start, event, *_ in rows] == list(ROWS)
    for start, event, _, after, todo in rows:
        begin, sent = ROWS[start, event]
        if todo.startswith("raises"):
            with pytest.raises(getattr(errors, todo.split()[1])):
                service.dispatch(begin, sent, START_NS)
            continue
        then, done = service.dispatch(begin, sent, START_NS)
        assert type(then).__name__ == after, (start, event)
        names = ", ".join(type(action).__name__ for action in done)
        assert names == todo.removesuffix(", or none").replace("none", ""), (start, event)
    assert PATH in TEXT


def drawn() -> str:
    """The state table as a diagram; what changes no state stands in its box."""
    rows = table("state")
    lines = ["```mermaid", "stateDiagram-v2", "    [*] --> Idle"]
    lines += [f"    {name}: {name}" for name in dict.fromkeys(start for start, *_ in rows)]
    arrows: dict[tuple[str, str], list[str]] = {}
    for start, event, _, after, todo in rows:
        if start != after:
            arrows.setdefault((start, after), []).append(event)
        elif not todo.startswith("raises"):
            lines.append(f"    {start}: {event}")
    arrows["Active", "Idle"].append("whatever a check refuses")
    for (start, after), events in arrows.items():
        lines.append(f"    {start} --> {after}: {'<br>'.join(events)}")
    return "\n".join([*lines, "```"])


def test_the_diagram_is_the_state_table() -> None:
    """Whoever changes a row of the table draws its arrow anew."""
    assert drawn() in TEXT, f"the diagram of DOMAIN.md is old; it has to be\n{drawn()}"


def test_the_checks_of_a_tick_are_in_the_order_of_the_table() -> None:
    """Everything is due at once; mending the first leaves the second, and so on."""
    late = attrs.evolve(
        due(grace_until=START_NS, duration_until=START_NS, recheck_at=START_NS),
        pending=FIRST_META,
        meta_at=START_NS - OPENED.terms.idle_ns,
    )
    no_grace = attrs.evolve(late.terms, grace_until=None)
    checked = attrs.evolve(no_grace, recheck_at=START_NS + 10**10)
    mended = attrs.evolve(late, terms=attrs.evolve(checked, duration_until=START_NS + 1))
    (told,) = [row[2] for row in table("state") if row[:2] == ["Active", "Tick"]]
    overdue = {
        "session grace": (late, "session_grace_s"),
        "session re-check due": (attrs.evolve(late, terms=no_grace), None),
        "duration": (attrs.evolve(late, terms=checked), "may last at most"),
        "bytes after metadata": (mended, "meta_to_bytes_s"),
        "idleness": (attrs.evolve(mended, pending=None), "idle_s"),
    }
    assert told.split("; ") == [*overdue]
    for begin, words in overdue.values():
        after, (first, *_) = service.dispatch(begin, service.Tick(), START_NS)
        if words is None:
            assert isinstance(first, actions.RequestSessionRecheck)
            assert isinstance(after, state.Ending)
        else:
            assert isinstance(first, actions.AbortCapture)
            assert words in first.error.detail
