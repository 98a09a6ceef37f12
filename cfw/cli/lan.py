"""`cfw serve --lan`: what a worker needs for phones of its network to film.

The option sets what is not set otherwise: every address of this machine, people who are
invited, a certificate of this machine's own, and, where nobody is known that may film, one user
and session.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NoReturn

import structlog
import trio

from cfw.api.config import Config
from cfw.cli.certificate import CertificateError, Kept, certificate_file, keep_certificate
from cfw.identity import is_loopback
from cfw.net import is_everywhere, own_addresses, own_names

#: Who films where the configuration knows nobody.
GUEST: Final = "guest:lan"
#: From one look at the certificate, and at the addresses of this machine, to the next.
LOOK_S: Final = 60.0
#: For one look, which reads a file and perhaps writes it.
WITHIN_S: Final = 10.0

_log: structlog.stdlib.BoundLogger = structlog.get_logger("cfw.server")


def lan_defaults(sections: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    """Keys and values of `--lan`, for `load_config`.

    Args:
        sections: what is set.
    """
    server, sessions = _section(sections, "server"), _section(sections, "sessions")
    yield "server.host", "0.0.0.0"
    yield "invitations.enabled", True
    if not server.get("cert_file") and not server.get("key_file"):
        yield "server.cert_file", str(certificate_file())
        yield "server.key_file", str(certificate_file())
    if not sessions.get("static") and sessions.get("url", "static:") == "static:":
        yield "sessions.static", [GUEST]


def _section(sections: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = sections.get(name)
    return found if isinstance(found, Mapping) else {}


def is_kept_here(config: Config) -> bool:
    """Whether a worker shows the certificate that is kept here, and not one of its user's."""
    return config.server.cert_file == str(certificate_file())


def look_after(config: Config) -> Kept:
    """Have the certificate for the names and addresses that this machine has now.

    Raises:
        CertificateError: it cannot be written.
    """
    names, addresses = own_names(), own_addresses()
    host = config.server.host
    if not is_everywhere(host) and not is_loopback(host):
        # A name, or an address that the adapters do not tell of.
        (addresses if _is_address(host) else names).append(host)
    kept = keep_certificate(Path(config.server.cert_file), names, addresses)
    if kept.is_new:
        ends = kept.ends.date().isoformat()
        file = config.server.cert_file
        _log.info("certificate.made", file=file, fingerprint=kept.fingerprint, ends=ends)
    return kept


def _is_address(host: str) -> bool:
    return host.replace(".", "").isdigit() or ":" in host


async def keep_up(config: Config, known: str, changed: Callable[[], object]) -> NoReturn:
    """Make the certificate anew before it ends, and when this machine has a new address.

    Args:
        config: of the worker, which `is_kept_here`.
        known: fingerprint of the one that it has.
        changed: called when there is a new one, to have it read.

    Cancellation: a look that hangs is left behind.
    """
    while True:
        await trio.sleep(LOOK_S)
        try:
            with trio.fail_after(WITHIN_S):
                kept = await trio.to_thread.run_sync(look_after, config, abandon_on_cancel=True)
        except (CertificateError, trio.TooSlowError) as exc:
            detail = getattr(exc, "strerror", None) or f"not within {WITHIN_S:g} s"
            _log.error("certificate.failed", detail=detail)
        else:
            # Another worker of this user may have made it.
            if kept.fingerprint != known:
                known = kept.fingerprint
                changed()
