"""The benchmark's own parts: what rigs send, how ratios are made, and the command."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import attrs
import pytest

from cfw.bench import measures, peers, reading
from cfw.bench.load import LOAD_LATE_MS, drive, open_rigs
from cfw.bench.measures import (
    FULL,
    LATE_MS,
    MOST_RIGS,
    SHORT,
    USUAL,
    Bench,
    Plan,
    most_rigs,
)
from cfw.bench.peers.checks import TAIL_BYTES, stamp_of
from cfw.bench.report import as_json, warnings
from cfw.bench.rig import (
    ALBUM_BYTES,
    BINARY,
    TEXT,
    Album,
    BenchError,
    message,
    picture,
    stamped_tail,
)
from cfw.bench.servers import STALLED, Server, cores, running, shown
from cfw.bench.tables import BASELINE, Column, Sample, percentile, summarise
from cfw.jpeg import probe
from cfw.wire.decoder import Decoder

CORE = cores()[0]
TINY = Plan(
    sizes=(1_000,),
    connections=(2,),
    more_connections=(),
    seconds=0.05,
    rounds=1,
    paced_s=0.3,
    paced_rounds=1,
    paced_rigs=(3,),
    aborts=3,
    idle=3,
)


@pytest.fixture(scope="module")
def stamped() -> Iterator[Server]:
    with running([BASELINE], CORE, is_stamped=True) as ((server,), _):
        yield server


# --- what a rig sends -----------------------------------------------------------------------


@pytest.mark.parametrize("size", [100, 125, 126, 65_535, 65_536, 300_001])
def test_the_load_is_masked_and_reads_as_what_it_was(size: int) -> None:
    """Headers of all three lengths; the mask is not zero, so servers have to unmask."""
    decoder = Decoder(max_text_bytes=1_000_000, max_binary_bytes=1_000_000)
    data = picture(size)
    sent = message(BINARY, data)
    assert data not in sent
    decoder.feed(sent + message(TEXT, b"{}"))
    assert decoder.messages == [data, "{}"]


@pytest.mark.parametrize("size", [1_000, 1_001, 1_002, 1_003])
def test_a_stamp_survives_the_mask_wherever_it_begins(size: int) -> None:
    """The end of a frame is exchanged after masking; it is still a JPEG and tells the time."""
    decoder = Decoder(max_text_bytes=1, max_binary_bytes=10_000)
    decoder.feed(message(BINARY, picture(size))[:-TAIL_BYTES] + stamped_tail(size, 123_456_789))
    (data,) = decoder.messages
    assert isinstance(data, bytes)
    assert len(data) == size
    assert probe(data) == (640, 480)
    assert stamp_of(data) == 123_456_789
    assert stamp_of(picture(size)) == 0


@pytest.mark.parametrize("size", [100, 30_000, 300_000])
def test_no_two_frames_of_an_album_are_the_same(size: int) -> None:
    """They are masked JPEGs of the size asked for, also where the album begins again."""
    album = Album(size)
    frames = []
    for at in (0, None, ALBUM_BYTES - size):
        album._at = album._at if at is None else at
        decoder = Decoder(max_text_bytes=1, max_binary_bytes=size)
        decoder.feed(b"".join(album.next_body()) + stamped_tail(size, 1))
        frames += decoder.messages
    assert {len(frame) for frame in frames} == {size}
    assert {probe(frame) for frame in frames if isinstance(frame, bytes)} == {(640, 480)}
    assert len(set(frames)) == 3
    assert len(b"".join(album.next_body())) == len(message(BINARY, picture(size))) - TAIL_BYTES


# --- tables ---------------------------------------------------------------------------------


def test_ratios_are_made_within_a_round() -> None:
    """A moment in which the machine is half as fast changes no ratio."""
    columns = [Column("x", "x", is_ratio=True), Column("y", "y")]
    base = [{"x": x, "y": None} for x in (10.0, 5.0, 10.0)]
    other = [{"x": x, "y": 1.0} for x in (20.0, 10.0, 20.0)]
    table = summarise("rates", "", columns, {BASELINE: base, "other": other}, {})
    assert table.rows["other"].ratios == {"x": 2.0}
    assert table.rows["other"].values == {"x": 20.0, "y": 1.0}
    assert table.rows[BASELINE].ratios == {"x": 1.0}
    assert table.rows[BASELINE].values["y"] is None


@pytest.mark.parametrize(("busy", "is_said"), [(0.79, True), (0.8, False), (None, False)])
def test_a_machine_that_does_other_work_is_named(
    monkeypatch: pytest.MonkeyPatch, busy: float | None, is_said: bool
) -> None:
    """A worker that was kept from its core was not measured, and the report says so."""
    monkeypatch.setattr("cfw.bench.report.code_in_use", lambda: "compiled")
    column = Column("busy", "busy")
    rates = summarise("rates", "", [column], {BASELINE: [{"busy": busy}]}, {})
    other = summarise("delay", "", [column], {BASELINE: [{"busy": 0.1}]}, {})
    assert bool(warnings([rates, other])) is is_said
    assert warnings([summarise("rates", "", [column], {}, {BASELINE: "away"})]) == []


@pytest.mark.parametrize(
    ("code", "is_said"), [("compiled", False), ("partly compiled", True), ("pure", True)]
)
def test_a_worker_that_is_not_compiled_is_named(
    monkeypatch: pytest.MonkeyPatch, code: str, is_said: bool
) -> None:
    """Its figures are not those of the pages."""
    monkeypatch.setattr("cfw.bench.report.code_in_use", lambda: code)
    assert [code in warning for warning in warnings([])] == [True] * is_said
    assert as_json([])["machine"]["worker"] == code


@pytest.mark.parametrize(
    ("busy", "late_ms", "is_said"),
    [(0.8, 5.0, False), (0.81, 0.0, True), (0.0, 5.1, True), (None, None, False)],
)
def test_a_load_that_is_the_bottleneck_says_so(
    monkeypatch: pytest.MonkeyPatch, busy: float | None, late_ms: float | None, is_said: bool
) -> None:
    """By its own CPU, or by how late it sends; any server's row is enough."""
    monkeypatch.setattr("cfw.bench.report.code_in_use", lambda: "compiled")
    columns = [Column("load_busy", ""), Column("load_late_ms", "")]
    samples: dict[str, list[Sample]] = {BASELINE: [{"load_busy": 0.0, "load_late_ms": 0.0}]}
    samples["other"] = [{"load_busy": busy, "load_late_ms": late_ms}]
    table = summarise("pace", "5 rigs", columns, samples, {})
    assert ["5 rigs: the load used" in warning for warning in warnings([table])] == (
        [True] * is_said
    )


