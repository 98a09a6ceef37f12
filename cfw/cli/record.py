"""`cfw record`: keep the captures of a worker."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final

import click
import trio

from cfw.cli._streams import put_result
from cfw.cli.access import Access, accessed
from cfw.cli.shared import MOST_CAPTURES, Keeper, is_shared_feed
from cfw.cli.termination import Termination
from cfw.client import ConnectionLost, FeedOpening, FeedOutage, open_feed
from cfw.plugins import redact_url
from cfw.printable import printable
from cfw.record import (
    DEFAULT_PATTERN,
    Listener,
    Listeners,
    Recorder,
    RecorderMetrics,
    Written,
)
from cfw.recording import FORMATS, Format, RecordingError
from schemas import FeedAbort, FeedOpened

#: For what runs to be closed, once the command is to end: the disk may be slow.
CLOSE_S: Final = 20.0


@click.command()
@click.argument("url", metavar="URL")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--format",
    "formats",
    type=click.Choice(FORMATS),
    multiple=True,
    default=("jpeg",),
    show_default=True,
    help="jpeg: pictures; mkv, mp4: video of the same JPEGs (extra `av`); mcap: for Foxglove "
    "and rerun (extra `mcap`). Repeatable.",
)
@click.option(
    "--name",
    "pattern",
    default=DEFAULT_PATTERN,
    show_default=True,
    metavar="PATTERN",
    help="What a recording is called, below FOLDER.",
)
@click.option("--capture-id", metavar="ID", help="Only this capture.  [default: all]")
@click.option(
    "--captures",
    type=click.IntRange(min=1),
    metavar="N",
    help="Record so many captures and end.  [default: 1 with --capture-id, else at Ctrl-C]",
)
@click.option(
    "--group",
    metavar="NAME",
    help="With valkey://: recorders of one group share the captures.  [default: record]",
)
@click.option(
    "--consumer",
    metavar="NAME",
    help="With valkey://: a name to go on under after a restart.  [default: a new one]",
)
@click.option("--wait", "is_patient", is_flag=True, help="Wait for a worker that is not there.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object for each recording.")
@click.option(
    "--metrics-port",
    type=click.IntRange(0, 65535),
    metavar="PORT",
    help="Show metrics to Prometheus on this port of loopback.",
)
@accessed
def record(
    url: str,
    folder: Path,
    formats: tuple[Format, ...],
    pattern: str,
    capture_id: str | None,
    captures: int | None,
    group: str | None,
    consumer: str | None,
    is_patient: bool,
    as_json: bool,
    metrics_port: int | None,
    access: Access,
) -> None:
    """Keep captures as they come in, each in a folder of its own below FOLDER.

    URL is a worker's admin listener, for example http://127.0.0.1:8766, or the valkey:// URL
    that a fleet of workers has as its sink. A recording is written as NAME.part and gets its
    name when its end has come and all of it is on the disk. What an earlier run has left
    unfinished in FOLDER is closed first. A worker that went away is waited for.

    With valkey:// a capture is done with when its recording is on the disk; until then it comes
    again, after a restart at once to the --consumer that had it, and to others after 30 s.

    Exit code 1 says that a capture was not recorded whole. Ctrl-C and SIGTERM close what runs,
    as cut; a second Ctrl-C leaves it to the next run.
    """
    termination = Termination(CLOSE_S, heeds_interrupts=True)
    told = _Told(folder, as_json)
    try:
        opening, keepers = _opening(url, group, consumer, capture_id, access)
        # Those who let go of a capture are told last, when its recording has been told.
        listeners: list[Listener] = [told, *_metrics(metrics_port), *keepers]
        recorder = Recorder(
            folder,
            formats=formats,
            pattern=pattern,
            listener=Listeners(*listeners),
            captures=1 if captures is None and capture_id is not None else captures,
        )
        run = partial(recorder.run, opening, is_patient=is_patient)
        click.echo(f"recording {redact_url(url)} to {folder}", err=True)
        trio.run(_run, run, termination, strict_exception_groups=True)
    except (ValueError, RecordingError) as exc:
        raise click.UsageError(printable(str(exc))) from None
    except (ConnectionLost, OSError) as exc:
        raise click.ClickException(printable(str(exc))) from None
    termination.exit_if_asked()
    if recorder.cut or recorder.failed:
        raise click.exceptions.Exit(1)


def _opening(
    url: str, group: str | None, consumer: str | None, capture_id: str | None, access: Access
) -> tuple[FeedOpening, list[Listener]]:
    """What opens the feed, and who has to hear what has been recorded of it."""
    if not is_shared_feed(url):
        if group or consumer:
            raise ValueError("--group and --consumer need a valkey:// URL")
        opening = partial(
            open_feed,
            url,
            capture_id=capture_id,
            mode="lossless",
            token=access.token,
            ssl_context=access.ssl_context,
        )
        return opening, []
    if capture_id or access.token or access.ssl_context is not None:
        raise ValueError(
            "--capture-id, tokens and certificates need the URL of an admin listener; a group "
            "shares all captures, and a valkey:// URL has its own options"
        )
    try:
        from cfw.valkey import Address, open_valkey_feed
    except ImportError as exc:
        raise ValueError(str(exc)) from None
    Address.parse(url)  # at once, before there is a folder
    keeper = Keeper()
    shared = partial(
        open_valkey_feed,
        url,
        group=group or "record",
        consumer=consumer,
        max_captures=MOST_CAPTURES,
        keeps=True,
    )
    return partial(keeper.keeping, shared), [keeper]


def _metrics(port: int | None) -> Iterator[Listener]:
    if port is not None:
        metrics = RecorderMetrics()
        click.echo(f"metrics: http://127.0.0.1:{metrics.serve(port)}/metrics", err=True)
        yield metrics


async def _run(run: Any, termination: Termination) -> None:
    with termination.heard():
        await run(reading=termination.first)


class _Told(Listener):
    """Says it on standard error, and with --json each recording on standard output."""

    def __init__(self, folder: Path, as_json: bool) -> None:
        self._folder = folder
        self._as_json = as_json
        self._slow_s = 0.0
        self._strays: set[str] = set()

    def connected(self, outage: FeedOutage | None) -> None:
        self._say("connected; waiting for captures" if outage is None else f"{outage}")

    def lost(self, outage: FeedOutage) -> None:
        self._say(f"the feed was lost: {outage}")

    def began(self, opened: FeedOpened) -> None:
        self._say(f"{opened.capture_id}: recording, of {opened.user_id}")

    def ended(self, written: Written) -> None:
        manifest = written.manifest
        capture_id = manifest.opened.capture_id
        words = f"{len(manifest.frames)} frames, {manifest.bytes} bytes: {self._shown(written)}"
        if isinstance(manifest.terminal, FeedAbort):
            words += f"; the capture was aborted: {manifest.terminal.error_code.value}"
        cut = "" if manifest.cut is None else f"; {manifest.cut}"
        self._say(f"{capture_id}: {manifest.state}, {words}{cut}")
        self._print(
            path=str(written.path),
            capture_id=capture_id,
            state=manifest.state,
            cut=manifest.cut,
            end=None if manifest.terminal is None else manifest.terminal.event,
            frames=len(manifest.frames),
            bytes=manifest.bytes,
            sha256=manifest.sha256,
        )

    def failed(self, capture_id: str, part: Path | None, reason: str) -> None:
        left = "" if part is None else f"; what there is stays in {part}, for the next run"
        self._say(f"{capture_id or 'left unfinished'}: NOT RECORDED: {reason}{left}")
        self._print(
            path=None if part is None else str(part),
            capture_id=capture_id or None,
            state="failed",
            cut=reason,
            end=None,
            frames=None,
            bytes=None,
            sha256=None,
        )

    def slow(self, waited_s: float) -> None:
        # Told at once, and then whenever it has doubled.
        before, self._slow_s = self._slow_s, self._slow_s + waited_s
        if before == 0 or int(self._slow_s).bit_length() > int(before).bit_length():
            self._say(
                f"the disk is slower than the captures: they have waited {self._slow_s:.1f} s"
            )

    def stray(self, capture_id: str) -> None:
        if capture_id not in self._strays and len(self._strays) < 1000:
            self._strays.add(capture_id)
            self._say(f"{capture_id}: messages of a capture whose beginning did not come")

    def _shown(self, written: Written) -> str:
        try:
            return str(written.path.relative_to(self._folder))
        except ValueError:
            return str(written.path)

    def _say(self, line: str) -> None:
        click.echo(printable(line), err=True)

    def _print(self, **fields: Any) -> None:
        if self._as_json:
            put_result(printable(json.dumps(fields, ensure_ascii=False)))
