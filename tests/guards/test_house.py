"""What the import contract cannot say: files, shims, surfaces and schemas."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import cfw
import schemas
from cfw.api.routes import camera_feed_worker_routes as shim

ROOT = Path(cfw.__file__).parent.parent
CORE = ("service", "state", "actions", "jpeg", "errors", "limits", "settings")
#: What a recorder would need: encoders, containers, data files, databases.
RECORDERS = {
    *("cv2", "av", "imageio", "ffmpeg", "h5py", "zarr", "pyarrow", "pandas"),
    *("sqlite3", "shelve", "dbm", "pickle", "zipfile", "tarfile", "tempfile", "shutil", "mmap"),
}
#: Calls that can put something on a disk, by their last name or in full.
WRITERS = {
    *("open", "fdopen", "open_file", "FileIO", "BufferedWriter", "TextIOWrapper"),
    *("write_bytes", "write_text", "touch", "mkdir", "makedirs", "mkstemp", "truncate"),
    *("os.open", "os.write", "os.replace", "os.rename", "os.mknod", "os.mkfifo", "os.link"),
    *("os.symlink", "symlink_to", "hardlink_to", "os.pwrite", "os.writev", "os.sendfile"),
}


def sources(folder: str) -> list[Path]:
    found = sorted((ROOT / folder).rglob("*.py"))
    assert found
    return found


def imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"), str(path))


def test_nothing_outside_imports_more_of_schemas_than_its_surface() -> None:
    """Others write `from schemas import ...`, and find all of it in `__all__`."""
    for path in (*sources("cfw"), *sources("tests")):
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.ImportFrom) and node.module == "schemas":
                names = {alias.name for alias in node.names}
                assert names <= set(schemas.__all__), path
        assert not [name for name in imports(parsed(path)) if name.startswith("schemas.")], path
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


def test_the_application_mounts_the_router_once_and_holds_no_route_logic() -> None:
    """One call makes the router; the application knows no protocol, state or action."""
    tree = parsed(ROOT / "cfw/api/main.py")
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    assert [ast.unparse(call.func) for call in calls].count("Router") == 1
    for name in imports(tree):
        assert not name.startswith(("cfw.service", "cfw.state", "cfw.actions", "cfw.wire"))


def writers(tree: ast.AST) -> list[str]:
    """The calls of a module that can put something on a disk."""
    calls = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    names = [ast.unparse(func) for func in calls]
    return [name for name in names if name in WRITERS or name.split(".")[-1] in WRITERS]


@pytest.mark.parametrize("path", sources("cfw"), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_file_is_written_but_by_the_command_line(path: Path) -> None:
    """Nothing under cfw opens a file by name, or imports what a recorder would."""
    tree = parsed(path)
    assert not {name.split(".")[0] for name in imports(tree)} & RECORDERS
    if not path.is_relative_to(ROOT / "cfw/cli"):
        assert writers(tree) == []


@pytest.mark.parametrize(
    "line",
    [
        "open('f', 'wb')",
        "open('f', mode='wb')",
        "open(file='f', mode=m)",
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
    # The shorter capture of the demo lasts 8 s; the rest is for a machine that is busy.
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
    main(["demo", "--seconds", "16", "--port", "0", "--admin-port", "0"])
except SystemExit:
    pass
print("written:", opened)
"""
    ran = subprocess.run(
        [sys.executable, "-B", "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "closed with 1000" in ran.stdout
    assert ran.stdout.splitlines()[-1] == "written: []"


def test_the_core_is_pure() -> None:
    """Importing the core brings in no Trio, no event loop, no logging library."""
    forbidden = ("trio", "trio_websocket", "structlog", "asyncio", "wsproto", "httpx")
    code = (
        f"import json, sys; {'; '.join(f'import cfw.{name}' for name in CORE)}; "
        "print(json.dumps(sorted(sys.modules)))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, text=True
    )
    assert not set(json.loads(ran.stdout)) & set(forbidden)
    for name in CORE:
        tree = parsed(ROOT / f"cfw/{name}.py")
        assert not [node for node in ast.walk(tree) if isinstance(node, ast.AsyncFunctionDef)]
        assert "close_code" not in (ROOT / f"cfw/{name}.py").read_text("utf-8")


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
