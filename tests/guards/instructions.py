"""`python -m tests.guards.instructions`: machine instructions for one frame, under valgrind.

A frame comes among many or alone, which wakes the worker for it. What making its bytes costs
does not count. The rest is divided by what a turn of a fixed loop costs under the same
interpreter, so that the ratio travels between machines and builds better than a number. Exit
code 1 when a ratio has grown by a twentieth or cfw is not compiled, 2 when valgrind is missing.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

from cfw import code_in_use

#: Turns of the loop that one frame costs, by its way and its size, on CPython 3.11; lower them
#: when the path gets shorter.
EXPECTED = {
    ("many", 1_000): 2.13,
    ("many", 30_000): 3.43,
    ("lone", 30_000): 7.35,
}
#: What it may grow by.
GROWTH = 1.05
_FEW, _MANY, _TURNS = 20, 320, 3_000
_COUNTED = re.compile(r"Collected : (\d+)")


def instructions(way: str, size: int, frames: int, turns: int) -> int:
    """Instructions of one run of `hot_path`, from the interpreter's start to its end."""
    command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"]
    command += [sys.executable, "-m", "tests.guards.hot_path"]
    ran = subprocess.run(
        [*command, way, str(size), str(frames), str(turns)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONHASHSEED": "0"},
    )
    counted = _COUNTED.search(ran.stderr)
    if ran.returncode != 0 or counted is None:
        raise RuntimeError(f"valgrind failed: {ran.stderr[-2000:]}")
    return int(counted[1])


def main() -> int:
    """Count, print, and judge."""
    if shutil.which("valgrind") is None:
        print("valgrind is not installed: nothing was counted", file=sys.stderr)
        return 2
    if (code := code_in_use()) != "compiled":
        print(f"cfw is {code} here: the ceilings are those of compiled code", file=sys.stderr)
        return 1
    # Once without valgrind: compiling modules is no part of a frame.
    subprocess.run(
        [sys.executable, "-m", "tests.guards.hot_path", "lone", "1000", "1", "1"], check=True
    )
    cases = [*EXPECTED, *((f"{way}-said", size) for way, size in EXPECTED)]
    first = cases[0]
    runs = [(*case, frames, 0) for case in cases for frames in (_FEW, _MANY)]
    runs.append((*first, _FEW, _TURNS))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        counted = dict(zip(runs, pool.map(lambda run: instructions(*run), runs), strict=True))

    def per_frame(way: str, size: int) -> float:
        return (counted[way, size, _MANY, 0] - counted[way, size, _FEW, 0]) / (_MANY - _FEW)

    turn = (counted[*first, _FEW, _TURNS] - counted[*first, _FEW, 0]) / _TURNS
    is_fine = True
    for (way, size), expected in EXPECTED.items():
        frame = per_frame(way, size) - per_frame(f"{way}-said", size)
        most = GROWTH * expected
        print(
            f"{way}, {size} bytes: {frame:,.0f} instructions a frame, {frame / turn:.2f} turns "
            f"of {turn:,.0f}; at most {most:.2f}"
        )
        is_fine = is_fine and frame / turn <= most
    return 0 if is_fine else 1


if __name__ == "__main__":
    sys.exit(main())
