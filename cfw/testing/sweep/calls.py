"""Where a scenario is defined, and the Python call that replays one of its points."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from types import CellType, FunctionType
from typing import Any

from cfw.testing.sweep.config import Config
from cfw.testing.sweep.facts import Scenario
from cfw.testing.sweep.sites import short_path
from cfw.testing.sweep.tokens import params_checksum, settings_checksum, stable

#: What a replay needs of a sweep's settings: the rest only chooses points.
_NEEDED = ("params", "heal", "limit", "seed", "allow", "without", "name")


def place_of(scenario: Scenario) -> str:
    """Module and qualified name; the file instead of the module for a script."""
    named: Any = scenario
    module = getattr(named, "__module__", "")
    code = getattr(named, "__code__", None)
    if module == "__main__" and code is not None:
        module = short_path(code.co_filename)
    return f"{module}:{getattr(named, '__qualname__', type(named).__qualname__)}"


def call_text(scenario: Scenario, settings: Mapping[str, object], name: str = "") -> str:
    """The call of `run_sweep` that replays a token, with `{token}` in its place.

    What Python cannot read back, such as an object in `params`, is left as `...`.

    Args:
        scenario: is passed to `run_sweep`.
        settings: of the sweep.
        name: what to call the scenario; empty for its own name.
    """
    name = name or getattr(scenario, "__qualname__", "scenario").rpartition("<locals>.")[2]
    words = [f"{key}={_value(settings[key])}" for key in _NEEDED if key in settings]
    return f"run_sweep({', '.join([name, *words])}, replay='{{token}}')"


def content_of(config: Config) -> str:
    """What tells two sweeps of one name in one test apart: settings and captured values.

    Values that can change, and how the work is spread, do not count.
    """
    scenario: Any = config.settings.scenario
    cells = getattr(scenario, "__closure__", None) or ()
    captured = [_captured(cell) for cell in cells]
    code = getattr(scenario, "__code__", None)
    line = getattr(code, "co_firstlineno", 0)
    chosen = (config.at, config.schedules, config.pairs, settings_checksum(config.settings))
    params = [params_checksum(one) for one in config.params]
    return repr((line, captured, chosen, params))


def _captured(cell: CellType) -> str:
    try:
        value = cell.cell_contents
    except ValueError:
        return "empty"
    fixed = (str, bytes, int, float, tuple, frozenset, type, FunctionType, type(None))
    return stable(value) if isinstance(value, fixed) else type(value).__qualname__


def _value(value: object) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, type):
        return value.__qualname__
    text = repr(value)
    try:
        ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return "..."
    return text
