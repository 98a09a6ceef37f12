"""How many descriptors there may be, and how many of them connections leave alone."""

from __future__ import annotations

import sys

#: Descriptors that connections leave to the rest of the process: to sinks, to the session
#: authority, to the admin listener. Never more than this part of what there are.
RESERVE = 64
RESERVED_PART = 4


def descriptor_limit() -> int:
    """How many descriptors this process may have open; a number out of reach if any."""
    if sys.platform == "win32":
        return sys.maxsize
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if soft == resource.RLIM_INFINITY else soft


def raise_descriptor_limit(wanted: int) -> int:
    """Ask the system for so many descriptors; answers how many there may be.

    Args:
        wanted: nothing is changed when there are as many already.
    """
    if descriptor_limit() >= wanted or sys.platform == "win32":
        return descriptor_limit()
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return soft
