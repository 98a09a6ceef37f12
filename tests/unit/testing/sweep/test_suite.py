"""`pytest --sweep`: tests of pytest-trio, with their fixtures, swept as they stand."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

RunPytest = Callable[..., str]

PLUGIN = "cfw.testing.pytest_plugin"

HEAD = """
import logging, pytest, trio, trio.testing
from contextlib import asynccontextmanager
"""

GOOD = """
@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("SWEPT", "1")
    yield tmp_path
    assert [path.name for path in tmp_path.iterdir()] == ["one"]

@pytest.fixture
async def server(nursery):
    send, receive = trio.open_memory_channel(0)
    async def serve():
        async for reply in receive:
            reply.set()
    nursery.start_soon(serve)
    async with send:
        yield send

@pytest.fixture
def counted():
    return []

@pytest.mark.parametrize("rounds", [1, 3])
async def test_fixtures(folder, server, counted, autojump_clock, caplog, capsys, rounds):
    (folder / "one").write_text("")
    # Fresh in every run, synchronous fixtures too.
    assert not counted
    counted.append(1)
    for _ in range(rounds):
        reply = trio.Event()
        await server.send(reply)
        await reply.wait()
    await trio.sleep(1000)
    print("over")
    assert capsys.readouterr().out == "over\\n"
    logging.getLogger("x").warning("over")
    assert "over" in caplog.text
    assert trio.current_time() == 1000

class TestMethods:
    async def test_nursery(self, nursery, mock_clock):
        with trio.fail_after(5):
            async with trio.open_nursery() as inner:
                inner.start_soon(trio.sleep, 1)
                await trio.testing.wait_all_tasks_blocked()
                mock_clock.jump(1)
        nursery.start_soon(trio.sleep_forever)
        await trio.sleep(0)

async def test_asserts_that_fail_because_it_was_cut():
    done = False
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep, 1)
        with pytest.raises(KeyError):
            await trio.sleep(1)
            raise KeyError
        done = True
    finally:
        assert done

def test_synchronous():
    assert False, "never run"
"""

BAD = """
class Pool:
    def __init__(self):
        self.free = trio.CapacityLimiter(1)

    async def use(self):
        await self.free.acquire_on_behalf_of(self)
        await trio.sleep(0.1)
        self.free.release_on_behalf_of(self)

@pytest.fixture
async def pool():
    pool = Pool()
    yield pool
    await pool.free.acquire()

async def test_slot_is_lost(pool, autojump_clock):
    print("this run used the pool")
    await pool.use()

@pytest.fixture
async def strict():
    state = ["open"]
    yield state
    if state != ["closed"]:
        raise RuntimeError("left open")

async def test_fixture_raises(strict):
    await trio.sleep(0)
    strict[:] = ["closed"]

@pytest.fixture
def strict_sync():
    state = ["open"]
    yield state
    assert state == ["closed"]

async def test_teardown_raises(strict_sync):
    await trio.sleep(0)
    strict_sync[:] = ["closed"]

async def test_swallows():
    try:
        await trio.sleep(1)
    except BaseException:
        pass

async def test_nursery_only():
    opened = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep, 1)
        try:
            await trio.sleep(1)
        except trio.Cancelled:
            raise OSError("in cleanup")
"""

NOT = """
import subprocess, threading, random, time, uuid
from hypothesis import given, strategies

async def test_thread():
    await trio.to_thread.run_sync(int)

async def test_listens():
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    for listener in listeners:
        await listener.aclose()

async def test_socket():
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, lambda stream: None, 0)

async def test_process():
    await trio.run_process(["true"])

seen = []
async def test_remembers():
    seen.append(1)
    for _ in seen:
        await trio.sleep(0)

async def test_real_time():
    begin = time.monotonic()
    await trio.sleep(0.01)
    assert time.monotonic() - begin > 0.009

async def test_skips():
    pytest.skip("no camera is plugged in")

