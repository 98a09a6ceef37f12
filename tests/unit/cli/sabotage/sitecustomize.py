"""Put on the path of workers: makes one of them misbehave as CFW_SABOTAGE says.

Python imports a module of this name in each process before anything else. Only the first
worker that takes the file of CFW_SABOTAGE_ONCE away misbehaves; without that file none does.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
import time
from contextlib import suppress


def _spin(*_: object) -> None:
    """Stand still in C code that lets nobody else run."""
    re.match(r"(a+)+$", "a" * 60 + "b")


def _flood(descriptor: int, data: bytes) -> None:
    while True:
        with suppress(BlockingIOError):
            os.write(descriptor, data)
        time.sleep(0.001)  # so that the rest of the process has its turn


def _in_thread(descriptor: int, data: bytes) -> None:
    threading.Thread(target=_flood, args=(descriptor, data), daemon=True).start()


def _misbehave(how: str, lifeline: int) -> None:
    if how == "spins when told":
        signal.signal(signal.SIGUSR2, _spin)
    elif how == "is never ready":
        time.sleep(600)
    elif how == "is slow":
        time.sleep(3)
    elif how == "writes garbage":
        os.write(lifeline, b'\x00\xff{"capture": 5}\n')
        time.sleep(600)
    elif how == "writes a line without end":
        _flood(lifeline, b"x" * 4096)
    elif how == "floods":
        _in_thread(lifeline, b"\n" * 4096)
        _in_thread(1, b"." * 4096)
    elif how == "exits with 3":
        os._exit(3)
    else:
        raise AssertionError(f"CFW_SABOTAGE={how!r} is none of these")


if "--supervised-by" in sys.orig_argv:
    try:
        os.unlink(os.environ["CFW_SABOTAGE_ONCE"])
    except OSError:
        pass
    else:
        _misbehave(
            os.environ["CFW_SABOTAGE"],
            int(sys.orig_argv[sys.orig_argv.index("--supervised-by") + 1]),
        )
