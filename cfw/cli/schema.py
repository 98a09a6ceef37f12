"""`cfw schema`: the messages as JSON Schema."""

from __future__ import annotations

import json

import click

from schemas import json_schemas


@click.command()
@click.argument("name", required=False)
def schema(name: str | None) -> None:
    """Print the JSON Schema (draft 2020-12) of every message, or of those called NAME.

    NAME is a direction, such as CameraFeedWorkerInput, or one message, such as CaptureOpen.
    """
    schemas = json_schemas()
    known = {
        **schemas,
        **{
            message: {"$schema": direction["$schema"], **body}
            for direction in schemas.values()
            for message, body in direction["$defs"].items()
        },
    }
    if name is not None and name not in known:
        raise click.UsageError(f"there is no {name!r}; there are {', '.join(known)}")
    click.echo(json.dumps(schemas if name is None else known[name], indent=2))
