"""What the import contract cannot say: files, shims, surfaces and schemas."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import schemas
from cfw.api.routes import camera_feed_worker_routes as shim
from tests.guards.source import ROOT, nodes, parsed, sources, text_of

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
#: The modules of the core and the vocabulary, as the import contract lists them.
CORE = [
    module
    for contract in PROJECT["tool"]["importlinter"]["contracts"]
    if contract["name"] == "The core decides and does nothing else"
    for module in contract["source_modules"]
]
#: The module of the house's recorder, which has no part in a worker, and what one would need:
#: encoders, containers, data files, databases.
RECORDERS = {
    "schema_recorder",
    *("cv2", "av", "imageio", "ffmpeg", "h5py", "zarr", "pyarrow", "pandas"),
    *("sqlite3", "shelve", "dbm", "pickle", "zipfile", "tarfile", "tempfile", "shutil", "mmap"),
}
#: pytest's plugin writes what a developer's sweeps found and have answered so far.
PLUGIN = ("cfw/testing/pytest_plugin.py", "cfw/testing/sweep/memory.py")
CHECKPOINTS = "cfw/testing/sweep/checkpoint.py"
#: The sweep's forked processes pickle what they found into a pipe.
FORKS = "cfw/testing/sweep/forks.py"
#: The servers of a benchmark read their certificate from a file that is there for its run.
CERTIFICATE = "cfw/bench/tls.py"
#: Who may write files; all of it is above the worker, or beside it, which the contract says.
KEEPERS = ("cfw/cli", "cfw/bench", "cfw/record", *PLUGIN, CHECKPOINTS, FORKS)
#: Who may use what a recorder needs; the worker knows none of them.
CONSUMERS = (
    *("cfw/record", "cfw/recording", "cfw/cli/sources"),
    *(CHECKPOINTS, FORKS, CERTIFICATE),
)
#: Calls that can put something on a disk, by their last name or in full.
WRITERS = {
    *("open", "fdopen", "open_file", "FileIO", "BufferedWriter", "TextIOWrapper"),
    *("write_bytes", "write_text", "touch", "mkdir", "makedirs", "mkstemp", "truncate"),
    *("os.open", "os.write", "os.replace", "os.rename", "os.mknod", "os.mkfifo", "os.link"),
    *("os.symlink", "symlink_to", "hardlink_to", "os.pwrite", "os.writev", "os.sendfile"),
}


def imports(tree: ast.AST) -> Iterator[str]:
    for node in nodes(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module


def brought_in(tree: ast.AST) -> Iterator[str]:
    """All that a module imports: what it takes from one, relatively, and by name as a text."""
    yield from imports(tree)
    for node in nodes(tree):
        if isinstance(node, ast.ImportFrom):
            yield node.module or ""
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.Call) and node.args:
            name = ast.unparse(node.func).split(".")[-1]
            if name in {"import_module", "__import__", "find_spec", "run_module"}:
                yield from _texts(node.args[0])


def _texts(node: ast.AST) -> Iterator[str]:
    yield from (
        part.value
        for part in ast.walk(node)
        if isinstance(part, ast.Constant) and isinstance(part.value, str)
    )


def recorders(tree: ast.AST) -> set[str]:
    """What a module imports of a recorder, at any place of a dotted name."""
    return {part for name in brought_in(tree) for part in name.split(".")} & RECORDERS


def test_nothing_outside_imports_more_of_schemas_than_its_surface() -> None:
    """Others write `from schemas import ...`, and find all of it in `__all__`.

    Who hands the tree of errors on takes all of it, which is a part of that.
    """
    whole = {ROOT / "cfw/errors.py", ROOT / "cfw/client/__init__.py"}
    for path in sources("cfw", "tests"):
        for node in nodes(parsed(path)):
            if isinstance(node, ast.ImportFrom) and node.module == "schemas":
                names = {alias.name for alias in node.names}
                assert names <= {*schemas.__all__, "errors"}, path
            if isinstance(node, ast.ImportFrom) and node.module == "schemas.errors":
                assert [alias.name for alias in node.names] == ["*"], path
                assert path in whole, path
        below = {name for name in imports(parsed(path)) if name.startswith("schemas.")}
        assert below <= {"schemas.errors"}, path
    assert set(schemas.errors.__all__) < set(schemas.__all__)
    assert sorted(schemas.__all__) == sorted(set(schemas.__all__))
    assert all(hasattr(schemas, name) for name in schemas.__all__)


def test_the_route_shim_only_reexports() -> None:
    """No statement of the shim is anything but a docstring, an import or `__all__`."""
    assert shim.__file__ is not None
    tree = parsed(Path(shim.__file__))
    assert {"cfw.routes"} == set(imports(tree))
    docstring, *rest = tree.body
    assert isinstance(docstring, ast.Expr)
    for node in rest:
        is_all = isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
        assert isinstance(node, ast.ImportFrom) or is_all, ast.unparse(node)


#: Who makes a router besides the application: a bench and the toolkit of tests.
NO_APPLICATION = ("cfw/bench", "cfw/bench", "cfw/testing", "cfw/routes")


def routers(tree: ast.AST) -> list[ast.AST]:
    """Where a module uses the router's class: by its name, under another, or of its module."""
    names = {"Router"}
    for node in nodes(tree):
        if isinstance(node, ast.ImportFrom):
            names |= {
                alias.asname or "Router" for alias in node.names if alias.name == "Router"
            }
    return [
        node
        for node in nodes(tree)
        if (isinstance(node, ast.Name) and node.id in names)
        or (isinstance(node, ast.Attribute) and node.attr == "Router")
        or (isinstance(node, ast.Constant) and node.value == "Router")
    ]


