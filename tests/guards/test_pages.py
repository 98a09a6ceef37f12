"""What the pages name exists: files, headings, tests, keys, commands, log lines, metrics."""

from __future__ import annotations

import ast
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path

import attrs
import click
import pytest

from cfw.admin import create_app
from cfw.admin.exposition import exposition
from cfw.admin.feed import MAX_TALK_FRAMES, TALK_S
from cfw.admin.serve import PING_S, PONG_S
from cfw.api import longest_stop_s
from cfw.api.access import READ_S
from cfw.api.config import Config, config_fields
from cfw.cli import main
from cfw.cli._lines import MOST_BYTES
from cfw.cli._streams import FLUSH_S
from cfw.cli.workers import EXIT_S, READY_S, SILENT_S
from cfw.http.http1 import MAX_BODY_BYTES, MAX_BODY_PIECES
from cfw.limits import Limits, Times
from cfw.metrics import Metrics
from cfw.repository import FILLING_RATIO, GRACE_S
from cfw.routes.admission import REFUSED_AT_A_TIME
from cfw.routes.filling import FILLING_S
from cfw.routes.outcome import LADDER
from cfw.routes.registry import ENDED_KEPT, Registry
from cfw.routes.rigs import Rigs
from cfw.sinks.hub import LOSSLESS_ITEMS
from cfw.wire.decoder import FRAGMENT_BYTES, MANY_FRAGMENTS
from cfw.wire.handshake import MAX_HEAD_BYTES, MAX_HEAD_LINES
from cfw.wire.receiver import MAX_READ_BYTES
from schemas import WorkerLimits
from tests.guards.source import ROOT, nodes, parsed, sources

PAGES = sorted(
    [
        ROOT / "README.md",
        *ROOT.glob(".github/*.md"),
        *ROOT.glob("cfw/**/*.md"),
        *ROOT.glob("schemas/**/*.md"),
    ]
)
OPERATIONS = (ROOT / "cfw/OPERATIONS.md").read_text("utf-8")
KEYS = set(config_fields())
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)


def prose(page: Path) -> str:
    """A page without its blocks of code."""
    text = page.read_text("utf-8")
    return re.sub(r"^ *```.*?^ *```", "", text, flags=re.DOTALL | re.MULTILINE)


def marked(page: Path) -> Iterator[str]:
    """What stands in marks of code and is no Python: lines of blocks, pieces within prose."""
    text = page.read_text("utf-8")
    for block in re.findall(r"^ *```\n(.*?)^ *```", text, re.DOTALL | re.MULTILINE):
        yield from block.replace("\\\n", " ").splitlines()
    yield from (" ".join(piece.split()) for piece in re.findall(r"`([^`]+)`", prose(page)))


def slug(heading: str) -> str:
    """A heading as links name it."""
    return re.sub(r"[^\w -]", "", heading.lower()).strip().replace(" ", "-")


def logged() -> dict[str, set[str]]:
    """Every event that cfw logs, and how severe: debug, info, warning or error."""
    found: dict[str, set[str]] = {}
    for path in sources("cfw"):
        for node in nodes(parsed(path)):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                level = node.func.attr.replace("exception", "error")
                first = node.args[0] if node.args else None
                if level not in {"debug", "info", "warning", "error"}:
                    continue
                if isinstance(first, ast.Constant) and "." in str(first.value):
                    found.setdefault(str(first.value), set()).add(level)
    return found


#: Chosen by how the connection ended, so that no call has both name and level.
BY_OUTCOME = {"connection.ended", "capture.aborted"}
EVENTS = set(logged()) | BY_OUTCOME


@each_page
def test_every_link_leads_somewhere(page: Path) -> None:
    """Files that are there, and headings that they have."""
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if target.startswith("https://"):
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        assert file.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", file.read_text("utf-8"), re.MULTILINE)
            assert anchor in map(slug, headings), target


@each_page
def test_every_test_named_exists(page: Path) -> None:
    """A sentence that names its test has one."""
    known = {
        name
        for path in ROOT.glob("tests/**/test_*.py")
        for name in [path.stem, *re.findall(r"def (test_\w+)", path.read_text("utf-8"))]
    }
    if page.name != "SWEEP.md":  # tells how to write tests of one's own
        assert set(re.findall(r"\btest_\w+", prose(page))) <= known


