"""Planted bugs of the lease, the feed and the pipeline; see `tests.sweep.mutants`."""

from __future__ import annotations

from tests.planted import Change
from tests.sweep.mutants import NOT_RELEASED, Mutant

SINK = "cfw/sinks/valkey.py"
STORE = "tests/unit/valkey/fake_store.py"
FEED = "cfw/valkey/_feed.py"
PIPELINE = "cfw/valkey/_pipeline.py"

#: What breaks while a capture is written. The scripts of the server are the fake's.
DURING = ("away", "stall", "connection")
REQUESTS = {"drops": "requests"}

OF_THE_LEASE = [
    Mutant(
        "frames called taken that were not",
        "terminal_is_true",
        [
            Change(
                SINK,
                "await self._store.append(self._run, frames[0].meta.seq, entries)",
                """
                try:
                    await self._store.append(self._run, frames[0].meta.seq, entries)
                except ValkeyFailed:
                    return
                """,
            )
        ],
        at=DURING,
        params=REQUESTS,
    ),
    Mutant(
        "a receipt for an end that was not written",
        "receipt_is_true",
        [
            Change(
                SINK,
                "await self._store.finish(self._run, to_json(terminal).encode(), last)",
                """
                from cfw.valkey import LeaseLost

                try:
                    await self._store.finish(self._run, to_json(terminal).encode(), last)
                except (ValkeyFailed, LeaseLost):
                    return
                """,
            )
        ],
        at=DURING,
        params=REQUESTS,
    ),
    Mutant(
        "a capture sealed though it has moved on",
        "terminal_is_true",
        [
            Change(
                STORE,
                """
                if lease is None or lease.owner != capture.owner:
                    return False
                if lease.last != capture.frames or lease.deadline > trio.current_time():
                    return False
                self._end(capture.capture_id, lease.stream, terminal)
                """,
                """
                self.streams[capture.stream].append((LAST_ID, terminal, None))
                self.leases.pop(capture.capture_id, None)
                """,
            )
        ],
        at=DURING,
        params=REQUESTS,
    ),
    Mutant(
        "a dead worker's capture that nobody ends",
        "sealed_once",
        [
            Change(
                SINK,
                "for capture in await self._store.lost(partition):",
                """
                await trio.lowlevel.checkpoint()
                for capture in ():
                """,
            )
        ],
        at=DURING,
        params=REQUESTS,
    ),
    Mutant(
        "a frame written twice when its answer is lost",
        "whole_prefix",
        [
            Change(
                SINK,
                "await self._store.append(self._run, frames[0].meta.seq, entries)",
                """
                try:
                    await self._store.append(self._run, frames[0].meta.seq, entries)
                except ValkeyFailed:
                    await trio.sleep(0.015)
                    await self._store.append(self._run, frames[0].meta.seq, entries)
                """,
            ),
            Change(
                STORE,
                """
                if lease.last == first_seq + len(frames) - 1:
                    return
                if lease.last != first_seq - 1:
                    raise TailLost("planted")
                """,
                "",
            ),
        ],
        at=DURING,
        params={"drops": "answers"},
    ),
    Mutant("a claim that is not released", "nothing_left", [NOT_RELEASED], DURING, REQUESTS),
]

OF_THE_FEED = [
    Mutant(
        "an acknowledgement lost on a cancel",
        "nothing_left",
        [
            Change(
                FEED,
                """
                if self._current is not None:
                    await self._acknowledge(self._current)
                    self._current = None
                """,
                """
                current, self._current = self._current, None
                if current is not None:
                    await self._acknowledge(current)
                """,
            )
        ],
        at=("reader",),
    ),
    Mutant(
        "a capture claimed again and begun anew",
        "nothing_miscounted",
        [
            Change(
                FEED,
                """
                # What is claimed again goes on; begun anew, it would be given out twice.
                if capture.index_id not in self._held[partition]:
                    await self._hold(partition, capture)
                    added += 1
                """,
                """
                added += capture.index_id not in self._held[partition]
                await self._hold(partition, capture)
                """,
            )
        ],
        at=("age",),
    ),
    Mutant(
        "a capture begun anew by who follows",
        "each_once_and_in_order",
        [
            Change(
                FEED,
                "self._held[partition][capture.index_id] = "
                "_Held(partition, capture, reached, opened)",
                """
                held = _Held(partition, capture, "0-0", opened)
                self._held[partition][capture.index_id] = held
                """,
            )
        ],
        at=("consumer",),
    ),
    Mutant(
        "a message noted before it was processed",
        "each_once_and_in_order",
        [
            Change(
                FEED,
                """
                if (item := self._item(held, entry)) is not None:
                    await self._send.send(item)
                """,
                """
                if (item := self._item(held, entry)) is not None:
                    if entry.entry_id != LAST_ID:
                        await self._acknowledge(item)
                    await self._send.send(item)
                """,
            )
        ],
        at=("consumer",),
    ),
    Mutant(
        "a cut that nobody is told of",
        "ended_once",
        [
            Change(
                FEED,
                "self._nursery.start_soon(self._send.send, _Item(held, None, end))",
                "pass",
            )
        ],
        at=("flush",),
    ),
]

OF_THE_PIPELINE = [
    Mutant(
        "the answer to who has gone given to the next",
        "own_answers",
        [
            Change(
                PIPELINE,
                "sent = self._sent.popleft()",
                """
                sent = self._sent.popleft()
                while isinstance(sent, _Asked) and sent.task is None and self._sent:
                    sent = self._sent.popleft()
                """,
            )
        ],
        at=("one",),
    ),
    Mutant(
        "a place kept for what was not sent",
        "others_are_answered",
        [
            Change(
                PIPELINE,
                "if asked.task is not None:\n    turn.append(asked)",
                "if True:\n    turn.append(asked)",
            )
        ],
        at=("one",),
    ),
    Mutant(
        "a cancelled wait that ends the connection",
        "others_are_answered",
        [
            Change(
                PIPELINE,
                "await trio.lowlevel.wait_task_rescheduled(asked.give_up)",
                """
                try:
                    await trio.lowlevel.wait_task_rescheduled(asked.give_up)
                except trio.Cancelled:
                    self._end(ConnectionLost, "cancelled", None)
                    raise
                """,
            )
        ],
        at=("one",),
    ),
    Mutant(
        "a broken connection that is not told to who waits for a turn",
        "finished",
        [
            Change(
                PIPELINE,
                """
                for asked in self._open():
                    asked.tell(failure())
                """,
                """
                self._waiting.clear()
                for asked in self._open():
                    asked.tell(failure())
                """,
            )
        ],
        at=("cut",),
    ),
]
