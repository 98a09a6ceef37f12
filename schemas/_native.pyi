from collections.abc import Callable
from typing import TypeVar

import attrs

_M = TypeVar("_M", bound=attrs.AttrsInstance)

def make_reader(
    cls: type[_M],
    *,
    required: frozenset[str] = ...,
    forbidden: frozenset[str] = ...,
) -> Callable[[str | bytes], _M | None]: ...
