"""Options of the commands that connect to a worker: the token to send, whom to trust."""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import attrs
import click

from cfw.identity import TokenFileError
from cfw.identity.tokens import parse_tokens

#: A value on the command line would show in the list of processes.
TOKEN_VARIABLE = "CFW_TOKEN"

_OPTIONS = (
    click.option(
        "--token-file",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help=f"The token to send, in a file of its own.  [default: ${TOKEN_VARIABLE}]",
    ),
    click.option(
        "--ca-file",
        type=click.Path(path_type=Path),
        metavar="PEM",
        help="Who signed the worker's certificate.  [default: whom the system trusts]",
    ),
    click.option(
        "--cert-file",
        type=click.Path(path_type=Path),
        metavar="PEM",
        help="The certificate to show, where the worker asks for one.",
    ),
    click.option(
        "--key-file",
        type=click.Path(path_type=Path),
        metavar="PEM",
        help="Its private key.  [default: in the same file]",
    ),
)


@attrs.frozen
class Access:
    """What a command connects with.

    Args:
        token: sent to the worker; None sends none.
        ssl_context: None for the usual one, or none at all.
    """

    token: str | None = attrs.field(repr=False)
    ssl_context: ssl.SSLContext | None


def accessed(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command these options, and what they come to as `access`."""

    @wraps(command)
    def run(
        token_file: Path | None,
        ca_file: Path | None,
        cert_file: Path | None,
        key_file: Path | None,
        **options: Any,
    ) -> None:
        access = Access(_token(token_file), _context(ca_file, cert_file, key_file))
        command(access=access, **options)

    for option in reversed(_OPTIONS):
        run = option(run)
    return run


def _token(path: Path | None) -> str | None:
    if path is None:
        return os.environ.get(TOKEN_VARIABLE) or None
    try:
        # A pipe is welcome here, unlike to a worker: it is read once, by who may wait for it.
        tokens = parse_tokens(path, path.read_bytes())
    except OSError as exc:
        raise click.UsageError(f"{path}: cannot be read: {exc.strerror or exc}") from None
    except TokenFileError as exc:
        raise click.UsageError(str(exc)) from None
    if len(tokens) > 1:
        raise click.UsageError(
            f"{path}: holds {len(tokens)} tokens; give a file with the one to send"
        )
    return tokens[0][0]


def _context(ca: Path | None, cert: Path | None, key: Path | None) -> ssl.SSLContext | None:
    if key is not None and cert is None:
        raise click.UsageError("--key-file needs --cert-file")
    if ca is None and cert is None:
        return None
    at_fault: Path | None = ca
    try:
        context = ssl.create_default_context(cafile=ca)
        at_fault = cert
        if cert is not None:
            context.load_cert_chain(cert, key)
    except OSError as exc:  # also those of ssl
        reason = exc.strerror or getattr(exc, "reason", None) or exc
        raise click.UsageError(f"{at_fault} cannot be used: {reason}") from None
    return context
