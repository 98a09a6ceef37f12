"""What can go wrong with a sweep itself, as opposed to with the code it sweeps.

    SweepError
    |-- UnsupportedTrio       the installed Trio does not work as the engine needs
    |-- NondeterminismError   two runs of the same thing took different steps
    |-- RealIOError           the scenario reached for a socket, thread or signal
    |-- CannotSweep           a test of a suite cannot be swept as it stands
    |-- InstrumentError       the engine's own instrument raised during a run
    `-- TokenError            a replay token cannot be read, or belongs to another test
        `-- StaleToken        the code, the parameters or Trio changed since it was made

A scenario that breaks an invariant is no SweepError but a `SweepFailure` (verdict.py).
"""

from __future__ import annotations


class SweepError(Exception):
    """The sweep cannot go on, so it proves nothing either way."""


class UnsupportedTrio(SweepError):
    """The installed Trio does not work as the engine needs."""

    def __init__(self, version: str, what: str) -> None:
        super().__init__(version, what)
        self.version = version
        self.what = what

    def __str__(self) -> str:
        return (
            f"trio {self.version} cannot be swept: {self.what}. The engine relies on a few "
            "private names of Trio, all in cfw/testing/sweep/_trio.py; install another "
            "Trio or adapt that module."
        )


class NondeterminismError(SweepError):
    """Two runs that had to be equal took different steps."""

    def __init__(self, what: str, where: str) -> None:
        super().__init__(what, where)
        self.what = what
        self.where = where

    def __str__(self) -> str:
        return (
            f"uncontrolled nondeterminism: {self.what}.\n{self.where}\n"
            "Usual causes: the real clock or blocking I/O; iteration over a set of "
            "objects; state kept between runs (a cache, a module global, a fixture)."
        )


class RealIOError(SweepError):
    """The scenario reached outside of its run, where time is not virtual."""

    def __init__(self, what: str, where: str) -> None:
        super().__init__(what, where)
        self.what = what
        self.where = where

    def __str__(self) -> str:
        return (
            f"the scenario uses {self.what}, at {self.where}. When it answers is not "
            "repeatable, so neither are the instants of the sweep. Use "
            "cfw.testing.sweep.stream_pair or memory channels for sockets and pipes, "
            "trio.socket.set_custom_socket_factory for fake ones, and a fake async function "
            "for threads, files, subprocesses and name look-ups; expose a function that does "
            "what the signal would do."
        )


class CannotSweep(SweepError):
    """A test of a pytest suite cannot be swept as it stands; the text says why."""


class InstrumentError(SweepError):
    """The engine's own instrument raised; Trio would have dropped it and passed."""


class TokenError(SweepError):
    """A replay token cannot be read or belongs to another test."""


class StaleToken(TokenError):
    """A replay token no longer names a point of this test; nothing else was run."""
