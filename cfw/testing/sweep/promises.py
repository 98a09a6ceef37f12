"""What a sweep was promised and never came: names, pairs, properties, invariants."""

from __future__ import annotations

from collections.abc import Iterator

from cfw.testing.sweep.config import Config
from cfw.testing.sweep.failure import Failure
from cfw.testing.sweep.plan import Plan
from cfw.testing.sweep.points import select
from cfw.testing.sweep.report import Report
from cfw.testing.sweep.tally import Tally


def never_came(config: Config, plan: Plan, tally: Tally, report: Report) -> Iterator[Failure]:
    """Each as a failure; not asked of a sweep that stopped early.

    A name that no run ever exposed is misspelt, also where a budget left runs out: the
    runs without a fault are all done, and what comes after a fault is tried. What else
    was not reached is unknown then.
    """
    if tally.finds.roots or not config.strict:
        return
    yield from _names(config, plan, report)
    for name, entered in tally.entered.items():
        if name in plan.exposed and not entered:
            what = "is a cancel scope that no run ever entered: firing it did nothing"
            yield _plain(f"exposed:{name}", what)
    yield from _pairs(config, plan, report)
    for name in sorted({name for asked in tally.asked.values() for name in asked}):
        if not any(asked[name] for asked in tally.asked.values()):
            what = "was never asked: what it reads was not set yet when each run ended"
            yield _plain(f"asked:{name}", what)
    if report.complete:
        for name in report.never_reached:
            yield _plain(f"sometimes:{name}", "was never true in any run")


def _names(config: Config, plan: Plan, report: Report) -> Iterator[Failure]:
    where = "at any instant"
    if not report.complete:
        where += f" of the {report.runs} runs that were made; {report.sampled}"
    for name in dict.fromkeys([*config.firsts, *(second for _, second in config.pairs)]):
        is_hidden = name in config.firsts or not _is_known(name, plan)
        if name not in plan.exposed and is_hidden:
            yield _plain(f"exposed:{name}", f"was never exposed {where}")


def _pairs(config: Config, plan: Plan, report: Report) -> Iterator[Failure]:
    for first, second in config.pairs:
        known = _is_known(first, plan) and _is_known(second, plan)
        if (first, second) in plan.paired or not known:
            continue
        if report.complete:
            yield _plain(f"exposed:{second}", f"was never exposed after {first!r} fired")
        else:
            report.sampled += f"; unknown whether {second!r} comes after {first!r}"


def _is_known(name: str, plan: Plan) -> bool:
    """Whether some run exposed what the name stands for."""
    return any(select((one,), name) for one in plan.seen)


def _plain(invariant: str, what: str) -> Failure:
    name = invariant.partition(":")[2]
    return Failure(invariant, (invariant,), f"{name!r} {what}")
