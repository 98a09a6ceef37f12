"""One recording: written, read, damaged, found out."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import signal
import subprocess
import sys
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import Any

import av
import numpy
import pytest
from PIL import Image

import cfw.recording
from cfw.record import salvage, salvage_all
from cfw.record._capture import CaptureWriter
from cfw.recording import (
    FORMATS,
    DamagedError,
    Format,
    NotARecording,
    Receipt,
    UnfinishedError,
    recordings,
    unfinished,
    verify,
    verify_all,
)
from tests.unit.record.kit import (
    MS,
    PICTURES,
    START_NS,
    aborted,
    begin,
    closed,
    flip,
    frame,
    frames,
    opened,
    record,
)

each_format = pytest.mark.parametrize("form", FORMATS)
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@each_format
def test_the_bytes_of_every_frame_are_those_that_came(tmp_path: Path, form: Format) -> None:
    """In order and at any place, with their times to the nanosecond, as arrays too."""
    jpegs = (*PICTURES[:3], PICTURES[3] + b"the trailer of a phone", *PICTURES[4:])
    written = record(tmp_path, form, jpegs=jpegs)
    assert (written.manifest.state, written.manifest.cut) == ("whole", None)
    recording = cfw.recording.open(written.path)
    assert (recording.format, len(recording), recording.cut) == (form, len(jpegs), None)
    assert [each.jpeg for each in recording] == [*jpegs]
    for place in (0, 5, -1, 3):
        assert recording[place].jpeg == jpegs[place]
    sent = [frame(seq, jpeg) for seq, jpeg in enumerate(jpegs, 1)]
    assert [each.timestamp for each in recording] == [each.timestamp_frame for each in sent]
    assert [each.timestamp_ingest for each in recording[2:5]] == [
        each.timestamp_ingest for each in sent[2:5]
    ]
    array = recording[2].array
    assert (array.shape, array.dtype) == ((24, 32, 3), numpy.uint8)
    assert verify(written.path).problems == ()


def test_all_formats_at_once(tmp_path: Path) -> None:
    """One folder has all of them, and pictures that any program opens."""
    written = record(tmp_path)
    assert sorted(path.name for path in written.path.iterdir()) == [
        *("capture.json", "capture.mcap", "capture.mkv", "capture.mp4", "frames.csv", "jpeg"),
    ]
    assert (written.path / "jpeg/000003.jpg").read_bytes() == PICTURES[2]
    with Image.open(written.path / "jpeg/000003.jpg") as picture:
        assert picture.size == (32, 24)
    rows = [*csv.DictReader((written.path / "frames.csv").read_text().splitlines())]
    assert [row["sha256"] for row in rows] == [hashlib.sha256(j).hexdigest() for j in PICTURES]
    assert verify(written.path).problems == ()
    for form in FORMATS:
        found = cfw.recording.open(written.path / "capture.json", format=form)
        assert [each.jpeg for each in found] == [*PICTURES]


@pytest.mark.parametrize("form", ["mkv", "mp4"])
def test_video_that_players_open_with_the_times_of_events(tmp_path: Path, form: Format) -> None:
    """ffprobe sees MJPEG of that size, and event times as pts; OpenCV-like decoding works."""
    written = record(tmp_path, form)
    path = written.path / f"capture.{form}"
    shown = subprocess.run(
        ["ffprobe", "-v", "error", "-of", "json", "-show_streams", "-show_packets", str(path)],
        capture_output=True,
        check=True,
    )
    probed = json.loads(shown.stdout)
    (stream,) = probed["streams"]
    assert (stream["codec_name"], stream["width"], stream["height"]) == ("mjpeg", 32, 24)
    tick = Fraction(1, 1000 if form == "mkv" else 90_000)
    first = START_NS + 66_666_667 + 1_234_567
    for packet, (sent, jpeg) in zip(probed["packets"], frames(PICTURES), strict=True):
        due = Fraction(sent.timestamp_frame.ns - first, 1_000_000_000)
        assert abs(Fraction(packet["pts_time"]) - due) <= tick
        assert int(packet["size"]) == len(jpeg)
    with av.open(str(path)) as container:
        decoded = [picture.to_ndarray(format="gray") for picture in container.decode(video=0)]
    with Image.open(BytesIO(PICTURES[4])) as picture:
        expected = numpy.asarray(picture.convert("L")).astype(int)
    assert len(decoded) == len(PICTURES)
    assert abs(decoded[4] - expected).mean() <= 3  # two decoders round differently


def test_mcap_is_what_foxglove_and_rerun_read(tmp_path: Path) -> None:
    """Foxglove's schema in Protobuf, the messages of the capture as JSON, its metadata."""
    from mcap.reader import make_reader
    from mcap_protobuf.decoder import DecoderFactory

    written = record(tmp_path, "mcap")
    with (written.path / "capture.mcap").open("rb") as file:
        reader = make_reader(file, validate_crcs=True, decoder_factories=[DecoderFactory()])
        images = [*reader.iter_decoded_messages(topics=["/image"])]
        told = [json.loads(m.data) for _, _, m in reader.iter_messages(topics=["/capture"])]
        (metadata,) = reader.iter_metadata()
    assert [image.data for _, _, _, image in images] == [*PICTURES]
    for schema, _, message, image in images:
        assert (schema.name, schema.encoding) == ("foxglove.CompressedImage", "protobuf")
        assert image.format == "jpeg"
        event_ns = image.timestamp.seconds * 1_000_000_000 + image.timestamp.nanos
        assert event_ns == frame(message.sequence, b"x").timestamp_frame.ns
        assert message.publish_time == event_ns
    assert [each["event"] for each in told][:2] == ["capture.opened", "capture.frame"]
    assert {each["event"] for each in told} >= {"capture.close"}
    assert metadata.metadata["user_id"] == "ada"


