"""Several cameras whose clocks differ and which drop frames."""

from __future__ import annotations

import json
import random
from pathlib import Path
from xml.etree import ElementTree

import attrs
import pytest
from click.testing import CliRunner

import cfw.recording
from cfw.cli import main
from cfw.record._capture import CaptureWriter
from cfw.recording import Recording, align, draw_svg, report
from schemas import Timestamp
from tests.unit.record.kit import MS, PICTURES, START_NS, closed, frame, opened

FRAMES, INTERVAL_NS = 500, 33_333_333


@attrs.frozen
class Camera:
    """A simulated one.

    Args:
        name: its rig's.
        ahead_ms: how far its clock is ahead of the worker's.
        dropped: frames that it did not take, of those that were due; never the first.
        late_ms: how far behind the others it began.
    """

    name: str
    ahead_ms: float
    dropped: frozenset[int] = frozenset()
    late_ms: float = 0.0

    def film(self, folder: Path, *, is_known: bool = True) -> Recording:
        """Its recording: event times by its clock, ingest times by the worker's."""
        noise = random.Random(self.name)
        began = Timestamp.from_ns(START_NS + round((self.ahead_ms + self.late_ms) * MS))
        opening = opened(self.name, source=self.name, fps_target=30, timestamp_start=began)
        writer = CaptureWriter(folder, (self.name,), opening, ("jpeg",))
        taken = [number for number in range(FRAMES) if number not in self.dropped]
        jpegs = [PICTURES[seq % len(PICTURES)] for seq in range(len(taken))]
        for seq, (number, jpeg) in enumerate(zip(taken, jpegs, strict=True), 1):
            true_ns = START_NS + number * INTERVAL_NS + round(noise.uniform(-2, 2) * MS)
            stamps = {
                "timestamp_frame": frame(1, jpeg).timestamp.from_ns(
                    true_ns + round(self.ahead_ms * MS)
                ),
                "timestamp_ingest": frame(1, jpeg).timestamp.from_ns(true_ns + 5 * MS),
            }
            writer.add_all([(frame(seq, jpeg, self.name, **stamps), jpeg)])
        # The truth is anywhere in the interval that the worker tells.
        known = {
            "clock_offset_min_ms": self.ahead_ms - 3.0,
            "clock_offset_max_ms": self.ahead_ms + 2.0,
        }
        end = closed(jpegs, self.name, **(known if is_known else {}))
        return cfw.recording.open(writer.finish(end).path)


