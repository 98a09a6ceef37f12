"""One runner for people and for CI: `nox` shows that a change is sound, `nox -s NAME` one part.

quick         lint, and the tests that start no Python; under a minute once it is installed
lint          ruff, formatting, and the import contract of the house
types         mypy, strict, on the code and its tests
tests         everything but the long suites, on the Python that runs nox
pure          the light tests of what is compiled, and the conformance cases, on the pure code
conformance   the Autobahn cases against the wire
faults        overload, faults and attackers, but for what `hostile` has to measure in quiet

Not part of a plain `nox`, but of what .github/workflows run:

hostile       all of these, and how late others are served meanwhile, with the table of what was
              measured; a long form with CFW_HOSTILE_LONG=1
sweep         all byte cuts and cancellation sweeps, of a connection and of what stands beside
              it, with their table (CFW_SWEEP_ALL_ORDERS=1: batch orders that take minutes more)
fuzz          the property tests with many examples (CFW_FUZZ_EXAMPLES, default 2000)
sweep-elsewhere
              other people's projects on Trio, with what is found in them, and three of their
              own test suites under `pytest --sweep`, with a table
slow          other tests that take many seconds: every measure of the bench, Ctrl-C at any time

When they are asked for:

pythons       the tests of `quick` on each other Python that is installed, by pyenv too
bench         the worker beside other servers
guard         machine instructions for one frame, under valgrind
wheels        wheels of this platform for every Python, in dist (cibuildwheel)
release       `nox -s release -- v1.2.3`: whether that tag is a release, and its source in dist
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import nox

nox.needs_version = ">=2025.2"
nox.options.sessions = ["lint", "types", "tests", "pure", "conformance", "faults"]
nox.options.default_venv_backend = "venv"
nox.options.reuse_venv = "yes"
#: A Python that is not there is skipped, and said to be.
nox.options.error_on_missing_interpreters = False

#: Where everything is installed, with which all sessions but `pythons` run.
ENVIRONMENT = Path(".nox", "dev").resolve()
PYTHON = ENVIRONMENT / ("Scripts" if os.name == "nt" else "bin") / "python"
#: Python may keep what it has compiled, whatever the environment says: the tests start a
#: thousand interpreters, each of which would compile cfw.
BYTECODE = {"PYTHONDONTWRITEBYTECODE": ""}
#: Two files of tests at a time; one file has its fixtures to itself.
PARALLEL = ("-n", "2", "--dist", "loadfile")
#: As many as keep two cores busy where tests wait for processes and clocks.
WAITING = ("-n", "4", "--dist", "loadfile")
#: The sweeps' own tests. A sweep forks, which costs by what its process holds: where all tests
#: are collected, three times as much.
ENGINE = "tests/unit/testing"
#: Tests that start a browser, proxies or servers of others, beside each other and nothing else.
HEAVY = ("tests/whole/browser", "tests/whole/deploy", "tests/unit/valkey", "tests/unit/bench")
#: A session of its own runs all of them.
SWEEPS = (
    "tests/sweep",
    "tests/unit/valkey/test_sweep.py",
    "tests/unit/valkey/test_feed_sweep.py",
    "tests/unit/valkey/test_pipeline_sweep.py",
)
#: Sweeps of other people's projects, in an environment of their own.
ELSEWHERE = "tests/sweep_elsewhere"
#: Projects whose own test suites are swept there, too.
SUITES = ("anyio", "tricycle", "trio-websocket")
#: The cases of the WebSocket protocol.
AUTOBAHN = ("-m", "conformance", "tests/unit/wire/test_conformance.py")
#: Where what is marked as hostile is.
HOSTILE = ("tests/whole/hostile", "tests/unit/valkey")
#: Tests of what is compiled where cfw is installed.
COMPILED = ("tests/unit/core", "tests/unit/routes", "tests/unit/schemas", "tests/unit/wire")
#: Tests that start no Python: no worker and no command in a process of its own.
LIGHT = (
    *COMPILED,
    *(f"tests/unit/{room}" for room in ("admin", "api", "identity", "sessions", "sinks")),
    *("tests/unit/testing", "--ignore=tests/unit/testing/sweep"),
    *("tests/guards/test_domain.py", "tests/guards/test_protocol.py"),
    *("tests/guards/test_config_page.py", "tests/guards/test_pages.py"),
    *("tests/guards/test_release.py", "tests/guards/test_workflows.py"),
    *("tests/guards/test_recipes.py", "tests/guards/test_dialect.py"),
    "tests/guards/test_suite.py",
)
#: One test is a whole sweep, suite or fuzzer there: minutes are no sign that it hangs.
PATIENT = ("-o", "timeout=900", "-o", "faulthandler_timeout=960")
QUICK = ("-m", "not conformance and not sweep and not slow and not hostile")
_installed: list[bool] = []

RUNNING = f"{sys.version_info.major}.{sys.version_info.minor}"
OTHERS = [version for version in ("3.11", "3.12", "3.13", "3.14") if version != RUNNING]
#: nox looks for them on the path alone; those of pyenv come behind all that is there.
PYENV = Path(os.environ.get("PYENV_ROOT", os.path.expanduser("~/.pyenv")), "versions")
os.environ["PATH"] = os.pathsep.join(
    (
        os.environ.get("PATH", os.defpath),
        *(str(found.parent) for name in OTHERS for found in PYENV.glob(f"*/bin/python{name}")),
    )
)


def install(session: nox.Session) -> None:
    """Make the one environment that all sessions share; once for each run of nox.

    One for each session would be installed eight times over. Of what is installed a small part
    is imported, and compiled then.
    """
    if not PYTHON.exists():
        session.run(sys.executable, "-m", "venv", str(ENVIRONMENT), external=True)
    if not _installed:
        pip = (str(PYTHON), "-m", "pip", "--disable-pip-version-check", "install")
        session.run(*pip, "-q", "--no-compile", "-e", ".[dev]", external=True)
        _installed.append(True)


def run(
    session: nox.Session, module: str, *args: str, env: dict[str, str] | None = None
) -> None:
    """Run a Python module in the shared environment, whose commands are found first."""
    install(session)
    path = os.pathsep.join((str(PYTHON.parent), os.environ.get("PATH", os.defpath)))
    env = {"PATH": path, **BYTECODE, **(env or {})}
    session.run(str(PYTHON), "-m", module, *args, env=env, external=True)


@nox.session(venv_backend="none")
def lint(session: nox.Session) -> None:
    """Style, formatting and who may import whom."""
    run(session, "ruff", "check", ".")
    run(session, "ruff", "format", "--check", ".")
    run(session, "cython_lint.cython_lint", "--max-line-length", "96", "schemas", "cfw")
    session.run(str(PYTHON.with_name("lint-imports")), external=True)
    workflows = map(str, Path(".github", "workflows").glob("*.yml"))
    run(session, "check_jsonschema", "--builtin-schema", "vendor.github-workflows", *workflows)


@nox.session(venv_backend="none")
def quick(session: nox.Session) -> None:
    """What to run after every change; arguments go to pytest."""
    lint(session)
    run(session, "pytest", *PARALLEL, *QUICK, *(session.posargs or LIGHT))


@nox.session(venv_backend="none")
def types(session: nox.Session) -> None:
    """mypy --strict."""
    run(session, "mypy", "cfw", "schemas", "tests", "noxfile.py", ".build/native.py")


@nox.session(venv_backend="none")
def tests(session: nox.Session) -> None:
    """The tests that a change must pass; arguments go to pytest."""
    if session.posargs:
        run(session, "pytest", *QUICK, *session.posargs)
        return
    run(session, "pytest", *WAITING, *QUICK, ENGINE)
    elsewhere = (f"--ignore={path}" for path in (ENGINE, *HEAVY, *SWEEPS, ELSEWHERE))
    run(session, "pytest", *WAITING, *QUICK, *elsewhere)
    run(session, "pytest", *PARALLEL, *QUICK, *HEAVY, *(f"--ignore={path}" for path in SWEEPS))


@nox.session(venv_backend="none")
def pure(session: nox.Session) -> None:
    """What is compiled has pure code beside it, which passes the same tests."""
    plugins = ("-p", "tests.pure")
    run(session, "pytest", *plugins, *PARALLEL, *QUICK, *COMPILED, *session.posargs)
    run(session, "pytest", *plugins, *AUTOBAHN, *PATIENT, *session.posargs)


@nox.session(python=OTHERS)
def pythons(session: nox.Session) -> None:
    """The light tests on another Python."""
    session.install("-e", ".[test]")
    session.run("python", "-m", "pytest", *PARALLEL, *QUICK, *(session.posargs or LIGHT))


@nox.session(venv_backend="none")
def conformance(session: nox.Session) -> None:
    """Autobahn sections 1 to 7, 9 and 10 over real sockets."""
    run(session, "pytest", *AUTOBAHN, *PATIENT, *session.posargs)


@nox.session(venv_backend="none")
def fuzz(session: nox.Session) -> None:
    """Every property test, with many examples."""
    env = {"CFW_FUZZ_EXAMPLES": os.environ.get("CFW_FUZZ_EXAMPLES", "2000")}
    run(session, "pytest", *PARALLEL, "-m", "fuzz", *PATIENT, *session.posargs, env=env)


@nox.session(venv_backend="none")
def faults(session: nox.Session) -> None:
    """Attackers, overload and faults against a worker in a process of its own."""
    beside = ("-m", "hostile and not alone")
    run(session, "pytest", *WAITING, *beside, *PATIENT, *HOSTILE, *session.posargs)


@nox.session(venv_backend="none")
def hostile(session: nox.Session) -> None:
    """All of these; who is held to how late something may be has both cores to itself."""
    faults(session)
    alone = ("-m", "hostile and alone")
    run(session, "pytest", *alone, *PATIENT, *HOSTILE, *session.posargs)


@nox.session(venv_backend="none")
def sweep(session: nox.Session) -> None:
    """Every fault at every instant, under every kind of sink, in several orders."""
    run(session, "pytest", "--sweep-jobs", "2", *PATIENT, *SWEEPS, *session.posargs)


@nox.session(name="sweep-elsewhere")
def sweep_elsewhere(session: nox.Session) -> None:
    """Known bugs of other people's projects are found, and what is clean is."""
    session.install("-e", ".[elsewhere]")
    folder = Path(session.create_tmp(), "sdists")
    extra = nox.project.load_toml()["project"]["optional-dependencies"]["elsewhere"]
    suites = [pin for pin in extra if pin.partition("==")[0] in SUITES]
    pip = ("python", "-m", "pip", "download", "-q", "--no-deps", "--no-binary", ":all:")
    session.run(*pip, "-d", str(folder), *suites)
    for archive in folder.glob("*.tar.gz"):
        shutil.unpack_archive(archive, folder, filter="data")
    paths = session.posargs or [ELSEWHERE]
    env = {"CFW_SDISTS": str(folder)}
    session.run(
        *("python", "-m", "pytest", "--confcutdir", ELSEWHERE, *PATIENT, *paths), env=env
    )


