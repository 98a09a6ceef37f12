"""Which pages may connect."""

from __future__ import annotations

import pytest

from cfw.api.config import ConfigError, load_config
from cfw.cli.workers import worker_config
from cfw.identity import Origins, check_origin, is_same_origin
from cfw.identity.origins import SIGNED_IN_KEPT, is_of_listener

#: What one of the libraries for small cameras sends.
TINY = "https://github.com/gilmaimon/TinyWebsockets"


def own(host: str) -> Origins:
    """Nothing listed, beside the page of an admin listener at this address."""
    origins = Origins(())
    origins.add_page("http", host, 8766)
    return origins


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "0.0.0.0", "::"])
@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "[::1]", "LOCALHOST"])
def test_the_worker_s_own_page_may_connect_by_loopback_names(host: str, name: str) -> None:
    """Whatever of them the person typed."""
    assert own(host).allows(f"http://{name}:8766")


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "http://evil.example:8766",  # made to resolve to this machine
        "http://127.0.0.1.evil.example:8766",
        "http://localhost.evil.example:8766",
        "http://127.0.0.1",
        "http://127.0.0.1:8765",
        "http://127.0.0.1:87660",
        "https://127.0.0.1:8766",
        "http://127.0.0.2:8766",
        "http://user@127.0.0.1:8766",
        "http://127.0.0.1:8766/",
        "http://[::1",
        "http://127.0.0.1:x",
        "null",
        "file://",
        "",
        "*",
    ],
)
@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_no_other_page_may_connect_unless_it_is_listed(host: str, origin: str) -> None:
    """Foreign hosts, other ports and schemes, pages without an origin, and nonsense."""
    assert not own(host).allows(origin)
    assert not Origins(()).allows(origin)


def test_a_page_at_the_address_of_the_admin_listener_may_connect() -> None:
    """That is where it is served; no other name of the machine counts."""
    assert own("192.0.2.7").allows("http://192.0.2.7:8766")
    assert own("Lab.example").allows("http://lab.example:8766")
    assert not own("192.0.2.7").allows("http://127.0.0.1:8766")


@pytest.mark.parametrize(
    ("host", "is_tls", "names"),
    [
        ("127.0.0.1", False, ["127.0.0.1", "localhost", "[::1]"]),
        ("::1", True, ["127.0.0.1", "localhost", "[::1]"]),
        ("192.0.2.7", True, ["192.0.2.7"]),
    ],
)
def test_the_pages_of_all_workers_that_share_a_port_may_connect_to_each(
    host: str, is_tls: bool, names: list[str]
) -> None:
    """The kernel chooses which of them a page gets to film with."""
    settings: dict[str, object] = {"server.workers": 3, "admin.port": 9000, "admin.host": host}
    settings |= {"sink.url": "valkey://h", "server.origins": ["https://lab.example"]}
    settings["admin.token_file"] = "t"
    if is_tls:
        settings |= {"admin.cert_file": "c", "admin.key_file": "k"}
    config = load_config(None, settings.items())
    for index in range(3):
        origins = Origins(worker_config(config, index).server.origins)
        scheme = "https" if is_tls else "http"
        for port in (9000, 9001, 9002):
            assert all(origins.allows(f"{scheme}://{name}:{port}") for name in names)
        assert origins.allows("https://lab.example")
        assert not origins.allows(f"{scheme}://{names[0]}:9003")
        assert not origins.allows(f"{scheme}://evil.example:9000")


@pytest.mark.parametrize(
    ("listed", "origin", "is_allowed"),
    [
        ("https://lab.example", "https://lab.example", True),
        ("https://lab.example", "https://lab.example:443", True),
        ("https://lab.example:443", "https://lab.example", True),
        ("http://lab.example", "http://lab.example:80", True),
        ("https://LAB.example", "https://lab.example", True),
        ("https://[2001:db8::1]:1", "https://[2001:db8::1]:1", True),
        ("app://bundle", "app://bundle", True),
        ("https://lab.example", "http://lab.example", False),
        ("https://lab.example", "https://lab.example:8443", False),
        ("https://lab.example", "https://a.lab.example", False),
        ("https://lab.example", "https://lab.example.evil", False),
        ("*", "https://anything.example", True),
        ("*", "null", True),
        ("file://", "file://", True),
        ("file://", "file:///", False),
        ("null", "null", True),
        ("null", "NULL", False),
        (TINY, TINY, True),
        (TINY, TINY.lower(), False),
        (TINY, "https://github.com", False),
        (TINY, TINY + "/", False),
        ("https://lab.example/", "https://lab.example", False),
        ("http://localhost/", "http://localhost/", True),
        ("robot 7", "robot 7", True),
        ("lab.example", "lab.example", True),
        ("lab.example", "https://lab.example", False),
    ],
)
def test_a_listed_page_is_known_by_scheme_host_and_port(
    listed: str, origin: str, is_allowed: bool
) -> None:
    """The usual port may be left out; what is no origin has to come exactly as it is listed."""
    assert load_config(None, [("server.origins", [listed])]).server.origins == (listed,)
    assert Origins((listed,)).allows(origin) is is_allowed


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("https://*.lab.example", "without patterns"),
        ("**", "without patterns"),
        ("https://lab.example ", "without space around it"),
        (" ", "without space around it"),
        ("https://m\xfcller.example", "it is ASCII"),
        ("a\r\nb", "it is ASCII"),
        ("", "such as https://lab.example:8443"),
    ],
)
def test_a_wrong_entry_is_told_with_what_is_allowed(entry: str, words: str) -> None:
    """Before anything is started."""
    with pytest.raises(ConfigError) as caught:
        load_config(None, [("server.origins", ["https://lab.example", entry])])
    assert caught.value.key == "server.origins"
    assert words in caught.value.problem
    assert repr(entry) in caught.value.problem


