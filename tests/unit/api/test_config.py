"""The configuration: every key checked, every fault named with what is allowed."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import attrs
import pytest

from cfw.api.config import Config, ConfigError, config_toml, load_config, parse_setting
from cfw.limits import Limits, Times


def test_the_defaults_need_no_file() -> None:
    """Loopback, ports 8765 and 8766, hub, and nobody allowed in."""
    config = load_config(None)
    assert (config.server.host, config.server.port) == ("127.0.0.1", 8765)
    assert (config.admin.host, config.admin.port) == ("127.0.0.1", 8766)
    assert (config.sink.url, config.sessions.url, config.sessions.static) == (
        "hub:",
        "static:",
        (),
    )


def test_what_is_printed_reads_back(tmp_path: Path) -> None:
    """`cfw config` writes a file that gives the same configuration."""
    users = ["a:b", 'quo"te:ü\\', "\U0001f600:s", "tab\t:del\x7f"]
    settings = [("sessions.static", users), ("admin.port", "off")]
    config = load_config(None, [*settings, ("limits.max_clock_skew_s", 0.5)])
    file = tmp_path / "cfw.toml"
    file.write_text(config_toml(config), "utf-8")
    assert load_config(file) == config
    assert set(tomllib.loads(config_toml(config))) == {f.name for f in attrs.fields(Config)}


def test_a_setting_lies_over_the_file(tmp_path: Path) -> None:
    """The command line wins, key by key; the last of two counts."""
    file = tmp_path / "cfw.toml"
    file.write_text("[limits]\nmax_fps = 30\nmax_width = 800\n", "utf-8")
    config = load_config(file, [("limits.max_fps", 50), ("limits.max_fps", 60)])
    assert (config.limits.max_fps, config.limits.max_width) == (60, 800)


@pytest.mark.parametrize("cls", [Limits, Times])
def test_every_limit_and_time_can_be_set_and_has_bounds(cls: Any) -> None:
    """Each takes a number, and no text, boolean, zero, NaN or negative one."""
    section = cls.__name__.lower()
    for field in attrs.fields(cls):
        key = f"{section}.{field.name}"
        value = field.default * 2
        config = load_config(None, [(key, value), ("limits.max_memory_bytes", 10**12)])
        if key != "limits.max_memory_bytes":
            assert getattr(getattr(config, section), field.name) == value
        for wrong in ("15", True, 0, -1, float("nan"), float("inf"), None, [1], 10**400):
            if wrong == 10**400 and not field.name.endswith("_s"):
                continue  # a count has no largest value
            with pytest.raises(ConfigError) as caught:
                load_config(None, [(key, wrong)])
            assert caught.value.key == key
            assert "must be" in caught.value.problem


@pytest.mark.parametrize(
    ("key", "value", "part"),
    [
        ("limit.max_fps", 1, "is no section; did you mean limits?"),
        ("nothing.at_all", 1, "allowed are server, invitations"),
        ("limits.max_fsp", 77, "(it was set to 77); did you mean max_fps?"),
        ("limits", 1, "is no SECTION.KEY"),
        ("max_fps", 1, "limits.max_fps; did you mean limits.max_fps?"),
        ("max_fsp", 1, "limits.max_fps; did you mean limits.max_fps?"),
        ("host", "h", "; did you mean server.host or admin.host?"),
        ("server.port", 65_536, "0 (any free port) to 65535"),
        ("server.port", -1, "0 (any free port) to 65535"),
        ("server.port", "off", "0 (any free port) to 65535"),
        ("admin.port", "on", '"off"'),
        ("server.host", "", "not empty"),
        ("server.public_url", "https://h", "wss://cameras.example.org"),
        ("server.public_url", "wss://", "or empty"),
        ("server.public_url", "wss://h:0", "or empty"),
        ("server.public_url", "wss://h:65536", "or empty"),
        ("server.public_url", "wss://ada@h", "or empty"),
        ("server.public_url", "wss://h/c?x=1", "or empty"),
        ("server.public_url", "wss://h; script-src *", "or empty"),
        ("server.public_url", "wss://h/c d", "or empty"),
        ("server.public_url", 7, "or empty"),
        ("log.format", "xml", "console, json"),
        ("log.level", "loud", "debug, info, warning, error"),
        ("sink.url", "s3:", "hub:, null:"),
        ("sink.url", "hub:x", "no options"),
        ("sessions.url", "ldap:", "static:"),
        ("sessions.static", "ada:s1", "list of texts"),
        ("sessions.static", [1], "list of texts"),
        ("sessions.static", ["ada"], "sessions.static: session 'ada'"),
        ("limits.max_forward_buffer_bytes", 299_999, "at least max_frame_bytes"),
        ("limits.max_memory_bytes", 10_316_383, "at least 10316384"),
    ],
)
def test_a_fault_names_the_key_and_what_is_allowed(key: str, value: object, part: str) -> None:
    """Whoever reads the one line knows what to write instead."""
    with pytest.raises(ConfigError) as caught:
        load_config(None, [(key, value)])
    assert part in str(caught.value)
    assert key.split(".")[0] in str(caught.value)


@pytest.mark.parametrize(
    "url", ["", "ws://h", "wss://h/", "wss://h:65535", "ws://[::1]:1/a/b", "wss://a-b.c/d.e_f~"]
)
def test_a_public_url_is_one_of_a_websocket(url: str) -> None:
    """With and without port and path; empty for none."""
    assert load_config(None, [("server.public_url", url)]).server.public_url == url


def test_a_file_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    """Missing, not TOML, not UTF-8, or with a value where a section should be."""
    file = tmp_path / "cfw.toml"
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(file)
    for text in (b"[limits\n", b"\xff\xfe", b"limits = 3\n"):
        file.write_bytes(text)
        with pytest.raises(ConfigError, match=r"not TOML|must be a section"):
            load_config(file)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a.b=1", 1),
        ("a.b = 1.5", 1.5),
        ("a.b=true", True),
        ('a.b="x"', "x"),
        ("a.b=x:y", "x:y"),
        ("a.b=http://h/p?q=1", "http://h/p?q=1"),
        ('a.b=["u:s"]', ["u:s"]),
        ("a.b=", ""),
    ],
)
def test_a_setting_is_toml_or_text(text: str, value: object) -> None:
    """--set takes TOML values, and plain text without quotes."""
    assert parse_setting(text) == ("a.b", value)


def test_a_setting_without_a_value_is_refused() -> None:
    """--set limits.max_fps alone says what form is wanted."""
    with pytest.raises(ConfigError, match="KEY=VALUE"):
        parse_setting("limits.max_fps")
