"""The two kits are two accounts of one protocol: what they say and are told is the same.

Who reads it is neither of them: wsproto, and the JSON of the standard library.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from typing import Any, TypeAlias

import attrs
import pytest
import trio
import wsproto
import wsproto.events as ws
from trio.testing import MockClock

from cfw.routes import Router
from cfw.testing import rigs
from cfw.testing.fakes import RecordingSink
from tests import factories, raw
from tests.factories import SECOND, START_NS, at
from tests.unit.routes.kit import bench
from tests.unit.wire.peer import close

Said: TypeAlias = tuple[str, Any]
#: What the values of are each kit's own.
OWN = {"record_id", "sec-websocket-key", "sec-websocket-accept"}


class Overheard(trio.abc.HalfCloseableStream):
    """A worker's end of a connection, and what went through it."""

    def __init__(self, stream: Any) -> None:
        self.heard, self.answered = bytearray(), bytearray()
        self._stream = stream

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        self.answered += data
        await self._stream.send_all(data)

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        data: bytes = await self._stream.receive_some(max_bytes)
        self.heard += data
        return data

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        await self._stream.send_eof()

    async def aclose(self) -> None:
        await self._stream.aclose()


def overhear(router: Router) -> list[Overheard]:
    """All connections of a router from now on."""
    connections: list[Overheard] = []
    handle = router.handle

    async def overheard(stream: trio.abc.Stream) -> None:
        connections.append(Overheard(stream))
        await handle(connections[-1])

    router.handle = overheard  # type: ignore[method-assign]
    return connections


def messages(data: bytearray, reader: wsproto.ConnectionType) -> list[Said]:
    """What one side said, in order: its head, then each message, ping and close frame."""
    head, _, rest = bytes(data).partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    fields = dict(line.lower().split(": ", 1) for line in lines)
    said: list[Said] = [(first, without_own(fields))]
    connection = wsproto.connection.Connection(reader)
    connection.receive_data(rest)
    for event in connection.events():
        match event:
            case ws.TextMessage():
                assert event.message_finished
                said.append(("text", read(event.data)))
            case ws.BytesMessage():
                assert event.message_finished
                said.append(("binary", bytes(event.data)))
            case ws.Ping():
                said.append(("ping", len(event.payload)))  # what it carries is drawn by lot
            case ws.CloseConnection():
                said.append((f"close {event.code}", event.reason))
            case _:
                raise AssertionError(f"no rig and no worker says {event}")
    return said


def read(text: str) -> Any:
    try:
        message = json.loads(text)
    except ValueError:
        return text
    return without_own(message) if isinstance(message, dict) else message


def without_own(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name not in OWN}


#: A conversation, for either kit: it sends by methods that both have.
Talk: TypeAlias = Callable[[Any], Awaitable[None]]


async def whole(rig: Any) -> None:
    """A capture as it should be, with every length of a frame's header."""
    await rig.open()
    for size in (60, 125, 126, 200, 65_535, 65_536):
        await trio.sleep(0.05)
        await rig.frame(data=factories.jpeg(size))
    await rig.close()


async def empty(rig: Any) -> None:
    await rig.open(source="left bench")
    await rig.close()


async def wrong_order(rig: Any) -> None:
    await rig.open()
    await rig.frame()
    await rig.frame(seq=7)


async def no_picture(rig: Any) -> None:
    await rig.open()
    await rig.frame(data=b"\xff\xd8 no picture \xff\xd9")


async def wrong_field(rig: Any) -> None:
    await rig.open(fps_target="15")


async def no_json(rig: Any) -> None:
    await rig.say("{")


async def silent(rig: Any) -> None:
    await rig.open()
    await rig.frame()


async def leaves(rig: Any) -> None:
    await rig.open()
    await rig.frame()
    if isinstance(rig, rigs.Rig):
        await rig.leave()
    else:
        await rig.send(close(1000))