@pytest.mark.xfail(reason="known")
async def test_known_to_fail():
    await trio.sleep(0)
    assert False

async def test_never_waits():
    pass

@given(strategies.integers())
async def test_property(number):
    await trio.sleep(number)

@pytest.mark.no_sweep("is slow")
async def test_left_out():
    await trio.sleep(0)
"""


@pytest.fixture
def run_pytest(tmp_path: Path) -> RunPytest:
    """Runs pytest in a process of its own; all of what it printed."""
    (tmp_path / "pytest.ini").write_text("[pytest]\ntrio_mode = true\n")
    env = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    # Where it thinks it is in CI, pytest repeats each failure whole in its summary.
    for name in ("CI", "BUILD_NUMBER"):
        env.pop(name, None)
    plugins = [item for name in ("pytest_trio.plugin", PLUGIN) for item in ("-p", name)]

    def run(text: str, *arguments: str, stdin: str = "", **more: str) -> str:
        (tmp_path / "test_it.py").write_text(HEAD + text)
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *plugins, "-W", "error", *arguments],
            cwd=tmp_path,
            env=env | more,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        return done.stdout + done.stderr

    return run


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_tests_pass_as_they_stand(run_pytest: RunPytest, jobs: str) -> None:
    """With every kind of fixture, none rewritten; a path may follow the option."""
    output = run_pytest(GOOD, "--sweep", "test_it.py", "--sweep-jobs", jobs)
    assert "4 passed, 1 deselected" in output
    # Whether forking would pay is asked of the clock, so a busy machine says why it did not.
    whole = r"^test_it.py::(\S+) +(\d+) .* complete(?:; not forked: .*)?$"
    points = {name: int(number) for name, number in re.findall(whole, output, re.MULTILINE)}
    assert len(points) == 4, output
    assert points["test_fixtures[3]"] > points["test_fixtures[1]"] > 5


def test_bugs_are_found_and_replayed(run_pytest: RunPytest) -> None:
    """A hang in a fixture's teardown, one that raises, a swallowed Cancelled; by token, too."""
    output = run_pytest(BAD, "--sweep=test,nursery", "--strict-markers")
    assert "5 failed" in output
    found = dict(re.findall(r"^test_it.py::(\S+) .* FAILED (.*)$", output, re.MULTILINE))
    assert found == {
        "test_slot_is_lost": "finished",
        "test_fixture_raises": "exception",
        "test_teardown_raises": "teardown",
        "test_swallows": "cancelled-swallowed",
        "test_nursery_only": "exception",
    }
    assert output.count("this run used the pool") == 1
    assert "RuntimeError: left open" in output
    for test, invariant in found.items():
        [token] = re.findall(rf"replay: pytest test_it.py::{test} --sweep-replay (\S+)", output)
        again = run_pytest(BAD, "--sweep-replay", token, PYTHONHASHSEED="7")
        assert "1 failed, 4 deselected" in again
        assert f"invariant '{invariant}' does not hold" in again
        assert token in again


LOCK = """
import trio

class Lock:
    def __init__(self):
        self.readers, self.queue = 0, []

    async def read(self):
        await trio.lowlevel.checkpoint_if_cancelled()
        if not self.queue:
            self.readers += 1
            return await trio.lowlevel.cancel_shielded_checkpoint()
        await self.wait("read")

    async def write(self):
        await trio.lowlevel.checkpoint_if_cancelled()
        if not self.readers:
            return await trio.lowlevel.cancel_shielded_checkpoint()
        await self.wait("write")

    async def wait(self, kind):
        turn = kind, trio.Event()
        self.queue.append(turn)
        try:
            await turn[1].wait()
        except trio.Cancelled:
            if turn in self.queue:
                self.queue.remove(turn)
            # Here those behind it would have to be woken.
            raise

    def release(self):
        self.readers -= 1
        while self.queue:
            kind, event = self.queue.pop(0)
            self.readers += kind == "read"
            event.set()

async def pump(receive):
    async for _ in receive:
        pass

async def start_pump(nursery, receive):
    nursery.start_soon(pump, receive)

async def ask(stream):
    await stream.send_all(b"x")
    if not await stream.receive_some():
        raise OSError("hung up")

async def bad_cleanup():
    try:
        await trio.sleep(1)
    except trio.Cancelled:
        raise OSError("in cleanup")
"""

