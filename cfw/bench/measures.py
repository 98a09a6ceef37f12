"""What is measured: each measure starts every server, and takes turns between them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from functools import partial

import attrs

from cfw.bench.load import LOAD_LATE_MS, Sent, drive, open_rigs
from cfw.bench.peers import BARE
from cfw.bench.reading import cost_us, texts, ways
from cfw.bench.rig import BenchError, Rig, connect
from cfw.bench.servers import STALLED, Server, running, shown
from cfw.bench.tables import Column, Sample, Table, percentile, summarise

NAMES = (
    *("pace", "rigs", "rates", "abort", "idle", "memory", "flood", "viewers"),
    "metadata",
)
#: Measured unless told otherwise; a search for the most rigs takes minutes.
USUALLY = tuple(name for name in NAMES if name != "rigs")
#: Delays need servers that note them.
_STAMPED = ("pace", "rigs", "flood")
#: What the same processes are used for; memory is weighed on fresh ones.
_GROUPS = (("idle",), ("rates", "abort", "viewers"), _STAMPED)
#: A size and a number of rigs are left out together when a server would have to hold more.
MOST_BYTES = 500_000_000
VIEWERS = 20
FPS = 15.0
FRAME_BYTES = 30_000
#: A frame that reaches the sink so long after its last byte was sent is late.
LATE_MS = 50.0
#: A search for the most rigs: where it begins and ends, and how near it gets.
FIRST_RIGS = 64
MOST_RIGS = 4_000
STEP = 0.05
#: Fair trials that refuse a number, and its trials in all: one whose load was late is not fair.
REFUSALS = 2
TRIALS = 5
#: Frames before the violation that an abort is measured from.
_FRAMES_BEFORE = 3
#: The forward buffers that are filled, and the frames that fill them.
BUFFER_BYTES = (16_000_000, 64_000_000)
_FILLED_WITH = (FRAME_BYTES, 300_000, 2_000_000)


@attrs.frozen
class Plan:
    """How much is measured.

    Args:
        sizes: bytes per frame.
        connections: rigs at a time, for all sizes.
        more_connections: further numbers of rigs, for 30 kB only.
        seconds: of one run at full speed.
        rounds: runs of each server; the median counts.
        fps: frames a second of a rig that sends at a pace.
        paced_s: seconds of one run at a pace.
        paced_rounds: rounds of those runs.
        paced_rigs: rigs that send at a pace, for all sizes of `paced_sizes`.
        paced_sizes: bytes of their frames.
        aborts: violations in one run.
        idle: idle connections.
    """

    sizes: tuple[int, ...] = (1_000, FRAME_BYTES, 300_000, 2_000_000)
    connections: tuple[int, ...] = (10,)
    more_connections: tuple[int, ...] = (1, 100)
    seconds: float = 1.0
    rounds: int = 3
    fps: float = FPS
    paced_s: float = 5.0
    paced_rounds: int = 3
    paced_rigs: tuple[int, ...] = (20, 100, 300)
    paced_sizes: tuple[int, ...] = (FRAME_BYTES,)
    aborts: int = 200
    idle: int = 2_000

    def loads(self) -> list[tuple[int, int]]:
        """Sizes and numbers of rigs that are measured together."""
        loads = [(size, number) for size in self.sizes for number in self.connections]
        if FRAME_BYTES in self.sizes:
            extra = set(self.more_connections) - set(self.connections)
            loads += [(FRAME_BYTES, number) for number in sorted(extra)]
        return [(size, number) for size, number in loads if size * number <= MOST_BYTES]


SHORT = Plan(
    more_connections=(100,),
    seconds=0.2,
    paced_s=1.0,
    paced_rounds=1,
    paced_rigs=(100,),
    aborts=50,
    idle=300,
)
USUAL = Plan(more_connections=(1, 100, 1_000))
FULL = Plan(
    connections=(1, 10, 100, 1_000),
    seconds=2.0,
    rounds=5,
    paced_s=10.0,
    paced_rounds=5,
    paced_rigs=(20, 100, 300, 500),
)

RATES = (
    Column("frames_per_s", "frames/s", is_ratio=True),
    Column("cpu_us", "CPU µs", 1, is_ratio=True),
    Column("megabytes_per_s", "MB/s"),
    Column("peak_mb", "peak MB"),
    Column("busy", "busy", 2),
)
PACE = (
    Column("cpu_us", "CPU µs", 1, is_ratio=True),
    Column("user_us", "user", 1),
    Column("system_us", "sys", 1),
    Column("busy", "busy", 2),
    Column("p50_ms", "p50 ms", 2),
    Column("p99_ms", "p99 ms", 2),
    Column("max_ms", "max ms", 1),
    Column("late", "late"),
    Column("aborted", "abor ted"),
    Column("load_busy", "load busy", 2),
    Column("load_late_ms", "load late", 2),
)
RIGS = (
    Column("rigs", "rigs", is_ratio=True),
    Column("cpu_us", "CPU µs", 1),
    Column("busy", "busy", 2),
    Column("p99_ms", "p99 ms", 2),
    Column("load_busy", "load busy", 2),
    Column("load_late_ms", "load late", 2),
)
ABORT = (
    Column("p50_ms", "p50 ms", 2, is_ratio=True),
    Column("p99_ms", "p99 ms", 2, is_ratio=True),
)
IDLE = (Column("kilobytes", "kB a connection", 1, is_ratio=True),)
MEMORY = (
    Column("ratio", "peak / buffer", 3),
    Column("peak_mb", "peak MB", 2),
    Column("kept_mb", "MB kept behind it", 2),
)
FLOOD = (
    Column("p99_flooded_ms", "p99 flooded ms", 2, is_ratio=True),
    Column("p99_alone_ms", "p99 alone ms", 2),
    Column("times", "times as long", 1),
)
WATCHED = (
    Column("kept", "rate kept", 3),
    Column("watched_per_s", "frames/s watched"),
    Column("alone_per_s", "frames/s alone"),
    Column("paced_kept", "rate kept at 15 fps", 3),
    Column("paced_busy", "busy at 15 fps", 3),
)
METADATA = (Column("us", "CPU µs", 2),)


class Bench:
    """Runs measures.

    Args:
        servers: names of the servers; see `servers.running`.
        core: where they run.
        plan: how much.
        tell: called with what is going on.
    """

    def __init__(
        self, servers: Sequence[str], core: int, plan: Plan, tell: Callable[[str], object]
    ) -> None:
        self._names = list(servers)
        self._core = core
        self._plan = plan
        self._tell = tell
        self._servers: list[Server] = []
        self._problems: dict[str, str] = {}

    def run(self, measures: Iterable[str]) -> list[Table]:
        """Run measures by their names; gives their tables in the order of `NAMES`."""
        wanted = set(measures)
        every: dict[str, Callable[[], list[Table]]] = {
            "rates": self._rates,
            "pace": self._pace,
            "rigs": self._rigs,
            "abort": self._abort,
            "idle": self._idle,
            "flood": self._flood,
            "viewers": self._viewers,
        }
        tables: list[Table] = []
        for group in _GROUPS:
            names = [name for name in group if name in wanted]
            if not names:
                continue
            self._tell("starting the servers")
            with running(self._names, self._core, is_stamped=group is _STAMPED) as started:
                self._servers, self._problems = started
                for name in names:
                    tables += every[name]()
        if "memory" in wanted:
            tables += self._memory()
        if "metadata" in wanted:
            tables.append(self._metadata())
        return sorted(tables, key=lambda table: NAMES.index(table.name))

    def _rates(self) -> list[Table]:
        plan = self._plan
        tables = []
        for size, number in plan.loads():
            measure = partial(rate, size=size, number=number, seconds=plan.seconds)
            rigs = "1 rig" if number == 1 else f"{number} rigs"
            title = f"{_size(size)} a frame, {rigs} at full speed"
            tables.append(self._table("rates", title, RATES, measure, self._names))
        return tables

    def _pace(self) -> list[Table]:
        plan = self._plan
        tables = []
        for size in plan.paced_sizes:
            for number in plan.paced_rigs:
                measure = partial(
                    pace, number=number, seconds=plan.paced_s, fps=plan.fps, size=size
                )
                title = f"{number} rigs at {plan.fps:g} fps of {_size(size)}"
                tables.append(
                    self._table("pace", title, PACE, measure, self._names, plan.paced_rounds)
                )
        return tables

    def _rigs(self) -> list[Table]:
        plan = self._plan
        tables = []
        for size in plan.paced_sizes:
            measure = partial(most_rigs, seconds=plan.paced_s, fps=plan.fps, size=size)
            title = (
                f"rigs at {plan.fps:g} fps of {_size(size)} that one core holds: p99 under "
                f"{LATE_MS:g} ms, no capture aborted"
            )
            rounds = plan.paced_rounds
            tables.append(self._table("rigs", title, RIGS, measure, self._contracts(), rounds))
        return tables

    def _abort(self) -> list[Table]:
        measure = partial(abort, number=self._plan.aborts)
        title = f"from a wrong seq to the close frame, {self._plan.aborts} captures"
        return [self._table("abort", title, ABORT, measure, self._contracts())]

    def _idle(self) -> list[Table]:
        measure = partial(idle, number=self._plan.idle)
        title = f"memory of a connection with an open capture, {self._plan.idle} of them"
        return [self._table("idle", title, IDLE, measure, self._names, 1)]

    def _memory(self) -> list[Table]:
        tables = []
        for buffer_bytes in BUFFER_BYTES:
            for size in _FILLED_WITH:
                # A process each: what one has freed would hide what the next one takes.
                stalled = running([STALLED], self._core, buffer_bytes=buffer_bytes)
                with stalled as (self._servers, self._problems):
                    measure = partial(memory, size=size, buffer_bytes=buffer_bytes)
                    title = (
                        "peak memory of a capture that fills its forward buffer of "
                        f"{_size(buffer_bytes)} with frames of {_size(size)}"
                    )
                    tables.append(self._table("memory", title, MEMORY, measure, [STALLED], 1))
        return tables

    def _flood(self) -> list[Table]:
        plan = self._plan
        measure = partial(flood, number=10, seconds=plan.paced_s)
        title = (
            f"delay of 10 rigs at {FPS:g} fps of {_size(FRAME_BYTES)}, beside one more that "
            "sends as fast as it can"
        )
        return [
            self._table("flood", title, FLOOD, measure, self._contracts(), plan.paced_rounds)
        ]

    def _viewers(self) -> list[Table]:
        measure = partial(viewers, seconds=max(self._plan.seconds, 0.5))
        title = f"one rig of {_size(FRAME_BYTES)}, watched by {VIEWERS} live viewers"
        hubs = [name for name in self._names if name == "cfw hub:"]
        return [self._table("viewers", title, WATCHED, measure, hubs)] if hubs else []

    def _metadata(self) -> Table:
        """In this process: no server has to be asked."""
        title, frames = "reading the metadata of a frame", texts()
        try:
            known = ways()
        except ImportError as exc:
            needs = f"msgspec comes with camera-feed-worker[bench] ({exc})"
            return summarise("metadata", title, METADATA, {}, {"metadata": needs})
        samples: dict[str, list[Sample]] = {name: [] for name in known}
        for turn in range(self._plan.rounds):
            for name, way in known.items():
                self._tell(f"{title}: {name}, round {turn + 1} of {self._plan.rounds}")
                samples[name].append({"us": cost_us(way, frames, self._plan.seconds / 4)})
        return summarise("metadata", title, METADATA, samples, {})

    def _contracts(self) -> list[str]:
        """The servers that check anything."""
        return [name for name in self._names if name not in BARE]

    def _table(
        self,
        name: str,
        title: str,
        columns: Sequence[Column],
        measure: Callable[[Server], Sample],
        names: list[str],
        rounds: int | None = None,
    ) -> Table:
        """Run one measure on servers in turn, round after round."""
        rounds = self._plan.rounds if rounds is None else rounds
        samples: dict[str, list[Sample]] = {}
        problems = {who: why for who, why in self._problems.items() if who in names}
        for turn in range(rounds):
            for server in self._servers:
                if server.name in problems or server.name not in names:
                    continue
                self._tell(f"{title}: {shown(server.name)}, round {turn + 1} of {rounds}")
                try:
                    sample = measure(server)
                except (BenchError, OSError) as exc:
                    problems[server.name] = str(exc) or type(exc).__name__
                    samples.pop(server.name, None)
                else:
                    samples.setdefault(server.name, []).append(sample)
        named = {shown(who): samples[who] for who in samples}
        return summarise(
            name, title, columns, named, {shown(who): why for who, why in problems.items()}
        )


def rate(server: Server, *, size: int, number: int, seconds: float) -> Sample:
    """Send as fast as the server takes it.

    The CPU of a frame is what the run used, less what as many captures without a frame use to
    end: with 1 000 rigs their ends alone are a fifth of a run of one second.
    """
    server.reset_peak()
    _, ends_s = _driven(server, size, number, 0)
    sent, used = _driven(server, size, number, seconds)
    frames = sum(sent.frames)
    peak = server.peak_bytes()
    cpu_s = None if used is None or ends_s is None else used - ends_s
    return {
        "frames_per_s": frames / sent.seconds,
        "megabytes_per_s": frames * size / sent.seconds / 1e6,
        "cpu_us": None if cpu_s is None else cpu_s / frames * 1e6,
        "peak_mb": None if peak is None else peak / 1e6,
        "busy": None if used is None else used / sent.seconds,
    }


def _driven(
    server: Server, size: int, number: int, seconds: float
) -> tuple[Sent, float | None]:
    """Let rigs send at full speed; gives what they sent and the CPU seconds it took."""
    rigs = open_rigs(server.port, number, size)
    server.wait_quiet()
    before = server.cpu_s()
    sent = drive(rigs, seconds)
    return sent, _since(server, before)


def pace(
    server: Server, *, number: int, seconds: float, fps: float, size: int = FRAME_BYTES
) -> Sample:
    """Let rigs send at a pace, and see what a frame costs and how long it takes.

    CPU is counted from the second frame of each rig to the last one, so that neither opening
    nor closing captures is part of it.
    """
    rigs = open_rigs(server.port, number, size)
    server.wait_quiet()
    server.delays_ns()
    used: list[tuple[float, float] | None] = []
    frames: list[int] = []

    def note() -> None:
        used.append(server.split_s())
        frames.append(sum(rig.frames for rig in rigs))

    began_s = min(1 / fps, seconds / 2)
    marks = [(began_s, note), (seconds, note)]
    sent = drive(rigs, seconds, fps=fps, may_abort=True, marks=marks)
    delays = [ns / 1e6 for ns in server.delays_ns()]
    return {
        **_costs(used, frames[1] - frames[0], seconds - began_s),
        # A server that looks at no frame knows no delay.
        "p50_ms": percentile(delays, 50) if delays else None,
        "p99_ms": percentile(delays, 99) if delays else None,
        "max_ms": max(delays) if delays else None,
        "late": sum(delay > LATE_MS for delay in delays) + sent.left_out if delays else None,
        "aborted": sent.aborted,
        "load_busy": sent.load_busy,
        "load_late_ms": percentile(sent.late_ms, 99),
    }


def _costs(
    used: Sequence[tuple[float, float] | None], frames: int, seconds: float
) -> dict[str, float | None]:
    """CPU of a frame, and the share of its core, between two looks at a server."""
    before, after = used
    if before is None or after is None or not frames:
        return dict.fromkeys(("cpu_us", "user_us", "system_us", "busy"))
    user, system = after[0] - before[0], after[1] - before[1]
    return {
        "cpu_us": (user + system) / frames * 1e6,
        "user_us": user / frames * 1e6,
        "system_us": system / frames * 1e6,
        "busy": (user + system) / seconds,
    }


def most_rigs(server: Server, *, seconds: float, fps: float, size: int) -> Sample:
    """Find how many rigs a core holds, to `STEP` of their number, by bisection.

    A number that fails is tried once more, for something else may have been in its way. A
    trial whose load was late does not count either way: frames that come in bunches are
    cheaper, and wait longer.

    Raises:
        BenchError: the load was late again and again, or the server does not hold a single rig.
    """
    held, refused, best = 0, 0, None
    number = FIRST_RIGS
    while not refused or refused - held > max(held * STEP, 1):
        sample = _holds(server, number, seconds, fps, size)
        if sample is None:
            refused = number
        else:
            held, best = number, sample
        if held >= MOST_RIGS:
            break
        number = (held + refused) // 2 if refused else min(2 * held, MOST_RIGS)
        if not number:
            break
    if best is None:
        raise BenchError("it does not hold a single rig")
    return {"rigs": held, **best}


def _holds(server: Server, number: int, seconds: float, fps: float, size: int) -> Sample | None:
    """What so many rigs cost; None when they are too many."""
    refusals = 0
    for _ in range(TRIALS):
        sample = pace(server, number=number, seconds=seconds, fps=fps, size=size)
        p99_ms = sample["p99_ms"]
        if p99_ms is None:
            raise BenchError("no frame reached the sink")
        if (sample["load_late_ms"] or 0.0) > LOAD_LATE_MS:
            continue
        if p99_ms < LATE_MS and not sample["aborted"]:
            return sample
        refusals += 1
        if refusals == REFUSALS:
            return None
    raise BenchError(
        f"the load sent the frames of {number} rigs late in most of {TRIALS} trials, so "
        "nothing is known of the server: measure on a machine with nothing else to do"
    )


def abort(server: Server, *, number: int) -> Sample:
    """Break the contract in the middle of a capture, and see how soon that is said."""
    took_ms = []
    for n in range(number):
        rig = Rig(server.port, n, FRAME_BYTES)
        try:
            rig.open()
            for _ in range(_FRAMES_BEFORE):
                rig.sock.sendall(rig.next_meta() + rig.data)
            server_has_it = time.perf_counter() + 0.002
            while time.perf_counter() < server_has_it:
                pass
            began = time.perf_counter()
            rig.say(rig.meta(seq=_FRAMES_BEFORE + 7))
            end = rig.wait_end()
            took_ms.append((time.perf_counter() - began) * 1e3)
            if end.code != 1008:
                raise BenchError(f"a wrong seq was answered with {end.code} {end.reason}")
        finally:
            rig.close()
    return {"p50_ms": percentile(took_ms, 50), "p99_ms": percentile(took_ms, 99)}


def idle(server: Server, *, number: int) -> Sample:
    """Open captures that send nothing, and see what they weigh."""
    for rig in open_rigs(server.port, 20, FRAME_BYTES):
        rig.close()  # what is loaded by the first connections is not theirs
    server.wait_quiet()
    before = server.resident_bytes()
    rigs = open_rigs(server.port, number, 100)
    try:
        server.wait_quiet()
        after = server.resident_bytes()
    finally:
        for rig in rigs:
            rig.close()
    if before is None or after is None:
        return {"kilobytes": None}
    return {"kilobytes": (after - before) / number / 1e3}


def memory(server: Server, *, size: int, buffer_bytes: int) -> Sample:
    """Fill the forward buffer of one capture until it is aborted, and see what that takes.

    The ratio is the most memory that the process had meanwhile, less what it had without a
    capture, to the configured `max_forward_buffer_bytes`. So it counts all that a capture
    whose sink takes nothing can cost the machine: the frames that wait, the one that finds no
    room, what was read and is not decoded yet, and what the allocator wastes; not what the
    kernel holds in its sockets.
    """
    warm = Rig(server.port, 0, 100)
    warm.open()
    warm.say(warm.meta(seq=7))
    warm.wait_end()  # what is loaded by the first capture is not part of the next one
    warm.close()
    server.wait_quiet()
    before = server.resident_bytes()
    server.reset_peak()
    rig = Rig(server.port, 1, size)
    try:
        rig.open()
        for _ in range(buffer_bytes // size + 1):
            rig.sock.sendall(rig.next_meta() + rig.data)
        end = rig.wait_end()
    finally:
        rig.close()
    if not end.reason.startswith("limit_forward_buffer_exceeded"):
        raise BenchError(f"a full buffer was answered with {end.code} {end.reason}")
    peak = server.peak_bytes()
    server.wait_quiet()
    after = server.resident_bytes()
    if before is None or peak is None or after is None:
        return {"ratio": None, "peak_mb": None, "kept_mb": None}
    return {
        "ratio": (peak - before) / buffer_bytes,
        "peak_mb": (peak - before) / 1e6,
        "kept_mb": (after - before) / 1e6,
    }


def flood(server: Server, *, number: int, seconds: float) -> Sample:
    """See how one rig that sends as fast as it can delays the frames of others."""
    p99 = []
    for flooders in (0, 1):
        rigs = open_rigs(server.port, number, FRAME_BYTES)
        flooding = open_rigs(server.port, flooders, FRAME_BYTES)
        server.delays_ns()
        drive(rigs, seconds, fps=FPS, flooding=flooding)
        p99.append(percentile(_delays_ms(server), 99))
    return {"p99_alone_ms": p99[0], "p99_flooded_ms": p99[1], "times": p99[1] / p99[0]}


def viewers(server: Server, *, seconds: float) -> Sample:
    """See what live viewers of a capture cost it, at full speed and at 15 frames a second."""
    alone_per_s, _ = _watched(server, 0, seconds, None)
    watched_per_s, _ = _watched(server, VIEWERS, seconds, None)
    paced_alone_per_s, _ = _watched(server, 0, seconds, FPS)
    paced_per_s, paced_busy = _watched(server, VIEWERS, seconds, FPS)
    return {
        "alone_per_s": alone_per_s,
        "watched_per_s": watched_per_s,
        "kept": watched_per_s / alone_per_s,
        "paced_kept": paced_per_s / paced_alone_per_s,
        "paced_busy": paced_busy,
    }


def _watched(
    server: Server, number: int, seconds: float, fps: float | None
) -> tuple[float, float | None]:
    assert server.admin is not None
    port = int(server.admin.rpartition(":")[2])
    (rig,) = open_rigs(server.port, 1, FRAME_BYTES)
    path = f"/feed?mode=live&capture_id={rig.capture_id}"
    with ExitStack() as stack:
        readers = [stack.enter_context(connect(port, path)[0]) for _ in range(number)]
        before = server.cpu_s()
        sent = drive([rig], seconds, fps=fps, readers=readers)
        used = _since(server, before)
    busy = None if used is None else used / sent.seconds
    # A rig that had to wait at 15 frames a second has left frames out.
    over = seconds if fps is not None else sent.seconds
    return sum(sent.frames) / over, busy


def _delays_ms(server: Server) -> list[float]:
    delays = [ns / 1e6 for ns in server.delays_ns()]
    if not delays:
        raise BenchError("no frame reached the sink")
    return delays


def _since(server: Server, before: float | None) -> float | None:
    now = server.cpu_s()
    return None if before is None or now is None else now - before


def _size(size: int) -> str:
    return f"{size / 1e6:g} MB" if size >= 1_000_000 else f"{size / 1e3:g} kB"
