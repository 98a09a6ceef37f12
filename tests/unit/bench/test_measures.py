"""What is made of a server that was measured, and every measure once."""

from __future__ import annotations

import json
import sys

import pytest

from cfw.bench import reading
from cfw.bench.cores import cores
from cfw.bench.load import LOAD_LATE_MS
from cfw.bench.measures import rigs, run
from cfw.bench.measures.pace import LATE_MS
from cfw.bench.measures.rigs import MOST_RIGS, most_rigs
from cfw.bench.plan import FULL, SHORT, USUAL, Plan
from cfw.bench.rig import BenchError
from cfw.bench.rounds import Rounds
from cfw.bench.servers import STALLED, Server
from cfw.bench.tables import BASELINE
from cfw.bench.tls import Certificate

TINY = Plan(
    sizes=(1_000,),
    connections=(2,),
    more_connections=(),
    seconds=0.05,
    rounds=1,
    paced_s=0.3,
    paced_rounds=1,
    paced_rigs=(3,),
    aborts=3,
    idle=3,
)


@pytest.mark.parametrize(("capacity", "found"), [(1, 1), (63, 63), (777, 760), (9_999, 4_000)])
def test_the_most_rigs_are_found_by_bisection(
    monkeypatch: pytest.MonkeyPatch, stamped: Server, capacity: int, found: int
) -> None:
    """To a twentieth; a run that something else has spoilt does not count by itself."""
    tried: list[int] = []

    def fake(_: Server, *, number: int, **__: object) -> dict[str, float]:
        tried.append(number)
        is_spoilt = number <= capacity and len(tried) == 2
        late = number > capacity or is_spoilt
        p99_ms = LATE_MS if late else LATE_MS / 2
        return {"p99_ms": p99_ms, "aborted": 0, "cpu_us": 1.0, "load_late_ms": 0.1}

    monkeypatch.setattr(rigs, "pace", fake)
    sample = most_rigs(stamped, seconds=1, fps=15, size=1_000)
    assert found * 0.95 <= (sample["rigs"] or 0) <= min(capacity, MOST_RIGS)
    assert len(tried) < 40


def test_a_trial_whose_load_was_late_does_not_count(
    monkeypatch: pytest.MonkeyPatch, stamped: Server
) -> None:
    """Neither for the server nor against it; when the load is always late, that is said."""
    tried: list[int] = []

    def fake(_: Server, *, number: int, **__: object) -> dict[str, float]:
        tried.append(number)
        # Each number is tried with a late load first, and does the other way then.
        is_late = tried.count(number) == 1
        holds = (number <= 100) is not is_late
        late_ms = LOAD_LATE_MS + 0.1 if is_late or number == 128 else LOAD_LATE_MS
        p99_ms = LATE_MS / 2 if holds else LATE_MS
        return {"p99_ms": p99_ms, "aborted": 0, "cpu_us": 1.0, "load_late_ms": late_ms}

    monkeypatch.setattr(rigs, "pace", fake)
    monkeypatch.setattr(rigs, "FIRST_RIGS", 60)
    found = most_rigs(stamped, seconds=1, fps=15, size=1_000)["rigs"]
    assert found is not None
    assert 95 <= found <= 100
    monkeypatch.setattr(rigs, "FIRST_RIGS", 64)
    with pytest.raises(BenchError, match="frames of 128 rigs late"):
        most_rigs(stamped, seconds=1, fps=15, size=1_000)


def test_a_server_that_holds_no_rig_is_said_to(
    monkeypatch: pytest.MonkeyPatch, stamped: Server
) -> None:
    """Captures that are aborted count as not held, however soon the others' frames come."""
    sample = {"p99_ms": 1.0, "aborted": 1.0, "load_late_ms": 0.1}
    monkeypatch.setattr(rigs, "pace", lambda *_, **__: sample)
    with pytest.raises(BenchError, match="not hold a single rig"):
        most_rigs(stamped, seconds=1, fps=15, size=1_000)


def test_ways_to_read_metadata_do_the_same_work() -> None:
    """Those that make a message make the same one; those with rules refuse what is wrong."""
    frames = reading.texts()
    known = reading.ways()
    assert len(set(frames)) == len(frames)
    whole = [way for name, way in known.items() if "attrs" in name]
    assert len(whole) == 3
    for text in frames[:50]:
        assert len({repr(way(text)) for way in whole}) == 1
    fields = json.loads(frames[0])
    wrong = {"seq": "1", "byte_length": 0, "record_id": "x", "user_id": "", "capture_id": "a b"}
    for field, value in wrong.items():
        text = json.dumps(fields | {field: value})
        for name, way in known.items():
            if "nothing is checked" not in name:
                with pytest.raises(ValueError, match=field):
                    way(text)


@pytest.mark.slow
def test_every_measure_has_a_table_with_every_server(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All of them once, on the worker and a peer; and every cell has a number."""
    monkeypatch.setattr(rigs, "FIRST_RIGS", 2)
    monkeypatch.setattr(rigs, "MOST_RIGS", 4)
    names = [BASELINE, "cfw hub:", "trio-websocket", "recv"]
    wanted = ["memory", "viewers", "flood", "idle", "abort", "pace", "rigs", "rates"]
    tables = run(wanted, Rounds(names, cores()[0], TINY, lambda _: None))
    assert [table.name for table in tables] == [
        *("pace", "rigs", "rates", "abort", "idle"),
        *["memory"] * 6,
        *("flood", "viewers"),
    ]
    for table in tables:
        assert table.problems == {}, table
        expected = dict.fromkeys(("pace", "rates", "idle"), names) | {"viewers": ["cfw hub:"]}
        expected["memory"] = [STALLED]
        assert list(table.rows) == expected.get(table.name, names[:-1])
        for server, row in table.rows.items():
            assert set(row.values) == {column.key for column in table.columns}
            if sys.platform == "linux":
                # Who looks at no frame knows no delay.
                unknown = {key for key, value in row.values.items() if value is None}
                delays = {"p50_ms", "p99_ms", "max_ms", "late"}
                is_bare = table.name == "pace" and server == "recv"
                assert unknown == (delays if is_bare else set()), table


@pytest.mark.slow
def test_with_a_certificate_every_server_is_measured_twice(certificate: Certificate) -> None:
    """A table more, beside itself; who has no TLS says so there."""
    names = [BASELINE, "recv"]
    turns = Rounds(names, cores()[0], TINY, lambda _: None, certificate)
    tables = run(["pace", "rates"], turns)
    assert [(table.name, "wss://" in table.title) for table in tables] == [
        *(("pace", False), ("pace", True), ("rates", False), ("rates", True)),
    ]
    for table in tables:
        is_tls = "wss://" in table.title
        assert list(table.rows) == ([BASELINE] if is_tls else names)
        assert list(table.problems) == (["recv"] if is_tls else [])
        row = table.rows[BASELINE]
        assert (row.to_ws is not None) is is_tls
        if sys.platform == "linux" and row.to_ws is not None:
            assert all(row.to_ws.values())


def test_plans_leave_out_what_no_server_should_hold() -> None:
    """2 MB from each of 1 000 rigs is no measurement of a server but of swapping."""
    assert (2_000_000, 1_000) not in FULL.loads()
    assert (300_000, 1_000) in FULL.loads()
    assert (30_000, 1_000) in USUAL.loads()
    assert {size for size, _ in SHORT.loads()} == {1_000, 30_000, 300_000, 2_000_000}
