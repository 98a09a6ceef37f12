"""What is asked of every run: the default invariants, the tracked resources, the checks."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from types import CellType

import trio

from cfw.testing.sweep.alone import Left, Reached
from cfw.testing.sweep.facts import Facts, Noise, Settings, Violation
from cfw.testing.sweep.sites import leaves, raised_at, trace_text

_ORDINAL = re.compile(r"#\d+")

TRIO_BROKEN = "trio-broken"
FINISHED = "finished"
TASKS = "tasks"
EXCEPTION = "exception"
CANCELLED_ESCAPED = "cancelled-escaped"
CANCELLED_SWALLOWED = "cancelled-swallowed"
ACTION = "action"
WARNING = "warning"
UNRAISABLE = "unraisable"
TRIO_LOG = "trio-log"
LEFT_BEHIND = "left-behind"

DEFAULT_INVARIANTS = (
    ACTION,
    TRIO_BROKEN,
    FINISHED,
    CANCELLED_ESCAPED,
    EXCEPTION,
    CANCELLED_SWALLOWED,
    TASKS,
    WARNING,
    UNRAISABLE,
    TRIO_LOG,
    LEFT_BEHIND,
)

#: What no sweep can do without: of a run that did not end nothing else can be asked.
NEVER_WITHOUT = (TRIO_BROKEN, FINISHED)


def judge(settings: Settings, facts: Facts) -> Iterator[Violation]:
    """The default invariants that can be asked as soon as the run is over."""
    asked = (item for item in _default(settings, facts))
    return (item for item in asked if item.invariant not in settings.without)


def judge_noise(settings: Settings, noise: Noise) -> Iterator[Violation]:
    """The default invariants about what could only be warned about or logged."""
    if noise.warnings and WARNING not in settings.without:
        text = "; ".join(f"{w.category.__name__}: {w.message}" for w in noise.warnings)
        yield Violation(WARNING, text)
    if noise.unraisable and UNRAISABLE not in settings.without:
        yield Violation(UNRAISABLE, "; ".join(noise.unraisable))
    if noise.logged and TRIO_LOG not in settings.without:
        yield Violation(TRIO_LOG, "; ".join(noise.logged))


def judge_rest(left: Left, reached: Reached) -> Iterator[Violation]:
    """Whether the wait of a task that was cancelled alone holds up another one.

    Args:
        left: who did not move.
        reached: how far everybody comes where that wait is cancelled as it begins.
    """
    found = left.behind(reached)
    if found is not None:
        name, site = found
        yield Violation(
            LEFT_BEHIND,
            f"{left.name!r} was cancelled while it waited at {left.site}, and that left "
            f"something behind: {name} still waits at {site}. It does not where that wait is "
            "cancelled as it begins",
            f"cancelled at {left.site}; held up at {site}",
        )


def _default(settings: Settings, facts: Facts) -> Iterator[Violation]:
    watch = facts.watch
    for name, error in watch.action_errors:
        yield Violation(
            ACTION,
            f"firing {name!r} raised {error!r} at {raised_at(error)}",
            trace=_traced(facts, error),
        )
    if facts.broken is not None:
        text = f"Trio's run loop broke down with {_cause(facts.broken)}"
        yield Violation(TRIO_BROKEN, text, trace=_traced(facts, facts.broken))
        return
    if watch.stuck is not None:
        yield Violation(FINISHED, _stuck(settings, facts), _stuck_root(facts))
        return
    raised = list(leaves(facts.error))
    if any(isinstance(leaf, trio.Cancelled) for leaf in raised):
        yield Violation(
            CANCELLED_ESCAPED,
            f"no scope absorbed the cancellation: {facts.error!r}",
            "no scope absorbed the cancellation",
            _traced(facts, facts.error),
        )
    wrong = [leaf for leaf in raised if not isinstance(leaf, (trio.Cancelled, *settings.allow))]
    if wrong:
        texts = [f"{leaf!r} at {raised_at(leaf)}" for leaf in wrong]
        text, root = "; ".join(texts), "; ".join(sorted(set(texts)))
        trace = _traced(facts, facts.error)
        yield Violation(EXCEPTION, f"the scenario raised {text}", root, trace)
    for fired in watch.fired:
        for task in fired.swallowed:
            yield Violation(
                CANCELLED_SWALLOWED,
                f"{fired.name!r} was cancelled and {task}, received Cancelled, "
                "but it never reached the scope: something swallowed it",
                # One handler swallows what arrives at any of the places below it.
                f"swallowed in {task.partition('#')[0]}",
            )
    if facts.left:
        yield Violation(TASKS, "still alive: " + "; ".join(facts.left), _places(facts.left))


def judge_own(facts: Facts) -> Iterator[Violation]:
    """The scenario's own invariants: what it tracks, then what it checks."""
    world = facts.world
    world._is_judged = True
    for name, tracked in world._tracked.items():
        try:
            wrong = tracked.verdict()
        except BaseException as exc:
            wrong = f"could not be read: {exc!r}"
        if wrong is not None:
            yield Violation(name, wrong)
    for name, fn in world._checks:
        try:
            said = fn()
        except BaseException as exc:
            if isinstance(exc, NameError) and _reads_what_never_came(fn):
                world._early.add(name)
                continue
            text = (isinstance(exc, AssertionError) and str(exc).strip()) or repr(exc)
            place = raised_at(exc)
            # The values in an assert's text differ from cut to cut; its place does not.
            root = f"at {place}" if isinstance(exc, AssertionError) else ""
            yield Violation(name, f"{text} at {place}", root, _traced(facts, exc))
        else:
            if said is False:
                yield Violation(name, "the check returned False")


def _reads_what_never_came(fn: object) -> bool:
    """Whether a function reads a variable around it that was not set when the run ended."""
    cells: tuple[CellType, ...] = getattr(fn, "__closure__", None) or ()
    for cell in cells:
        try:
            cell.cell_contents  # noqa: B018 - raises if it is empty
        except ValueError:
            return True
    return False


def _stuck(settings: Settings, facts: Facts) -> str:
    watch = facts.watch
    if watch.is_rest_told:
        what = (
            f"not over {settings.heal:g} virtual seconds after all the rest, which waited for "
            "the task that was cancelled, was cancelled as well"
        )
    elif watch.looping:
        what = f"looping: {watch.batch} batches and no end"
    elif watch.fired:
        what = f"not over {settings.heal:g} virtual seconds after the last fault"
    else:
        what = f"not over after {settings.limit:g} virtual seconds"
    end = "it did not stop when told to" if watch.abandon else "it had to be stopped"
    where = "\n".join(f"  {line}" for line in watch.stuck or ())
    return f"{what}; {end}. Parked at that time:\n{where}"


def _stuck_root(facts: Facts) -> str:
    kind = "looping" if facts.watch.looping else "not over"
    return f"{kind}; {_places(facts.watch.stuck or ())}"


def _places(parked: Iterable[str]) -> str:
    """Where tasks are parked, whatever their number and however many they are."""
    return "; ".join(sorted({_ORDINAL.sub("", line) for line in parked}))


def _traced(facts: Facts, error: BaseException | None) -> str:
    """The traceback, of a run that is recorded to tell its story."""
    facts.raised += [error] if error is not None else []
    if error is None or facts.watch.record is None:
        return ""
    return trace_text(error)


def _cause(error: BaseException) -> str:
    """What an internal error of Trio was caused by, and where."""
    cause = error.__cause__ or error
    return f"{cause!r} at {raised_at(cause)}"
