"""Steps of CONTRIBUTING.md that no other guard would miss: settings are read, sinks found."""

from __future__ import annotations

import ast
import inspect
import re
import tomllib
from functools import cache
from pathlib import Path

import attrs
import pytest

from cfw.api.config import Config
from cfw.cli.options import OPTION_KEYS
from cfw.cli.serve import serve
from cfw.limits import Limits, Times
from cfw.settings import about
from schemas import WorkerLimits
from tests.guards.reads import Reads
from tests.guards.source import ROOT, parsed, sources

README = (ROOT / "README.md").read_text("utf-8")
SECTIONS = {section.name: section.default.factory for section in attrs.fields(Config)}  # type: ignore[union-attr]
KEYS = [(name, field.name) for name, cls in SECTIONS.items() for field in attrs.fields(cls)]
LIMITS_AND_TIMES = [field.name for cls in (Limits, Times) for field in attrs.fields(cls)]
#: Where settings are declared and held against each other, which is no use of them.
DECLARING = {Path(inspect.getfile(cls)) for cls in (Config, Limits)}
#: Of a worker, or of all its captures, and nothing that a rig could keep to.
NOT_TOLD = {
    *("max_forward_buffer_frames", "max_forward_buffer_bytes", "max_memory_bytes"),
    *("max_connections", "max_connections_per_address"),
    *("max_control_bytes", "max_clock_skew_s"),
}
TEST_FILES = [path for path in ROOT.glob("tests/**/test_*.py") if path.parent.name != "guards"]
TESTS = "\n".join(path.read_text("utf-8") for path in TEST_FILES)
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
POINTS: dict[str, dict[str, str]] = {
    group: points
    for group, points in PROJECT["project"]["entry-points"].items()
    if group.startswith("cfw.")
}
#: Module of a sink or a session authority -> the schemes that lead to it.
PLUGINS: dict[str, list[str]] = {}
for _points in POINTS.values():
    for _scheme, _target in _points.items():
        PLUGINS.setdefault(_target.partition(":")[0], []).append(_scheme)
each_plugin = pytest.mark.parametrize("module", PLUGINS)


@cache
def read_under_cfw() -> set[tuple[str, str]]:
    """Classes, and the attributes of each that are read where none is declared."""
    reads = Reads(map(parsed, sources("cfw")))
    for path in {*sources("cfw")} - DECLARING:
        reads.add(parsed(path))
    return reads.found


@pytest.mark.parametrize(("section", "key"), KEYS, ids=[".".join(key) for key in KEYS])
def test_every_key_is_read(section: str, key: str) -> None:
    """A key that nobody reads promises what does not happen."""
    is_read = (SECTIONS[section].__name__, key) in read_under_cfw()
    assert is_read, f"{section}.{key} is declared, and nothing under cfw reads it"


@pytest.mark.parametrize(
    ("code", "is_read"),
    [
        ("def f(given: Config): given.log.level", True),
        ("def f(given: Config | None): return [given.log.level for _ in 'ab']", True),
        ("def f(given: m.Config):\n    log = given.log\n    return lambda: log.level", True),
        ("def f(given: Config):\n    a, b = given.log, 1\n    a.level", True),
        ("def f(given: Config):\n    for log in (given.log,): log.level", True),
        ("def f(given: Config): attrs.evolve(given, a=1).log.level", True),
        ("class A:\n    kept: Config\n    def f(self): self.kept.log.level", True),
        (
            "class A:\n    def __init__(self, a: Log): self.b = a\n    def f(s: A): s.b.level",
            True,
        ),
        ("def make() -> Log: ...\ndef f(): make().level", True),
        ("def f(other: Other): other.level", False),
        ("def f(other): other.level", False),
        ("def f(given: Config): given.level", False),
        ("def f(given: Config): given.other.level", False),
        ("def f(given: Config): given.log.level = 1", False),
        ("def f(given: Config): given.log", False),
        ("class A:\n    level: str\n    def f(self): self.level", False),
    ],
)
def test_the_guard_knows_whose_attribute_is_read(code: str, is_read: bool) -> None:
    """One of another class with the same name is no use of the key."""
    classes = "class Log:\n    level: str\nclass Other:\n    level: str\n"
    classes += "class Config:\n    log: Log\n    other: Other\n"
    reads = Reads([ast.parse(classes), module := ast.parse(code)])
    reads.add(module)
    assert (("Log", "level") in reads.found) == is_read