def mounts(tree: ast.AST) -> int:
    """How many routers a module may come to make; one that is made in a loop counts as many."""
    calls = {node.func: node for node in nodes(tree) if isinstance(node, ast.Call)}
    loops = (ast.For, ast.AsyncFor, ast.While, ast.comprehension, ast.ListComp, ast.SetComp)
    looped = {
        id(inner)
        for loop in nodes(tree)
        if isinstance(loop, (*loops, ast.GeneratorExp, ast.DictComp))
        for inner in ast.walk(loop)
    }
    typed = {
        id(inner)
        for node in nodes(tree)
        for hint in (getattr(node, "annotation", None), getattr(node, "returns", None))
        if isinstance(hint, ast.AST)
        for inner in ast.walk(hint)
    }
    used = [node for node in routers(tree) if id(node) not in typed]
    # Whatever is not called here may be called elsewhere, and more than once.
    return sum(1 if node in calls and id(node) not in looped else 2 for node in used)


def test_the_application_mounts_the_router_once_and_holds_no_route_logic() -> None:
    """One call makes the router; the application knows no protocol, state or action."""
    for path in sources("cfw"):
        place = path.relative_to(ROOT).as_posix()
        if place == "cfw/api/main.py":
            assert mounts(parsed(path)) == 1
        elif not place.startswith(NO_APPLICATION) and path != Path(shim.__file__ or ""):
            assert mounts(parsed(path)) == 0, place
    for name in imports(parsed(ROOT / "cfw/api/main.py")):
        assert not name.startswith(("cfw.service", "cfw.state", "cfw.actions", "cfw.wire"))


@pytest.mark.parametrize(
    ("code", "count"),
    [
        ("def f(r: Router) -> Router: ...", 0),
        ("Router(a)", 1),
        ("for _ in range(2): Router()", 2),
        ("[Router() for _ in a]", 2),
        ("from cfw.routes import Router as Other\nRouter()\nOther()", 2),
        ("import cfw.routes\ncfw.routes.Router(); cfw.routes.Router()", 2),
        ("make = Router", 2),
        ("partial(Router, 1)", 2),
        ("getattr(routes, 'Router')()", 2),
    ],
)
def test_the_guard_counts_every_way_of_mounting(code: str, count: int) -> None:
    """A guard that cannot fail is none."""
    assert mounts(ast.parse(code)) == count