def test_frames_at_one_instant_and_after_a_pause(tmp_path: Path) -> None:
    """Containers want times that grow; the true ones are in capture.json."""
    writer = begin(tmp_path)
    event_ns = [0, 0, 0, 100, 101, 3_600_000 * MS, 3_600_000 * MS]
    for seq, (ns, jpeg) in enumerate(zip(event_ns, PICTURES, strict=False), 1):
        stamp = frame(seq, jpeg).timestamp.from_ns(START_NS + ns)
        writer.add_all([(frame(seq, jpeg, timestamp_frame=stamp), jpeg)])
    written = writer.finish(closed(PICTURES[:7]))
    assert verify(written.path).problems == ()
    for form in FORMATS:
        recording = cfw.recording.open(written.path, format=form)
        assert [one.timestamp.ns - START_NS for one in recording] == event_ns
        assert recording[6].jpeg == PICTURES[6]


def test_a_capture_without_frames(tmp_path: Path) -> None:
    """Is whole when its terminal says so."""
    written = record(tmp_path, jpegs=())
    assert written.manifest.state == "whole"
    assert verify(written.path).problems == ()
    assert [*cfw.recording.open(written.path)] == []


def test_access_by_time(tmp_path: Path) -> None:
    """The nearest frame; before the first and behind the last there are these."""
    recording = cfw.recording.open(record(tmp_path, "jpeg").path)
    times = [each.timestamp for each in recording]
    assert [recording.at(time).seq for time in times] == [*range(1, 9)]
    between = times[3].from_ns((2 * times[3].ns + times[4].ns) // 3)
    assert recording.at(between).seq == 4
    assert recording.at("1990-01-01T00:00:00Z").seq == 1
    assert recording.at("2090-01-01T00:00:00Z").seq == 8


def test_a_table_for_pandas(tmp_path: Path) -> None:
    """With a row for each frame, times to the nanosecond and in UTC."""
    table = cfw.recording.open(record(tmp_path, "jpeg").path).to_pandas()
    assert [*table.index] == [*range(1, 9)]
    assert table["timestamp"].iloc[0].value == frame(1, b"x").timestamp_frame.ns
    assert str(table["timestamp"].iloc[0].tzinfo) == "UTC"
    assert [*table["byte_length"]] == [*map(len, PICTURES)]


# --- damage ---------------------------------------------------------------------------------


@each_format
def test_one_flipped_byte_is_found_and_its_frame_named(tmp_path: Path, form: Format) -> None:
    """Whichever format it is in."""
    path = record(tmp_path, form).path
    if form == "jpeg":
        flip(path / "jpeg/000005.jpg", 30)
    else:
        file = path / f"capture.{form}"
        flip(file, file.read_bytes().index(PICTURES[4]) + 30)
    *others, problem = verify(path).problems
    assert problem == f"{form}: frame 5 was changed: its SHA-256 is not what was recorded"
    assert others == (
        [] if form == "jpeg" else [f"capture.{form} was changed: it is not what was written"]
    )
    with pytest.raises(DamagedError, match="frame 5 is not what was recorded"):
        assert cfw.recording.open(path)[4].jpeg


@each_format
def test_any_flipped_byte_of_any_file_is_found(tmp_path: Path, form: Format) -> None:
    """Heads, indexes and lists have their hashes, too."""
    path = record(tmp_path, form, jpegs=PICTURES[:2]).path
    for file in sorted(each for each in path.rglob("*") if each.is_file()):
        for at in range(0, file.stat().st_size, max(1, file.stat().st_size // 40)):
            flip(file, at)
            assert not verify(path).is_sound, (file, at)
            flip(file, at)
    assert verify(path).is_sound


def test_one_missing_frame_is_found_and_named(tmp_path: Path) -> None:
    """And nothing else is blamed."""
    path = record(tmp_path, "jpeg").path
    (path / "jpeg/000007.jpg").unlink()
    assert verify(path).problems == ("jpeg: frame 7 is missing",)


@each_format
def test_a_cut_file_is_found_and_named(tmp_path: Path, form: Format) -> None:
    """With the frames that it does not have any more."""
    path = record(tmp_path, form).path
    file = path / ("jpeg/000008.jpg" if form == "jpeg" else f"capture.{form}")
    data = file.read_bytes()
    file.write_bytes(data[: len(data) // 2])
    problems = verify(path).problems
    if form == "jpeg":
        size = len(data)
        assert problems == (f"jpeg: frame 8 is cut: {size // 2} of {size} bytes",)
    else:
        assert f"capture.{form} is cut: {len(data) // 2} of {len(data)} bytes" in problems
        assert f"{form}: frame 8 is missing" in problems


def test_what_is_not_of_the_recording_is_found(tmp_path: Path) -> None:
    """A picture that was put there is told; what a file manager leaves is nobody's business."""
    path = record(tmp_path, "jpeg").path
    (path / "jpeg/._000001.jpg").write_bytes(b"macOS")
    (path / "jpeg/Thumbs.db").write_bytes(b"Windows")
    assert verify(path).is_sound
    (path / "jpeg/000009.jpg").write_bytes(PICTURES[0])
    assert verify(path).problems == ("jpeg: a picture that belongs to no frame",)


def test_a_changed_capture_json_is_no_recording(tmp_path: Path) -> None:
    """Its seal is broken; neither is one of a later version."""
    path = record(tmp_path, "jpeg").path
    text = (path / "capture.json").read_text()
    for new in (text.replace('"ada"', '"eve"'), text.replace('"version": 1', '"version": 2')):
        (path / "capture.json").write_text(new)
        (problem,) = verify(path).problems
        assert "seal" in problem or "a later cfw" in problem
        with pytest.raises(NotARecording):
            cfw.recording.open(path)


# --- witnesses ------------------------------------------------------------------------------


def test_a_terminal_that_counts_more_makes_it_cut(tmp_path: Path) -> None:
    """Also at its end, which is no hole."""
    writer = begin(tmp_path, "jpeg")
    writer.add_all(frames(PICTURES[:5]))
    manifest = writer.finish(closed(PICTURES)).manifest
    assert (manifest.state, manifest.cut) == ("cut", "frames 6 to 8 are missing")


def test_holes_are_named(tmp_path: Path) -> None:
    """Such as frames from before the recorder came, or that a feed has trimmed."""
    writer = begin(tmp_path)
    writer.add_all([each for each in frames(PICTURES) if each[0].seq in (3, 4, 6, 8)])
    written = writer.finish(closed(PICTURES))
    lacking = "frames 1 to 2 are missing; frame 5 is missing; frame 7 is missing"
    assert (written.manifest.state, written.manifest.cut) == ("cut", lacking)
    assert verify(written.path).problems == (f"cut: {lacking}",)
    for form in FORMATS:
        found = cfw.recording.open(written.path, format=form)
        assert [(each.seq, each.jpeg) for each in found] == [
            (seq, PICTURES[seq - 1]) for seq in (3, 4, 6, 8)
        ]


def test_an_abort_may_count_a_frame_less(tmp_path: Path) -> None:
    """Another consumer had not taken it: it was accepted and not forwarded."""
    for missing, state in ((0, "whole"), (1, "whole"), (-1, "cut")):
        writer = begin(tmp_path, "jpeg")
        writer.add_all(frames(PICTURES[:5]))
        end = aborted(PICTURES[:6])
        forwarded = PICTURES[: 5 - missing]
        size = sum(map(len, forwarded))
        end = type(end)(
            **{field: getattr(end, field) for field in _fields(end)}
            | {"frames_forwarded": len(forwarded), "bytes_forwarded": size}
        )
        assert writer.finish(end).manifest.state == state, missing


def _fields(message: object) -> list[str]:
    return [each.name for each in message.__attrs_attrs__]  # type: ignore[attr-defined]


def test_a_receipt_is_a_third_witness(tmp_path: Path) -> None:
    """It has to say the same, and to have its recording."""
    record(tmp_path, "jpeg")
    size = sum(map(len, PICTURES))
    agreed = {"c1": Receipt("c1", 8, size)}
    assert [each.problems for each in verify_all(tmp_path, agreed)] == [()]
    differing = {"c1": Receipt("c1", 9, size), "c2": Receipt("c2", 1, 1)}
    one, other = verify_all(tmp_path, differing)
    assert "the rig's receipt says 9 frames" in one.problems[0]
    assert other.problems == ("the rig of c2 has a receipt and there is no recording",)


# --- ends of recorders ----------------------------------------------------------------------


def test_a_name_that_exists_stays(tmp_path: Path) -> None:
    """The next one has a number."""
    paths = [record(tmp_path, "jpeg").path for _ in range(3)]
    assert [path.name for path in paths] == ["one", "one-2", "one-3"]


def test_two_recorders_write_to_one_folder(tmp_path: Path) -> None:
    """Each has a folder of its own, whoever ends first; neither closes that of the other."""
    one, other = begin(tmp_path, "jpeg"), begin(tmp_path, "jpeg")
    assert one.part != other.part
    one.add_all(frames(PICTURES))
    other.add_all(frames(PICTURES))
    assert [each.written for each in salvage_all(tmp_path)] == [None, None]
    ended = [each.finish(closed(PICTURES)) for each in (other, one)]
    assert [verify(each.path).problems for each in ended] == [(), ()]
    assert len({each.path for each in ended}) == 2


def test_a_folder_that_came_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    """The recording takes the next name."""
    writer = begin(tmp_path, "jpeg")
    (tmp_path / "s1/one").mkdir()
    (tmp_path / "s1/one/notes.txt").write_text("mine")
    writer.add_all(frames(PICTURES))
    assert writer.finish(closed(PICTURES)).path.name == "one-2"
    assert (tmp_path / "s1/one/notes.txt").read_text() == "mine"


def test_nothing_has_its_name_before_its_end(tmp_path: Path) -> None:
    """Readers and `verify` say that it is not finished."""
    writer = begin(tmp_path, "jpeg")
    writer.add_all(frames(PICTURES))
    with pytest.raises(UnfinishedError, match="not finished"):
        cfw.recording.open(writer.part)
    (verdict,) = verify_all(tmp_path)
    assert verdict.problems == ("not finished: it was being written",)
    writer.abandon()


KILLED = """
import os, signal, sys
from pathlib import Path
from tests.unit.record.kit import *
writer = begin(Path(sys.argv[1]), *sys.argv[2:])
many = PICTURES * 40
writer.add_all(frames(many))
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def killed(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """What a recorder of one format has left that was killed in mid-capture."""
    form: Format = request.param
    ran = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path), form], check=False)
    assert ran.returncode == -signal.SIGKILL
    return tmp_path / "s1/one.part"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
@pytest.mark.parametrize("killed", FORMATS, indirect=True, ids=str)
def test_what_was_cut_by_a_kill_is_closed_and_says_so(killed: Path) -> None:
    """With the frames that are whole in it, all but the last; then it is gone."""
    salvaged = salvage(killed, "the recorder ended before it was closed")
    assert salvaged.written is not None, salvaged
    manifest = salvaged.written.manifest
    assert manifest.state == "cut"
    assert manifest.cut is not None
    assert "the recorder ended before it was closed" in manifest.cut
    assert salvaged.written.path == killed.with_name("one")
    assert not killed.exists()
    count = len(manifest.frames)
    assert count >= (320 if manifest.formats == ("jpeg",) else 320 - 80)
    found = cfw.recording.open(salvaged.written.path)
    assert [each.jpeg for each in found] == [*(PICTURES * 40)[:count]]
    assert verify(salvaged.written.path).problems == (f"cut: {manifest.cut}",)


def test_what_ended_while_its_first_manifest_was_written_is_removed(tmp_path: Path) -> None:
    """A disk that was full as a capture began leaves nothing for every later run to tell."""
    part = tmp_path / "s1/one.part"
    part.mkdir(parents=True)
    (part / "capture.json.new").write_text('{"state": "rec')
    assert [(each.written, each.problem) for each in salvage_all(tmp_path)] == [(None, None)]
    assert not part.exists()


def test_closing_is_begun_again_after_it_was_cut_itself(tmp_path: Path) -> None:
    """What it had written anew is thrown away; what it had only to remove, is removed."""
    writer = begin(tmp_path, "jpeg")
    writer.add_all(frames(PICTURES))
    writer.abandon()
    half = CaptureWriter(tmp_path, ("s1", "one.anew"), writer.opened, ("jpeg",))
    half.add_all(frames(PICTURES[:2]))
    half.abandon()
    assert [each.written is not None for each in salvage_all(tmp_path)] == [False, True]
    assert len(cfw.recording.open(tmp_path / "s1/one")) == 8
    assert [path.name for path in (tmp_path / "s1").iterdir()] == ["one"]


def test_what_only_lacks_its_name_gets_it(tmp_path: Path) -> None:
    """A recorder that ended between the last byte and the name has lost nothing."""
    path = record(tmp_path, "jpeg").path
    part = path.rename(path.with_name("one.part"))
    (salvaged,) = salvage_all(tmp_path)
    assert salvaged.written is not None
    assert salvaged.written.manifest.state == "whole"
    assert not part.exists()
    assert verify(path).is_sound


def test_a_picture_that_power_took_is_not_taken_over(tmp_path: Path) -> None:
    """Of the right size and full of zeros, as file systems leave it."""
    writer = begin(tmp_path, "jpeg")
    writer.add_all(frames(PICTURES))
    writer.abandon()
    picture = writer.part / "jpeg/000004.jpg"
    picture.write_bytes(bytes(picture.stat().st_size))
    csv_file = writer.part / "frames.csv"
    csv_file.write_bytes(csv_file.read_bytes()[:-30])
    written = salvage(writer.part, "power was lost").written
    assert written is not None
    assert [each.seq for each in written.manifest.frames] == [1, 2, 3, 5, 6, 7]
    assert written.manifest.cut is not None
    assert "frame 4 is missing" in written.manifest.cut


def test_a_part_that_nobody_can_read_is_left(tmp_path: Path) -> None:
    """And told, again and again; an empty one is removed."""
    (tmp_path / "odd.part").mkdir()
    (tmp_path / "odd.part/capture.json").write_text("{")
    (tmp_path / "empty.part").mkdir()
    problems = {each.part.name: each.problem for each in salvage_all(tmp_path)}
    assert problems["empty.part"] is None
    assert "cannot be read" in str(problems["odd.part"])
    assert [path.name for path in tmp_path.iterdir()] == ["odd.part"]


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="Windows has no such ids")
def test_the_opened_message_is_kept_to_the_letter(tmp_path: Path) -> None:
    """Ids of any kind, and the times that the rig wrote."""
    odd = opened("c:1", user_id="../../Jürgen \u202e", timestamp="2026-05-04T10:20:30.1+02:00")
    writer = CaptureWriter(tmp_path, ("x",), odd, ("jpeg",))
    written = writer.finish(closed((), "c:1"))
    assert cfw.recording.open(written.path).opened == odd


@pytest.mark.parametrize("gone", ["s-1.part/jpeg", "s-2", "s-3/whole/jpeg"])
def test_what_goes_away_while_recordings_are_looked_for_is_passed_by(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gone: str
) -> None:
    """A recorder at work renames and removes what is not finished; the rest is found."""
    for name in ("s-1.part/jpeg", "s-2/other", "s-3/whole/jpeg"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "s-3/whole/capture.json").touch()
    scandir = os.scandir

    def vanishing(path: Any) -> Any:
        if Path(path) == tmp_path / gone:
            raise FileNotFoundError(path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", vanishing)
    assert recordings(tmp_path) == [tmp_path / "s-3/whole"]
    assert unfinished(tmp_path) == [tmp_path / "s-1.part"]
