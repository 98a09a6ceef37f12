"""Planted bugs of what stands beside a connection; see `tests.sweep.mutants`."""

from __future__ import annotations

from tests.planted import Change
from tests.sweep.mutants import HANDSHAKE, Mutant

ACCEPTING = "cfw/net/accepting.py"
FEED = "cfw/admin/feed.py"
HTTP = "cfw/http/http1.py"
PACE = "cfw/admin/_pace.py"
SERVE = "cfw/admin/serve.py"

WRITING = "cfw/record/_capture.py"
FILES = "cfw/record/_files.py"
RECORDER = "cfw/record/_recorder.py"
SALVAGE = "cfw/record/_salvage.py"
WRITERS = "cfw/record/_writers.py"

TIMED = "cfw/wire/connection.py"
BEGUN = "self._message_until = now + self._message_s if in_message else math.inf"
MESSAGE = {"deadline": "message_s"}

OF_THE_ADMIN = [
    Mutant(
        "a feed that is sent without a time",
        "no_capture_suffers",
        [Change(FEED, "sending.deadline = trio.current_time() + send_stall_s", "")],
        at=("hang",),
        params={"reads": "lossless"},
    ),
    Mutant(
        "a connection that is counted on when it was cancelled",
        "nothing_is_left",
        [
            Change(
                SERVE,
                """
                except Exception:
                    _log.exception("admin.connection_failed")
                finally:  # serve_listeners closes the stream
                    server._connections.discard(connection)
                    connection.ended.set()
                """,
                """
                except Exception:
                    _log.exception("admin.connection_failed")
                server._connections.discard(connection)
                connection.ended.set()
                """,
            )
        ],
        at=("listener",),
        params={"reads": "asks twice"},
    ),
    Mutant(
        "a viewer that is counted on when it has left",
        "nothing_is_left",
        [
            Change(
                PACE,
                """
                try:
                    yield
                finally:
                    self._viewers -= 1
                    if not self._viewers:
                        self._look_away()
                """,
                """
                yield
                self._viewers -= 1
                if not self._viewers:
                    self._look_away()
                """,
            )
        ],
        at=("eof",),
        params={"reads": "stream"},
    ),
    Mutant(
        "a stream closed behind a checkpoint",
        "all_is_closed",
        [
            Change(
                ACCEPTING,
                "await trio.aclose_forcefully(stream)",
                """
                await trio.lowlevel.checkpoint()
                await trio.aclose_forcefully(stream)
                """,
            )
        ],
        at=("listener",),
        params={"reads": "latest"},
    ),
    Mutant(
        "an answer whose reader may stay for ever",
        "it_ends_in_time",
        [
            Change(
                HANDSHAKE,
                """
                with trio.move_on_after(REFUSE_S):
                    await end_half(transport)
                """,
                """
                if True:
                    await end_half(transport)
                """,
            )
        ],
        at=("faults",),
        params={"reads": "latest"},
    ),
    Mutant(
        "a turn that is kept by who was cancelled in it",
        "others_are_served",
        [
            Change(
                HTTP,
                """
                async with self.turns:
                    await trio.lowlevel.checkpoint()
                """,
                """
                await self.turns.acquire()
                await trio.lowlevel.checkpoint()
                self.turns.release()
                """,
            )
        ],
        at=("connection",),
        params={"reads": "asks twice"},
    ),
    Mutant(
        "a reader who is gone is told that all is well",
        "what_is_read_is_true",
        [
            Change(
                FEED,
                "return _End(exc.close_code, exc.detail)",
                "return _End(1000, exc.detail)",
            )
        ],
        at=("mute",),
        params={"reads": "live"},
    ),
]