@pytest.mark.parametrize(
    "code",
    [
        "import schema_recorder",
        "import schema_recorder.files as f",
        "from schema_recorder import Writer",
        "from elsewhere import schema_recorder",
        "from elsewhere.schema_recorder.files import Writer",
        "from . import schema_recorder",
        "from .schema_recorder import Writer",
        "def f():\n    import schema_recorder",
        "importlib.import_module('schema_recorder')",
        "__import__('schema_recorder.files')",
        "import cv2",
        "importlib.import_module(f'cv2.{part}')",
    ],
)
def test_the_guard_sees_every_way_of_importing_a_recorder(code: str) -> None:
    """A guard that cannot fail is none."""
    assert recorders(ast.parse(code))


def test_no_recorder_is_depended_on() -> None:
    """None is installed with the worker either, under whatever name it is imported."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    names = {re.split(r"[^A-Za-z0-9_.-]", each)[0] for each in project["dependencies"]}
    assert not {name.lower().replace("-", "_") for name in names} & RECORDERS
    assert "schema_recorder" not in (ROOT / "pyproject.toml").read_text("utf-8")


def writers(tree: ast.AST) -> list[str]:
    """The calls of a module that can put something on a disk."""
    calls = [node for node in nodes(tree) if isinstance(node, ast.Call)]
    names = [ast.unparse(call.func) for call in calls if not is_reading(call)]
    return [name for name in names if name in WRITERS or name.split(".")[-1] in WRITERS]


def is_reading(call: ast.Call) -> bool:
    """Whether a call opens a file, and says in so many words that it only reads."""
    modes = [keyword.value for keyword in call.keywords if keyword.arg == "mode"]
    last = [*call.args, *modes][-1:]
    is_read = any(isinstance(mode, ast.Constant) and mode.value in ("r", "rb") for mode in last)
    return is_read and ast.unparse(call.func).split(".")[-1] == "open"


def is_in(path: Path, rooms: tuple[str, ...]) -> bool:
    """Whether a module is in one of these rooms."""
    return any(path.is_relative_to(ROOT / room) for room in rooms)


@pytest.mark.parametrize("path", sources("cfw"), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_file_is_written_but_by_the_command_line(path: Path) -> None:
    """Nothing of the worker opens a file by name, or imports what a recorder would."""
    tree = parsed(path)
    assert "schema_recorder" not in recorders(tree)
    if not is_in(path, CONSUMERS):
        assert not recorders(tree)
    if not is_in(path, KEEPERS):
        assert writers(tree) == []


@pytest.mark.parametrize(
    "line",
    [
        "open('f', 'wb')",
        "open('f', mode='wb')",
        "open(file='f', mode=m)",
        "open('rb', 'wb')",
        "os.open('rb', os.O_WRONLY)",
        "av.open('f', m)",
        "Path('f').open(mode='w')",
        "Path('f').write_bytes(b'')",
        "os.open('f', os.O_WRONLY | os.O_CREAT)",
        "io.FileIO('f', 'w')",
        "await trio.open_file('f', 'a')",
        "await trio.Path('f').write_text('')",
    ],
)
def test_the_guard_sees_every_way_of_writing(line: str) -> None:
    """A guard that cannot fail is none."""
    body = line if not line.startswith("await") else f"async def f():\n    {line}"
    assert writers(ast.parse(body))


def test_a_running_worker_opens_no_file_for_writing() -> None:
    """Captures end to end, while the interpreter itself tells of every file it opens."""
    code = """
