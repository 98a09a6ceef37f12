"""A failure as one HTML page: a lane for each task, a row for each step, the cut across.

One file that needs nothing else: no script, no network.
"""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from cfw.testing.sweep.failure import Failure
from cfw.testing.sweep.points import BEFORE, Fault, when_text
from cfw.testing.sweep.schedule import schedule_text
from cfw.testing.sweep.watch import Record

#: Steps on a page, the last ones before the end; a browser shows more only slowly.
MOST_ROWS = 400

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; --cut: #d33; }
body { font: 14px/1.45 system-ui, sans-serif; margin: 2em auto; max-width: 110em; }
body { padding: 0 1em; }
h1 { font-size: 1.25em; } h2 { font-size: 1.05em; margin-top: 2em; }
pre, code, td { font-family: ui-monospace, monospace; font-size: 12px; }
pre { background: var(--soft); padding: .8em; overflow-x: auto; white-space: pre-wrap; }
table { border-collapse: collapse; }
th { text-align: left; position: sticky; top: 0; background: Canvas; z-index: 1; }
th, td { padding: .15em .6em; border-bottom: 1px solid var(--line); vertical-align: top; }
.lanes td + td + td, .lanes th + th + th { border-left: 1px solid var(--line); }
.number { text-align: right; color: GrayText; white-space: nowrap; }
.step { background: #48f3; border-radius: 3px; }
.cut td { background: var(--cut); color: #fff; font-weight: bold; }
.parked td { background: #fa02; }
.message { border-left: 4px solid var(--cut); }
"""


def page_of(failure: Failure, test: str, command: str) -> str:
    """The page.

    Args:
        failure: what to show.
        test: its test.
        command: replays it, with the token in place of `{token}`.
    """
    title = f"{failure.invariant} does not hold in {test}"
    parts = [
        f"<h1>{escape(title)}</h1>",
        f'<pre class="message">{escape(failure.message)}</pre>',
    ]
    if failure.smallest:
        parts.append(f"<p>{escape(failure.smallest)}.</p>")
    if failure.token:
        parts.append(_block("Replay", command.replace("{token}", failure.token)))
    if failure.point is not None and failure.record is not None:
        what = f"schedule {schedule_text(failure.point.schedule)}"
        parts.append(f"<h2>Tasks and steps</h2><p>{escape(what)}</p>")
        parts.append(_lanes(failure.record, failure.point.faults))
    if failure.others:
        parts += ["<h2>Where it shows</h2><table><tr><th>points<th>parked at</tr>"]
        parts += [
            f"<tr><td class=number>{points}<td>{escape(site or 'no fault')}</tr>"
            for site, points in failure.sites
        ]
        parts.append("</table>")
    if failure.trace:
        parts.append(_block("Traceback", failure.trace))
    if failure.output:
        parts.append(_block("Output of this run", failure.output))
    head = f'<meta charset="utf-8"><title>{escape(title)}</title><style>{_STYLE}</style>'
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{"".join(parts)}</body>\n'


def _block(title: str, text: str) -> str:
    return f"<h2>{escape(title)}</h2><pre>{escape(text)}</pre>"


def _lanes(record: Record, faults: tuple[Fault, ...]) -> str:
    tasks = list(dict.fromkeys(step.task for step in record.steps))
    heads = "".join(f"<th>{escape(task)}" for task in tasks)
    rows = [f'<table class="lanes"><tr><th>step<th>time{heads}</tr>']
    last = faults[-1].step if faults else len(record.steps)
    first = max(0, min(last, len(record.steps)) - MOST_ROWS // 2)
    if first:
        rows.append(_across("parked", f"{first} steps before these are left out", tasks))
    for step in record.steps[first : first + MOST_ROWS]:
        at = [fault for fault in faults if fault.step == step.number]
        cut_before = [fault for fault in at if fault.when == BEFORE]
        rows += _cuts(cut_before, record, faults, tasks)
        cells = "".join(
            f'<td class="step">{escape(step.site)}' if task == step.task else "<td>"
            for task in tasks
        )
        rows.append(
            f"<tr><td class=number>{step.number}<td class=number>{step.time:.3f} s{cells}</tr>"
        )
        rows += _cuts([one for one in at if one not in cut_before], record, faults, tasks)
    left = len(record.steps) - first - MOST_ROWS
    if left > 0:
        rows.append(_across("parked", f"{left} more steps", tasks))
    return "".join([*rows, "</table>"])


def _cuts(
    faults: list[Fault], record: Record, all_faults: tuple[Fault, ...], tasks: list[str]
) -> Iterator[str]:
    """A row across all lanes for each fault, and after the last where everybody is parked."""
    for fault in faults:
        number = all_faults.index(fault)
        of = f" of {record.targets[number]}" if number < len(record.targets) else ""
        text = f"✂ {fault.name} fired {when_text(fault.when)} step {fault.step}{of}"
        yield _across("cut", text, tasks)
        if fault is all_faults[-1] and record.scene:
            sites = dict(line.split("  ", 1) for line in record.scene if "  " in line)
            cells = "".join(f"<td>{escape(sites.get(task, ''))}" for task in tasks)
            yield f'<tr class="parked"><td colspan=2>parked here{cells}</tr>'


def _across(kind: str, text: str, tasks: list[str]) -> str:
    return f'<tr class="{kind}"><td colspan={len(tasks) + 2}>{escape(text)}</tr>'
