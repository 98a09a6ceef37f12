"""Faults of a stream: each send and receive of it goes wrong once, in every way it can.

A call is a fault's instant: as it begins, each way in which it can go wrong is exposed under a
name of its own, such as `fault:peer.send#3 raises`. Firing one changes what this call does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import trio
from trio.lowlevel import checkpoint

from cfw.testing.sweep.points import FAULT_PREFIX

S = TypeVar("S")

SENDS = ("raises", "short", "stalls")
RECEIVES = ("raises", "ends", "stalls", "one byte")

Expose = Callable[[str, Callable[[], object]], object]
Withdraw = Callable[[str], None]


class Faults:
    """Lets calls of one stream go wrong.

    What is broken stays broken: after a fault that ends the connection every further call in
    that direction fails as it would on a real one.

    Args:
        name: of the stream.
        stream: its methods are replaced on the object itself.
        expose: makes an action available, and
        withdraw: takes it back.

    Raises:
        TypeError: it can neither send nor receive, or its methods cannot be replaced.
    """

    def __init__(self, name: str, stream: Any, expose: Expose, withdraw: Withdraw) -> None:
        self._name = name
        self._expose = expose
        self._withdraw = withdraw
        self._calls = {"send": 0, "receive": 0}
        self._broken: dict[str, str] = {}
        methods = (("send_all", self._sending), ("receive_some", self._receiving))
        known = [one for one in methods if callable(getattr(stream, one[0], None))]
        if not known:
            raise TypeError(f"{name!r} is no stream: {stream!r}")
        for method, wrap in known:
            try:
                setattr(stream, method, wrap(getattr(stream, method)))
            except AttributeError as exc:
                raise TypeError(
                    f"the methods of {name!r} cannot be replaced; wrap it in a "
                    "trio.StapledStream and pass that"
                ) from exc

    def _sending(self, send_all: Callable[..., Any]) -> Any:
        async def send(data: bytes | bytearray | memoryview) -> None:
            wrong = await self._next("send", SENDS)
            if wrong == "stalls":
                await trio.sleep_forever()
            if wrong == "short":
                await send_all(bytes(data)[: len(data) // 2])
                self._broken["send"] = "raises"
            if wrong:
                raise trio.BrokenResourceError(f"sweep: {self._name} broke in this send")
            await send_all(data)

        return send

    def _receiving(self, receive_some: Callable[..., Any]) -> Any:
        async def receive(max_bytes: int | None = None) -> Any:
            wrong = await self._next("receive", RECEIVES)
            if wrong == "stalls":
                await trio.sleep_forever()
            if wrong == "raises":
                raise trio.BrokenResourceError(f"sweep: {self._name} broke in this receive")
            if wrong == "ends":
                return b""
            return await receive_some(1 if wrong == "one byte" else max_bytes)

        return receive

    async def _next(self, call: str, ways: tuple[str, ...]) -> str:
        """Count a call, and let one of the ways be fired; the one that was, or empty."""
        if call in self._broken:
            await checkpoint()
            return self._broken[call]
        self._calls[call] += 1
        fired: list[str] = []
        prefix = f"{FAULT_PREFIX}{self._name}.{call}#{self._calls[call]} "
        for way in ways:
            self._expose(prefix + way, _append(fired, way))
        try:
            await checkpoint()
        finally:
            for way in ways:
                self._withdraw(prefix + way)
        wrong = fired[-1] if fired else ""
        if wrong in ("raises", "ends", "stalls"):
            self._broken[call] = wrong
        return wrong


def _append(fired: list[str], way: str) -> Callable[[], None]:
    return lambda: fired.append(way)
