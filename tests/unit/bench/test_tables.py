"""How ratios are made, and what a report warns of."""

from __future__ import annotations

from io import StringIO

import pytest
from rich.console import Console

from cfw.bench.report import as_json, print_tables, warnings
from cfw.bench.tables import BASELINE, Column, Sample, percentile, summarise


def test_ratios_are_made_within_a_round() -> None:
    """A moment in which the machine is half as fast changes no ratio."""
    columns = [Column("x", "x", is_ratio=True), Column("y", "y")]
    base = [{"x": x, "y": None} for x in (10.0, 5.0, 10.0)]
    other = [{"x": x, "y": 1.0} for x in (20.0, 10.0, 20.0)]
    table = summarise("rates", "", columns, {BASELINE: base, "other": other}, {})
    assert table.rows["other"].ratios == {"x": 2.0}
    assert table.rows["other"].values == {"x": 20.0, "y": 1.0}
    assert table.rows[BASELINE].ratios == {"x": 1.0}
    assert table.rows[BASELINE].values["y"] is None


@pytest.mark.parametrize(("busy", "is_said"), [(0.79, True), (0.8, False), (None, False)])
def test_a_machine_that_does_other_work_is_named(
    monkeypatch: pytest.MonkeyPatch, busy: float | None, is_said: bool
) -> None:
    """A worker that was kept from its core was not measured, and the report says so."""
    monkeypatch.setattr("cfw.bench.report.code_in_use", lambda: "compiled")
    column = Column("busy", "busy")
    rates = summarise("rates", "", [column], {BASELINE: [{"busy": busy}]}, {})
    other = summarise("delay", "", [column], {BASELINE: [{"busy": 0.1}]}, {})
    assert bool(warnings([rates, other])) is is_said
    assert warnings([summarise("rates", "", [column], {}, {BASELINE: "away"})]) == []


@pytest.mark.parametrize(
    ("code", "is_said"), [("compiled", False), ("partly compiled", True), ("pure", True)]
)
def test_a_worker_that_is_not_compiled_is_named(
    monkeypatch: pytest.MonkeyPatch, code: str, is_said: bool
) -> None:
    """Its figures are not those of the pages."""
    monkeypatch.setattr("cfw.bench.report.code_in_use", lambda: code)
    assert [code in warning for warning in warnings([])] == [True] * is_said
    assert as_json([])["machine"]["worker"] == code


@pytest.mark.parametrize(
    ("busy", "late_ms", "is_said"),
    [(0.8, 5.0, False), (0.81, 0.0, True), (0.0, 5.1, True), (None, None, False)],
)
def test_a_load_that_is_the_bottleneck_says_so(
    monkeypatch: pytest.MonkeyPatch, busy: float | None, late_ms: float | None, is_said: bool
) -> None:
    """By its own CPU, or by how late it sends; any server's row is enough."""
    monkeypatch.setattr("cfw.bench.report.code_in_use", lambda: "compiled")
    columns = [Column("load_busy", ""), Column("load_late_ms", "")]
    samples: dict[str, list[Sample]] = {BASELINE: [{"load_busy": 0.0, "load_late_ms": 0.0}]}
    samples["other"] = [{"load_busy": busy, "load_late_ms": late_ms}]
    table = summarise("pace", "5 rigs", columns, samples, {})
    assert ["5 rigs: the load used" in warning for warning in warnings([table])] == (
        [True] * is_said
    )


@pytest.mark.parametrize(("busy", "named"), [(0.8, []), (0.81, ["recv"]), (None, [])])
def test_a_load_that_has_no_more_core_at_full_speed_says_for_whom(
    monkeypatch: pytest.MonkeyPatch, busy: float | None, named: list[str]
) -> None:
    """The others were not kept waiting by it."""
    monkeypatch.setattr("cfw.bench.report.code_in_use", lambda: "compiled")
    samples: dict[str, list[Sample]] = {"fastapi": [{"load_busy": 0.2}]}
    samples["recv"] = [{"load_busy": busy}]
    found = warnings([summarise("rates", "fast", [Column("load_busy", "")], samples, {})])
    assert [f"its core for {name}, which" in found[0] for name in named] == [True] * len(found)


def test_a_server_over_tls_is_beside_itself_without() -> None:
    """In the same round; one that was not measured without has no ratio."""
    columns = [Column("x", "x", is_ratio=True), Column("y", "y")]
    over_ws: dict[str, list[Sample]] = {"a": [{"x": x, "y": 1.0} for x in (10.0, 5.0, 10.0)]}
    over_wss: dict[str, list[Sample]] = {
        "a": [{"x": x, "y": 1.0} for x in (15.0, 7.5, 15.0)],
        "b": [{"x": 1, "y": 1}],
    }
    table = summarise("pace", "", columns, over_wss, {}, over_ws)
    assert table.rows["a"].to_ws == {"x": 1.5}
    assert table.rows["b"].to_ws == {"x": None}
    assert summarise("pace", "", columns, over_ws, {}).rows["a"].to_ws is None
    console = Console(width=120, record=True, file=StringIO())
    print_tables([table], console)
    assert "1.50" in console.export_text()


def test_without_the_baseline_there_are_no_ratios() -> None:
    """The row stands; its ratio is unknown."""
    table = summarise("rates", "", [Column("x", "x", is_ratio=True)], {"a": [{"x": 1.0}]}, {})
    assert table.rows["a"].ratios == {"x": None}


@pytest.mark.parametrize(
    ("percent", "expected"), [(0, 1), (1, 1), (50, 50), (50.1, 51), (99, 99), (100, 100)]
)
def test_percentiles_are_values_that_were_measured(percent: float, expected: int) -> None:
    """The nearest rank, of the numbers 1 to 100 in any order."""
    assert percentile(list(range(100, 0, -1)), percent) == expected


def test_no_values_have_no_percentile() -> None:
    """Nothing measured is an error, not a zero."""
    with pytest.raises(ValueError, match="no values"):
        percentile([], 50)
