"""Compiles every `_native.pyx` while cfw is installed; where it cannot, cfw does without.

Hatchling calls it for a wheel, which takes the modules along, and for an editable install,
where each lies beside its source. The pure code that a module stands in for is installed in
any case, so nothing here may end an installation: what went wrong is said in one line.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
import sysconfig
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PACKAGES = ("schemas", "cfw")
SUFFIX = sysconfig.get_config_var("EXT_SUFFIX") or ".so"
#: What ziglang, a C compiler that pip can install, takes while it is unpacked; its wheel is for
#: these processors among others, under the names that Linux gives them.
ZIG_BYTES = 700_000_000
ZIG_MACHINES = ("x86_64", "aarch64")


class NativeBuildHook(BuildHookInterface[Any]):
    """The custom hook of the wheel target."""

    def dependencies(self) -> list[str]:
        """What pip has to fetch first; nothing where nothing will be compiled."""
        if obstacle() is not None:
            return []
        zig = ["ziglang>=0.13"] if is_without_compiler() else []
        return ["cython>=3.1", "setuptools>=77", *zig]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, and put the modules where an installation of this kind looks for them."""
        root = Path(self.root)
        self.made = Path(tempfile.mkdtemp(prefix="cfw-build-"))
        sources = native_sources(root)
        problem = obstacle()
        try:
            if version == "editable":
                if problem is None:
                    sources = {name: path for name, path in sources.items() if is_old(path)}
                for path in sources.values():
                    # What an older source was compiled to must not stand in for this one.
                    beside(path).unlink(missing_ok=True)
            stamps = {name: stamp(path) for name, path in sources.items()}
            if problem is None and sources:
                compile_all(sources, root, self.made)
            for name in list(sources):
                compiled = beside(self.made.joinpath(*name.split(".")))
                if not compiled.exists():
                    continue
                source = sources.pop(name)
                if version == "editable":
                    place(compiled, beside(source), stamps[name])
                else:
                    target = beside(source).relative_to(root).as_posix()
                    build_data["force_include"][str(compiled)] = target
                    build_data.update(pure_python=False, infer_tag=True)
        except Exception as exc:  # an installation without the compiled part is whole
            problem = f"{type(exc).__name__}: {exc}"
        if sources:
            self.app.display_warning(
                f"cfw: not compiled: {', '.join(sources)} ({problem or 'see above'}). "
                "Pure Python does the same, more slowly."
            )

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Leave nothing behind."""
        shutil.rmtree(self.made, ignore_errors=True)


def native_sources(root: Path) -> dict[str, Path]:
    """Each native module by its name, and its source."""
    found = [path for package in PACKAGES for path in (root / package).rglob("_native.pyx")]
    return {".".join(path.relative_to(root).with_suffix("").parts): path for path in found}


def beside(path: Path) -> Path:
    """Where this Python looks for the compiled module of a source."""
    return path.with_name("_native" + SUFFIX)


def stamp(source: Path) -> int:
    """The time that tells one version of a source, or of this file, from another."""
    return max(path.stat().st_mtime_ns for path in (source, Path(__file__)))


def is_old(source: Path) -> bool:
    """Whether the module beside a source is missing or was made from another version of it."""
    compiled = beside(source)
    return not compiled.exists() or compiled.stat().st_mtime_ns != stamp(source)


def place(compiled: Path, target: Path, stamped: int) -> None:
    """Put a module where a running process may still use the one before it."""
    # Under a name of its own: another installation may do the same at this moment.
    new = target.with_name(f"_native.{uuid4().hex}{SUFFIX}")
    shutil.copyfile(compiled, new)
    os.utime(new, ns=(stamped, stamped))
    new.replace(target)


def obstacle() -> str | None:
    """Why nothing can or should be compiled here; None if something can."""
    if os.environ.get("CFW_BUILD") == "pure":
        return "CFW_BUILD=pure"
    if sys.implementation.name != "cpython":
        return f"this is {sys.implementation.name}, where compiled code is not faster"
    if not Path(sysconfig.get_path("include"), "Python.h").exists():
        return "the headers of Python are missing: install python3-dev or the like"
    if is_without_compiler() and not can_use_zig():
        return "there is no C compiler: install gcc or clang"
    return None


def is_without_compiler() -> bool:
    """Whether neither setuptools nor `other_compiler` will find a C compiler.

    On Windows setuptools knows where to look, and says so if there is none.
    """
    return os.name != "nt" and not has_compiler_of_python() and other_compiler() is None


def has_compiler_of_python() -> bool:
    """Whether the compiler is here that setuptools takes: CC, or the one that made Python."""
    words = (os.environ.get("CC") or sysconfig.get_config_var("CC") or "").split()
    return bool(words) and shutil.which(words[0]) is not None


def other_compiler() -> str | None:
    """A C compiler by another name than the one that made Python."""
    found = map(shutil.which, ("cc", "gcc", "clang"))
    return next(filter(None, found), None)


def can_use_zig() -> bool:
    """Whether pip can install `ziglang`: it would end the installation if it could not."""
    if sys.platform != "linux" or platform.machine() not in ZIG_MACHINES:
        return False
    return shutil.disk_usage(tempfile.gettempdir()).free >= ZIG_BYTES


def compile_all(sources: dict[str, Path], root: Path, made: Path) -> None:
    """Compile the modules into a folder; one that fails is missing there."""
    from Cython.Build import cythonize
    from Cython.Compiler.Errors import CompileError
    from setuptools import Distribution, Extension
    from setuptools.command.build_ext import build_ext

    command: list[str] | None = None
    if is_without_compiler():
        caches = dict.fromkeys(("ZIG_GLOBAL_CACHE_DIR", "ZIG_LOCAL_CACHE_DIR"), str(made))
        os.environ.update(caches)
        # Without -mcpu it compiles for the very processor it runs on.
        command = [sys.executable, "-m", "ziglang", "cc", "-mcpu=baseline"]
    elif os.name != "nt" and not has_compiler_of_python():
        command = [str(other_compiler())]

    class BuildExt(build_ext):  # type: ignore[misc]
        def build_extensions(self) -> None:
            if command is not None:
                # The flags that Python was made with are for another compiler.
                self.compiler.set_executables(
                    compiler_so=[*command, "-fPIC", "-fwrapv", "-DNDEBUG"],
                    # Without -O3 zig links with debug helpers, which it compiles first.
                    linker_so=[*command, "-O3", "-shared"],
                )
            super().build_extensions()

    flags = [] if os.name == "nt" else ["-O3", "-g0"]
    extensions = []
    for name, path in sources.items():
        extension = Extension(name, [str(path)], extra_compile_args=flags, optional=True)
        with suppress(CompileError):  # it has been printed
            extensions += cythonize(  # type: ignore[no-untyped-call]
                [extension], build_dir=str(made / "c"), include_path=[str(root)], quiet=True
            )
    build = BuildExt(Distribution({"name": "cfw", "ext_modules": extensions}))
    build.build_lib = build.build_temp = str(made)
    build.parallel = True
    build.ensure_finalized()
    build.run()