def test_without_the_baseline_there_are_no_ratios() -> None:
    """The row stands; its ratio is unknown."""
    table = summarise("rates", "", [Column("x", "x", is_ratio=True)], {"a": [{"x": 1.0}]}, {})
    assert table.rows["a"].ratios == {"x": None}


@pytest.mark.parametrize(
    ("percent", "expected"), [(0, 1), (1, 1), (50, 50), (50.1, 51), (99, 99), (100, 100)]
)
def test_percentiles_are_values_that_were_measured(percent: float, expected: int) -> None:
    """The nearest rank, of the numbers 1 to 100 in any order."""
    assert percentile(list(range(100, 0, -1)), percent) == expected


def test_no_values_have_no_percentile() -> None:
    """Nothing measured is an error, not a zero."""
    with pytest.raises(ValueError, match="no values"):
        percentile([], 50)


# --- servers and load -----------------------------------------------------------------------


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
    sent = drive(open_rigs(stamped.port, 3, 1_000), 0.05)
    assert len(sent.frames) == 3
    assert min(sent.frames) > 0
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


@pytest.mark.parametrize(("capacity", "found"), [(1, 1), (63, 63), (777, 760), (9_999, 4_000)])
def test_the_most_rigs_are_found_by_bisection(
    monkeypatch: pytest.MonkeyPatch, stamped: Server, capacity: int, found: int
) -> None:
    """To a twentieth; a run that something else has spoilt does not count by itself."""
    tried: list[int] = []

    def fake(_: Server, *, number: int, **__: object) -> dict[str, float]:
        tried.append(number)
        is_spoilt = number <= capacity and len(tried) == 2
        late = number > capacity or is_spoilt
        p99_ms = LATE_MS if late else LATE_MS / 2
        return {"p99_ms": p99_ms, "aborted": 0, "cpu_us": 1.0, "load_late_ms": 0.1}

    monkeypatch.setattr(measures, "pace", fake)
    sample = most_rigs(stamped, seconds=1, fps=15, size=1_000)
    assert found * 0.95 <= (sample["rigs"] or 0) <= min(capacity, MOST_RIGS)
    assert len(tried) < 40


def test_a_trial_whose_load_was_late_does_not_count(
    monkeypatch: pytest.MonkeyPatch, stamped: Server
) -> None:
    """Neither for the server nor against it; when the load is always late, that is said."""
    tried: list[int] = []

    def fake(_: Server, *, number: int, **__: object) -> dict[str, float]:
        tried.append(number)
        # Each number is tried with a late load first, and does the other way then.
        is_late = tried.count(number) == 1
        holds = (number <= 100) is not is_late
        late_ms = LOAD_LATE_MS + 0.1 if is_late or number == 128 else LOAD_LATE_MS
        p99_ms = LATE_MS / 2 if holds else LATE_MS
        return {"p99_ms": p99_ms, "aborted": 0, "cpu_us": 1.0, "load_late_ms": late_ms}

    monkeypatch.setattr(measures, "pace", fake)
    monkeypatch.setattr(measures, "FIRST_RIGS", 60)
    found = most_rigs(stamped, seconds=1, fps=15, size=1_000)["rigs"]
    assert found is not None
    assert 95 <= found <= 100
    monkeypatch.setattr(measures, "FIRST_RIGS", 64)
    with pytest.raises(BenchError, match="frames of 128 rigs late"):
        most_rigs(stamped, seconds=1, fps=15, size=1_000)


