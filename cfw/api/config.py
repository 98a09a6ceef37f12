"""The configuration: TOML in, checked values out. Every key has a default."""

from __future__ import annotations

import difflib
import json
import textwrap
import tomllib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import attrs
import cattrs

from cfw.identity import check_origin, is_loopback
from cfw.limits import Limits, Times
from cfw.sessions import SessionUrlError, check_authority_url
from cfw.settings import (
    AT_LEAST_ONE,
    FILE_OR_NONE,
    PATH,
    PORT,
    PORT_OR_OFF,
    SECONDS,
    SOCKET_URL_OR_NONE,
    TEXT,
    TEXTS,
    URL,
    YES_OR_NO,
    SettingError,
    about,
    one_of,
    setting,
)
from cfw.sinks import check_sink_url

_COLUMNS = 96


@attrs.define(slots=False, eq=False)
class ConfigError(ValueError):
    """The configuration cannot be used.

    Args:
        key: the key at fault, for example `limits.max_fps`; a section or file for a whole.
        problem: what is wrong with it, and what is allowed.
    """

    key: str
    problem: str

    def __str__(self) -> str:
        return f"{self.key}: {self.problem}"


@attrs.frozen(kw_only=True)
class ServerConfig:
    """Where rigs connect."""

    host: str = setting(
        "127.0.0.1",
        "Address to listen on for rigs, or a name; `::` is every address of the machine, IPv4 "
        "and IPv6, `0.0.0.0` every IPv4 address.",
        TEXT,
        option="--host",
    )
    port: int = setting(8765, "TCP port for rigs; 0 picks a free one.", PORT, option="--port")
    path: str = setting(
        "/camera_feed_worker/capture",
        "Path of the URL for rigs; all others are answered with 404. The client library and "
        "`cfw send` add the default one to a URL without a path, and need any other in it; "
        "they cannot ask for `/`.",
        PATH,
    )
    public_url: str = setting(
        "",
        "The URL that rigs use when it is not the address listened on, as behind a proxy; the "
        "pages and the ready line name it. Without a path, `server.path` is added.",
        SOCKET_URL_OR_NONE,
    )
    cert_file: str = setting(
        "",
        "PEM file with the certificate and its chain; with it, rigs use `wss://`.",
        FILE_OR_NONE,
        option="--cert-file",
    )
    key_file: str = setting(
        "",
        "PEM file with the private key of the certificate, without a passphrase.",
        FILE_OR_NONE,
        option="--key-file",
    )
    client_ca_file: str = setting(
        "",
        "PEM file with who signs the certificates of rigs; with it, every rig has to show one.",
        FILE_OR_NONE,
    )
    token_file: str = setting(
        "",
        "File with one token per line, which `cfw token` makes, and the user it is bound to "
        "behind it if any; with it, every rig has to send one.",
        FILE_OR_NONE,
        option="--token-file",
    )
    origins: tuple[str, ...] = setting(
        (),
        "Values of the header `Origin` that may connect besides the worker's own: those of "
        "pages, as `https://lab.example:8443`, and what libraries of programs send, as "
        '`file://`, compared exactly; `"*"` lets in every page.',
        TEXTS,
    )
    workers: int = setting(
        1,
        "Processes that share the port, each with limits, memory and an admin port of its own "
        "(admin.port, and those behind it).",
        AT_LEAST_ONE,
        option="--workers",
    )
    share_port: bool = setting(
        False,
        "Whether other processes of this user may listen on the same port (SO_REUSEPORT).",
        YES_OR_NO,
    )


@attrs.frozen(kw_only=True)
class InvitationsConfig:
    """Who films with a browser because of a link."""

    enabled: bool = setting(
        False,
        "Whether people may be invited to film: the port for rigs then has a page for them, "
        "and lets in nobody without an invitation or a token.",
        YES_OR_NO,
    )
    valid_s: float = setting(600, "For an invitation to be used.", SECONDS, unit="s")
    film_s: float = setting(
        28_800, "How long who has used one may film from then on.", SECONDS, unit="s"
    )
    max_open: int = setting(
        100, "Invitations that wait to be used at a time.", AT_LEAST_ONE, unit="invitations"
    )


@attrs.frozen(kw_only=True)
class AdminConfig:
    """Where operators and consumers of the feed connect."""

    host: str = setting(
        "127.0.0.1",
        "Address to listen on, as `server.host`; beyond loopback it needs `admin.token_file`, "
        "as the feed shows people.",
        TEXT,
        option="--admin-host",
    )
    port: int | Literal["off"] = setting(
        8766,
        'TCP port; 0 picks a free one, "off" serves no admin listener.',
        PORT_OR_OFF,
        option="--admin-port",
    )
    max_connections: int = setting(
        100,
        "Connections at a time; beyond, the one that was told nothing for longest is closed.",
        AT_LEAST_ONE,
        unit="connections",
    )
    cert_file: str = setting(
        "",
        "PEM file with the certificate and its chain; with it, use `https://`.",
        FILE_OR_NONE,
    )
    key_file: str = setting(
        "",
        "PEM file with the private key of the certificate, without a passphrase.",
        FILE_OR_NONE,
    )
    client_ca_file: str = setting(
        "",
        "PEM file with who signs the certificates of clients; with it, everyone has to show "
        "one.",
        FILE_OR_NONE,
    )
    token_file: str = setting(
        "",
        "File with one token per line; with it, everything but `/healthz` and `/readyz` needs "
        "one.",
        FILE_OR_NONE,
    )


