"""What a sweep has answered so far, in a file, so that one that was stopped goes on.

The answers are kept in the order of the points, which is fixed, and given back as if they had
just been run: everything a sweep says follows from them. They are of use as long as nothing has
changed that they depend on, so the file begins with that: the sweep and its settings, the steps
of its runs without a fault, Python, Trio, and every source file that was loaded.
"""

from __future__ import annotations

import os
import pickle
import sys
import sysconfig
import time
from collections.abc import Generator, Iterator
from contextlib import suppress
from pathlib import Path
from zlib import crc32

import trio

from cfw.testing.sweep.tokens import Sweep
from cfw.testing.sweep.work import Answer

#: Seconds before a sweep leaves anything: what is over sooner is begun anew.
AFTER_S = 10.0

_FORMAT = "sweep checkpoint 1"


class Checkpoint:
    """The file of one sweep.

    Args:
        folder: where it is.
        sweep: whose it is.
        content: what the answers depend on, in one line, besides code.
    """

    def __init__(self, folder: Path, sweep: Sweep, content: str) -> None:
        self._path = folder / f"{crc32(str(sweep).encode()):08x}.checkpoint"
        versions = f"Python {sys.version} Trio {trio.__version__}"
        self._head = (_FORMAT, f"{sweep} {versions} {content}")
        self._since = time.monotonic()
        self._waiting: list[Answer] = []
        self._has_begun = False
        self._broken = False

    def answers(self) -> Generator[Answer, None, str]:
        """What was answered before; returns why that is not of use, or an empty text."""
        try:
            stream = self._path.open("rb")
        except OSError:
            return "nothing was left to go on from"
        with stream:
            try:
                head, files = pickle.load(stream)
                if head != self._head:
                    return "the sweep, its settings or its steps are other ones now"
                if changed := _changed(files):
                    return f"{changed} has changed"
                self._has_begun = True
                while True:
                    yield pickle.load(stream)
            except Exception:
                # The end, or the middle of an answer that was being written.
                return "" if self._has_begun else "it cannot be read"

    def begin_anew(self, answers: list[Answer]) -> None:
        """Forget the file but for the answers that are of use, which are whole."""
        self._has_begun = False
        self._waiting = answers.copy()
        if answers:
            self._since = 0.0
        else:
            self.over()

    def add(self, answer: Answer) -> None:
        """Keep one more, in the order of the points."""
        self._waiting.append(answer)
        if time.monotonic() - self._since > (1 if self._has_begun else AFTER_S):
            self.write()

    def write(self) -> None:
        """Write what waits. A full disk loses the checkpoint, not the sweep."""
        if self._broken or not self._waiting:
            return
        try:
            with self._path.open("ab" if self._has_begun else "wb") as stream:
                if not self._has_begun:
                    pickle.dump((self._head, dict(_sources())), stream)
                for answer in self._waiting:
                    pickle.dump(answer, stream)
        except OSError:
            self._broken = True
        self._has_begun = True
        self._waiting.clear()
        self._since = time.monotonic()

    def over(self) -> None:
        """There is nothing to go on with: the sweep is complete, or begins."""
        with suppress(OSError):
            self._path.unlink(missing_ok=True)


def _sources() -> Iterator[tuple[str, tuple[int, int]]]:
    """Every source file that is loaded, but for Python's own, and what tells its versions."""
    own = sysconfig.get_path("stdlib")
    for module in list(sys.modules.values()):
        path = getattr(module, "__file__", None)
        if isinstance(path, str) and (not path.startswith(own) or "site-packages" in path):
            with suppress(OSError):
                yield path, _version(path)


def _version(path: str) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_mtime_ns, status.st_size


def _changed(files: dict[str, tuple[int, int]]) -> str:
    """The first of the files that is another one now."""
    for path, version in files.items():
        try:
            if _version(path) != version:
                return path
        except OSError:
            return path
    return ""
