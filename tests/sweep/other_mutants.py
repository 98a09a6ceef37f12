"""Planted bugs of what stands beside a connection; see `tests.sweep.mutants`."""

from __future__ import annotations

from tests.planted import Change
from tests.sweep.mutants import HANDSHAKE, Mutant

ACCEPTING = "cfw/net/accepting.py"
FEED = "cfw/admin/feed.py"
HTTP = "cfw/http/http1.py"
PACE = "cfw/admin/_pace.py"
SERVE = "cfw/admin/serve.py"

OF_THE_ADMIN = [
    Mutant(
        "a feed that is sent without a time",
        "no_capture_suffers",
        [Change(FEED, "with trio.fail_after(send_stall_s):", "with nullcontext():")],
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
