"""`cfw verify`: whether recordings are what they say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from cfw.printable import printable
from cfw.recording import (
    Receipt,
    RecordingError,
    Verdict,
    read_receipts,
    verify_all,
)
from schemas import FeedAbort, Terminal

#: Wide enough for a name and its counts; a terminal's own width cuts names off.
_WIDTH = 160


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--receipts",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="What `cfw send --json` printed, line by line: every receipt needs its recording.",
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object for each recording.")
def verify(folder: Path, receipts: Path | None, as_json: bool) -> None:
    """Hold every recording in FOLDER and below against its hashes and its own terminal.

    Frames and bytes have to be as many as the worker accepted, forwarded and confirmed to the
    rig, and as they were recorded, byte for byte. Exit code 0 says that all of it agrees, 1
    that something does not, or that a recording is cut.
    """
    if not folder.is_dir():
        raise click.UsageError(f"there is no folder {printable(str(folder))}")
    try:
        known = _receipts(receipts)
        verdicts = [*verify_all(folder, known)]
    except (ValueError, RecordingError) as exc:
        raise click.UsageError(printable(str(exc))) from None
    except OSError as exc:
        raise click.ClickException(printable(str(exc))) from None
    if as_json:
        for verdict in verdicts:
            fields = {"path": str(verdict.path), **_fields(verdict, known)}
            line = json.dumps(fields | {"problems": verdict.problems}, ensure_ascii=False)
            click.echo(printable(line))
    else:
        _show(folder, verdicts, known)
    if not verdicts:
        raise click.ClickException(f"there is no recording in {printable(str(folder))}")
    if not all(verdict.is_sound for verdict in verdicts):
        raise click.exceptions.Exit(1)


def _receipts(path: Path | None) -> dict[str, Receipt]:
    if path is None:
        return {}
    try:
        return read_receipts(path.read_text("utf-8").splitlines())
    except OSError as exc:
        raise ValueError(f"{path} cannot be read: {exc.strerror or exc}") from None
    except ValueError as exc:
        raise ValueError(f"{path}: {exc}") from None


def _fields(verdict: Verdict, receipts: dict[str, Receipt]) -> dict[str, Any]:
    """Of one recording, what the table shows too."""
    manifest = verdict.manifest
    if manifest is None:
        return {"capture_id": None, "state": "unreadable", "sound": False}
    receipt = receipts.get(manifest.opened.capture_id)
    return {
        "capture_id": manifest.opened.capture_id,
        "state": _state(manifest.state, manifest.terminal),
        "sound": verdict.is_sound,
        "accepted": None if manifest.terminal is None else manifest.terminal.frames_accepted,
        "forwarded": None if manifest.terminal is None else manifest.terminal.frames_forwarded,
        "recorded": len(manifest.frames),
        "receipt": None if receipt is None else receipt.frames,
        "bytes": manifest.bytes,
        "formats": list(manifest.formats),
    }


def _state(state: str, terminal: Terminal | None) -> str:
    if isinstance(terminal, FeedAbort):
        return f"{state}, {terminal.error_code.value}"
    return state


def _show(folder: Path, verdicts: list[Verdict], receipts: dict[str, Receipt]) -> None:
    table = Table(box=None, header_style="", pad_edge=False)
    table.add_column("recording", overflow="fold")
    for column in ("state", "accepted", "forwarded", "recorded", "receipt", "bytes", "formats"):
        is_count = column not in ("state", "formats")
        table.add_column(column, justify="right" if is_count else "left")
    for verdict in verdicts:
        fields = _fields(verdict, receipts)
        name = printable(str(verdict.path.relative_to(folder)))
        counts = (fields.get(key) for key in ("accepted", "forwarded", "recorded", "receipt"))
        table.add_row(
            name,
            fields["state"],
            *("-" if count is None else str(count) for count in counts),
            str(fields.get("bytes", "-")),
            " ".join(fields.get("formats", ())),
        )
    if verdicts:
        console = Console(width=_WIDTH, highlight=False, markup=False, color_system=None)
        with console.capture() as shown:
            console.print(table)
        click.echo("\n".join(line.rstrip() for line in shown.get().splitlines()))
    for verdict in verdicts:
        for problem in verdict.problems:
            click.echo(printable(f"{verdict.path}: {problem}"))
    wrong = sum(not verdict.is_sound for verdict in verdicts)
    click.echo(f"{len(verdicts)} looked at, {wrong} not sound")