@attrs.frozen(kw_only=True)
class SessionsConfig:
    """Who may send."""

    url: str = setting(
        "static:",
        "The session authority: `static:`, `http://...`, `https://...`, `valkey://...`, "
        "`allow:`, or the URL of an installed one.",
        URL,
        option="--sessions",
    )
    static: tuple[str, ...] = setting(
        (),
        "`USER:SESSION` pairs that `static:` knows as active; with none, nobody may send.",
        attrs.evolve(TEXTS, shown="USER:SESSION"),
        option="--session",
    )


@attrs.frozen(kw_only=True)
class SinkConfig:
    """Where accepted frames go."""

    url: str = setting(
        "hub:",
        "`hub:`, `null:` or `valkey://...`, or the URL of an installed sink.",
        URL,
        option="--sink",
    )


@attrs.frozen(kw_only=True)
class RigsConfig:
    """Which rigs are expected, so that one that has stopped coming is told as missing."""

    file: str = setting(
        "",
        'TOML file that names them, one a line: `NAME = "USER"`, or `NAME = "USER:SESSION"` '
        "where a user has several; read again on SIGHUP.",
        FILE_OR_NONE,
    )
    missing_after_s: float = setting(
        60, "For a rig to be without a capture, until it is missing.", SECONDS, unit="s"
    )


@attrs.frozen(kw_only=True)
class LogConfig:
    """What is logged, to standard error."""

    format: str = setting(
        "console",
        "`console` for people, `json` for machines.",
        one_of("console", "json"),
        option="--log-format",
    )
    level: str = setting(
        "info",
        "The least severe level that is written.",
        one_of("debug", "info", "warning", "error"),
        option="--log-level",
    )


@attrs.frozen(kw_only=True)
class Config:
    """All of it; each attribute is a section of the TOML file."""

    server: ServerConfig = attrs.field(factory=ServerConfig)
    invitations: InvitationsConfig = attrs.field(factory=InvitationsConfig)
    admin: AdminConfig = attrs.field(factory=AdminConfig)
    sessions: SessionsConfig = attrs.field(factory=SessionsConfig)
    sink: SinkConfig = attrs.field(factory=SinkConfig)
    rigs: RigsConfig = attrs.field(factory=RigsConfig)
    log: LogConfig = attrs.field(factory=LogConfig)
    limits: Limits = attrs.field(factory=Limits)
    times: Times = attrs.field(factory=Times)


def config_fields() -> dict[str, attrs.Attribute[Any]]:
    """Every key, as `section.key`, with its field."""
    return {
        f"{section.name}.{field.name}": field
        for section in attrs.fields(Config)
        for field in attrs.fields(section.default.factory)  # type: ignore[union-attr]
    }


def load_config(
    path: Path | None,
    settings: Iterable[tuple[str, object]] = (),
    *,
    defaults: Callable[[Mapping[str, Any]], Iterable[tuple[str, object]]] = lambda _: (),
) -> Config:
    """Read a configuration file and lay single settings over it.

    Args:
        path: a TOML file; None for the defaults alone.
        settings: `section.key` and value, as from the command line; the last one counts.
        defaults: the same, for keys that neither the file nor a setting sets; told the
            sections with what they set.

    Raises:
        ConfigError: the file cannot be read, or a key or value is not allowed.
    """
    tree: dict[str, Any] = {} if path is None else _read(path)
    for key, value in settings:
        section, dot, name = key.partition(".")
        if not dot or not name:
            meant = _without_section(key)
            raise ConfigError(key, f"is no SECTION.KEY such as limits.max_fps{meant}")
        table = tree.setdefault(section, {})
        if isinstance(table, dict):
            table[name] = value
    for key, value in defaults(tree):
        section, _, name = key.partition(".")
        table = tree.setdefault(section, {})
        if isinstance(table, dict):
            table.setdefault(name, value)
    return structure_config(tree)


def parse_setting(text: str) -> tuple[str, object]:
    """Split `KEY=VALUE`; the value is TOML, or a text where it is not.

    Raises:
        ConfigError: there is no `=`.
    """
    key, equals, value = text.partition("=")
    if not equals:
        raise ConfigError(text, "is no KEY=VALUE such as limits.max_fps=60")
    try:
        return key.strip(), tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return key.strip(), value.strip()


def structure_config(tree: Mapping[str, Any]) -> Config:
    """Make a configuration of plain values.

    Raises:
        ConfigError: a section, key or value is not allowed.
    """
    sections = {field.name: field.default.factory for field in attrs.fields(Config)}  # type: ignore[union-attr]
    made = {}
    for name, table in tree.items():
        if name not in sections:
            raise ConfigError(name, f"is no section; {_choose(name, sections)}")
        if not isinstance(table, Mapping):
            raise ConfigError(name, f"must be a section [{name}], not {table!r}")
        made[name] = _section(name, sections[name], table)
    config = Config(**made)
    _check_urls(config)
    _check_identity(config)
    _check_workers(config)
    return config


