"""`cfw demo`: a worker and a synthetic rig, with nothing configured."""

from __future__ import annotations

import math
from functools import partial

import click
import trio

from cfw.api import Addresses, serve
from cfw.cli._logging import configure_logging
from cfw.cli.serve import first_reason
from cfw.cli.sources import Frames
from cfw.client import CaptureError, open_capture
from cfw.config import Config, load_config

USER, SESSION = "demo-user", "demo-session"
FPS = 15
CAPTURE_S = 5
_PORT = click.IntRange(0, 65_535)


@click.command()
@click.option("--seconds", type=float, help="Stop after so long.  [default: at Ctrl-C]")
@click.option(
    "--port", type=_PORT, default=8765, show_default=True, help="Port for rigs; 0: any."
)
@click.option(
    "--admin-port", type=_PORT, default=8766, show_default=True, help="Admin port; 0: any."
)
def demo(seconds: float | None, port: int, admin_port: int) -> None:
    """Start a worker and a synthetic rig that sends one capture after another.

    Nothing has to be configured, and nothing is written to disk.
    """
    configure_logging("console", "warning")
    settings = {
        "server.port": port,
        "admin.port": admin_port,
        "sessions.static": [f"{USER}:{SESSION}"],
    }
    config = load_config(None, settings.items())
    try:
        trio.run(_run, config, seconds)
    except* OSError as group:
        hint = "choose others with --port and --admin-port, or 0 for any"
        raise click.ClickException(f"{first_reason(group)}; {hint}") from None


async def _run(config: Config, seconds: float | None) -> None:
    with trio.move_on_after(math.inf if seconds is None else seconds):
        async with trio.open_nursery() as nursery:
            addresses: Addresses = await nursery.start(partial(serve, config))
            click.echo(f"worker   {addresses.capture}")
            click.echo(f"admin    {addresses.admin}/captures")
            click.echo(
                f"watch    cfw tap {addresses.admin} | ffplay -loglevel error -f mjpeg -"
            )
            click.echo(
                f"send     cfw send {addresses.capture} PHOTO.jpg "
                f"--user {USER} --session {SESSION}"
            )
            click.echo("A synthetic rig sends captures of 5 s now; Ctrl-C ends it.\n")
            await _film(addresses.capture)


async def _film(url: str) -> None:
    number = 0
    while True:
        number += 1
        try:
            await _send_capture(url, number)
        except CaptureError as exc:
            click.echo(f"capture {number}: {exc}")
            await trio.sleep(1)


async def _send_capture(url: str, number: int) -> None:
    pattern = f"pattern:640x480?frames={FPS * CAPTURE_S}"
    async with (
        Frames([pattern], fps=FPS) as frames,
        open_capture(
            url,
            user_id=USER,
            session_id=SESSION,
            width=frames.width,
            height=frames.height,
            fps=FPS,
            source="cfw demo",
        ) as capture,
    ):
        started = trio.current_time()
        async for jpeg in frames:
            await trio.sleep_until(started + capture.frames_sent / FPS)
            await capture.send_frame(jpeg)
    receipt = capture.receipt
    assert receipt is not None
    click.echo(
        f"capture {number}: closed with 1000, the worker forwarded {receipt.frames} frames, "
        f"{receipt.bytes / 1e6:.2f} MB ({capture.capture_id})"
    )