@nox.session(venv_backend="none")
def slow(session: nox.Session) -> None:
    """What takes too long for every change and has no session of its own."""
    run(session, "pytest", "-m", "slow and not conformance", *PATIENT, *session.posargs)


@nox.session(venv_backend="none")
def bench(session: nox.Session) -> None:
    """A short benchmark beside every peer; arguments go to `cfw bench`."""
    run(session, "cfw.cli", "bench", *(session.posargs or ["--short"]))


@nox.session(venv_backend="none")
def guard(session: nox.Session) -> None:
    """What a frame costs in instructions; that it costs no more calls is in `tests`."""
    if shutil.which("valgrind") is None:
        session.skip("valgrind is not installed: no instruction was counted")
    run(session, "tests.guards.instructions")


@nox.session
def wheels(session: nox.Session) -> None:
    """What `tool.cibuildwheel` names, as far as this platform can make it."""
    session.install("cibuildwheel>=3.1")
    session.run("cibuildwheel", "--output-dir", "dist", *session.posargs)


@nox.session
def release(session: nox.Session) -> None:
    """Whether the tag given is a release; its source, and a wheel made from that."""
    run(session, "tests.guards.release", *session.posargs)
    session.install("build")
    session.run("python", "-m", "build", "--outdir", "dist")
