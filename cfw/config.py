"""The configuration: TOML in, checked values out. Every key has a default."""

from __future__ import annotations

import difflib
import json
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import attrs
import cattrs

from cfw.limits import Limits, SettingError, Times
from cfw.sessions import SessionUrlError, check_authority_url
from cfw.sinks import check_sink_url


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


def _text(_: Any, attribute: attrs.Attribute[str], value: Any) -> None:
    if type(value) is not str or not value:
        raise SettingError(attribute.name, f"must be a text that is not empty, not {value!r}")


def _is_port(value: Any) -> bool:
    return type(value) is int and 0 <= value <= 65_535


def _port(_: Any, attribute: attrs.Attribute[int], value: Any) -> None:
    if not _is_port(value):
        raise SettingError(attribute.name, f"must be 0 (any free port) to 65535, not {value!r}")


def _port_or_off(_: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    if value != "off" and not _is_port(value):
        raise SettingError(
            attribute.name, f'must be 0 (any free port) to 65535 or "off", not {value!r}'
        )


def _one_of(*values: str) -> Any:
    def check(_: Any, attribute: attrs.Attribute[str], value: Any) -> None:
        if value not in values:
            raise SettingError(
                attribute.name, f"must be one of {', '.join(values)}; not {value!r}"
            )

    return check


def _to_tuple(value: Iterable[str]) -> tuple[str, ...]:
    return tuple(value) if isinstance(value, list) else value  # type: ignore[return-value]


def _texts(_: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    if not isinstance(value, tuple) or any(type(item) is not str for item in value):
        raise SettingError(attribute.name, f"must be a list of texts, not {value!r}")


@attrs.frozen(kw_only=True)
class ServerConfig:
    """Where rigs connect.

    Args:
        host: address to listen on.
        port: TCP port; 0 picks a free one.
    """

    host: str = attrs.field(default="127.0.0.1", validator=_text)
    port: int = attrs.field(default=8765, validator=_port)


@attrs.frozen(kw_only=True)
class AdminConfig:
    """Where operators and consumers of the feed connect.

    Args:
        host: address to listen on; keep it on loopback, the feed shows people.
        port: TCP port; 0 picks a free one, "off" serves no admin listener.
    """

    host: str = attrs.field(default="127.0.0.1", validator=_text)
    port: int | Literal["off"] = attrs.field(default=8766, validator=_port_or_off)


@attrs.frozen(kw_only=True)
class SessionsConfig:
    """Who may send.

    Args:
        url: the session authority: `static:`, `http://...`, `https://...` or `allow:`.
        static: `USER:SESSION` pairs that `static:` knows as active.
    """

    url: str = attrs.field(default="static:", validator=_text)
    static: tuple[str, ...] = attrs.field(default=(), converter=_to_tuple, validator=_texts)


@attrs.frozen(kw_only=True)
class SinkConfig:
    """Where accepted frames go.

    Args:
        url: `hub:` or `null:`, or the URL of an installed sink.
    """

    url: str = attrs.field(default="hub:", validator=_text)


@attrs.frozen(kw_only=True)
class LogConfig:
    """What is logged, to standard error.

    Args:
        format: `console` for people, `json` for machines.
        level: the least severe level that is written.
    """

    format: str = attrs.field(default="console", validator=_one_of("console", "json"))
    level: str = attrs.field(
        default="info", validator=_one_of("debug", "info", "warning", "error")
    )


@attrs.frozen(kw_only=True)
class Config:
    """All of it; each attribute is a section of the TOML file."""

    server: ServerConfig = attrs.field(factory=ServerConfig)
    admin: AdminConfig = attrs.field(factory=AdminConfig)
    sessions: SessionsConfig = attrs.field(factory=SessionsConfig)
    sink: SinkConfig = attrs.field(factory=SinkConfig)
    log: LogConfig = attrs.field(factory=LogConfig)
    limits: Limits = attrs.field(factory=Limits)
    times: Times = attrs.field(factory=Times)


def load_config(path: Path | None, settings: Iterable[tuple[str, object]] = ()) -> Config:
    """Read a configuration file and lay single settings over it.

    Args:
        path: a TOML file; None for the defaults alone.
        settings: `section.key` and value, as from the command line; the last one counts.

    Raises:
        ConfigError: the file cannot be read, or a key or value is not allowed.
    """
    tree: dict[str, Any] = {} if path is None else _read(path)
    for key, value in settings:
        section, dot, name = key.partition(".")
        if not dot or not name:
            raise ConfigError(key, "is no SECTION.KEY such as limits.max_fps")
        table = tree.setdefault(section, {})
        if isinstance(table, dict):
            table[name] = value
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
    return config


def config_toml(config: Config) -> str:
    """A configuration as a TOML file that reads back as the same configuration."""
    lines = []
    for section, table in attrs.asdict(config).items():
        lines.append(f"[{section}]")
        # Texts, numbers and lists of texts are written alike in JSON and in TOML.
        lines += [f"{key} = {_toml(value)}" for key, value in table.items()]
        lines.append("")
    return "\n".join(lines)


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


def _toml(value: object) -> str:
    # JSON writes emoji as surrogates, and DEL as it is; TOML allows neither.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


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


def _choose(wrong: str, names: Iterable[str]) -> str:
    close = difflib.get_close_matches(wrong, list(names), n=1)
    if close:
        return f"did you mean {close[0]}?"
    return f"allowed are {', '.join(names)}"
