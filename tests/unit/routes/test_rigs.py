"""Which of the expected rigs film, and which have stopped coming."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
from structlog.testing import capture_logs
from trio.testing import MockClock

from cfw.api.config import ConfigError
from cfw.api.rigs import MOST_RIGS, parse_rigs
from cfw.limits import Limits
from cfw.routes.registry import CaptureStatus, EndedCapture, Registry
from cfw.routes.rigs import LOOK_S, Rig, Rigs
from schemas import Timestamp
from tests.patience import PATIENCE_S
from tests.whole.smoke.worker import closing, ending, opening, running

THEN = Timestamp.parse("2026-05-04T10:20:30Z")


def status(user_id: str, session_id: str) -> CaptureStatus:
    return CaptureStatus(
        capture_id="cap",
        user_id=user_id,
        session_id=session_id,
        state="active",
        frames=0,
        bytes=0,
        buffer_frames=0,
        buffer_bytes=0,
        opened=THEN,
        fps=0,
    )


def ended(user_id: str, session_id: str = "s-1") -> EndedCapture:
    return EndedCapture(
        capture_id="cap",
        user_id=user_id,
        session_id=session_id,
        frames=0,
        bytes=0,
        error_code=None,
        detail=None,
        opened=THEN,
        ended=THEN,
    )


async def test_a_rig_is_missing_so_long_after_its_last_capture(
    autojump_clock: MockClock,
) -> None:
    """Not while it films, nor between two captures; once, and back once, in the log."""
    rigs = Rigs(60)
    registry = Registry(Limits(), rigs.note_end)
    rigs.expect([Rig("door", "ada", "s-1"), Rig("desk", "bob")])
    with capture_logs() as logs:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(rigs.watch, registry)
            film = status("ada", "s-1")
            with registry.claim("cap", lambda: film, lambda _: None):
                await trio.sleep(90 + LOOK_S / 2)
            assert rigs.missing() == {"door": False, "desk": True}
            # A capture that begins and ends between two looks.
            registry.record_end(ended("bob"))
            await trio.sleep(LOOK_S)
            assert rigs.missing() == {"door": False, "desk": False}
            await trio.sleep(59)
            assert rigs.missing() == {"door": True, "desk": False}
            told = {each["name"]: each["missing_s"] for each in rigs.told()}
            assert told["desk"] is None
            assert told["door"] == pytest.approx(60, abs=2)
            # Refused is not there, and another session of the user is another rig.
            registry.record_end(ended("ada"), was_refused=True)
            registry.record_end(ended("ada", "s-2"))
            registry.record_end(ended("bob"))
            await trio.sleep(LOOK_S)
            assert rigs.missing()["door"] is True
            nursery.cancel_scope.cancel()
    assert [(line["event"], line["rig"]) for line in logs] == [
        ("rig.missing", "desk"),
        ("rig.back", "desk"),
        ("rig.missing", "door"),
    ]


async def test_a_rig_that_is_still_expected_is_missed_from_as_early(
    autojump_clock: MockClock,
) -> None:
    """After the file was read again; one that is new has its time, one that is gone is not."""
    rigs, registry = Rigs(60), Registry(Limits())
    rigs.expect([Rig("door", "ada"), Rig("desk", "bob")])
    await trio.sleep(61)
    rigs.expect([Rig("door", "ada"), Rig("wall", "eve")])
    rigs.look(registry)
    assert rigs.missing() == {"door": True, "wall": False}


def test_what_a_file_of_rigs_says() -> None:
    """A user, or a user and a session, which may hold a colon."""
    assert [*parse_rigs('door = "ada:s:1"\n"the desk" = "bob"')] == [
        Rig("door", "ada", "s:1"),
        Rig("the desk", "bob"),
    ]
    most = "".join(f"r{n} = 'u{n}'\n" for n in range(MOST_RIGS))
    assert len([*parse_rigs(most)]) == MOST_RIGS


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("door", "is not TOML"),
        ("door = 7", 'door is 7; allowed: `NAME = "USER"` or `NAME = "USER:SESSION"`'),
        ("[door]\nuser = 'ada'", "door is {'user': 'ada'}; allowed: "),
        ("door = ''", "door: user_id"),
        ("door = 'ada:'", "door: session_id"),
        ("'' = 'ada'", "'' is no name"),
        (f"{'x' * 65} = 'ada'", "is no name: 1 to 64 characters"),
        ("a = 'ada'\nb = 'ada'", "b and a are the same user and session: 'ada'"),
        ("".join(f'r{n} = "u{n}"\n' for n in range(MOST_RIGS + 1)), "at most 200 are allowed"),
    ],
    ids=["toml", "number", "table", "user", "session", "empty", "long", "twice", "many"],
)
def test_a_wrong_file_of_rigs_says_what_is_wrong(text: str, problem: str) -> None:
    """And what is allowed."""
    with pytest.raises(ValueError, match=re.escape(problem)):
        [*parse_rigs(text)]


async def test_a_worker_tells_of_missing_rigs_and_reads_its_file_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """In /captures and /metrics; a file that is wrong changes nothing and is logged."""
    path = trio.Path(tmp_path / "rigs.toml")
    await path.write_text('door = "ada"\ndesk = "bob"')
    settings: dict[str, Any] = {"rigs__file": str(path), "rigs__missing_after_s": 0.01}
    with capture_logs() as logs:
        async with (
            running(monkeypatch, **settings) as worker,
            httpx.AsyncClient(trust_env=False, base_url=worker.addresses.admin or "") as admin,
        ):

            async def until(missing: dict[str, bool]) -> None:
                with trio.fail_after(PATIENCE_S):
                    while True:
                        text = (await admin.get("/metrics")).text
                        shown = {
                            name: f'cfw_rig_missing{{rig="{name}"}} {float(is_missing)}' in text
                            for name, is_missing in missing.items()
                        }
                        if all(shown.values()) and text.count("cfw_rig_missing{") == len(shown):
                            return
                        await trio.sleep(0.05)

            await until({"door": True, "desk": True})
            async with worker.connect() as ws:
                await ws.send(opening())
                await until({"door": False, "desk": True})
                told = (await admin.get("/captures")).json()["rigs"]
                assert [each["missing_s"] is None for each in told] == [True, False]
                await ws.send(closing(total_frames=0))
                await ending(ws)
            await path.write_text("door = 7")
            worker.reload.request()
            with trio.fail_after(PATIENCE_S):
                while not [line for line in logs if line["event"] == "reload.failed"]:  # noqa: ASYNC110
                    await trio.sleep(0.01)
            await until({"door": True, "desk": True})
            await path.write_text('wall = "eve"')
            worker.reload.request()
            await until({"wall": True})
    (failed,) = [line for line in logs if line["event"] == "reload.failed"]
    assert failed["key"] == "rigs.file"
    assert "door is 7; allowed: " in failed["detail"]
    assert failed["detail"].endswith("; the same rigs are expected as before")


async def test_a_worker_does_not_start_with_a_wrong_file_of_rigs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The key is named."""
    wrong = pytest.RaisesExc(ConfigError, match="rigs.file: .*cannot be read")
    with pytest.RaisesGroup(wrong, flatten_subgroups=True):
        async with running(monkeypatch, rigs__file=str(tmp_path / "none.toml")):
            pass
