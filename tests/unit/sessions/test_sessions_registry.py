"""Authorities are found by URL scheme, and a wrong URL says what would be right."""

from __future__ import annotations

import tomllib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from importlib import metadata
from pathlib import Path

import pytest
import structlog.testing

from cfw.plugins import (
    AmbiguousScheme,
    BrokenPlugin,
    PluginError,
    UnknownScheme,
    load_scheme,
    redact_url,
)
from cfw.sessions import (
    SessionAuthority,
    SessionStatus,
    SessionUrlError,
    check_authority_url,
    open_authority,
)

PYPROJECT = Path(__file__).parents[3] / "pyproject.toml"
Register = Callable[..., None]


class SundayAuthority:
    """A third party's authority: everything is closed."""

    def __init__(self, url: str, sessions: Sequence[str]) -> None:
        self.url = url
        self.sessions = tuple(sessions)
        self.is_open = True

    async def check(self, user_id: str, session_id: str) -> SessionStatus:
        return SessionStatus.CLOSED


@asynccontextmanager
async def open_sunday(url: str, *, sessions: Sequence[str]) -> AsyncIterator[SessionAuthority]:
    """The third party's entry point."""
    authority = SundayAuthority(url, sessions)
    try:
        yield authority
    finally:
        authority.is_open = False


