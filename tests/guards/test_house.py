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
CORE = ("service", "state", "actions", "jpeg", "errors", "limits")
#: What a recorder would need: encoders, containers, data files, databases.
RECORDERS = {
    *("cv2", "av", "imageio", "ffmpeg", "h5py", "zarr", "pyarrow", "pandas"),
    *("sqlite3", "shelve", "dbm", "pickle", "zipfile", "tarfile", "tempfile", "shutil", "mmap"),
}
WRITERS = {"write_bytes", "write_text", "touch", "mkdir", "makedirs", "mkstemp", "truncate"}


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


@pytest.mark.parametrize("path", sources("cfw"), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_file_is_written_but_by_the_command_line(path: Path) -> None:
    """Nothing under cfw opens a file to write, or imports what a recorder would."""
    tree = parsed(path)
    assert not {name.split(".")[0] for name in imports(tree)} & RECORDERS
    if path.is_relative_to(ROOT / "cfw/cli"):
        return
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = (
            node.func.attr if isinstance(node.func, ast.Attribute) else ast.unparse(node.func)
        )
        assert name not in WRITERS, f"{path}:{node.lineno}"
        if name in ("open", "open_file", "fdopen"):
            words = [arg.value for arg in node.args if isinstance(arg, ast.Constant)]
            assert not [w for w in words if isinstance(w, str) and set(w) & set("wax+")], path


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
