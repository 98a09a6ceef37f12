"""`schemas/PROTOCOL.md` tells the fields that the classes have."""

from __future__ import annotations

import re
from pathlib import Path

import attrs
import pytest

import schemas
from cfw.limits import Limits, Times, limits_told

TEXT = (Path(schemas.__file__).parent / "PROTOCOL.md").read_text("utf-8")


@pytest.mark.parametrize("direction", sorted(schemas.json_schemas()))
def test_the_tables_tell_every_field_of_every_message(direction: str) -> None:
    """Required, optional, forbidden and absent, for each event of each direction."""
    table = TEXT.split(f"`{direction}`")[1].split("| field |")[1].split("\n\n")[0]
    head, _, *rows = (line.strip("| ").split("|") for line in f"f |{table}".splitlines())
    events = [cell.strip() for cell in head[1:-1]]
    told = {
        (row[0].strip(), event): cell.strip()
        for row in rows
        for event, cell in zip(events, row[1:-1], strict=True)
        if cell.strip()
    }
    known = {}
    for message in schemas.json_schemas()[direction]["$defs"].values():
        properties = message["properties"]
        (event,) = properties["event"]["enum"]
        for name, rule in properties.items():
            kind = "required" if name in message["required"] else "optional"
            known[name, event] = "forbidden" if rule == {"type": "null"} else kind
    assert told == known


def test_the_table_of_limits_tells_what_the_header_has() -> None:
    """Each field with its type; the example shows them in their order."""
    table = TEXT.split("| field of `Cfw-Limits` |")[1].split("\n\n")[0]
    told = dict(re.findall(r"^\| (\w+) \| (number|integer) \|", table, re.MULTILINE))
    kinds = {"float": "number", "int": "integer"}
    fields = attrs.fields(schemas.WorkerLimits)
    assert told == {field.name: kinds[str(field.type)] for field in fields}
    (example,) = re.findall(r"^Cfw-Limits: (.*)$", TEXT, re.MULTILINE)
    greeting = schemas.Greeting(schemas.WorkerLimits.parse(example), None)
    assert greeting.headers() == [(b"Cfw-Limits", example.encode())]
    assert greeting.limits == limits_told(Limits(), Times())
