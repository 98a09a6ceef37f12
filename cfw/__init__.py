"""The camera feed worker: a pure core decides, a thin Trio shell carries it out."""

from __future__ import annotations

from importlib import import_module

__version__ = "0.2.0"

#: What an installation compiles if it can; pure Python stands in for each of them.
MODULES = ("schemas._native", "cfw.wire._native", "cfw._native")


def code_in_use() -> str:
    """`compiled`, `pure`, or `partly compiled` where a module could not be compiled."""
    found = [is_compiled(name) for name in MODULES]
    return "compiled" if all(found) else "partly compiled" if any(found) else "pure"


def is_compiled(name: str) -> bool:
    """Whether a native module can be imported."""
    try:
        import_module(name)
    except ImportError:
        return False
    return True
