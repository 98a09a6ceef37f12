"""`cfw cameras`: which cameras this machine has."""

from __future__ import annotations

import json
from collections.abc import Iterator

import attrs
import click

from cfw.cli._streams import put_result
from cfw.cli.mjpeg import SourceError
from cfw.cli.sources import Camera, list_cameras
from cfw.printable import printable

#: Systems that tell no modes give a size and a rate only where they are asked for one.
_UNKNOWN = {
    True: "sizes and rates: pip install 'camera-feed-worker[camera]' lists them",
    False: "sizes and rates are found out when it is opened: --width, --height, --fps",
}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
def cameras(as_json: bool) -> None:
    """List the cameras of this machine, with the sizes and rates that they have.

    `cfw send WS_URL camera:` films with the first of them.
    """
    try:
        found = list_cameras()
    except SourceError as exc:
        raise click.ClickException(printable(str(exc))) from None
    if as_json:
        put_result(json.dumps([attrs.asdict(camera) for camera in found]))
    elif found:
        put_result("\n".join(line for camera in found for line in _lines(camera)))
    else:
        click.echo("this machine has no camera that can be seen", err=True)


def _lines(camera: Camera) -> Iterator[str]:
    yield printable(f"{camera.spec}  {camera.name}")
    if camera.modes is None:
        yield f"    {_UNKNOWN[camera.spec.startswith('/dev/')]}"
    for mode in camera.modes or ():
        rate = f"{mode.fps:.4g} frames/s" if mode.fps else "rate unknown"
        yield printable(f"    {mode.codec:8} {mode.width}x{mode.height}  {rate}")
