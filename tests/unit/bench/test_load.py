"""Servers in processes of their own, and the load that is driven at them."""

from __future__ import annotations

import socket
import sys
import threading
import time

import attrs
import pytest

from cfw.bench import peers
from cfw.bench.cores import cores
from cfw.bench.load import drive, open_rigs
from cfw.bench.rig import BenchError
from cfw.bench.servers import Server, running, shown
from cfw.bench.tables import BASELINE
from cfw.bench.tls import Certificate, TlsSocket, server_context
from tests.unit.bench.loads import flooded

CORE = cores()[0]


def test_a_peer_that_is_not_installed_is_a_row_that_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And what to install."""
    absent = attrs.evolve(peers.PEERS["picows"], needs=("msgspec", "no_such_package"))
    monkeypatch.setitem(peers.PEERS, "picows", absent)
    with running(["picows"], CORE) as (servers, problems):
        assert servers == []
    assert problems == {
        "picows": "not installed: no_such_package (pip install 'camera-feed-worker[bench]')"
    }


def test_a_worker_that_does_not_start_says_why() -> None:
    """For example because its sink's URL is wrong; the others run."""
    with running(["cfw null:x", "recv"], CORE) as (servers, problems):
        assert [server.name for server in servers] == ["recv"]
    assert "takes no options" in problems["cfw null:x"]


@pytest.mark.parametrize(
    ("name", "seen"),
    [
        ("cfw valkey://ada:secret@db:6379/0", "cfw valkey://***@db:6379/0"),
        ("cfw null:", "cfw null:"),
        ("websockets/trio", "websockets/trio"),
    ],
)
def test_no_password_of_a_sink_is_shown(name: str, seen: str) -> None:
    """Tables and files of the bench are passed around."""
    assert shown(name) == seen


def test_the_load_is_counted_by_both_ends(stamped: Server) -> None:
    """At full speed the receipts say what was sent."""
    assert len(flooded(stamped, 3, 1_000).frames) == 3
    assert stamped.delays_ns() == []  # only paced frames are stamped


def test_paced_rigs_send_at_their_times_and_are_stamped(stamped: Server) -> None:
    """10 fps for 0.475 s, one rig 0.05 s after the other: five frames of each, timed."""
    before = time.monotonic_ns()
    sent = drive(open_rigs(stamped.port, 2, 30_000), 0.475, fps=10)
    assert sent.frames == (5, 5)
    delays = stamped.delays_ns()
    assert len(delays) == 10
    assert all(0 < delay < time.monotonic_ns() - before for delay in delays)


def test_a_capture_that_is_aborted_spoils_the_run(stamped: Server) -> None:
    """A server that refuses the load is not measured by what it did before."""
    rigs = open_rigs(stamped.port, 2, 1_000)
    rigs[1].open()
    with pytest.raises(BenchError, match="closed with 1008 protocol_violation"):
        drive(rigs, 0.2)


def test_captures_that_are_aborted_can_be_counted(stamped: Server) -> None:
    """Where a server's limit is looked for; the others send on to their ends."""
    rigs = open_rigs(stamped.port, 2, 1_000)
    rigs[1].open()
    sent = drive(rigs, 0.25, fps=10, may_abort=True)
    assert (sent.frames[0], sent.aborted) == (3, 1)


def test_a_run_is_looked_at_while_nothing_is_closed(stamped: Server) -> None:
    """What opening and closing captures costs is not what their frames cost."""
    rigs = open_rigs(stamped.port, 2, 1_000)
    seen: list[tuple[int, bool]] = []

    def look() -> None:
        seen.append((sum(rig.frames for rig in rigs), any(rig.end for rig in rigs)))

    sent = drive(rigs, 0.3, fps=20, marks=[(0.3, look), (0.1, look)])
    assert [is_closed for _, is_closed in seen] == [False, False]
    assert 0 < seen[0][0] < seen[1][0] == sum(sent.frames)
    assert len(sent.late_ms) == sum(sent.frames)
    assert sent.load_busy > 0


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what a process uses")
def test_what_a_server_uses_is_seen_from_outside(stamped: Server) -> None:
    """CPU grows with work; the peak is at least what it has now."""
    before = stamped.cpu_s()
    drive(open_rigs(stamped.port, 1, 30_000), 0.1)
    after = stamped.cpu_s()
    assert before is not None
    assert after is not None
    assert 0 < before < after
    assert (stamped.peak_bytes() or 0) >= (stamped.resident_bytes() or 0) > 1_000_000


def test_frames_of_rigs_over_tls_are_stamped_as_they_are_sent(certificate: Certificate) -> None:
    """Counted by both ends, as without."""
    with running([BASELINE], CORE, is_stamped=True, certificate=certificate) as ((server,), _):
        before = time.monotonic_ns()
        sent = drive(open_rigs(server.port, 2, 30_000, server.trust), 0.475, fps=10)
        delays = server.delays_ns()
    assert sent.frames == (5, 5)
    assert len(delays) == 10
    assert all(0 < delay < time.monotonic_ns() - before for delay in delays)


def test_what_the_kernel_does_not_take_waits_in_front_of_the_next(
    certificate: Certificate,
) -> None:
    """Under TLS all of a frame is taken at once, and is behind until the peer reads."""
    ours, theirs = socket.socketpair()
    context = server_context(certificate.file)
    payload, got = bytes(range(256)) * 20_000, bytearray()

    def read() -> None:
        with context.wrap_socket(theirs, server_side=True) as peer:
            is_shaken.set()
            may_read.wait(40)
            while len(got) < 2 * len(payload):
                got.extend(peer.recv(65_536))

    is_shaken, may_read = threading.Event(), threading.Event()
    reader = threading.Thread(target=read)
    reader.start()
    with ours:
        sock = TlsSocket(ours, certificate.trust)
        is_shaken.wait(40)
        sock.setblocking(False)
        assert sock.sendmsg([payload[:1], payload[1:]]) == len(payload)
        assert sock.is_behind
        with pytest.raises(BlockingIOError):
            sock.sendmsg([payload])
        may_read.set()
        sock.setblocking(True)
        sock.sendall(payload)
        reader.join(40)
    assert bytes(got) == 2 * payload
