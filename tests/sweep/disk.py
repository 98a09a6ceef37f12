"""A disk that is cut at every operation: it fills, its process dies, its power goes.

Files are real, in a folder of the test; what is counted, refused and lost is decided here. Work
that a thread would do is done by one task, between two of its steps.
"""

from __future__ import annotations

import errno
import math
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any, Literal, TypeAlias

import attrs
import pytest
import trio

from cfw.record import Recorder
from cfw.record._files import Lock, NewFile

#: What is left when a process is gone: all that it wrote; what is durable; or names that are
#: there already, of files whose bytes are not.
Loss: TypeAlias = Literal["process", "power", "power, names first"]
LOSSES: tuple[Loss, ...] = ("process", "power", "power, names first")

#: For a piece of work, in virtual seconds.
WORK_S = 0.01


#: What a power failure does is no operation of the process.
_remove = shutil.rmtree


class Killed(BaseException):
    """The process is no more: nothing catches it."""


class Durable:
    """What a disk has for good, by the inodes of its folders and files."""

    def __init__(self) -> None:
        self._files: dict[int, bytes] = {}
        self._folders: dict[int, dict[str, tuple[int, bool]]] = {}
        # As long as they are open, no other file gets their inode.
        self._held: list[int] = []

    def sync(self, descriptor: int) -> None:
        """As fsync: all of a file, or the names in a folder."""
        self._held.append(os.dup(descriptor))
        found = os.fstat(descriptor)
        if stat.S_ISDIR(found.st_mode):
            self._folders[found.st_ino] = _names(descriptor)
        else:
            # Opened anew: a file that is written need not be one that can be read.
            self._files[found.st_ino] = Path(f"/dev/fd/{descriptor}").read_bytes()

    def lose(self, root: Path, loss: Loss) -> None:
        """Leave in a folder what is durable of it."""
        if loss != "process":
            tree = self._tree(root, root.stat().st_ino, are_names_first=loss != "power")
            for path in root.iterdir():
                _remove(path)
            _make(root, tree)

    def close(self) -> None:
        for descriptor in self._held:
            os.close(descriptor)
        self._held.clear()

    def _tree(self, path: Path, inode: int, *, are_names_first: bool) -> dict[str, Any]:
        names = _names(path) if are_names_first else self._folders.get(inode, {})
        return {
            name: self._tree(path / name, number, are_names_first=are_names_first)
            if is_folder
            else self._files.get(number, b"")
            for name, (number, is_folder) in names.items()
        }


def _names(folder: Path | int) -> dict[str, tuple[int, bool]]:
    with os.scandir(folder) as entries:
        return {entry.name: (entry.inode(), entry.is_dir()) for entry in entries}


def _make(folder: Path, tree: dict[str, Any]) -> None:
    for name, what in tree.items():
        if isinstance(what, bytes):
            (folder / name).write_bytes(what)
        else:
            os.mkdir(folder / name)
            _make(folder / name, what)


@attrs.define
class _Work:
    process: int
    do: Callable[[], Any]
    done: trio.Event = attrs.field(factory=trio.Event)
    answer: Any = None
    problem: Exception | None = None