@each_page
def test_no_page_has_the_marks_of_a_merge(page: Path) -> None:
    """Both sides of a conflict were meant to be one text."""
    assert not re.findall(r"^(?:<{7}|={7}$|>{7})", page.read_text("utf-8"), re.MULTILINE)


def test_no_sentence_of_operations_is_broken_by_the_name_of_its_test() -> None:
    """Tests stand in the last column of a table, or at the end of a section."""
    for block in prose(ROOT / "cfw/OPERATIONS.md").split("\n\n"):
        for line in block.splitlines():
            last = line.rfind("| `test_") if line.startswith("|") else -1
            if not block.lstrip().startswith("Tests: "):
                sentence = line if last < 0 else line[:last]
                assert not re.search(r"(?<!/)\btest_", sentence), line


@each_page
def test_every_key_named_exists(page: Path) -> None:
    """Also within commands; log lines look alike."""
    sections = "|".join(section.name for section in attrs.fields(Config))
    for code in marked(page):
        for name in re.findall(rf"(?<![\w.:/-])(?:{sections})\.[a-z_]+\b(?![.(/])", code):
            assert name in KEYS | EVENTS, code


def command_lines(page: Path) -> Iterator[list[str]]:
    """The arguments of each `cfw` in what the page shows."""
    for code in marked(page):
        for part in re.split(r"[|&;]+", code):
            match = re.match(r"\s*(?:\S*/)?cfw (?P<rest>[^<>]*)", part)
            if match:
                yield shlex.split(match["rest"], comments=True)


@each_page
def test_every_command_shown_is_understood(page: Path) -> None:
    """Subcommand, options and arguments; nothing of it is run."""
    assert isinstance(main, click.Group)
    for words in command_lines(page):
        name, *arguments = words
        if any(name in option.opts for option in main.params):
            continue  # `cfw --version`
        with click.Context(main) as context:
            command = main.get_command(context, name)
            assert command is not None, words
            if "..." in arguments or not arguments:
                continue
            try:
                command.make_context(name, arguments, parent=context)
            except click.exceptions.Exit:
                pass
            except click.UsageError as exc:
                pytest.fail(f"{page.name}: cfw {shlex.join(words)}: {exc.message}")


def test_the_pages_show_commands() -> None:
    """A guard that finds nothing to check is none."""
    shown = [words for page in PAGES for words in command_lines(page)]
    assert len(shown) > 15
    assert {"serve", "send", "tap", "demo", "config", "explain"} <= {w[0] for w in shown}


def test_operations_tells_every_path_of_the_admin_listener() -> None:
    """Its table and the routes of the application, but for the files of the pages."""
    section = OPERATIONS.split("\n## The admin listener\n")[1].split("\n## ")[0]
    told = re.findall(r"^\| `(?:GET|WS|DELETE) (/[/\w{}.]*)[^`]*` \|", section, re.MULTILINE)
    app = create_app(
        registry=Registry(Limits()),
        hub=None,
        is_ready=lambda: True,
        capture_url="ws://127.0.0.1:8765/",
        limits=Limits(),
        times=Times(),
    )
    assert set(told) == {path for path in app.routes if not path.startswith("/static/")}


def test_every_extra_is_told() -> None:
    """The table of INSTALL.md has those that an installation can ask for."""
    table = (ROOT / "cfw/INSTALL.md").read_text("utf-8").split("| extra |")[1].split("\n\n")[0]
    told = [
        name for row in re.findall(r"^\| (`.*?`) \|", table, re.M) for name in row.split(", ")
    ]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert sorted(name.strip("`") for name in told) == sorted(project["optional-dependencies"])


def test_the_readme_tells_the_limits_of_a_capture() -> None:
    """Each row of its table has the key's default."""
    page = (ROOT / "README.md").read_text("utf-8")
    told = dict(re.findall(r"^\| `limits\.(\w+)` \| (\d+) \|", page, re.MULTILINE))
    kept_to = {name for name in attrs.fields_dict(WorkerLimits) if name.startswith("max_")}
    assert kept_to <= told.keys()
    assert told == {name: str(getattr(LIMITS, name)) for name in told}


def test_every_log_line_is_told_with_its_level() -> None:
    """The table of OPERATIONS.md is all that is logged, and nothing else."""
    section = OPERATIONS.split("\n## Log lines\n")[1].split("\n## ")[0]
    told: dict[str, str] = {}
    for names, level in re.findall(r"^\| (`.*?`) \| (.*?) \|", section, re.MULTILINE):
        told |= dict.fromkeys(re.findall(r"`([\w.]+)`", names), level)
    assert set(told) == EVENTS
    for event, levels in logged().items():
        assert set(told[event].split(" or ")) == levels, event


