"""The story of one failing point, told from a recorded run of it."""

from __future__ import annotations

from collections.abc import Mapping

from cfw.testing.sweep.points import Point, when_text
from cfw.testing.sweep.schedule import schedule_text
from cfw.testing.sweep.watch import Record, Step

BEFORE_LINES = 12
AFTER_LINES = 20


def tell(point: Point, params: Mapping[str, object], record: Record, reproduced: bool) -> str:
    """Instant, everybody's park site, and the trace around the last fault.

    Args:
        point: what was run.
        params: its parameter set.
        record: of the run.
        reproduced: whether this run failed in the same way as the first one.
    """
    settings = [f"schedule {schedule_text(point.schedule)}"]
    settings += [f"{name}={value!r}" for name, value in params.items()]
    lines = [f"run: {', '.join(settings)}"]
    if not point.faults:
        lines.append("no fault was fired: the scenario fails by itself")
    for number, fault in enumerate(point.faults):
        of = f" of {record.targets[number]}" if number < len(record.targets) else ""
        lines.append(
            f"instant: {fault.name!r} fired {when_text(fault.when)} step {fault.step}{of}"
        )
    if record.scene:
        lines.append("tasks at that instant:")
        lines += [f"  {line}" for line in record.scene]
    lines += _trace(point, record)
    if not reproduced:
        lines.append(
            "This recorded run did not fail in the same way: something after the instant is "
            "not deterministic, or state is kept from run to run."
        )
    return "\n".join(lines)


def _trace(point: Point, record: Record) -> list[str]:
    steps = record.steps
    last = point.faults[-1].step if point.faults else len(steps)
    first = max(0, last - BEFORE_LINES)
    end = min(len(steps), last + AFTER_LINES)
    lines = [f"trace, steps {first + 1} to {end} of {len(steps)}:"]
    for step in steps[first:end]:
        marks = [fault for fault in point.faults if fault.step == step.number]
        lines += [f"  >>>> {fault.name}" for fault in marks if fault.when == "b"]
        lines.append(step_line(step))
        lines += [f"  >>>> {fault.name}" for fault in marks if fault.when != "b"]
    return lines


def step_line(step: Step) -> str:
    """One step as one line."""
    return f"  #{step.number:<4} {step.time:8.3f}s  {step.task:<16} {step.site}"


def difference(one: Record, two: Record) -> str | None:
    """Where two runs that had to be equal part, or None if they do not."""
    for left, right, a, b in zip(
        one.steps, two.steps, _hashes(one), _hashes(two), strict=False
    ):
        if (left.task, left.site, a) != (right.task, right.site, b):
            return (
                f"They part at step {left.number}:\n"
                f"one run:\n{step_line(left)}\nanother:\n{step_line(right)}"
            )
    if len(one.steps) != len(two.steps):
        shorter, longer = sorted((one, two), key=lambda record: len(record.steps))
        extra = longer.steps[len(shorter.steps)]
        return (
            f"They part after step {len(shorter.steps)}: one run ends there, another goes "
            f"on with\n{step_line(extra)}"
        )
    if len(one.instants) != len(two.instants):
        return (
            f"They take the same steps in other batches: {len(one.instants)} instants in one "
            f"run, {len(two.instants)} in another"
        )
    for first, second in zip(one.instants, two.instants, strict=True):
        if first != second:
            return (
                f"They part {when_text(first.when)} step {first.step} ({first.task}): "
                f"exposed {first.exposed} in one run, {second.exposed} in another"
            )
    return None


def _hashes(record: Record) -> list[int]:
    return [instant.hash for instant in record.instants if instant.when == "b"]
