"""`cfw invite`: let somebody film with a phone, by a code that is good once."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import click
import httpx

from cfw.admin.qr import qr_terminal
from cfw.cli._streams import put_result
from cfw.cli.access import Access, accessed
from cfw.cli.options import may_be
from cfw.printable import printable

ADMIN_URL = "http://127.0.0.1:8766"
_WITHIN_S = 10.0


@click.command()
@click.argument("user", required=False, callback=may_be("user_id"))
@click.argument("session", required=False, callback=may_be("session_id"))
@click.option("--list", "is_list", is_flag=True, help="Say who is invited, and who films.")
@click.option(
    "--take-back",
    metavar="ID",
    help="Let nobody in with this invitation any more, and end what it films.",
)
@click.option(
    "--url",
    default=ADMIN_URL,
    show_default=True,
    metavar="URL",
    help="The admin listener of the worker.",
)
@accessed
def invite(
    user: str | None,
    session: str | None,
    is_list: bool,
    take_back: str | None,
    url: str,
    access: Access,
) -> None:
    """Invite somebody to film as USER in SESSION, with the browser of a phone.

    Prints a link that lets in one person, once, within ten minutes (invitations.valid_s), and
    at a terminal its QR code to scan. Whoever has it can film; hand it to nobody else. The
    worker has to invite people:

    \b
        cfw serve --lan
        cfw invite guest lan
    """
    wanted = (user is not None or session is not None, is_list, take_back is not None)
    if sum(wanted) != 1 or (user is None) != (session is None):
        raise click.UsageError("give USER and SESSION, or --list, or --take-back ID")
    with _client(url, access) as client:
        if is_list:
            _print_list(_ask(client, "GET", "/invitations", "invitations")["invitations"])
        elif take_back is not None:
            _ask(client, "DELETE", f"/invitations/{_one_part(take_back)}")
            put_result(f"{printable(take_back)} lets nobody in any more")
        else:
            names = {"user_id": user, "session_id": session}
            _print_invitation(_ask(client, "POST", "/invitations", "url", names))


def _client(url: str, access: Access) -> httpx.Client:
    headers = {} if access.token is None else {"Authorization": f"Bearer {access.token}"}
    verify = True if access.ssl_context is None else access.ssl_context
    # A proxy of the environment has nothing to do with a worker of this network.
    try:
        return httpx.Client(
            base_url=url, headers=headers, verify=verify, timeout=_WITHIN_S, trust_env=False
        )
    except (httpx.InvalidURL, ValueError) as exc:
        raise click.UsageError(f"--url {url}: {exc}") from None


def _one_part(invitation_id: str) -> str:
    if not invitation_id.isalnum():
        raise click.UsageError(f"--take-back {invitation_id}: `cfw invite --list` has the ids")
    return invitation_id


def _ask(
    client: httpx.Client, method: str, path: str, wanted: str = "", body: object = None
) -> dict[str, Any]:
    """What a worker answers: with a field of that name, or nothing where none is wanted."""
    try:
        answer = client.request(method, path, json=body)
        is_done = answer.status_code == 204
        told = {} if is_done else answer.json()
        field = wanted if answer.is_success else "error"
        if not isinstance(told, dict) or (field not in told if field else not is_done):
            raise ValueError("it is somebody else's")
    except (httpx.HTTPError, httpx.InvalidURL) as exc:
        problem = f"no worker answers at {client.base_url}: {exc}"
        raise click.ClickException(printable(problem)) from None
    except ValueError:
        raise click.ClickException(f"what answers at {client.base_url} is no worker") from None
    if not answer.is_success:
        raise click.ClickException(printable(str(told["error"])))
    return told


def _print_list(invitations: list[Mapping[str, Any]]) -> None:
    if not invitations:
        put_result("nobody is invited")
    for each in invitations:
        left = f", {each['ends_in_s']:.0f} s left" if each["ends_in_s"] > 0 else ""
        put_result(
            printable(
                f"{each['invitation_id']}  {each['state']}  user {each['user_id']}, "
                f"session {each['session_id']}{left}"
            )
        )


def _span(seconds: float) -> str:
    """In minutes no longer than it is, but for what it took to say it."""
    whole = round(seconds)
    return f"{whole} seconds" if whole < 120 else f"{whole // 60} minutes"


def _print_invitation(told: Mapping[str, Any]) -> None:
    put_result(
        invitation_text(told, told["url"], told["fingerprint"])
        if sys.stdout.isatty()
        else told["url"]
    )


def invitation_text(told: Mapping[str, Any], link: str, fingerprint: str | None) -> str:
    """An invitation for a terminal: its code, and what a person has to know of it.

    Args:
        told: what may be told of it.
        link: what its code says.
        fingerprint: of the certificate that a browser will ask about; None for none.
    """
    who = f"as {told['user_id']} in session {told['session_id']}"
    lines = [
        printable(f"Scan this to film {who}. It lets in one phone, once,"),
        f"within {_span(told['ends_in_s'])}; `cfw invite --take-back "
        f"{told['invitation_id']}` takes it back.",
        "",
        qr_terminal(link),
        "",
        link,
    ]
    if fingerprint is not None:
        lines += [
            "",
            "The browser will warn once of a certificate that it does not know. It is this",
            "worker's own if it shows this SHA-256 fingerprint:",
            fingerprint,
        ]
    return "\n".join(lines)
