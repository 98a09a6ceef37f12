"""`cfw session`: sessions of a fleet, for laboratories without a session manager."""

from __future__ import annotations

import click
import trio

from cfw.cli._streams import put_result
from cfw.cli.options import may_be
from cfw.plugins import OutOfReach
from cfw.printable import printable


@click.group()
def session() -> None:
    """Open and close sessions that workers with `--sessions valkey://...` look up."""


@session.command("set")
@click.argument("user", callback=may_be("user_id"))
@click.argument("session_id", metavar="SESSION", callback=may_be("session_id"))
@click.argument("status", type=click.Choice(["active", "closed"]))
@click.option("--url", required=True, metavar="URL", help="The workers' valkey:// URL.")
@click.option(
    "--expire-s",
    type=float,
    metavar="S",
    help="Nobody knows the session any more after so many seconds.  [default: never]",
)
def set_command(
    user: str, session_id: str, status: str, url: str, expire_s: float | None
) -> None:
    """Say that SESSION of USER is active or closed.

    Captures of a session that is closed end at once, on every worker.

    \b
        cfw session set ada s1 active --url valkey://db.example
    """
    try:
        trio.run(_set, user, session_id, status, url, expire_s, strict_exception_groups=True)
    except ValueError as exc:
        raise click.UsageError(str(exc)) from None
    except OutOfReach as exc:
        raise click.ClickException(printable(str(exc))) from None
    put_result(f"session {session_id} of {user} is {status}")


async def _set(
    user: str, session_id: str, status: str, url: str, expire_s: float | None
) -> None:
    try:
        from cfw.valkey import Address, open_link, set_session
    except ImportError as exc:
        raise ValueError(str(exc)) from None
    async with open_link(Address.parse(url)) as link:
        await set_session(link, user, session_id, status, expire_s=expire_s)