def lost(seed: int) -> frozenset[int]:
    """2 % of the frames."""
    return frozenset(random.Random(seed).sample(range(1, FRAMES - 1), FRAMES // 50))


CAMERAS = (
    Camera("front", 0.0, lost(1)),
    Camera("left", 40.0, lost(2)),
    Camera("top", -250.0, lost(3), late_ms=7.0),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recordings of the three."""
    path = tmp_path_factory.mktemp("session")
    for camera in CAMERAS:
        camera.film(path)
    return path


@pytest.fixture
def filmed(folder: Path) -> list[Recording]:
    """The three, in order."""
    return [cfw.recording.open(folder / camera.name) for camera in CAMERAS]


def number_of(camera: Camera, seq: int) -> int:
    """Which of the frames that were due a camera's frame is."""
    return [number for number in range(FRAMES) if number not in camera.dropped][seq - 1]


def test_frames_of_one_instant_are_paired(filmed: list[Recording]) -> None:
    """Never those of two, and all that were taken, though clocks differ by many frames."""
    aligned = align(filmed)
    half_a_frame_ms = INTERVAL_NS / MS / 2
    for row in aligned:
        numbers = {
            number_of(camera, each.seq)
            for camera, each in zip(CAMERAS, row, strict=True)
            if each is not None
        }
        assert len(numbers) == 1
    everywhere = set(range(FRAMES)).difference(*(camera.dropped for camera in CAMERAS))
    assert len(aligned.complete) == len(everywhere)
    for camera in (1, 2):
        assert all(abs(skew) < half_a_frame_ms for _, skew in aligned.skews_ms(camera))
    assert len(aligned) == FRAMES - len(CAMERAS[0].dropped)
    assert all(each is not None for each in aligned[0])


def test_the_report_says_how_well_they_started_together(filmed: list[Recording]) -> None:
    """By the worker's clock, though each rig wrote its own; with the first frame of each."""
    cameras = report(align(filmed))
    # The middle of the interval that the worker told is half a millisecond off the truth.
    assert [camera.start_ms for camera in cameras] == pytest.approx([0, 0, 7], abs=1e-3)
    for camera in cameras:
        assert camera.first_frame_ms == pytest.approx(0, abs=2.1)


def test_the_report_finds_offsets_and_every_dropped_frame(filmed: list[Recording]) -> None:
    """Within the interval that the worker told; how wide it is, is told too."""
    aligned = align(filmed)
    for camera, found, track in zip(CAMERAS, report(aligned), aligned.tracks, strict=True):
        assert found.name == camera.name
        assert found.offset_ms is not None
        assert found.offset_ms[0] <= camera.ahead_ms <= found.offset_ms[1]
        assert track.width_ms == pytest.approx(5.0)
        gaps = {
            number_of(camera, gap.after_seq) + 1 + ahead
            for gap in found.dropped
            for ahead in range(gap.count)
        }
        assert gaps == camera.dropped
        assert found.interval_ms == pytest.approx(INTERVAL_NS / MS, abs=1)
        assert 0 < found.jitter_ms < 4
        assert found.skew_ms == pytest.approx(0, abs=1)
        assert found.drift_ms_per_minute == pytest.approx(0, abs=2)


def test_an_offset_that_is_not_known_is_said_to_be(tmp_path: Path) -> None:
    """Times are then taken as they are."""
    found = Camera("new", 12.0).film(tmp_path, is_known=False)
    (camera,) = report(align([found]))
    assert camera.offset_ms is None
    assert align([found]).tracks[0].times_ns == tuple(found.timestamps_ns)


def test_a_frame_is_given_once(filmed: list[Recording]) -> None:
    """With a tolerance of many frames, too, and with none only what is exact is paired."""
    wide = align(filmed, tolerance_s=1.0)
    for camera in (1, 2):
        given = [row[camera].seq for row in wide if row[camera] is not None]  # type: ignore[union-attr]
        assert len(given) == len(set(given))
    assert len(align([filmed[0], filmed[0]], 0)) == len(filmed[0])
    assert len(align([filmed[0], filmed[0]], 0).complete) == len(filmed[0])


@pytest.mark.parametrize("tolerance_s", [-1.0, float("nan"), float("inf")])
def test_a_tolerance_that_is_none(filmed: list[Recording], tolerance_s: float) -> None:
    """It says what one is."""
    with pytest.raises(ValueError, match="tolerance_s must be"):
        align(filmed, tolerance_s)
    with pytest.raises(ValueError, match="no recording"):
        align([])


def test_recordings_without_frames(tmp_path: Path, filmed: list[Recording]) -> None:
    """Are aligned with nothing, and drawn."""
    writer = CaptureWriter(tmp_path, ("e",), opened("e"), ("jpeg",))
    empty = cfw.recording.open(writer.finish(closed((), "e")).path)
    for recordings in ([empty], [empty, filmed[0]], [filmed[0], empty]):
        aligned = align(recordings)
        assert len(report(aligned)) == len(recordings)
        ElementTree.fromstring(draw_svg(aligned))


def test_the_command_prints_and_draws(folder: Path, tmp_path: Path) -> None:
    """Words for people, JSON for machines, an SVG with a curve for each camera."""
    drawn = tmp_path / "skew.svg"
    run = CliRunner().invoke(main, ["report", str(folder), "--svg", str(drawn)])
    assert run.exit_code == 0, run.output
    assert "left" in run.stdout
    assert "+37.0 to +42.0 ms ahead of the worker's" in run.stdout
    assert "10 dropped" in run.stdout
    assert "clocks are known to 5.0 ms" in run.stdout
    curves = ElementTree.parse(drawn).findall(".//{http://www.w3.org/2000/svg}polyline")
    assert len(curves) == 2 * len(CAMERAS)
    run = CliRunner().invoke(main, ["report", str(folder), "--json"])
    told = [json.loads(line) for line in run.stdout.splitlines()]
    assert [each["name"] for each in told] == ["front", "left", "top"]
    assert [sum(gap["count"] for gap in each["dropped"]) for each in told] == [10, 10, 10]


def test_a_folder_without_recordings(tmp_path: Path) -> None:
    """Exit code 1 for an empty one, 2 for none."""
    assert CliRunner().invoke(main, ["report", str(tmp_path)]).exit_code == 1
    assert CliRunner().invoke(main, ["report", str(tmp_path / "none")]).exit_code == 2