def test_a_server_that_holds_no_rig_is_said_to(
    monkeypatch: pytest.MonkeyPatch, stamped: Server
) -> None:
    """Captures that are aborted count as not held, however soon the others' frames come."""
    sample = {"p99_ms": 1.0, "aborted": 1.0, "load_late_ms": 0.1}
    monkeypatch.setattr(measures, "pace", lambda *_, **__: sample)
    with pytest.raises(BenchError, match="not hold a single rig"):
        most_rigs(stamped, seconds=1, fps=15, size=1_000)


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


def test_ways_to_read_metadata_do_the_same_work() -> None:
    """Those that make a message make the same one; those with rules refuse what is wrong."""
    frames = reading.texts()
    known = reading.ways()
    assert len(set(frames)) == len(frames)
    whole = [way for name, way in known.items() if "attrs" in name]
    assert len(whole) == 3
    for text in frames[:50]:
        assert len({repr(way(text)) for way in whole}) == 1
    fields = json.loads(frames[0])
    wrong = {"seq": "1", "byte_length": 0, "record_id": "x", "user_id": "", "capture_id": "a b"}
    for field, value in wrong.items():
        text = json.dumps(fields | {field: value})
        for name, way in known.items():
            if "nothing is checked" not in name:
                with pytest.raises(ValueError, match=field):
                    way(text)


def test_the_command_measures_the_reading_of_metadata() -> None:
    """Without a server; every way has its figure."""
    ran = run(*("--measure", "metadata", "--rounds", "1", "--seconds", "0.05", "--json", "-"))
    assert ran.returncode == 0, ran.stderr
    (table,) = json.loads(ran.stdout)["tables"]
    assert list(table["rows"]) == list(reading.ways())
    assert all(row["values"]["us"] > 0 for row in table["rows"].values())


# --- the whole ------------------------------------------------------------------------------


@pytest.mark.slow
def test_every_measure_has_a_table_with_every_server(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All of them once, on the worker and a peer; and every cell has a number."""
    monkeypatch.setattr(measures, "FIRST_RIGS", 2)
    monkeypatch.setattr(measures, "MOST_RIGS", 4)
    names = [BASELINE, "cfw hub:", "trio-websocket", "recv"]
    tables = Bench(names, CORE, TINY, lambda _: None).run(
        ["memory", "viewers", "flood", "idle", "abort", "pace", "rigs", "rates"]
    )
    assert [table.name for table in tables] == [
        *("pace", "rigs", "rates", "abort", "idle"),
        *["memory"] * 6,
        *("flood", "viewers"),
    ]
    for table in tables:
        assert table.problems == {}, table
        expected = dict.fromkeys(("pace", "rates", "idle"), names) | {"viewers": ["cfw hub:"]}
        expected["memory"] = [STALLED]
        assert list(table.rows) == expected.get(table.name, names[:-1])
        for server, row in table.rows.items():
            assert set(row.values) == {column.key for column in table.columns}
            if sys.platform == "linux":
                # Who looks at no frame knows no delay.
                unknown = {key for key, value in row.values.items() if value is None}
                delays = {"p50_ms", "p99_ms", "max_ms", "late"}
                is_bare = table.name == "pace" and server == "recv"
                assert unknown == (delays if is_bare else set()), table


def test_plans_leave_out_what_no_server_should_hold() -> None:
    """2 MB from each of 1 000 rigs is no measurement of a server but of swapping."""
    assert (2_000_000, 1_000) not in FULL.loads()
    assert (300_000, 1_000) in FULL.loads()
    assert (30_000, 1_000) in USUAL.loads()
    assert {size for size, _ in SHORT.loads()} == {1_000, 30_000, 300_000, 2_000_000}


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    # In a process of its own: the command keeps itself on one core.
    command = [sys.executable, "-m", "cfw.cli", "bench", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)


def test_the_command_writes_tables_json_and_a_picture(tmp_path: Path) -> None:
    """One size, one round, the worker beside the ceiling."""
    json_file, svg_file = tmp_path / "bench.json", tmp_path / "bench.svg"
    ran = run(
        *("--measure", "rates", "--peer", "recv", "--size", "1000", "--connections", "1"),
        *("--rounds", "1", "--seconds", "0.05"),
        *("--json", str(json_file), "--svg", str(svg_file)),
    )
    assert ran.returncode == 0, ran.stderr
    assert "1 kB a frame, 1 rig" in ran.stdout
    (table,) = json.loads(json_file.read_text())["tables"]
    assert list(table["rows"]) == ["cfw null:", "cfw hub:", "recv"]
    assert table["rows"]["cfw null:"]["ratios"]["frames_per_s"] == 1.0
    picture = ElementTree.fromstring(svg_file.read_text())
    texts = [text.text for text in picture.iter("{http://www.w3.org/2000/svg}text")]
    assert {"cfw null:", "recv"} <= set(texts)


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [("--sink", "nosuch:", "hub:"), ("--peer", "nosuch", "picows"), ("--size", "99", "100")],
)
def test_a_wrong_option_is_named_before_anything_runs(
    option: str, value: str, says: str
) -> None:
    """Exit code 2, and what is allowed."""
    ran = run(option, value)
    assert ran.returncode == 2
    assert says in ran.stderr