ALONE = """
import lock

async def test_lock(autojump_clock):
    gate = lock.Lock()
    async def reader(number):
        await gate.read()
        await trio.sleep(1)
        gate.release()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reader, 1)
        await trio.sleep(0)
        nursery.start_soon(gate.write)
        await trio.sleep(0)
        nursery.start_soon(reader, 2)

async def test_body_is_held_up(nursery):
    gate = lock.Lock()
    await gate.read()
    nursery.start_soon(gate.write)
    await trio.testing.wait_all_tasks_blocked()
    nursery.start_soon(release_later, gate)
    await gate.read()

async def release_later(gate):
    await trio.sleep(1)
    gate.release()

async def test_waits_for_what_it_was_to_bring(nursery):
    send, receive = trio.open_memory_channel(0)
    nursery.start_soon(send.send, 1)
    await receive.receive()

async def test_tasks_of_a_library_are_not_cut(nursery):
    send, receive = trio.open_memory_channel(0)
    await lock.start_pump(nursery, receive)
    for _ in range(3):
        await send.send(1)

async def test_what_happens_to_others_is_theirs():
    one, two = trio.testing.memory_stream_pair()
    async def answer():
        async with two:
            await two.receive_some()
            await two.send_all(b"y")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(answer)
        await lock.ask(one)

async def test_cleanup_raises():
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lock.bad_cleanup)
"""


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_each_task_is_cancelled_alone(run_pytest: RunPytest, tmp_path: Path, jobs: str) -> None:
    """Found: who holds up another one by a wait that was cancelled, and what it raises itself.

    Not: that others wait for ever for what it was to bring, or are told that it is gone.
    """
    (tmp_path / "lock.py").write_text(LOCK)
    output = run_pytest(ALONE, "--sweep=task", "--sweep-jobs", jobs)
    rows = dict(re.findall(r"^test_it.py::(\S+)  +(\d+) .*$", output, re.MULTILINE))
    found = dict(re.findall(r"^test_it.py::(\S+) .* FAILED (.*)$", output, re.MULTILINE))
    assert found == {
        "test_lock": "left-behind",
        "test_body_is_held_up": "left-behind",
        "test_cleanup_raises": "exception",
    }
    assert "test_it.py::test_tasks_of_a_library_are_not_cut: " in output
    assert len(rows) == 5
    assert re.search(
        r"'task:write#4' was cancelled while it waited at lock.py:\d+ Lock.wait "
        r"\(Event.wait\), and that left something behind: "
        r"reader#5 still waits at lock.py:\d+ Lock.wait",
        output,
    )
    for test, invariant in found.items():
        [token] = re.findall(rf"replay: pytest test_it.py::{test} --sweep-replay (\S+)", output)
        again = run_pytest(ALONE, "--sweep-replay", token, PYTHONHASHSEED="7")
        assert f"invariant '{invariant}' does not hold" in again, again


def test_markers_say_what_is_allowed(run_pytest: RunPytest) -> None:
    """`sweep_with` takes what a sweep takes."""
    text = BAD
    for test, how in {
        "test_nursery_only": "allow=[OSError]",
        "test_swallows": "without=['cancelled-swallowed']",
    }.items():
        marker = f"@pytest.mark.sweep_with({how})"
        text = text.replace(f"async def {test}", f"{marker}\nasync def {test}")
    output = run_pytest(text, "--sweep", "--strict-markers", "-k", "nursery_only or swallows")
    assert "2 passed, 3 deselected" in output


