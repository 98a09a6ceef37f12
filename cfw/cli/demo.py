"""`cfw demo`: a worker and two synthetic rigs, with nothing configured."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import attrs
import click
import trio

from cfw.api import Addresses, ListenError, serve
from cfw.api.config import Config, ConfigError, load_config
from cfw.cli._logging import configure_logging
from cfw.cli._streams import OutputError
from cfw.cli.options import laid_over, sets
from cfw.cli.serve import first_reason
from cfw.cli.sources import Frames
from cfw.cli.termination import Termination
from cfw.client import CaptureError, open_capture
from cfw.metrics import Metrics
from cfw.tasks.nurseries import first_leaf

USER, SESSION = "demo-user", "demo-session"


@attrs.frozen
class Rig:
    """A synthetic camera that sends one capture after another.

    Args:
        user_id: who it says it is.
        shape: of its picture, as `pattern:` has it.
        fps: frames per second.
        capture_s: seconds that each capture lasts.
    """

    user_id: str
    shape: str
    fps: int
    capture_s: int


RIGS = (Rig("demo-left", "640x480", 15, 12), Rig("demo-right", "480x270", 10, 8))


@click.command()
@click.option("--seconds", type=float, help="Stop after so long.  [default: at Ctrl-C]")
@sets("server.port", "admin.port")
def demo(seconds: float | None, **ports: Any) -> None:
    """Start a worker and two synthetic rigs that send one capture after another.

    Nothing has to be configured, and nothing is written to disk.
    """
    lines = configure_logging("console", "warning")
    users = (USER, *(rig.user_id for rig in RIGS))
    sessions = ("sessions.static", [f"{user}:{SESSION}" for user in users])
    try:
        config = load_config(None, [sessions, *laid_over(ports)])
    except ConfigError as exc:
        raise click.UsageError(str(exc)) from None
    if config.admin.port == "off":
        raise click.UsageError("admin.port: the demo is watched there; it must be a port")
    termination = Termination()
    try:
        metrics = Metrics(log_lines_lost=lambda: lines.lost)
        trio.run(_run, config, seconds, metrics, termination)
    except* OutputError as group:
        raise first_leaf(group) from None
    except* ListenError as group:
        hint = "choose others with --port and --admin-port, or 0 for any"
        raise click.ClickException(f"{first_reason(group)}; {hint}") from None
    termination.exit_if_asked()


async def _run(
    config: Config, seconds: float | None, metrics: Metrics, termination: Termination
) -> None:
    with termination.heard(), trio.move_on_after(math.inf if seconds is None else seconds):
        async with trio.open_nursery() as nursery:
            addresses: Addresses = await nursery.start(partial(serve, config, metrics=metrics))
            click.echo(f"open     {addresses.admin}/")
            click.echo(f"film     {addresses.admin}/capture#user={USER}&session={SESSION}")
            click.echo(
                f"watch    cfw tap --mode live {addresses.admin} "
                "| ffplay -loglevel error -f mjpeg -"
            )
            click.echo(
                f"send     cfw send {addresses.capture} PHOTO.jpg "
                f"--user {USER} --session {SESSION}"
            )
            click.echo("Two synthetic rigs send captures now; Ctrl-C ends it.\n")
            for rig in RIGS:
                nursery.start_soon(_film, addresses.capture, rig)


async def _film(url: str, rig: Rig) -> None:
    number = 0
    while True:
        number += 1
        try:
            await _send_capture(url, rig, number)
        except CaptureError as exc:
            click.echo(f"{rig.user_id} {number}: {exc}")
            await trio.sleep(1)


async def _send_capture(url: str, rig: Rig, number: int) -> None:
    pattern = f"pattern:{rig.shape}?frames={rig.fps * rig.capture_s}"
    async with (
        Frames([pattern], fps=rig.fps) as frames,
        open_capture(
            url,
            user_id=rig.user_id,
            session_id=SESSION,
            width=frames.width,
            height=frames.height,
            fps=rig.fps,
            source="cfw demo",
        ) as capture,
    ):
        async for frame in frames:
            await trio.sleep_until(frame.due)
            await capture.send_frame(frame.jpeg, frame.timestamp)
    receipt = capture.receipt
    assert receipt is not None
    click.echo(
        f"{rig.user_id} {number}: closed with 1000, the worker forwarded {receipt.frames} "
        f"frames, {receipt.bytes / 1e6:.2f} MB ({capture.capture_id})"
    )