OF_THE_RECORDER = [
    Mutant(
        "pictures that are not made durable",
        "what_is_finished_is_sound",
        [Change(WRITERS, "sync_file(path)", "pass")],
        at=("killed",),
        params={"loss": "power"},
    ),
    Mutant(
        "a manifest that has its name before its bytes",
        "what_is_finished_is_sound",
        [Change(FILES, "os.fsync(file.fileno())", "pass")],
        at=("killed",),
        params={"loss": "power, names first"},
    ),
    Mutant(
        "a failure counted before it is known",
        "each_capture_is_told_once",
        [
            Change(
                RECORDER,
                """
                part = None
                if writer is not None:
                """,
                """
                part = None
                self._listener.failed(opened.capture_id, part, reason)
                if writer is not None:
                """,
            )
        ],
        at=("refused",),
    ),
    Mutant(
        "a manifest that was not written in the way of every later run",
        "nothing_stays_unfinished",
        [
            Change(
                SALVAGE,
                "return path.name != CAPTURE_JSON + NEW and path.is_file() and "
                "path.stat().st_size > 0",
                "return path.is_file() and path.stat().st_size > 0",
            )
        ],
        at=("full",),
    ),
    Mutant(
        "the last frames of what was left are forgotten",
        "nothing_complete_is_lost",
        [Change(SALVAGE, "batch.append((_frame(manifest, entry, jpeg), jpeg))", "pass")],
        at=("killed",),
    ),
    Mutant(
        "frames of a failed recording take up room for ever",
        "no_room_is_kept",
        [
            Change(
                RECORDER,
                """
                await self._give_up(opened, writer, exc)
                while batch.end is None:
                    batch.done()
                    await batch.fill()
                """,
                """
                await self._give_up(opened, writer, exc)
                batch.frames = []
                while batch.end is None:
                    batch.done()
                    await batch.fill()
                """,
            )
        ],
        at=("full",),
    ),
    Mutant(
        "a picture that is listed before it is durable, and then made up from the last one",
        "whole_is_whole",
        [
            Change(
                WRITING,
                """
                for media in self._media:
                    media.finish(terminal)
                self._csv.finish()
                """,
                """
                self._csv.finish()
                for media in self._media:
                    media.finish(terminal)
                """,
            ),
            Change(
                SALVAGE,
                """
                if entry is not None and hashlib.sha256(jpeg).hexdigest() == entry.sha256:
                    yield entry, jpeg
                """,
                """
                if entry is not None:
                    if hashlib.sha256(jpeg).hexdigest() == entry.sha256:
                        last = jpeg
                    yield entry, last
                """,
            ),
        ],
        at=("dies",),
        params={"loss": "power, names first", "operations": 3},
    ),
    Mutant(
        "a new folder whose name a loss of power takes, with all that is in it",
        "what_was_told_is_there",
        [
            Change(
                FILES,
                """
                with suppress(FileExistsError):  # another recorder was quicker
                    path.mkdir()
                sync_folder(path.parent)
                """,
                """
                with suppress(FileExistsError):  # another recorder was quicker
                    path.mkdir()
                """,
            )
        ],
        at=("killed",),
        params={"loss": "power"},
    ),
]

OF_THE_TIME = [
    Mutant(
        "every byte begins the time of its message anew",
        "told_when_it_is_due",
        [
            Change(
                TIMED,
                "self._time_message(now)",
                "self._time_message(now); self._message_until += self._message_s",
            )
        ],
        at=("slow",),
        params=MESSAGE | {"share": 1.01},
    ),
    Mutant(
        "a message has a little more time than it is told",
        "told_when_it_is_due",
        [Change(TIMED, BEGUN, BEGUN.replace("+ self", "+ 1.05 * self"))],
        at=("slow",),
        params=MESSAGE | {"share": 1.01},
    ),
    Mutant(
        "a message has a little less time than it is told",
        "told_when_it_is_due",
        [Change(TIMED, BEGUN, BEGUN.replace("+ self", "+ 0.95 * self"))],
        at=("slow",),
        params=MESSAGE | {"share": 0.99},
    ),
    Mutant(
        "the time of a message is held against the wrong one",
        "told_when_it_is_due",
        [
            Change(
                TIMED,
                "deadline = wait_until = min(until, self._message_until, self._pong_until)",
                "deadline = wait_until = min(until, self._pong_until)",
            )
        ],
        at=("slow",),
        params=MESSAGE | {"share": 1.01},
    ),
    Mutant(
        "who is slow while the worker asks for the session gets all the time again",
        "told_when_it_is_due",
        [
            Change(
                TIMED,
                "self._left_s = self._message_until - trio.current_time()",
                "self._left_s = self._message_s",
            )
        ],
        at=("slow",),
        params=MESSAGE | {"share": 1.01, "recheck_s": 0.317},
    ),
]