@pytest.fixture
def register(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Register:
    """Install fake distributions: nothing but metadata on the import path."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def install(distribution: str, group: str = "cfw.sessions", **points: str) -> None:
        info = tmp_path / f"{distribution}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n"
        )
        lines = [f"[{group}]", *(f"{name} = {target}" for name, target in points.items())]
        (info / "entry_points.txt").write_text("\n".join(lines) + "\n")

    return install


@pytest.fixture
def builtin(register: Register, monkeypatch: pytest.MonkeyPatch) -> None:
    """Register what pyproject.toml says, and only that, installed or not."""
    declared = tomllib.loads(PYPROJECT.read_text())["project"]["entry-points"]["cfw.sessions"]
    points = metadata.EntryPoints(
        metadata.EntryPoint(name, target, "cfw.sessions") for name, target in declared.items()
    )
    monkeypatch.setattr(metadata, "entry_points", lambda **params: points.select(**params))


BUILTIN = pytest.mark.usefixtures("builtin")


@BUILTIN
def test_declared_entry_points_can_be_imported() -> None:
    """Each scheme in pyproject.toml leads to a callable."""
    for scheme in ("static", "allow", "http", "https"):
        assert callable(load_scheme("cfw.sessions", f"{scheme}:"))


@BUILTIN
@pytest.mark.parametrize(
    ("url", "sessions"),
    [
        ("static:", ["u:s"]),
        ("STATIC:", []),
        ("allow:", []),
        ("http://127.0.0.1:8080/check", []),
        ("HTTPS://user:secret@authority.example/check?x=1", []),
        ("http://[::1]:9/", []),
    ],
)
def test_a_good_url_passes_the_check_and_warns_of_nothing(
    url: str, sessions: list[str]
) -> None:
    """Checking opens nothing, so nothing is logged either."""
    with structlog.testing.capture_logs() as logs:
        check_authority_url(url, sessions=sessions)
    assert logs == []


@BUILTIN
@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("redis://h", ["'redis:'", "allow:, http:, https:, static:", "install the package"]),
        ("static", ["no scheme", "allow:, http:, https:, static:"]),
        ("", ["no scheme", "static:"]),
        ("static:u:s", ["nothing behind its colon", "USER:SESSION"]),
        ("static://", ["nothing behind its colon"]),
        ("allow:all", ["nothing behind its colon", "allowed: allow:"]),
        ("http:", ["no host", "http://HOST[:PORT]/PATH"]),
        ("http:///check", ["no host"]),
        ("https://?q", ["no host"]),
        ("http://host:port/", ["malformed"]),
        ("http://host:65536/", ["port does not exist", "1-65535"]),
        ("http://host:0/", ["port does not exist"]),
        ("http://ho st/\x00", ["malformed"]),
    ],
)
async def test_a_wrong_url_says_what_is_wrong_allowed_and_to_do(
    url: str, told: list[str]
) -> None:
    """Opening refuses exactly what checking refuses."""
    with pytest.raises(SessionUrlError) as checked:
        check_authority_url(url)
    with pytest.raises(SessionUrlError) as opened:
        async with open_authority(url):
            pytest.fail("opened")
    assert str(opened.value) == str(checked.value)
    assert isinstance(checked.value, ValueError)
    for words in told:
        assert words in str(checked.value)


@BUILTIN
@pytest.mark.parametrize("url", ["allow:", "http://h/", "https://h/"])
def test_sessions_are_refused_where_they_would_be_ignored(url: str) -> None:
    """A list nobody looks at is a configuration error."""
    with pytest.raises(SessionUrlError, match=r"1 session\(s\) given.*use static:"):
        check_authority_url(url, sessions=["u:s"])


@BUILTIN
@pytest.mark.parametrize(
    "url",
    [
        "redis://user:hunter2@h",
        "user:hunter2@h",
        "http://user:hunter2",
        "http://user:hunter2@h:port",
        "http://user:hun/ter2@h:x/?a#b",
        "http://user:hunter2@",
        "http:///user:hunter2@",
        "allow:hunter2@h",
        "static://u:hunter2@h",
        "http//user:hunter2@h",
    ],
)
def test_a_wrong_url_shows_no_user_info(url: str) -> None:
    """A slip in a URL does not print its password, nor does the chain of causes."""
    with pytest.raises(SessionUrlError) as caught:
        check_authority_url(url)
    exc: BaseException | None = caught.value
    while exc is not None:
        assert "ter2" not in str(exc)
        exc = exc.__cause__ or exc.__context__


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://h:80/a/b", "http://h:80/a/b"),
        ("http://u:p@h/a", "http://***@h/a"),
        ("http://u:p/q?r#s@h/a", "http://***@h/a"),
        ("http://h/a?token=t", "http://h/a?***"),
        ("http://h/a#t", "http://h/a?***"),
        ("http://u:pw", "http://***"),
        ("http://[::1]:80/a", "http://[::1]:80/a"),
        ("http://[::1/a", "http://***/a"),
        ("allow:", "allow:"),
        ("hub:", "hub:"),
        ("no url", "***"),
    ],
)
def test_redacted_url_keeps_what_helps_and_drops_what_hurts(url: str, shown: str) -> None:
    """Scheme, host, port and path stay."""
    assert redact_url(url) == shown


async def test_an_installed_package_adds_a_scheme(register: Register) -> None:
    """The factory gets URL and sessions as given, and is closed at the end of the block."""
    register("sunday", sunday=f"{__name__}:open_sunday")
    check_authority_url("Sunday://x")
    async with open_authority("Sunday://x?y", sessions=["any form"]) as authority:
        assert type(authority).__name__ == "SundayAuthority"
        assert vars(authority) == {
            "url": "Sunday://x?y",
            "sessions": ("any form",),
            "is_open": True,
        }
        assert await authority.check("u", "s") is SessionStatus.CLOSED
    assert vars(authority)["is_open"] is False


def test_groups_do_not_mix(register: Register) -> None:
    """A sink's scheme is no session scheme."""
    register("tub", group="cfw.test-sinks", tub="builtins:dict")
    assert load_scheme("cfw.test-sinks", "tub:x") is dict
    with pytest.raises(UnknownScheme) as caught:
        load_scheme("cfw.test-other", "tub:x")
    assert caught.value == caught.value
    assert (caught.value.group, caught.value.scheme, caught.value.allowed) == (
        "cfw.test-other",
        "tub",
        (),
    )
    assert "install the cfw package" in str(caught.value)


def test_unknown_scheme_lists_what_is_registered(register: Register) -> None:
    """Sorted, so the message is stable."""
    register("tub", group="cfw.test-sinks", tub="builtins:dict", bath="builtins:list")
    with pytest.raises(UnknownScheme, match=r"no cfw\.test-sinks scheme 'tap:'.*bath:, tub:"):
        load_scheme("cfw.test-sinks", "tap:")


def test_a_scheme_registered_twice_is_refused(register: Register) -> None:
    """Which package is asked for sessions must not depend on the import path's order."""
    register("one", group="cfw.test-sinks", tub="builtins:dict")
    register("two", group="cfw.test-sinks", tub="builtins:list")
    with pytest.raises(AmbiguousScheme, match=r"builtins:dict, builtins:list.*uninstall"):
        load_scheme("cfw.test-sinks", "tub:")


def test_a_scheme_registered_twice_alike_is_fine(register: Register) -> None:
    """The same factory under two distribution names, as in an editable checkout."""
    register("one", group="cfw.test-sinks", tub="builtins:dict")
    register("two", group="cfw.test-sinks", tub="builtins:dict")
    assert load_scheme("cfw.test-sinks", "tub:") is dict


@pytest.mark.parametrize("target", ["cfw_no_such_module:open", "builtins:no_such_name"])
def test_a_broken_plugin_is_named(register: Register, target: str) -> None:
    """A missing dependency of a plugin is a message, not a traceback."""
    register("broken", broken=target)
    with pytest.raises(BrokenPlugin, match="repair or reinstall") as caught:
        load_scheme("cfw.sessions", "broken:")
    assert caught.value.target == target
    assert isinstance(caught.value, PluginError)
    with pytest.raises(SessionUrlError, match=target):
        check_authority_url("broken:")
