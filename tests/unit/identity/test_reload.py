"""Files that cannot be read: a pipe, one too large, one whose read hangs."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path
from typing import NoReturn

import pytest
import trio
from structlog.testing import capture_logs

from cfw.api.access import MAX_HANGING, Access, Door, Kept, Reader, Reload
from cfw.api.config import ConfigError
from cfw.identity import (
    Gate,
    Origins,
    TlsFileError,
    TlsFiles,
    TokenFileError,
    Tokens,
    make_token,
)
from cfw.identity.files import MAX_FILE_BYTES, read_regular
from tests.patience import PATIENCE_S, until

if sys.platform == "win32":
    pytest.skip("Windows has neither SIGHUP nor pipes in files", allow_module_level=True)


async def test_reads_that_hang_are_a_bounded_number_of_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """n of them hang, the one behind them is not begun, and one is once they came back."""
    monkeypatch.setattr("cfw.api.access.READ_S", 0.5)
    path = tmp_path / "file"
    path.write_text("x")
    reader, release = Reader("server", {"token_file": path}), threading.Event()
    begun: list[int] = []

    def hang() -> bool:
        begun.append(1)
        return release.wait(PATIENCE_S)

    async def fail() -> None:
        with pytest.raises(ConfigError, match=r"was not read within 0\.5 s") as caught:
            await reader.read(hang)
        assert caught.value.key == "server.token_file"

    with trio.fail_after(PATIENCE_S):
        while len(begun) < MAX_HANGING:
            await fail()
    await fail()
    assert len(begun) == MAX_HANGING
    release.set()
    monkeypatch.setattr("cfw.api.access.READ_S", float(PATIENCE_S))
    assert await reader.read(hang)


async def test_a_file_that_hangs_holds_up_no_other(tmp_path: Path) -> None:
    """The other listener's is in force while the first one is still waited for."""
    path, release = tmp_path / "tokens", threading.Event()
    path.write_text(make_token())
    path.chmod(0o600)
    good, hanging = Tokens(path), Tokens(path)

    def hang() -> NoReturn:
        release.wait(PATIENCE_S)
        raise TokenFileError(path, "late")

    hanging.read_again = hang  # type: ignore[method-assign]
    at_server, at_admin = (
        Door(None, None, (Kept(Reader(name, {"token_file": path}), tokens, "old ones stay"),))
        for name, tokens in (("server", hanging), ("admin", good))
    )
    reload = Reload()
    access = Access(at_server, at_admin, Gate(Origins(()), None), reload)
    with capture_logs() as logs:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(access.keep)
            reload.request()
            await until(lambda: logs)
            assert [line["event"] for line in logs] == ["reload.done"]
            release.set()
            await until(lambda: len(logs) == 2)
            assert logs[1]["detail"] == f"{path}: late; old ones stay"
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize("size", [MAX_FILE_BYTES - 1, MAX_FILE_BYTES, MAX_FILE_BYTES + 1])
def test_a_file_is_read_up_to_a_length(tmp_path: Path, size: int) -> None:
    """n - 1 and n are read, n + 1 is refused."""
    path = tmp_path / "file"
    path.write_bytes(b"#" * size)
    if size <= MAX_FILE_BYTES:
        assert len(read_regular(path)[0]) == size
    else:
        with pytest.raises(TokenFileError, match="is larger than"):
            Tokens(path)


@pytest.mark.parametrize("kind", ["a pipe", "a directory", "a device"])
def test_only_a_regular_file_is_read(tmp_path: Path, kind: str) -> None:
    """For tokens and for certificates, which are named by their key."""
    path = {"a device": Path("/dev/zero"), "a directory": tmp_path}.get(kind, tmp_path / "pipe")
    if kind == "a pipe":
        os.mkfifo(path)
    with pytest.raises(TokenFileError, match=f"{path}: is {kind}; it has to be a regular file"):
        Tokens(path)
    with pytest.raises(TlsFileError, match=f"^cert_file: {path} is {kind}; it has to be"):
        TlsFiles(path, path)
