"""The command."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from cfw.bench import reading


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


def test_the_command_measures_the_reading_of_metadata() -> None:
    """Without a server; every way has its figure."""
    ran = run(*("--measure", "metadata", "--rounds", "1", "--seconds", "0.05", "--json", "-"))
    assert ran.returncode == 0, ran.stderr
    (table,) = json.loads(ran.stdout)["tables"]
    assert list(table["rows"]) == list(reading.ways())
    assert all(row["values"]["us"] > 0 for row in table["rows"].values())


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
