"""`cfw report`: how well several cameras kept step."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import attrs
import click

from cfw.printable import printable
from cfw.recording import (
    Aligned,
    CameraReport,
    Recording,
    RecordingError,
    align,
    draw_svg,
    recordings,
    report,
)
from cfw.recording import open as open_recording


@click.command("report")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--tolerance",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help="How far apart frames may be that belong together.  [default: half an interval]",
)
@click.option(
    "--svg", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Draw it."
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object for each camera.")
def report_command(
    folder: Path, tolerance: float | None, svg: Path | None, as_json: bool
) -> None:
    """Say of the cameras of a session, whose recordings are in FOLDER, how well they kept step.

    For each: the interval between its frames and its jitter, the frames that it has dropped,
    the offset of its clock, and how far it is behind the first camera, in the worker's clock.
    Give the folder of one session, in which the cameras film at the same time.
    """
    found = _opened(folder)
    aligned = align(found, tolerance)
    cameras = report(aligned)
    for camera in cameras:
        if as_json:
            click.echo(printable(json.dumps(attrs.asdict(camera), ensure_ascii=False)))
        else:
            _show(camera)
    if not as_json:
        _sum_up(aligned, cameras)
    if svg is not None:
        try:
            svg.write_text(draw_svg(aligned), encoding="utf-8")
        except OSError as exc:
            raise click.ClickException(f"{svg}: {exc.strerror or exc}") from None


def _opened(folder: Path) -> list[Recording]:
    if not folder.is_dir():
        raise click.UsageError(f"there is no folder {printable(str(folder))}")
    try:
        found = [open_recording(path) for path in recordings(folder)]
    except RecordingError as exc:
        raise click.ClickException(printable(str(exc))) from None
    if not found:
        raise click.ClickException(f"there is no recording in {printable(str(folder))}")
    return found


def _show(camera: CameraReport) -> None:
    dropped = sum(each.count for each in camera.dropped)
    lines = [
        camera.name,
        f"  {camera.frames} frames, one in {camera.interval_ms:.2f} ms, "
        f"jitter {camera.jitter_ms:.2f} ms, {dropped} dropped",
        f"  clock: {_clock(camera)}",
        f"  began {camera.start_ms:+.1f} ms behind the first to begin"
        + (
            ""
            if camera.first_frame_ms is None
            else f", its first frame {camera.first_frame_ms:+.1f} ms"
        ),
    ]
    if camera.skew_ms is not None:
        drift = camera.drift_ms_per_minute
        moving = "" if drift is None else f", {drift:+.2f} ms a minute"
        lines.append(
            f"  {camera.skew_ms:+.2f} ms behind the first{moving}; "
            f"{camera.unmatched} of its frames have none here"
        )
    lines.extend(
        f"  {each.count} missing behind frame {each.after_seq}" for each in camera.dropped
    )
    for line in lines:
        click.echo(printable(line))


def _clock(camera: CameraReport) -> str:
    if camera.offset_ms is None:
        return "its offset is not known; taken as it is"
    low, high = camera.offset_ms
    return f"{low:+.1f} to {high:+.1f} ms ahead of the worker's; the middle is taken off"


def _sum_up(aligned: Aligned, cameras: list[CameraReport]) -> None:
    widths: list[Any] = [track.width_ms for track in aligned.tracks]
    known = [width for width in widths if width is not None]
    clocks = f"; clocks are known to {max(known):.1f} ms" if known else ""
    click.echo(
        f"{len(aligned.complete)} of {len(aligned)} frames have one of every camera within "
        f"{1000 * aligned.tolerance_s:.1f} ms{clocks}"
    )
    firsts = [each.first_frame_ms for each in cameras if each.first_frame_ms is not None]
    if len(firsts) > 1:
        apart_ms = max(each.start_ms for each in cameras)
        click.echo(
            f"they began within {apart_ms:.1f} ms of each other, and their first frames are "
            f"{max(firsts) - min(firsts):.1f} ms apart"
        )
