"""`valkey://` URLs: what they mean, and what is told of one that is wrong."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest

import cfw.sinks
from cfw.api.config import ConfigError, load_config
from cfw.settings import SettingError, about
from cfw.valkey import Address
from cfw.valkey._address import Options


def test_everything_has_a_default() -> None:
    """Host and port are enough, and the port may be left out."""
    assert Address.parse("valkey://db") == Address(hosts=(("db", 6379),))


def test_all_parts_of_a_url() -> None:
    """User info is percent-decoded; options are typed."""
    address = Address.parse(
        "valkeys://ada:p%40ss@db:7000/3?prefix=lab-2&maxlen=5&index=6&keep_s=90"
        "&lease_s=4.5&timeout_s=1&wait=2&ca=/a&cert=/b&key=/c"
    )
    assert address == Address(
        hosts=(("db", 7000),),
        is_tls=True,
        username="ada",
        password="p@ss",
        db=3,
        prefix="lab-2",
        maxlen=5,
        index=6,
        keep_s=90,
        lease_s=4.5,
        timeout_s=1,
        wait=2,
        ca="/a",
        cert="/b",
        key="/c",
    )
    assert "p@ss" not in repr(address)


def test_a_cluster_may_be_named_by_several_nodes() -> None:
    """IPv6 addresses have brackets."""
    address = Address.parse("valkey://[::1]:7001,b:7002,c/?cluster=1")
    assert address.hosts == (("::1", 7001), ("b", 7002), ("c", 6379))
    assert address.cluster


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("valkey:", "scheme"),
        ("redis://h", "scheme"),
        ("valkey://", "names no host"),
        ("valkey://h:0", "1 to 65535"),
        ("valkey://h:65536", "1 to 65535"),
        ("valkey://h:x", "malformed"),
        ("valkey://[::1", "malformed"),
        ("valkey://h/x", "db must be an integer of 0 to"),
        ("valkey://h#x", "fragment"),
        ("valkey://h?wat=1", "no option 'wat'; allowed: cluster, db"),
        ("valkey://h?cluster=yes", "0 or 1"),
        ("valkey://h/1?cluster=1", "only database 0"),
        ("valkey://a,b", "cluster=1"),
        ("valkey://h?maxlen=0", "maxlen must be an integer of 1 to"),
        ("valkey://h?lease_s=0", "0.1"),
        ("valkey://h?lease_s=nan", "0.1"),
        (
            "valkey://h?timeout_s=2s",
            "timeout_s must be seconds from 0.1 to 31536000, not '2s'",
        ),
        ("valkey://h?wait=-1", "wait must be an integer of 0 to"),
        ("valkey://h?db=", "db must be an integer of 0 to"),
        ("valkeys://h?ca=", "ca must be the path of a file"),
        ("valkey://h?keep_s=19", "twice lease_s"),
        ("valkey://h?prefix={x}", "prefix"),
        ("valkey://h?ca=x", "valkeys"),
        ("valkeys://h?key=x", "key needs cert"),
    ],
)
def test_a_wrong_url_says_what_is_allowed(url: str, words: str) -> None:
    """And it is refused before anything is opened, with the key that names it."""
    with pytest.raises(ValueError, match="the form is valkey://") as caught:
        Address.parse(url)
    assert words in str(caught.value)
    if url.startswith("valkey"):
        with pytest.raises(ConfigError, match=r"sink\.url"):
            load_config(None, [("sink.url", url)])


def test_no_secret_is_shown() -> None:
    """Neither of a URL that is wrong, nor of one that is right."""
    with pytest.raises(ValueError, match="no option") as caught:
        Address.parse("valkey://ada:hunter2@h?wat=1")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("name", attrs.fields_dict(Options))
def test_every_option_is_on_the_page(name: str) -> None:
    """As it is declared: its default and what it means, in a row of VALKEY.md."""
    field = attrs.fields_dict(Options)[name]
    default = {None: "", False: 0}.get(field.default, field.default)
    row = f"| {name} | {default} | {about(field).text} |"
    page = Path(cfw.sinks.__file__).parent / "VALKEY.md"
    assert row in page.read_text("utf-8").splitlines(), row


def test_an_option_is_checked_wherever_it_comes_from() -> None:
    """Also where an address is made by hand."""
    with pytest.raises(SettingError, match="maxlen must be an integer of 1 to"):
        Address(hosts=(("db", 6379),), maxlen=0)