class Disk:
    """Does the work of a recorder, and may be told to fail.

    Args:
        about_to: entered where a piece of work begins.

    Attributes:
        is_full: it takes no byte.
        is_dead: the process that writes has ended.
        died: set then.
    """

    def __init__(self, about_to: Callable[[], AbstractContextManager[Any]]) -> None:
        self.is_full = self.is_dead = False
        self.died = trio.Event()
        self._about_to = about_to
        self._durable = Durable()
        self._process = 0
        self._locks: list[Lock] = []
        self._files: list[NewFile] = []
        self._operations = 0
        self._refuses_one = False
        self._ends_at = math.inf
        self._send, self._receive = trio.open_memory_channel[_Work](math.inf)

    # What can be done to it between any two steps.

    def die(self, after: int = 0) -> None:
        """End the process, in the middle of its so-manieth operation from here."""
        self._ends_at = self._operations + after
        if not after:
            self._end()

    def fill(self) -> None:
        self.is_full = True

    def refuse_one(self) -> None:
        self._refuses_one = True

    def _end(self) -> None:
        self.is_dead = True
        self.died.set()

    # What the process does.

    async def run(self) -> None:
        async for work in self._receive:
            await trio.sleep(WORK_S)
            with self._about_to():
                await trio.lowlevel.checkpoint()
            if self.is_dead or work.process != self._process:
                continue  # it went with its process
            try:
                work.answer = work.do()
            except Exception as exc:
                work.problem = exc
            except Killed:
                self._end()
                continue
            work.done.set()

    async def do(self, work: Callable[[], Any]) -> Any:
        """As in a thread that is left behind by who is cancelled."""
        await trio.lowlevel.checkpoint()
        given = _Work(self._process, work)
        self._send.send_nowait(given)
        await given.done.wait()
        if given.problem is not None:
            raise given.problem
        return given.answer

    def operation(self, *, needs_room: bool = False) -> None:
        """Count one; it may be the last."""
        if self.is_dead:
            raise Killed
        self._operations += 1
        if self._operations >= self._ends_at:
            raise Killed
        if needs_room and (self.is_full or self._refuses_one):
            self._refuses_one = False
            raise OSError(errno.ENOSPC, "the disk is full")

    def restart(self, root: Path, loss: Loss) -> None:
        """Another process begins, with what is left by the last one."""
        self._let_go()
        if self.is_dead:
            self._durable.lose(root, loss)
        self.is_dead = self.is_full = self._refuses_one = False
        self._ends_at = math.inf
        self._process += 1
        self.died = trio.Event()

    def _let_go(self) -> None:
        """As the system does with what a process had."""
        for lock in self._locks:
            lock.release()
        for file in self._files:
            file.close()
        self._locks.clear()
        self._files.clear()

    @contextmanager
    def used(self) -> Iterator[None]:
        """Let the recorder write to this disk."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Recorder, "_in_thread", lambda _, work: self.do(work))
            patch.setattr(os, "fsync", self._sync)
            for name in ("mkdir", "rename", "replace", "unlink"):
                patch.setattr(Path, name, self._counted(getattr(Path, name)))
            patch.setattr(NewFile, "write", self._writing(NewFile.write))
            patch.setattr(NewFile, "__init__", self._opening(NewFile.__init__))
            patch.setattr(shutil, "rmtree", self._counted(shutil.rmtree))
            patch.setattr(Lock, "__init__", self._locking(Lock.__init__))
            try:
                yield
            finally:
                self._let_go()
                self._durable.close()

    def _sync(self, descriptor: int) -> None:
        self.operation(needs_room=True)  # a file system may find out as late as this
        self._durable.sync(descriptor)

    def _counted(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **options: Any) -> Any:
            self.operation()
            return call(*args, **options)

        return counted

    def _writing(self, write: Callable[..., int]) -> Callable[..., int]:
        def half_or_whole(file: NewFile, data: bytes) -> int:
            try:
                self.operation(needs_room=True)
            except (Killed, OSError):
                if not self.is_dead:
                    with suppress(ValueError):
                        write(file, data[: len(data) // 2])
                raise
            return write(file, data)

        return half_or_whole

    def _opening(self, make: Callable[..., None]) -> Callable[..., None]:
        def open_new(file: NewFile, path: Path) -> None:
            self.operation()
            make(file, path)
            self._files.append(file)

        return open_new

    def _locking(self, make: Callable[..., None]) -> Callable[..., None]:
        def lock(lock: Lock, folder: Path, *, is_new: bool) -> None:
            self.operation()
            make(lock, folder, is_new=is_new)
            self._locks.append(lock)

        return lock