ANYIO = """
import anyio, anyio.to_thread
pytestmark = pytest.mark.anyio

@pytest.fixture
def opened(tmp_path):
    yield tmp_path / "one"

async def test_swallows(opened):
    opened.write_text("")
    try:
        await anyio.sleep(100)
    except BaseException:
        pass

async def test_groups():
    async with anyio.create_task_group() as group:
        group.start_soon(anyio.sleep, 1)
        await anyio.sleep(1)

@pytest.fixture
async def given():
    yield 1

async def test_fixture(given):
    await anyio.sleep(1)

async def test_thread():
    await anyio.to_thread.run_sync(int)

@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_elsewhere():
    await anyio.sleep(1)
"""


@pytest.mark.parametrize("mode", [["-p", "no:trio"], []])
def test_tests_of_the_anyio_plugin_are_swept_on_trio(
    run_pytest: RunPytest, mode: list[str]
) -> None:
    """Beside pytest-trio and without it; those on asyncio are left out."""
    mode = [*mode, "-p", "anyio.pytest_plugin", "-o", "trio_mode=false"]
    output = run_pytest(ANYIO, "--sweep=test,nursery,task", *mode)
    assert "1 failed, 1 passed, 2 skipped" in output, output
    assert re.search(r"^test_it.py::test_swallows\[trio\] .*cancelled-swallowed$", output, re.M)
    assert "test_fixture[trio]: AnyIO's plugin runs its asynchronous fixtures apart" in output
    assert "test_thread[trio]: it uses a thread" in output
    # The group, the task in it and the test, at each instant.
    [points] = re.findall(r"^test_it.py::test_groups\[trio\] +(\d+)", output, re.M)
    assert int(points) > 10
    [token] = re.findall(r"--sweep-replay (\S+)", output)
    again = run_pytest(ANYIO, "--sweep-replay", token, *mode)
    assert "invariant 'cancelled-swallowed' does not hold" in again


def test_what_was_found_before_a_thread_stays_found(run_pytest: RunPytest) -> None:
    """A cleanup that uses one where only a later cut leads ends the sweep, not the failure."""
    text = """
async def test_both():
    try:
        await trio.sleep(1)
    except trio.Cancelled:
        raise OSError("in cleanup")
    try:
        await trio.sleep(1)
    except trio.Cancelled:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(int)
        raise
"""
    output = run_pytest(text, "--sweep")
    assert "1 failed" in output
    assert "OSError('in cleanup')" in output


def test_what_cannot_be_swept_is_said_for_each_test(run_pytest: RunPytest) -> None:
    """Threads, sockets, processes, real time, state kept between runs: skipped, with why."""
    output = run_pytest(NOT, "--sweep")
    section = output.partition("not swept: 11 tests")[2]
    said = dict(re.findall(r"^test_it.py::(\w+): (.*)$", section, re.MULTILINE))
    for test, reason in {
        "test_thread": "it uses a thread, at test_it.py:",
        "test_listens": "it uses a listening socket, at test_it.py:",
        "test_socket": "it uses a listening socket, at task ",
        "test_process": "it uses a thread, at test_it.py:",
        "test_remembers": "uncontrolled nondeterminism",
        "test_real_time": "does not pass under the sweep's order and virtual time",
        "test_skips": "skipped: no camera is plugged in",
        "test_known_to_fail": "does not pass",
        "test_never_waits": "its body never waits",
        "test_property": "a Hypothesis test",
        "test_left_out": "marked no_sweep is slow",
    }.items():
        assert reason in said[test], (test, said)
    assert "11 skipped" in output
    assert " passed" not in output
    assert "failed" not in output


def test_without_the_option_tests_just_run(run_pytest: RunPytest) -> None:
    """The plugin changes nothing; its markers are known."""
    output = run_pytest(NOT, "--strict-markers", "-k", "left_out or never_waits")
    assert "2 passed" in output
    assert "swept" not in output


