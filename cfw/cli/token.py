"""`cfw token`: a secret for a file of tokens."""

from __future__ import annotations

import click

from cfw.identity import make_token


@click.command()
@click.argument("user", required=False)
def token(user: str | None) -> None:
    """Print a new random token, as a line for a file of tokens.

    With USER, the token lets in no capture but of this user. For the worker:

    \b
        (umask 077; cfw token ada >> cameras.tokens)
        cfw serve --token-file cameras.tokens ...
    """
    click.echo(make_token() if user is None else f"{make_token()} {user}")
