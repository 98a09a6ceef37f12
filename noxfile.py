"""One runner for people and for CI: `nox` does all of it, `nox -s NAME` one part.

lint          ruff, formatting, and the import contract of the house
types         mypy, strict, on the code and its tests
tests         everything but the long suites, on the Python that runs nox
pythons       the same on each other supported Python that is installed
conformance   the Autobahn cases against the wire
fuzz          the property tests with many examples (CFW_FUZZ_EXAMPLES, default 2000)
hostile       overload, faults and attackers, with the table of what was measured; a long form
              with CFW_HOSTILE_LONG=1
sweep         all byte cuts and cancellation sweeps, of a connection and of a lease, with
              their table (CFW_SWEEP_ALL_ORDERS=1 adds batch orders that take minutes more)
slow          other tests that take many seconds: every measure of the bench, Ctrl-C at any time
bench         the worker beside other servers; not part of a plain `nox`
guard         machine instructions for one frame, under valgrind; not part of it either
"""

from __future__ import annotations

import os
import shutil
import sys

import nox

nox.needs_version = ">=2025.2"
nox.options.sessions = [
    *("lint", "types", "tests", "pythons"),
    *("conformance", "fuzz", "hostile", "sweep", "slow"),
]
nox.options.default_venv_backend = "venv"
nox.options.reuse_venv = "yes"
# A Python that is not there is skipped, and said to be.
nox.options.error_on_missing_interpreters = False

RUNNING = f"{sys.version_info.major}.{sys.version_info.minor}"
OTHERS = [version for version in ("3.11", "3.12", "3.13") if version != RUNNING]


@nox.session
def lint(session: nox.Session) -> None:
    """Style, formatting and who may import whom."""
    session.install("-e", ".[lint]")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("lint-imports")


@nox.session
def types(session: nox.Session) -> None:
    """mypy --strict."""
    session.install("-e", ".[test,types]", "nox")
    session.run("mypy", "cfw", "schemas", "tests", "noxfile.py")


@nox.session
def tests(session: nox.Session) -> None:
    """The tests that a change must pass; arguments go to pytest."""
    run_tests(session)


@nox.session(python=OTHERS)
def pythons(session: nox.Session) -> None:
    """The same tests on another Python."""
    run_tests(session)


def run_tests(session: nox.Session) -> None:
    """Install and test, in whatever environment the session has."""
    session.install("-e", ".[test]")
    marks = "not conformance and not sweep and not slow and not hostile"
    session.run("pytest", "-m", marks, *session.posargs)


@nox.session
def conformance(session: nox.Session) -> None:
    """Autobahn sections 1 to 7, 9 and 10 over real sockets."""
    session.install("-e", ".[test]")
    session.run("pytest", "-m", "conformance", *session.posargs)


@nox.session
def fuzz(session: nox.Session) -> None:
    """Every property test, with many examples."""
    session.install("-e", ".[test]")
    env = {"CFW_FUZZ_EXAMPLES": os.environ.get("CFW_FUZZ_EXAMPLES", "2000")}
    session.run("pytest", "-m", "fuzz", *session.posargs, env=env)


@nox.session
def hostile(session: nox.Session) -> None:
    """Attackers, overload and faults against a worker in a process of its own."""
    session.install("-e", ".[test]")
    session.run("pytest", "-m", "hostile", "tests/hostile", *session.posargs)


@nox.session
def sweep(session: nox.Session) -> None:
    """Every fault at every instant, under every kind of sink, in several orders."""
    session.install("-e", ".[test]")
    paths = ("tests/sweep", "tests/valkey/test_sweep.py")
    # One test is a whole sweep here: minutes are no sign that it hangs.
    patience = "faulthandler_timeout=600"
    session.run("pytest", "--sweep-jobs", "2", "-o", patience, *paths, *session.posargs)


@nox.session
def slow(session: nox.Session) -> None:
    """What takes too long for every change and has no session of its own."""
    session.install("-e", ".[test]")
    session.run("pytest", "-m", "slow and not conformance", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """A short benchmark beside every peer; arguments go to `cfw bench`."""
    session.install("-e", ".[bench]")
    session.run("cfw", "bench", *(session.posargs or ["--short"]))


@nox.session
def guard(session: nox.Session) -> None:
    """What a frame costs in instructions; that it costs no more calls is in `tests`."""
    if shutil.which("valgrind") is None:
        session.skip("valgrind is not installed: no instruction was counted")
    session.install("-e", ".[test]")
    session.run("python", "-m", "tests.guards.instructions")