def test_wrong_scopes_are_refused(run_pytest: RunPytest) -> None:
    """What there is to cancel is said."""
    output = run_pytest(GOOD, "--sweep=body")
    assert "--sweep=body: 'body' is none of test, nursery, task" in output


def test_counts_and_time_are_told_first_and_a_budget_of_time_is_kept(
    run_pytest: RunPytest,
) -> None:
    """Before the first sweep; a time is shared out among the tests, and they say sampled."""
    text = GOOD + "\nasync def test_long():\n    for _ in range(1500): await trio.sleep(0)\n"
    output = run_pytest(text, "--sweep", "--sweep-budget", "1s")
    told = re.search(
        r"sweep: 5 tests to sweep, 0 that cannot be; (\d+) points, about \d+ (s|min)\n"
        r"sweep: (\d+) of them fit into 1 s, evenly spread\n",
        output,
    )
    assert told is not None
    assert output.index(told.group()) < output.index("5 passed")
    assert int(told.group(3)) < int(told.group(1)) > 3000
    assert re.search(r"test_long .* sampled \(budget of \d+\)", output)
    refused = run_pytest(GOOD, "--sweep-budget", "1m")
    assert "shared out among the tests of --sweep" in refused


def test_a_page_json_and_junit_tell_what_was_found(
    run_pytest: RunPytest, tmp_path: Path
) -> None:
    """Where the output says they are."""
    files = ("--sweep-json=out.json", "--junit-xml=junit.xml")
    output = run_pytest(BAD + NOT, "--sweep", "-k", "slot or thread", *files)
    [page] = re.findall(r"^page: (.*)$", output, re.MULTILINE)
    assert "<!doctype html>" in (tmp_path / page).read_text()
    told = json.loads((tmp_path / "out.json").read_text())
    [swept] = told["sweeps"]
    [failure] = swept["failures"]
    assert (failure["invariant"], swept["complete"]) == ("finished", True)
    assert failure["replay"] in output
    assert told["not_swept"][0]["test"] == "test_it.py::test_thread"
    junit = (tmp_path / "junit.xml").read_text()
    assert f'<property name="sweep_points" value="{swept["points"]}"' in junit
    assert '<property name="sweep_skipped" value="it uses a thread' in junit
    chosen = run_pytest(BAD, "--sweep", "-k", "slot", "--sweep-html", "pages")
    [page] = re.findall(r"^page: (.*)$", chosen, re.MULTILINE)
    assert (tmp_path / page).parent == tmp_path / "pages"


def test_coverage_of_cancel_points_on_the_command_line(
    run_pytest: RunPytest, tmp_path: Path
) -> None:
    """`--sweep-cov` lists what was never cut, and marks a test that cuts nothing of it."""
    (tmp_path / "pond.py").write_text(
        "import trio\nasync def swim(deep):\n    await trio.sleep(1)\n"
        "    if deep:\n        await trio.sleep(2)\n"
    )
    text = """
import pond
async def test_swims():
    await pond.swim(False)
async def test_elsewhere():
    await trio.sleep(1)
"""
    output = run_pytest(text, "--sweep", "--sweep-cov=pond", "--sweep-json=out.json")
    assert re.search(r"^pond.py +2 +1 +\d+ +5$", output, re.MULTILINE)
    assert re.search(r"test_swims .* complete$", output, re.MULTILINE)
    assert re.search(r"test_elsewhere .* cuts nothing of pond$", output, re.MULTILINE)
    assert json.loads((tmp_path / "out.json").read_text())["awaits"][0]["never"] == [5]
    assert "no package 'lake' to import" in run_pytest(text, "--sweep-cov=lake")


def test_a_debugger_stands_where_the_test_raised(run_pytest: RunPytest) -> None:
    """With the variables of the run that failed."""
    text = BAD.replace('raise OSError("in cleanup")', 'x = 41; raise OSError("in cleanup")')
    output = run_pytest(text, "--sweep", "-k", "nursery_only", "--pdb", stdin="p x + 1\nq\n")
    assert "(Pdb) 42" in output