@pytest.mark.parametrize(
    ("origin", "host", "is_same"),
    [
        ("http://127.0.0.1:8766", "127.0.0.1:8766", True),
        ("http://LAB", "lab", True),
        ("http://127.0.0.1:8765", "127.0.0.1:8766", False),
        ("http://127.0.0.1", "127.0.0.1:8766", False),
        ("null", "127.0.0.1:8766", False),
        ("null", "", False),
        ("", "", False),
        ("http://[", "[", False),
    ],
)
def test_a_page_talks_to_its_own_server_by_the_same_host_and_port(
    origin: str, host: str, is_same: bool
) -> None:
    """A request without a host is nobody's."""
    assert is_same_origin(origin, host) is is_same


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("null", "any page can call itself null"),
        ("https://lab.example/", "compared as text"),
        ("http://lab.example:x", "compared as text"),
        (TINY, "compared as text"),
        ("https://lab.example:8443", None),
        ("file://", None),
        ("*", None),
    ],
)
def test_an_entry_that_may_not_mean_what_it_says_is_warned_of(
    entry: str, words: str | None
) -> None:
    """It is taken all the same: there are clients that send it."""
    warning = check_origin(entry)
    assert (warning is None) if words is None else (words in str(warning))


@pytest.mark.parametrize("scheme", ["http", "https", "ws", "wss"])
@pytest.mark.parametrize(
    ("host", "name", "is_own"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.1", "localhost", True),
        ("127.0.0.1", "LocalHost", True),
        ("127.0.0.1", "[::1]", True),
        ("::1", "[::1]", True),
        ("::1", "localhost", True),
        ("192.0.2.7", "192.0.2.7", True),
        ("2001:db8::1", "[2001:db8::1]", True),
        # The loopback of the machine where the browser runs is not this one.
        ("192.0.2.7", "localhost", False),
        ("192.0.2.7", "127.0.0.1", False),
        ("192.0.2.7", "192.0.2.8", False),
        # A name that was made to resolve here.
        ("127.0.0.1", "evil.example", False),
        ("127.0.0.1", "127.0.0.1.evil.example", False),
        ("127.0.0.1", "localhost.evil.example", False),
        ("192.0.2.7", "192.0.2.7.nip.example", False),
        ("127.0.0.1", "127.0.0.2", False),
    ],
)
def test_the_origin_of_the_listener_itself_is_no_page_s(
    scheme: str, host: str, name: str, is_own: bool
) -> None:
    """By the names that only it can have, at its own port; programs send that of their URL."""
    assert is_of_listener(f"{scheme}://{name}:8765", host, 8765) is is_own
    for other in (":8766", ":8765/", ":8765/page", ""):
        assert not is_of_listener(f"{scheme}://{name}{other}", host, 8765)
    assert not is_of_listener(f"{scheme}://user@{name}:8765", host, 8765)


@pytest.mark.parametrize(
    ("origin", "port", "is_own"),
    [("http://127.0.0.1", 80, True), ("wss://127.0.0.1", 443, True),
     ("http://127.0.0.1", 443, False), ("null", 80, False), ("file://", 80, False),
     ("", 80, False), ("127.0.0.1:80", 80, False), ("app://127.0.0.1", 80, False)],
)  # fmt: skip
def test_the_usual_port_may_be_left_out(origin: str, port: int, is_own: bool) -> None:
    """As everywhere."""
    assert is_of_listener(origin, "127.0.0.1", port) is is_own


def test_names_that_were_signed_in_to_are_remembered_in_bounds() -> None:
    """n-1, n and n+1 of them; the one that was used longest ago is forgotten."""
    origins = Origins(())
    names = [f"https://lab-{number}" for number in range(SIGNED_IN_KEPT + 1)]
    for name in names[:-1]:
        origins.add_signed_in(name)
        origins.add_signed_in(names[0])
    assert all(map(origins.allows, names[:-1]))
    assert origins.allows("HTTPS://LAB-3:443")
    assert not origins.allows(names[-1])
    origins.add_signed_in(names[-1])
    assert [name for name in names if not origins.allows(name)] == [names[1]]


@pytest.mark.parametrize("odd", ["", "null", "nonsense", "file://"])
def test_what_is_no_page_cannot_be_signed_in_to(odd: str) -> None:
    """And lets nobody in."""
    origins = Origins(())
    origins.add_signed_in(odd)
    assert not any(map(origins.allows, ("", "null", "nonsense", "file://", "https://x")))