@cache
def set_by_tests() -> set[str]:
    """What tests give by name, in a call or as a key: a mere word of it sets nothing."""
    given: set[str] = set()
    for node in (node for path in TEST_FILES for node in ast.walk(parsed(path))):
        match node:
            case ast.keyword(arg=str(name)):
                given.add(name)
            case ast.Constant(value=str(text)):
                given.add(text.partition("=")[0])
    return {re.sub(r"^(?:limits|times)(?:__|\.)", "", name) for name in given}


@pytest.mark.parametrize("name", LIMITS_AND_TIMES)
def test_every_limit_and_time_has_a_test_that_sets_it(name: str) -> None:
    """At n - 1, n and n + 1, where it is a number of something."""
    assert name in set_by_tests(), f"no test sets {name}"


@pytest.mark.parametrize("name", attrs.fields_dict(Limits))
def test_a_limit_that_a_rig_can_keep_to_is_told_to_it(name: str) -> None:
    """By `WorkerLimits`, for the handshake and pages; or it is named as one that is not."""
    is_told = name in attrs.fields_dict(WorkerLimits)
    assert is_told != (name in NOT_TOLD), f"{name}: in schemas.WorkerLimits, or NOT_TOLD here"


@pytest.mark.parametrize("group", POINTS)
def test_every_opener_is_an_entry_point(group: str) -> None:
    """What a module or a room within opens is found by a scheme, and every scheme opens."""
    room = ROOT.joinpath(*group.split("."))
    openers = {
        f"{group}.{path.stem}:{node.name}"
        for path in room.glob("[!_]*.py")
        for node in parsed(path).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("open_")
    }
    openers |= {
        f"{group}.{path.parent.name}:{name.name}"
        for path in room.glob("[!_]*/__init__.py")
        for node in parsed(path).body
        if isinstance(node, ast.ImportFrom)
        for name in node.names
        if name.name.startswith("open_")
    }
    assert openers == set(POINTS[group].values())


@each_plugin
def test_every_scheme_is_told_where_one_chooses(module: str) -> None:
    """In the README's table of options, and in the text of the key that takes the URL."""
    section = module.split(".")[1].replace("sinks", "sink")
    text = about(attrs.fields_dict(SECTIONS[section])["url"]).text
    for page in (README.split("\n## Who may send")[1].split("\n## ")[0], text):
        told = re.findall(r"`([a-z][a-z0-9+.-]*):[^`]*`", page)
        assert set(told) & set(PLUGINS[module]), f"{module} is not in {page[:60]!r}..."


@each_plugin
def test_every_sink_and_authority_has_tests(module: str) -> None:
    """Which open it by its URL, or import it."""
    schemes = "|".join(PLUGINS[module])
    assert re.search(rf"[\"'](?:{schemes}):|\b{re.escape(module)}\b", TESTS), module


def test_every_option_of_serve_sets_a_key() -> None:
    """Or names several: those of a file, or any."""
    options = {option.name for option in serve.params if not getattr(option, "hidden", False)}
    assert options - {"config_path", "profile", "settings", "lan"} == set(OPTION_KEYS)


def the_map() -> str:
    """The picture of the house in CONTRIBUTING.md."""
    page = (ROOT / ".github/CONTRIBUTING.md").read_text("utf-8")
    return page.split("\n## The map\n")[1].split("```")[1]


def test_the_map_has_the_floors_of_the_contract() -> None:
    """The rooms from top to bottom, as imports may go."""
    (floors,) = (
        contract["layers"]
        for contract in PROJECT["tool"]["importlinter"]["contracts"]
        if contract["name"].startswith("The floors of the house")
    )
    told = re.findall(r"^(?: \d [a-z ]+? +| {18})(cfw\.\w+|schemas) ", the_map(), re.MULTILINE)
    assert told == [room for floor in floors for room in floor.split(" | ")]


def test_every_room_is_on_the_map_or_beside_it() -> None:
    """Also those that no floor has, such as the client."""
    page = (ROOT / ".github/CONTRIBUTING.md").read_text("utf-8")
    rooms = {
        f"cfw.{path.stem}"
        for path in (ROOT / "cfw").iterdir()
        if (path.is_dir() and list(path.glob("[!_]*"))) or path.suffix == ".py"
    } - {"cfw.__init__", "cfw.__pycache__"}
    assert rooms <= set(re.findall(r"cfw\.\w+", page))