def config_toml(config: Config) -> str:
    """A configuration as a TOML file that reads back as the same configuration.

    What each key means stands above it as a comment.
    """
    lines = []
    for section in attrs.fields(Config):
        table = getattr(config, section.name)
        lines.append(f"[{section.name}]")
        for key in attrs.fields(type(table)):
            known = about(key)
            lines += textwrap.wrap(
                known.text, _COLUMNS, initial_indent="# ", subsequent_indent="# "
            )
            unit = f"  # {known.unit}" if known.unit else ""
            lines.append(f"{key.name} = {toml_value(getattr(table, key.name))}{unit}")
        lines.append("")
    return "\n".join(lines)


def toml_value(value: object) -> str:
    """A text, a number or a list of texts as TOML writes it."""
    # JSON writes them alike, but DEL as it is, and emoji as surrogates unless told not to.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _converter() -> cattrs.Converter:
    # Values pass as they are: the validators of the classes check types exactly, where
    # cattrs alone would take "60" and true for numbers.
    converter = cattrs.Converter(detailed_validation=False, prefer_attrib_converters=True)
    for cls in (str, int, float):
        converter.register_structure_hook(cls, lambda value, _: value)
    converter.register_structure_hook_func(
        lambda cls: not attrs.has(cls), lambda value, _: value
    )
    return converter


_CONVERTER = _converter()


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as exc:
        raise ConfigError(str(path), f"cannot be read: {exc.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise ConfigError(str(path), f"is not TOML: {exc}") from None


def _section(name: str, cls: Any, table: Mapping[str, Any]) -> Any:
    keys = [field.name for field in attrs.fields(cls)]
    for key in table:
        if key not in keys:
            problem = f"is no key (it was set to {table[key]!r}); {_choose(key, keys)}"
            raise ConfigError(f"{name}.{key}", problem)
    try:
        return _CONVERTER.structure(dict(table), cls)
    except SettingError as exc:
        raise ConfigError(f"{name}.{exc.name}", exc.problem) from None


def _check_urls(config: Config) -> None:
    try:
        check_authority_url(config.sessions.url, sessions=config.sessions.static)
    except SessionUrlError as exc:
        raise ConfigError("sessions.url", str(exc)) from None
    except ValueError as exc:
        raise ConfigError("sessions.static", str(exc)) from None
    try:
        check_sink_url(config.sink.url)
    except ValueError as exc:
        raise ConfigError("sink.url", str(exc)) from None


def _check_identity(config: Config) -> None:
    for name, section in (("server", config.server), ("admin", config.admin)):
        if bool(section.cert_file) != bool(section.key_file):
            missing, given = ("key", "cert") if section.cert_file else ("cert", "key")
            raise ConfigError(
                f"{name}.{missing}_file", f"is not set, but {name}.{given}_file is; set both"
            )
        if section.client_ca_file and not section.cert_file:
            raise ConfigError(
                f"{name}.cert_file", f"is not set, but {name}.client_ca_file needs TLS"
            )
    if config.invitations.enabled and config.server.client_ca_file:
        raise ConfigError(
            "invitations.enabled",
            "cannot be with server.client_ca_file: no phone has a certificate to show",
        )
    for origin in config.server.origins:
        try:
            check_origin(origin)
        except ValueError as exc:
            raise ConfigError("server.origins", str(exc)) from None
    admin = config.admin
    if admin.port != "off" and not is_loopback(admin.host) and not admin.token_file:
        raise ConfigError(
            "admin.token_file",
            f"must be set when admin.host is beyond loopback ({admin.host}): the feed shows "
            "people; `cfw token` makes a token, or set admin.host to 127.0.0.1",
        )


def _check_workers(config: Config) -> None:
    workers = config.server.workers
    if workers == 1:
        return
    if config.sink.url.lower().startswith("hub:"):
        raise ConfigError(
            "sink.url",
            f"hub: lives in one process, and server.workers is {workers}; use a sink that "
            "processes share, such as valkey://HOST, or one worker",
        )
    port = config.admin.port
    if isinstance(port, int) and port and port + workers - 1 > 65_535:
        raise ConfigError(
            "admin.port",
            f"must be at most {65_536 - workers} with {workers} workers, which take the "
            f"{workers} ports from it, not {port}",
        )


def _without_section(wrong: str) -> str:
    """Which keys were meant by the name of one alone; nothing where none is like it."""
    keys = [*config_fields()]
    names = [key.partition(".")[2] for key in keys]
    close = difflib.get_close_matches(wrong, names, n=1)
    meant = [key for key, name in zip(keys, names, strict=True) if name in close]
    return f"; did you mean {' or '.join(meant)}?" if meant else ""


def _choose(wrong: str, names: Iterable[str]) -> str:
    close = difflib.get_close_matches(wrong, list(names), n=1)
    if close:
        return f"did you mean {close[0]}?"
    return f"allowed are {', '.join(names)}"