@attrs.frozen
class Account:
    """What came of a conversation, as all who took part in it tell."""

    heard: list[Said]
    answered: list[Said]
    told: tuple[list[Any], int | None, str, str | None, dict[str, int] | None]
    taken: list[tuple[Any, bytes]]
    terminals: list[str]


def account(
    connections: Sequence[Overheard],
    ending: rigs.Ending | raw.Ending,
    receipt: dict[str, int] | None,
    sink: RecordingSink,
) -> Account:
    (overheard,) = connections
    aborts = [without_own(attrs.asdict(abort)) for abort in ending.aborts]
    assert not ending.is_cut
    frames = [frame for each in sink.captures for frame in each.frames]
    return Account(
        messages(overheard.heard, wsproto.ConnectionType.SERVER),
        messages(overheard.answered, wsproto.ConnectionType.CLIENT),
        (aborts, ending.code, ending.reason, ending.error_code, receipt),
        [(without_own(attrs.asdict(frame.meta)), bytes(frame.data)) for frame in frames],
        [type(each.terminal).__name__ for each in sink.captures],
    )


async def by_the_kit_of_users(talk: Talk) -> Account:
    sink = RecordingSink()
    start = datetime.fromtimestamp(START_NS // SECOND, UTC)
    worker_: AbstractAsyncContextManager[rigs.Worker] = rigs.running_worker(
        sink=sink, start=start
    )
    async with worker_ as worker:
        connections = overhear(worker.router)
        async with worker.connect() as rig:
            await talk(rig)
            ending = await rig.ending()
    receipt = (
        attrs.asdict(ending.receipt) if ending.code == 1000 and not has_failed(ending) else None
    )
    return account(connections, ending, receipt, sink)


async def by_the_raw_kit(talk: Talk) -> Account:
    sink = RecordingSink()
    async with bench(sink) as b:
        connections = overhear(b.router)
        rig = await b.connect()
        rig.now = lambda: at(trio.current_time())
        await talk(rig)
        ending = await rig.ending()
        await rig.stream.aclose()
    receipt = ending.receipt if ending.code == 1000 and not has_failed(ending) else None
    return account(connections, ending, receipt, sink)


def has_failed(ending: rigs.Ending | raw.Ending) -> bool:
    """Whether it was told an error, whatever the close code."""
    return ending.error_code is not None


@pytest.mark.parametrize(
    "talk",
    [whole, empty, wrong_order, no_picture, wrong_field, no_json, silent, leaves],
    ids=lambda talk: talk.__name__,
)
def test_both_kits_say_and_hear_the_same(talk: Talk) -> None:
    """Message by message: what the worker heard and answered, what each rig made of it, and
    what the sink was given."""
    accounts = [
        trio.run(kit, talk, clock=MockClock(autojump_threshold=0))
        for kit in (by_the_kit_of_users, by_the_raw_kit)
    ]
    assert accounts[0] == accounts[1]
    assert accounts[0].heard[1:], "nothing was said"
    assert accounts[0].told[1] is not None, "nothing was told"


@pytest.mark.parametrize("size", [60, 200, 65_536])
def test_both_kits_paint_the_same_picture(size: int) -> None:
    """Of any size and shape."""
    shape = {"width": 1920, "height": 1080, "fill": 7}
    assert rigs.jpeg(size, **shape) == factories.jpeg(size, **shape)


@pytest.mark.parametrize("length", [0, 125, 126, 65_535, 65_536])
def test_both_kits_frame_alike(length: int) -> None:
    """But for the mask, which each has its own of."""
    payload = bytes(range(256)) * (length // 256) + bytes(length % 256)
    ours, theirs = raw.encode(payload), rigs.raw_frame(0x82, payload)
    at_ = len(ours) - length
    assert ours[: at_ - 4] == theirs[: at_ - 4]
    for said in (ours, theirs):
        key, masked = said[at_ - 4 : at_], said[at_:]
        assert bytes(b ^ key[i % 4] for i, b in enumerate(masked)) == payload