def test_every_metric_is_told() -> None:
    """The table of OPERATIONS.md is all that /metrics shows, and nothing else."""
    body, _ = exposition(Metrics(), Registry(Limits()), Rigs(60))("")
    shown = re.findall(
        r"^# TYPE (\w+) (?:counter|gauge|histogram)$", body.decode(), re.MULTILINE
    )
    section = OPERATIONS.split("\n## Metrics\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (`cfw_.*?`) \|", section, re.MULTILINE)
    told = [name for row in rows for name in re.findall(r"`(\w+)`", row)]
    assert sorted(told) == sorted(name.removesuffix("_total") for name in shown)
    for name in re.findall(r"`(cfw_\w+)`", OPERATIONS):
        assert name.removesuffix("_total") in told


def spaced(number: int) -> str:
    """A large number as the pages write it."""
    return f"{number:,}".replace(",", " ")


def test_the_levels_of_error_codes_are_those_of_the_ladder() -> None:
    """OPERATIONS.md names those that are an error and those that are only information."""
    told = OPERATIONS.split("are an `error` when")[1].split("\n\n")[0]
    told = " ".join(told.split())
    errors, rest = told.split("They are `info` for")
    others = rest.split("and a `warning`")[0]
    for level, text in (("error", errors), ("info", others)):
        assert set(re.findall(r"`([a-z_]+)`", text)) == {
            code.value for code, (_, known) in LADDER.items() if known == level
        }
    assert {level for _, level in LADDER.values()} == {"error", "info", "warning"}


LIMITS, TIMES = Limits(), Times()
STOP_S = longest_stop_s(TIMES)
FIGURES = [
    f"at most {STOP_S:g} s: `times.drain_s` {TIMES.drain_s:g}, ",
    f"the terminal {TIMES.close_flush_s:g} (`times.close_flush_s`), ",
    f"the rig {TIMES.linger_s:g} (`times.linger_s`)",
    f"One that is silent for {SILENT_S:g} s,",
    f"not ready within {READY_S:g} s,",
    f"has the {STOP_S:g} s of [Stopping](#stopping) and {EXIT_S:g} s more",
    f"was not read within {READ_S:g} s,",
    f"what waits has {FLUSH_S:g} s more",
    f"{MOST_BYTES // 1024 // 1024} MiB of them may wait for it",
    f"= {spaced(LIMITS.capture_memory_bytes)} ",
    f"at one time: {LIMITS.max_memory_bytes // LIMITS.capture_memory_bytes} ",
    f"runs {1_000_000_000 // LIMITS.capture_memory_bytes} captures at a time",
    f"passes {FILLING_RATIO:.0%} and stays there for {1000 * FILLING_S:g} ms".replace(
        "%", " %"
    ),
    f"reading from this rig for {1000 * GRACE_S:g} ms",
    f"{LIMITS.max_forward_buffer_frames} frames are two seconds at {LIMITS.max_fps} frames",
    f"The last {ENDED_KEPT} are kept",
    f"holds {LOSSLESS_ITEMS} items of its own",
    f"subscriber {LOSSLESS_ITEMS} items, ",
    f"one space of {MAX_READ_BYTES // 1024} KiB that",
    f"not waited for if there are more than {REFUSED_AT_A_TIME}",
    f"{MAX_HEAD_BYTES // 1024} KiB of head in {MAX_HEAD_LINES} lines",
    f"{MAX_HEAD_LINES} lines of head, {MAX_BODY_BYTES} bytes of body in {MAX_BODY_PIECES} "
    f"pieces, {MAX_TALK_FRAMES} frames of a feed's reader in {TALK_S:g} s",
    f"more than {MANY_FRAGMENTS} fragments has at least {FRAGMENT_BYTES} bytes in each",
    f"The feed is pinged every {PING_S:g} s, and its reader has {PONG_S:g} s for the pong",
]


@pytest.mark.parametrize("figure", FIGURES)
def test_every_figure_is_that_of_the_code(figure: str) -> None:
    """Numbers in OPERATIONS.md that are constants or defaults, or follow from them."""
    assert figure in " ".join(OPERATIONS.split())
