"""`valkey://` URLs: where the server is, and how its keys are named and bounded."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import attrs

from cfw.plugins import redact_url

DEFAULT_PORT = 6379
_FORM = "valkey://[USER:PASSWORD@]HOST[:PORT][,HOST:PORT...][/DB][?OPTION=VALUE&...]"
_PREFIX = re.compile(r"[A-Za-z0-9._:-]{1,64}")


@attrs.frozen(kw_only=True)
class Address:
    """A parsed URL.

    Args:
        hosts: host and port of the server, or of some nodes of a cluster to ask first.
        is_tls: `valkeys://`.
        username: None for the default user.
        password: None for no authentication.
        db: number of the database; a cluster has only 0.
        cluster: whether the server is a cluster.
        prefix: what every key begins with; fleets with different ones do not meet.
        maxlen: entries that a capture's stream keeps; older ones are trimmed, by whole
            nodes of the stream, so that some more may stay.
        index: captures that the index of each partition keeps, likewise.
        keep_s: seconds a stream is kept after its last write.
        lease_s: seconds after which a capture whose worker is silent counts as lost.
        timeout_s: seconds within which the server has to answer.
        wait: replicas that must have a write before it counts as taken.
        ca: file with the certificates to trust; None for the system's.
        cert: file with a client certificate; None for none.
        key: file with its key; None when `cert` holds it.
    """

    hosts: tuple[tuple[str, int], ...]
    is_tls: bool = False
    username: str | None = attrs.field(default=None, repr=False)
    password: str | None = attrs.field(default=None, repr=False)
    db: int = 0
    cluster: bool = False
    prefix: str = "cfw"
    maxlen: int = 1000
    index: int = 10_000
    keep_s: float = 600
    lease_s: float = 10
    timeout_s: float = 2
    wait: int = 0
    ca: str | None = None
    cert: str | None = None
    key: str | None = None

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
        except _Wrong as exc:
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
            options["db"] = _count("the database", path, 0)
        for name, value in parse_qsl(parts.query, keep_blank_values=True):
            if name not in _OPTIONS:
                raise _Wrong(f"there is no option {name!r}; allowed: {', '.join(_OPTIONS)}")
            options[name] = _OPTIONS[name](name, value)
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


def _count(name: str, text: str, least: int) -> int:
    if not re.fullmatch("[0-9]{1,9}", text) or int(text) < least:
        raise _Wrong(f"{name} must be a whole number of at least {least}, not {text!r}")
    return int(text)


def _positive(name: str, text: str) -> int:
    return _count(name, text, 1)


def _natural(name: str, text: str) -> int:
    return _count(name, text, 0)


def _seconds(name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0
    if not 0.1 <= value <= 31_536_000:
        raise _Wrong(f"{name} must be seconds from 0.1 to 31536000, not {text!r}")
    return value


def _switch(name: str, text: str) -> bool:
    if text not in ("0", "1"):
        raise _Wrong(f"{name} must be 0 or 1, not {text!r}")
    return text == "1"


def _prefix(name: str, text: str) -> str:
    if not _PREFIX.fullmatch(text):
        raise _Wrong(f"{name} must be 1 to 64 of A-Z a-z 0-9 . _ : -, not {text!r}")
    return text


def _file(name: str, text: str) -> str:
    if not text:
        raise _Wrong(f"{name} must name a file")
    return text


_OPTIONS: dict[str, Any] = {
    "cluster": _switch,
    "db": _natural,
    "prefix": _prefix,
    "maxlen": _positive,
    "index": _positive,
    "keep_s": _seconds,
    "lease_s": _seconds,
    "timeout_s": _seconds,
    "wait": _natural,
    "ca": _file,
    "cert": _file,
    "key": _file,
}


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
