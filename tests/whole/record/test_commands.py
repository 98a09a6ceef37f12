"""`cfw record` and `cfw verify` as processes, beside a worker and rigs that are some too."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

import cfw.recording
from cfw.recording import FORMATS
from tests.patience import PATIENCE_S, soon
from tests.pictures import draw
from tests.serving import CFW, serving

if sys.platform == "win32":
    pytest.skip("Windows ends no process by SIGKILL", allow_module_level=True)


class Recorder:
    """A `cfw record` that is connected."""

    def __init__(self, running: subprocess.Popen[str], folder: Path) -> None:
        self.running = running
        self.folder = folder
        self.said: list[str] = []

    def say(self, words: str) -> str:
        """Wait for a line of standard error."""
        assert self.running.stderr is not None
        for line in self.running.stderr:
            self.said.append(line)
            if words in line:
                return line
        raise AssertionError(f"{words!r} was not said: {''.join(self.said)}")

    def end(self, how: signal.Signals | None = None) -> tuple[int, list[dict[str, Any]]]:
        """Exit code, and what it printed of each recording."""
        if how is not None:
            self.running.send_signal(how)
        out, err = self.running.communicate(timeout=PATIENCE_S)
        self.said.append(err)
        assert "Traceback" not in err, err
        return self.running.returncode, [json.loads(line) for line in out.splitlines()]


@contextmanager
def recorder(admin: str, folder: Path, *options: str) -> Iterator[Recorder]:
    """A recorder that has begun to read the feed."""
    with subprocess.Popen(
        [*CFW, "record", admin, str(folder), "--json", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        try:
            started = Recorder(running, folder)
            started.say("waiting for captures")
            yield started
        finally:
            running.kill()


@contextmanager
def rig(url: str, *options: str, source: str = "pattern:") -> Iterator[subprocess.Popen[str]]:
    """A `cfw send` that runs."""
    command = [*CFW, "send", url, source, "--session", "s-1", "--no-progress", "--json"]
    with subprocess.Popen(
        [*command, "--user", "ada", *options],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        try:
            yield running
        finally:
            running.kill()


def verified(folder: Path, *options: str) -> tuple[int, str]:
    """Exit code and output of `cfw verify`."""
    ran = subprocess.run(
        [*CFW, "verify", str(folder), *options], capture_output=True, text=True, check=False
    )
    assert "Traceback" not in ran.stderr, ran.stderr
    return ran.returncode, ran.stdout


def pictures_sent(folder: Path, count: int, width: int) -> list[bytes]:
    """Pictures for `cfw send`, no two alike."""
    folder.mkdir()
    jpegs = [draw(width, 48, seed) for seed in range(1, count + 1)]
    for number, jpeg in enumerate(jpegs):
        (folder / f"{number:03d}.jpg").write_bytes(jpeg)
    return jpegs


def test_two_rigs_film_at_the_same_time_into_each_format(tmp_path: Path) -> None:
    """What each sent is in its own recording, byte for byte; three witnesses agree."""
    folder, receipts = tmp_path / "kept", tmp_path / "receipts"
    sent = {
        "small": pictures_sent(tmp_path / "small", 20, 64),
        "large": pictures_sent(tmp_path / "large", 12, 128),
    }
    formats = [word for form in FORMATS for word in ("--format", form)]
    with serving("--session", "bob:s-1") as worker, ExitStack() as stack:
        keeps = stack.enter_context(recorder(worker.admin, folder, *formats, "--captures", "2"))
        rigs = [
            stack.enter_context(
                rig(worker.url, *more, "--capture-id", name, source=str(tmp_path / name))
            )
            for name, more in (("small", ()), ("large", ("--fps", "7", "--user", "bob")))
        ]
        told = [each.communicate(timeout=PATIENCE_S)[0] for each in rigs]
        code, printed = keeps.end()
    assert code == 0, keeps.said
    receipts.write_text("".join(told))
    by_name = {each["capture_id"]: each for each in printed}
    for name, jpegs in sent.items():
        assert by_name[name]["state"] == "whole"
        for form in FORMATS:
            recording = cfw.recording.open(by_name[name]["path"], format=form)
            assert [each.jpeg for each in recording] == jpegs
    code, out = verified(folder, "--receipts", str(receipts))
    assert (code, out.splitlines()[-1]) == (0, "2 looked at, 0 not sound")
    assert all(word in out for word in ("s-1/ada-", "s-1/bob-", "jpeg mkv mp4 mcap"))
    code, out = verified(folder, "--json")
    assert [json.loads(line)["recorded"] for line in out.splitlines()] == [20, 12]


def test_damage_ends_verify_with_1_and_names_the_frame(tmp_path: Path) -> None:
    """And a folder without recordings is no good news either."""
    assert verified(tmp_path)[0] == 1
    with serving() as worker, recorder(worker.admin, tmp_path, "--captures", "1") as one:
        with rig(worker.url, "--frames", "5", "--fps", "15") as running:
            running.communicate(timeout=PATIENCE_S)
        code, (printed,) = one.end()
    assert (code, verified(tmp_path)[0]) == (0, 0)
    picture = Path(printed["path"]) / "jpeg/000004.jpg"
    data = bytearray(picture.read_bytes())
    data[100] ^= 1
    picture.write_bytes(data)
    code, out = verified(tmp_path)
    assert code == 1
    assert "jpeg: frame 4 was changed" in out


def test_a_killed_recorder_has_lost_nothing_complete(tmp_path: Path) -> None:
    """Its complete recording stays; the other is no recording until the next run closes it."""
    with serving() as worker, ExitStack() as stack:
        with recorder(worker.admin, tmp_path, "--format", "mkv", "--format", "jpeg") as one:
            with rig(worker.url, "--frames", "4", "--capture-id", "first") as whole:
                whole.communicate(timeout=PATIENCE_S)
            one.say("first: whole")
            stack.enter_context(rig(worker.url, "--frames", "200", "--capture-id", "second"))
            soon(lambda: len([*tmp_path.rglob("*second.part/jpeg/*.jpg")]) > 20)
            one.end(signal.SIGKILL)
        code, out = verified(tmp_path)
        assert code == 1
        assert "not finished" in out
        assert out.splitlines()[-1] == "2 looked at, 1 not sound"
        with recorder(worker.admin, tmp_path) as again:
            said = "".join(again.said)
            assert "second: cut" in said
            assert "the recorder ended before it was closed" in said
            again.end(signal.SIGTERM)
    assert not [*tmp_path.rglob("*.part")]
    (second,) = (p for p in cfw.recording.recordings(tmp_path) if p.name.endswith("second"))
    kept = cfw.recording.open(second)
    assert len([each.jpeg for each in kept]) >= 20
    assert kept.terminal is None
    (first,) = (p for p in cfw.recording.recordings(tmp_path) if p.name.endswith("first"))
    assert cfw.recording.verify(first).is_sound


@pytest.mark.parametrize(("how", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_closes_what_runs_as_cut(
    tmp_path: Path, how: signal.Signals, code: int
) -> None:
    """With all that had come."""
    with (
        serving() as worker,
        recorder(worker.admin, tmp_path) as one,
        rig(worker.url, "--frames", "200"),
    ):
        soon(lambda: len([*tmp_path.rglob("*.jpg")]) > 5)
        ended, (printed,) = one.end(how)
    assert ended == code
    assert (printed["state"], printed["end"]) == ("cut", None)
    assert "the recorder was stopped" in printed["cut"]
    assert len(cfw.recording.open(printed["path"])) == printed["frames"] > 5


def test_the_recorder_joins_again_after_a_restart_of_the_worker(tmp_path: Path) -> None:
    """What the killed worker cut is closed and says so; it tells for how long it was away."""
    with serving() as worker, recorder(worker.admin, tmp_path) as one:
        with rig(worker.url, "--frames", "200", "--capture-id", "cut"):
            soon(lambda: len([*tmp_path.rglob("*.jpg")]) > 5)
            worker.process.kill()
            one.say("the feed was lost")
            assert "the feed was lost" in one.say("cut: cut")
        port = worker.admin.rpartition(":")[2]
        with serving("--admin-port", port) as again:
            assert "what was sent meanwhile is missing" in one.say("connected again")
            with rig(again.url, "--frames", "3", "--capture-id", "after") as running:
                running.communicate(timeout=PATIENCE_S)
            one.say("after: whole")
            _, printed = one.end(signal.SIGTERM)
    assert [(each["capture_id"], each["state"]) for each in printed] == [
        ("cut", "cut"),
        ("after", "whole"),
    ]


def test_a_capture_that_was_aborted_is_recorded_whole(tmp_path: Path) -> None:
    """All that the worker forwarded is there, and how it ended."""
    with serving() as worker, recorder(worker.admin, tmp_path) as one:
        with rig(worker.url, "--frames", "200", "--capture-id", "left") as running:
            soon(lambda: len([*tmp_path.rglob("*.jpg")]) > 5)
            running.kill()
        assert "aborted: client_disconnected" in one.say("left: whole")
        one.end(signal.SIGTERM)
    code, out = verified(tmp_path)
    assert code == 0
    assert "whole, client_disconnected" in out


@contextmanager
def small_disk(path: Path, size: str) -> Iterator[Path]:
    """A file system of its own, where that is allowed."""
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path)]
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root mounts a file system")
    if subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("this root may not mount a tmpfs")
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


@pytest.mark.parametrize("form", FORMATS)
def test_a_full_disk_is_told_and_nothing_half_is_claimed(tmp_path: Path, form: str) -> None:
    """What was complete stays so; the next run closes the rest when there is room again."""
    with (
        small_disk(tmp_path / "disk", "1m") as disk,
        serving("--set", "limits.max_fps=60") as worker,
        recorder(worker.admin, disk, "--format", form) as one,
    ):
        pictures_sent(tmp_path / "few", 3, 64)
        pictures_sent(tmp_path / "many", 100, 192)
        for name in ("few", "many"):
            source = str(tmp_path / name)
            with rig(worker.url, "--capture-id", name, "--fps", "60", source=source) as running:
                told, _ = running.communicate(timeout=PATIENCE_S)
                assert "receipt" not in told
            if name == "few":
                one.say("few: whole")
                ballast = disk / "ballast"
                free = shutil.disk_usage(disk).free
                ballast.write_bytes(bytes(free - 150_000))
        assert "No space left" in one.say("many: NOT RECORDED")
        # The recorder goes on, and so do others.
        ballast.unlink()
        with rig(worker.url, "--capture-id", "later", source=str(tmp_path / "few")) as running:
            running.communicate(timeout=PATIENCE_S)
        one.say("later: whole")
        code, printed = one.end(signal.SIGTERM)
        assert code == 143
        assert [each["state"] for each in printed] == ["whole", "failed", "whole"]
        states = {
            each.path.name.split("-")[-1]: each for each in cfw.recording.verify_all(disk)
        }
        assert [name for name, each in states.items() if each.is_sound] == ["few", "later"]
        with recorder(worker.admin, disk) as again:
            assert "many: cut" in "".join(again.said)
            again.end(signal.SIGTERM)
        (many,) = (p for p in cfw.recording.recordings(disk) if p.name.endswith("many"))
        kept = cfw.recording.open(many)
        assert len([each.jpeg for each in kept]) >= 1
        assert kept.cut is not None


def test_the_commands_of_the_readme(tmp_path: Path) -> None:
    """As they stand there, but for where the worker is."""
    page = (Path(cfw.recording.__file__).parent.parent.parent / "README.md").read_text("utf-8")
    block = page.split("\n## Keep\n")[1].split("```\n")[1]
    record, verify = (line.split()[1:] for line in block.splitlines())
    assert (record[0], verify[0]) == ("record", "verify")
    with (
        serving() as worker,
        subprocess.Popen(
            [*CFW, "record", worker.admin, *record[2:]],
            cwd=tmp_path,
            stderr=subprocess.PIPE,
            text=True,
        ) as running,
    ):
        one = Recorder(running, tmp_path)
        one.say("waiting for captures")
        with rig(worker.url, "--frames", "3", "--capture-id", "c1") as sends:
            sends.communicate(timeout=PATIENCE_S)
        one.say("c1: whole")
        running.send_signal(signal.SIGINT)
        assert running.wait(PATIENCE_S) == 130
    ran = subprocess.run([*CFW, *verify], cwd=tmp_path, check=False)
    assert ran.returncode == 0


def test_wrong_usage(tmp_path: Path) -> None:
    """Exit code 2 and what is allowed; exit code 1 for a worker that is not there."""
    for options, code, said in (
        (["--name", "{user}"], 2, "allowed are"),
        (["--format", "avi"], 2, "'jpeg', 'mkv', 'mp4', 'mcap'"),
        ([], 1, "cannot connect"),
        (["--group", "g"], 2, "need a valkey:// URL"),
        (["valkey", "--capture-id", "c1"], 2, "the URL of an admin listener"),
    ):
        is_shared = options[:1] == ["valkey"]
        url = "valkey://127.0.0.1" if is_shared else "http://127.0.0.1:1"
        more = options[is_shared:]
        ran = subprocess.run(
            [*CFW, "record", url, str(tmp_path / "r"), *more],
            capture_output=True,
            text=True,
            check=False,
        )
        assert (ran.returncode, said in ran.stderr) == (code, True), ran.stderr