import os, sys
opened = []
def hook(event, args):
    if event == "open" and isinstance(args[0], str) and not args[0].startswith("/dev/"):
        flags = args[2] if isinstance(args[2], int) else 0
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            opened.append(args[0])
sys.addaudithook(hook)
from cfw.cli import main
try:
    main(["demo", "--seconds", "100", "--port", "0", "--admin-port", "0"])
except SystemExit:
    pass
print("written:", opened)
"""
    command = [sys.executable, "-B", "-u", "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as demo:
        assert demo.stdout is not None
        # The shorter capture lasts 8 s, on a machine that is not busy.
        assert any("closed with 1000" in line for line in demo.stdout)
        demo.terminate()
        told = demo.stdout.read()
    assert told.splitlines()[-1] == "written: []"


def test_the_core_is_pure() -> None:
    """Importing the core brings in no Trio, no event loop, no logging library."""
    forbidden = ("trio", "trio_websocket", "structlog", "asyncio", "wsproto", "httpx")
    assert {"cfw.service", "cfw.state", "schemas"} <= set(CORE)
    # One that stands in a room of the shell cannot be imported without it.
    alone = [name for name in CORE if name.count(".") < 2]
    code = (
        f"import json, sys; {'; '.join(f'import {name}' for name in alone)}; "
        "print(json.dumps(sorted(sys.modules)))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, text=True
    )
    assert not set(json.loads(ran.stdout)) & set(forbidden)
    for name in CORE:
        place = ROOT.joinpath(*name.split("."))
        path = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
        tree = parsed(path)
        assert not [node for node in nodes(tree) if isinstance(node, ast.AsyncFunctionDef)]
        assert name == "schemas" or "close_code" not in text_of(path)


def test_no_schema_has_room_for_a_picture() -> None:
    """No message has a field for frame bytes or base64 images."""
    for schema in schemas.json_schemas().values():
        for message in schema["$defs"].values():
            for name, rule in message["properties"].items():
                words = set(name.split("_"))
                is_count = rule is not False and rule.get("type") == "integer"
                assert is_count or not words & {"bytes", "byte", "data", "payload", "jpeg"}, (
                    name
                )
                assert not words & {"base64", "image", "picture", "blob", "content"}, name
                assert "contentEncoding" not in json.dumps(rule)


def skips(tree: ast.AST) -> Iterator[str]:
    """Why a module skips tests, where it says so in so many words."""
    for node in nodes(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith((".skip", ".skipif")):
            reasons = [keyword.value for keyword in node.keywords if keyword.arg == "reason"]
            for value in [*node.args[:1], *reasons]:
                if isinstance(value, ast.Constant) and isinstance(value.value, str):
                    yield value.value


def is_named(reason: str) -> bool:
    """Whether a reason names what is missing; that something is not here is no name."""
    return not reason.endswith("here")


def test_a_skip_names_what_is_missing() -> None:
    """Whoever reads it knows what to install, or that there is nothing to be done."""
    for path in sources("tests"):
        for reason in skips(parsed(path)):
            assert is_named(reason), f"{path.relative_to(ROOT)}: {reason!r}"
    assert not is_named("not here")
    assert not is_named("nothing can be compiled here")


def test_no_module_stands_in_the_hall() -> None:
    """At the top of `cfw` is what the protocol is about, and words; all else has a room."""
    protocol = {"service", "state", "actions", "errors", "limits", "repository", "jpeg"}
    words = {"explanations", "printable", "settings"}
    found = {path.stem for path in (ROOT / "cfw").glob("*.py")} - {"__init__"}
    assert found == protocol | words


def test_the_top_level_has_only_its_rooms() -> None:
    """The house has no other folder than these."""
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode != 0:
        pytest.skip("this is not a git checkout")
    allowed = {"cfw", "schemas", "tests", "pyproject.toml", "noxfile.py"}
    allowed |= {"README.md", "LICENSE", "CHANGELOG.md"}
    tops = {line.split("/")[0] for line in listed.stdout.splitlines()}
    assert {top for top in tops if not top.startswith(".")} <= allowed
