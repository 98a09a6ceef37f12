"""Test suites of other projects, unchanged, from their source distributions, under `--sweep`.

`nox -s sweep-elsewhere` downloads them. How many of their tests are swept, and what is found,
is asserted: a number that differs says that the engine or a suite is another one.
"""

import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import attrs
import pytest

from tests.sweep_elsewhere import need

need("anyio")
need("tricycle")
need("trio-websocket")

FOLDER = os.environ.get("CFW_SDISTS", "")
if not FOLDER:
    pytest.skip("CFW_SDISTS names no folder of source distributions", allow_module_level=True)

#: What `--sweep` cancels, and how many points of each test are run at most.
SCOPES, POINTS = "test,nursery,task", 500

TRIO_MODE = "[pytest]\ntrio_mode = true\n"


@attrs.frozen
class Suite:
    """One project's tests.

    Args:
        tests: where they are, from the root of the distribution.
        config: of pytest, where the distribution brings none; empty where it does.
        swept: how many of them are swept.
        found: how many of these fail, by the first invariant.
    """

    tests: str
    config: str
    swept: int
    found: dict[str, int]


SUITES = {
    "tricycle": Suite("tricycle/_tests", TRIO_MODE, 17, {"left-behind": 1}),
    "trio_websocket": Suite("tests", TRIO_MODE, 4, {}),
    "anyio": Suite("tests", "", 143, {"exception": 7, "cancelled-swallowed": 3, "finished": 1}),
}


def kind(reason: str) -> str:
    """Why a test is not swept, without where."""
    return re.sub(r", at .*|:.*|\. .*", "", reason)


@pytest.mark.parametrize("project", list(SUITES))
def test_a_suite_is_swept_as_it_stands(
    project: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its tests pass without a fault, or are skipped and say why; what fails is counted."""
    suite = SUITES[project]
    (root,) = (path for path in Path(FOLDER).glob(f"{project}-*") if path.is_dir())
    told = sweep_suite(root, suite, tmp_path / "told.json")
    failed = Counter(
        one["failures"][0]["invariant"] for one in told["sweeps"] if one["failures"]
    )
    reasons = Counter(kind(one["reason"]) for one in told["not_swept"])
    points = sum(one["points"] for one in told["sweeps"])
    with capsys.disabled():
        print(  # noqa: T201
            f"\n{root.name}: {len(told['sweeps'])} swept, {points} points; found "
            f"{dict(failed)}; not swept {dict(reasons.most_common())}"
        )
    assert (len(told["sweeps"]), dict(failed)) == (suite.swept, suite.found)


def sweep_suite(root: Path, suite: Suite, path: Path) -> dict[str, Any]:
    """Run a suite in a process of its own; what `--sweep-json` tells of it."""
    options: list[str] = []
    if suite.config:
        # Not that of the project around it.
        config = path.with_name("pytest.ini")
        config.write_text(suite.config)
        options = ["-c", str(config), "--rootdir", "."]
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-p", "no:cacheprovider"),
            *(f"--sweep={SCOPES}", f"--sweep-budget={POINTS}", f"--sweep-json={path}"),
            *(*options, suite.tests),
        ],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    # Tests fail, or pass; anything else is no sweep.
    assert done.returncode in (0, 1), done.stdout + done.stderr
    told: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return told
