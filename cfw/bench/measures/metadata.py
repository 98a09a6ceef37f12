"""What reading the metadata of a frame costs, in several ways."""

from __future__ import annotations

from cfw.bench.reading import cost_us, texts, ways
from cfw.bench.rounds import Rounds
from cfw.bench.tables import Column, Sample, Table, summarise

METADATA = (Column("us", "CPU µs", 2),)


def tables(rounds: Rounds) -> list[Table]:
    """In this process: no server has to be asked."""
    plan, title, frames = rounds.plan, "reading the metadata of a frame", texts()
    try:
        known = ways()
    except ImportError as exc:
        needs = f"msgspec comes with camera-feed-worker[bench] ({exc})"
        return [summarise("metadata", title, METADATA, {}, {"metadata": needs})]
    samples: dict[str, list[Sample]] = {name: [] for name in known}
    for turn in range(plan.rounds):
        for name, way in known.items():
            rounds.tell(f"{title}: {name}, round {turn + 1} of {plan.rounds}")
            samples[name].append({"us": cost_us(way, frames, plan.seconds / 4)})
    return [summarise("metadata", title, METADATA, samples, {})]
