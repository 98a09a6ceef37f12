"""Tables for people, JSON for programs."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Sequence
from typing import Any

import attrs
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table as RichTable

from cfw import code_in_use
from cfw.bench.load import LOAD_LATE_MS
from cfw.bench.tables import BASELINE, Column, Row, Table

#: With a smaller share of its core at full speed, a server was kept waiting by others.
BUSY_ENOUGH = 0.8
#: A load that uses more of its core is part of what was measured.
LOAD_BUSY = 0.8


def print_tables(tables: Sequence[Table], console: Console) -> None:
    """Print tables, ratios first."""
    for table in tables:
        console.print(_rich(table))
        for server, problem in table.problems.items():
            console.print(f"  {server}: {problem}", markup=False, highlight=False)
        console.print()


def warnings(tables: Sequence[Table]) -> list[str]:
    """What makes these numbers less than they seem."""
    found = []
    if (code := code_in_use()) != "compiled":
        found.append(
            f"The worker is {code}: compiled, it takes about twice as many small frames."
        )
    rates = [table.rows.get(BASELINE) for table in tables if table.name == "rates"]
    shares = [row.values["busy"] for row in rates if row is not None]
    known = [share for share in shares if share is not None]
    if known and statistics.median(known) < BUSY_ENOUGH:
        found.append(
            f"The worker had {statistics.median(known):.0%} of its core at full speed: this "
            "machine does other work. Trust the ratios of CPU, not rates and delays."
        )
    return found + [warning for table in tables for warning in _of_load(table)]


def _of_load(table: Table) -> list[str]:
    """What is to be said of the load of a table."""
    busiest, latest_ms = _most(table, "load_busy"), _most(table, "load_late_ms")
    if latest_ms > LOAD_LATE_MS or (busiest > LOAD_BUSY and _has(table, "load_late_ms")):
        return [
            f"{table.title}: the load used {busiest:.0%} of its core and sent 1 % of the "
            f"frames {latest_ms:.1f} ms late or more. Frames that come late come in bunches, "
            "which are cheaper and wait longer."
        ]
    short = [
        server
        for server, row in table.rows.items()
        if (row.values.get("load_busy") or 0.0) > LOAD_BUSY
    ]
    if not short:
        return []
    return [
        f"{table.title}: the load had no more than its core for {', '.join(short)}, which may "
        "take more frames than that. Trust CPU, not rates."
    ]


def _has(table: Table, key: str) -> bool:
    return any(column.key == key for column in table.columns)


def _most(table: Table, key: str) -> float:
    """The largest value of a column; 0 where the table has none."""
    return max((row.values.get(key) or 0.0 for row in table.rows.values()), default=0.0)


def as_json(tables: Sequence[Table]) -> dict[str, Any]:
    """Everything, and what it was measured on."""
    return {
        "baseline": BASELINE,
        "machine": machine(),
        "warnings": warnings(tables),
        "tables": [attrs.asdict(table) for table in tables],
    }


def machine() -> dict[str, Any]:
    """What the numbers depend on."""
    return {
        "worker": code_in_use(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
    }


def _rich(table: Table) -> RichTable:
    # Without lines between the cells all of it fits into 80 columns.
    rich = RichTable(
        title=table.title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, padding=0
    )
    rich.add_column("server", no_wrap=True)
    ratios = [column for column in table.columns if column.is_ratio]
    is_tls = any(row.to_ws is not None for row in table.rows.values())
    for column in ratios:
        rich.add_column(f"{column.title} to cfw", justify="right", overflow="fold")
    for column in ratios if is_tls else ():
        rich.add_column(f"{column.title} to ws", justify="right", overflow="fold")
    for column in table.columns:
        rich.add_column(column.title, justify="right", overflow="fold")
    for server, row in table.rows.items():
        rich.add_row(server, *_cells(table.columns, ratios, row))
    return rich


def _cells(columns: Sequence[Column], ratios: Sequence[Column], row: Row) -> list[str]:
    cells = [_number(row.ratios[column.key], 2) for column in ratios]
    if row.to_ws is not None:
        cells += [_number(row.to_ws[column.key], 2) for column in ratios]
    return cells + [_number(row.values[column.key], column.digits) for column in columns]


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"
