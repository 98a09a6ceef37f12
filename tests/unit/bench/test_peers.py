"""What the worker is measured against does the worker's work: it takes and refuses the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from cfw.bench.cores import cores
from cfw.bench.frames import BINARY, message, picture
from cfw.bench.peers import BARE, PEERS
from cfw.bench.rig import End, Rig
from cfw.bench.servers import Server, running
from cfw.bench.tls import Certificate
from tests.unit.bench.loads import flooded

#: The worker is held to the same table; bare reads check nothing, which is what they are for.
NAMES = ["cfw null:", *(name for name in PEERS if name not in BARE)]
SIZE = 1_000


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[str, Server]]:
    with running([*NAMES, *BARE], cores()[0]) as (started, problems):
        assert problems == {}
        yield {server.name: server for server in started}


@pytest.fixture(scope="module")
def secured(certificate: Certificate) -> Iterator[dict[str, Server]]:
    with running([*NAMES, *BARE], cores()[0], certificate=certificate) as (started, problems):
        assert problems == {
            "recv": "left out: it reads from the socket itself, so it has no TLS"
        }
        yield {server.name: server for server in started}


@pytest.fixture
def rig(servers: dict[str, Server], name: str) -> Iterator[Rig]:
    rig = Rig(servers[name].port, 1, SIZE)
    yield rig
    rig.close()


def good_frame(rig: Rig, seq: int = 1, **fields: Any) -> None:
    rig.say(rig.meta(seq, **fields))
    rig.sock.sendall(rig.data)


def missing_field(rig: Rig) -> None:
    meta = rig.meta(1)
    del meta["timestamp_frame"]
    rig.say(meta)


def text_for_a_number(rig: Rig) -> None:
    rig.say(rig.meta(1, byte_length="1000"))


def no_json(rig: Rig) -> None:
    rig.sock.sendall(message(1, b'{"event": "capture.frame_meta"'))


def no_uuid(rig: Rig) -> None:
    rig.say(rig.meta(1, record_id="1"))


def wrong_seq(rig: Rig) -> None:
    good_frame(rig)
    rig.say(rig.meta(3))


def same_record_id(rig: Rig) -> None:
    meta = rig.meta(1)
    rig.say(meta)
    rig.sock.sendall(rig.data)
    rig.say(meta | {"seq": 2})


def wrong_length(rig: Rig) -> None:
    rig.say(rig.meta(1, byte_length=SIZE + 1))
    rig.sock.sendall(rig.data)


def no_jpeg(rig: Rig) -> None:
    rig.say(rig.meta(1))
    rig.sock.sendall(message(BINARY, bytes(SIZE)))


def no_end_of_jpeg(rig: Rig) -> None:
    rig.say(rig.meta(1))
    rig.sock.sendall(message(BINARY, picture(SIZE)[:-1] + b"\x01"))


def no_metadata(rig: Rig) -> None:
    rig.sock.sendall(rig.data)


def two_metadata(rig: Rig) -> None:
    rig.say(rig.meta(1))
    rig.say(rig.meta(1))


def time_goes_back(rig: Rig) -> None:
    good_frame(rig)
    now = str(rig.meta(2)["timestamp_frame"])
    good_frame(rig, 2, timestamp_frame=f"{int(now[:4]) - 1}{now[4:]}")


def another_capture(rig: Rig) -> None:
    rig.say(rig.meta(1, capture_id="another"))


def another_user(rig: Rig) -> None:
    rig.say(rig.meta(1, user_id="another"))


def second_open(rig: Rig) -> None:
    rig.open()


VIOLATIONS: list[Callable[[Rig], None]] = [
    missing_field,
    text_for_a_number,
    no_json,
    no_uuid,
    wrong_seq,
    same_record_id,
    wrong_length,
    no_jpeg,
    no_end_of_jpeg,
    no_metadata,
    two_metadata,
    time_goes_back,
    another_capture,
    another_user,
    second_open,
]


@pytest.mark.parametrize("name", NAMES)
def test_a_good_capture_is_taken_and_counted(rig: Rig, name: str) -> None:
    """Frame by frame, and many in one read; the receipt counts them all."""
    rig.open()
    for _ in range(3):
        rig.sock.sendall(rig.next_meta() + rig.data)
    rig.sock.sendall(b"".join(rig.next_meta() + rig.data for _ in range(150)) + rig.closing())
    end = rig.wait_end()
    assert end.code == 1000, end
    assert end.frames == 153
    assert f'"bytes":{153 * SIZE}' in end.reason


@pytest.mark.parametrize("name", [*NAMES, "receive_some"])
def test_it_does_the_same_over_tls(secured: dict[str, Server], name: str) -> None:
    """At full speed, which sends more than a socket holds, and closed as without."""
    assert secured[name].trust is not None
    assert flooded(secured[name], 2, 300_000).aborted == 0


@pytest.mark.parametrize("violate", VIOLATIONS)
@pytest.mark.parametrize("name", NAMES)
def test_what_breaks_the_contract_is_refused(
    rig: Rig, name: str, violate: Callable[[Rig], None]
) -> None:
    """The same table for all: what is measured is the same work."""
    rig.open()
    violate(rig)
    end = rig.wait_end()
    assert end.code == 1008, end
    assert end.reason.startswith("protocol_violation"), end


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("field", "value"), [("width", 641), ("fps_target", 16), ("encoding", "png"), ("seq", 1)]
)
def test_a_capture_beyond_the_limits_is_not_opened(
    rig: Rig, name: str, field: str, value: object
) -> None:
    """A wrong `capture.open`, or another first message, is refused."""
    rig.say(rig.meta(1) if field == "seq" else rig.opening() | {field: value})
    assert rig.wait_end().code in (1000, 1008)
    assert rig.end is not None
    assert "frames" not in rig.end.reason


@pytest.mark.parametrize("name", BARE)
def test_the_ceiling_ends_with_the_capture(rig: Rig, name: str) -> None:
    """It counts bytes, whatever they are, up to the closing message."""
    rig.open()
    sent = rig.next_meta() + rig.data
    rig.sock.sendall(sent + rig.closing())
    end = rig.wait_end()
    assert isinstance(end, End)
    assert end.frames is None
