"""What was measured: tables of medians, and of ratios within the same round."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence

import attrs

#: What every ratio is to.
BASELINE = "cfw null:"
#: One server in one round: what it did, by the key of a column; None where nobody can tell.
Sample = Mapping[str, float | None]


@attrs.frozen
class Column:
    """One number of each server.

    Args:
        key: its name in the JSON.
        title: its name in the table, with the unit.
        digits: behind the point.
        is_ratio: show its ratio to that of the baseline as well, before all numbers.
    """

    key: str
    title: str
    digits: int = 0
    is_ratio: bool = False


@attrs.frozen
class Row:
    """One server.

    Args:
        values: medians over the rounds, by the key of the column.
        ratios: medians of the ratios to the baseline in the same round; None where there is
            no baseline.
        to_ws: of a server over TLS: medians of the ratios to the same server without, in the
            same round; None for a server without.
    """

    values: dict[str, float | None]
    ratios: dict[str, float | None]
    to_ws: dict[str, float | None] | None = None


@attrs.frozen
class Table:
    """The outcome of one measure.

    Args:
        name: of the measure.
        title: what was done.
        columns: what was measured.
        rows: by the server's name.
        problems: why a server has no row.
    """

    name: str
    title: str
    columns: tuple[Column, ...]
    rows: dict[str, Row]
    problems: dict[str, str]


def summarise(
    name: str,
    title: str,
    columns: Sequence[Column],
    samples: Mapping[str, Sequence[Sample]],
    problems: Mapping[str, str],
    over_ws: Mapping[str, Sequence[Sample]] | None = None,
) -> Table:
    """Make the table of a measure.

    Args:
        samples: of each server, one for each round, in the order of the rounds.
        over_ws: the same of servers without TLS, where `samples` are of servers over it.
    """
    base = samples.get(BASELINE, ())
    rows = {}
    for server, mine in samples.items():
        values = {c.key: _median([sample[c.key] for sample in mine]) for c in columns}
        plain = None if over_ws is None else over_ws.get(server, ())
        to_ws = None if plain is None else _ratios(columns, mine, plain)
        rows[server] = Row(values, _ratios(columns, mine, base), to_ws)
    return Table(name, title, tuple(columns), rows, dict(problems))


def percentile(values: Sequence[float], percent: float) -> float:
    """The value that `percent` per cent of them do not pass (the nearest rank).

    Raises:
        ValueError: there are none.
    """
    if not values:
        raise ValueError("no values")
    ordered = sorted(values)
    return ordered[max(math.ceil(len(ordered) * percent / 100) - 1, 0)]


def _ratios(
    columns: Sequence[Column], mine: Sequence[Sample], others: Sequence[Sample]
) -> dict[str, float | None]:
    """Medians of the ratios within a round."""
    both = list(zip(mine, others, strict=False))
    return {
        c.key: _median([_ratio(a[c.key], b[c.key]) for a, b in both])
        for c in columns
        if c.is_ratio
    }


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def _ratio(value: float | None, base: float | None) -> float | None:
    return None if value is None or not base else value / base
