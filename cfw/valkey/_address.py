"""`valkey://` URLs: where the server is, and how its keys are named and bounded."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import attrs

from cfw.plugins import redact_url
from cfw.settings import (
    AT_LEAST_ONE,
    Allowed,
    SettingError,
    about,
    read_integer,
    read_number,
    setting,
)
from schemas import MOST_INTEGER

DEFAULT_PORT = 6379
_FORM = "valkey://[USER:PASSWORD@]HOST[:PORT][,HOST:PORT...][/DB][?OPTION=VALUE&...]"
_SWITCH = Allowed(
    "0 or 1",
    lambda value: type(value) is bool,
    lambda text: {"0": False, "1": True}.get(text, text),
)
_COUNT = Allowed(
    f"an integer of 0 to {MOST_INTEGER}",
    lambda value: type(value) is int and 0 <= value <= MOST_INTEGER,
    read_integer,
)
_SECONDS = Allowed(
    "seconds from 0.1 to 31536000",
    lambda value: type(value) in (int, float) and 0.1 <= value <= 31_536_000,
    read_number,
)
_PREFIX = Allowed(
    "1 to 64 of A-Z a-z 0-9 . _ : -",
    lambda value: re.fullmatch(r"[A-Za-z0-9._:-]{1,64}", value) is not None,
)
_FILE = Allowed("the path of a file", lambda value: value is None or value != "")


@attrs.frozen(kw_only=True)
class Options:
    """What may stand behind the `?` of a URL; VALKEY.md has them as a table."""

    cluster: bool = setting(False, "1 for a cluster.", _SWITCH)
    db: int = setting(0, "Number of the database; the path says the same.", _COUNT)
    prefix: str = setting(
        "cfw",
        "What every key begins with; fleets with different ones do not meet.",
        _PREFIX,
    )
    maxlen: int = setting(
        1000,
        "Entries a capture's stream keeps; the oldest are trimmed (`MAXLEN ~`, so up to a node "
        "of the stream more may stay).",
        AT_LEAST_ONE,
    )
    index: int = setting(
        10_000,
        "Captures that the index of each partition keeps, likewise.",
        AT_LEAST_ONE,
    )
    keep_s: float = setting(600, "A stream expires so long after its last write.", _SECONDS)
    lease_s: float = setting(
        10, "A worker that is silent for so long has lost its captures.", _SECONDS
    )
    timeout_s: float = setting(2, "The server has to answer within so long.", _SECONDS)
    wait: int = setting(
        0, "Replicas that must have a write before it counts as taken (`WAIT`).", _COUNT
    )
    ca: str | None = setting(
        None, "File for TLS with what to trust instead of the system's store.", _FILE
    )
    cert: str | None = setting(None, "File for TLS with a client certificate.", _FILE)
    key: str | None = setting(
        None, "File for TLS with its key, if it is not in the same one.", _FILE
    )


@attrs.frozen(kw_only=True)
class Address(Options):
    """A parsed URL: its options, and what stands before them.

    Args:
        hosts: host and port of the server, or of some nodes of a cluster to ask first.
        is_tls: `valkeys://`.
        username: None for the default user.
        password: None for no authentication.
    """

    hosts: tuple[tuple[str, int], ...]
    is_tls: bool = False
    username: str | None = attrs.field(default=None, repr=False)
    password: str | None = attrs.field(default=None, repr=False)

    @property
    def name(self) -> str:
        """The servers, for messages; holds no secret."""
        return ",".join(f"{host}:{port}" for host, port in self.hosts)

    @classmethod
    def parse(cls, url: str) -> Address:
        """Read a URL.

        Raises:
            ValueError: it is none; the message says what is allowed and shows no secret.
        """
        try:
            return cls._parse(url)
        except (_Wrong, SettingError) as exc:
            raise ValueError(f"{redact_url(url)}: {exc}; the form is {_FORM}") from None

    @classmethod
    def _parse(cls, url: str) -> Address:
        scheme, separator, _ = url.partition("://")
        if scheme.lower() not in ("valkey", "valkeys") or not separator:
            raise _Wrong("the scheme must be valkey:// or valkeys://")
        try:
            parts = urlsplit(url)
        except ValueError:
            raise _Wrong("it is malformed") from None
        if parts.fragment:
            raise _Wrong("it has a fragment; percent-encode '#' in a password")
        user_info, at, hosts = parts.netloc.rpartition("@")
        username, colon, password = user_info.partition(":")
        options: dict[str, Any] = {
            "hosts": tuple(_host(text) for text in hosts.split(",")),
            "is_tls": scheme.lower() == "valkeys",
            "username": unquote(username) or None if at else None,
            "password": unquote(password) if colon else None,
        }
        if path := parts.path.strip("/"):
            options["db"] = _COUNT.read(path)
        known = attrs.fields_dict(Options)
        for name, text in parse_qsl(parts.query, keep_blank_values=True):
            if name not in known:
                raise _Wrong(f"there is no option {name!r}; allowed: {', '.join(known)}")
            options[name] = about(known[name]).allowed.read(text)
        address = cls(**options)
        _check(address)
        return address


class _Wrong(ValueError):
    pass


def _host(text: str) -> tuple[str, int]:
    match = re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[^\[\]:/]+)(?::([0-9]{1,5}))?", text)
    if match is None:
        raise _Wrong("it names no host" if not text else "a host or its port is malformed")
    port = DEFAULT_PORT if match[2] is None else int(match[2])
    if not 1 <= port <= 65535:
        raise _Wrong("a port must be 1 to 65535")
    return match[1].strip("[]"), port


def _check(address: Address) -> None:
    if address.cluster and address.db:
        raise _Wrong("a cluster has only database 0")
    if len(address.hosts) > 1 and not address.cluster:
        raise _Wrong("several hosts need cluster=1")
    if address.keep_s < 2 * address.lease_s:
        raise _Wrong(f"keep_s must be at least twice lease_s ({address.lease_s:g})")
    if not address.is_tls and (address.ca or address.cert or address.key):
        raise _Wrong("ca, cert and key need valkeys://")
    if address.key and not address.cert:
        raise _Wrong("key needs cert")
