"""HAProxy and nginx, run with the configuration that is shipped, in front of workers."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

import attrs
import pytest
import trio

import cfw
from tests.patience import PATIENCE_S
from tests.unit.identity.certificates import client_context, issued
from tests.unit.valkey.servers import free_port
from tests.whole.hostile.kit import Rig, Worker

FOLDER = Path(cfw.__file__).parent / "deploy"
PROXIES = ("haproxy", "nginx")


def program(name: str) -> str:
    """Where a program is; skips the test where it is not installed."""
    path = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path


#: How often a rig tries, once a second. A worker is passed over for two of them, and again when
#: it was slow once more, as beside other tests.
TRIES = 30


@attrs.frozen
class Proxy:
    """A proxy that runs.

    Args:
        port: where rigs connect, with TLS.
    """

    port: int
    _dialled: list[trio.abc.AsyncResource] = attrs.Factory(list)

    @property
    def url(self) -> str:
        """The URL for rigs."""
        return f"wss://127.0.0.1:{self.port}"

    async def dial(self) -> trio.SSLStream[trio.SocketStream]:
        """A connection, as far as TLS."""
        with trio.fail_after(PATIENCE_S):
            stream = await trio.open_ssl_over_tcp_stream(
                "127.0.0.1", self.port, ssl_context=client_context(), https_compatible=True
            )
            self._dialled.append(stream)
            await stream.do_handshake()
        return stream

    async def rig(self, capture_id: str) -> Rig:
        """A rig with a capture open, through the proxy."""
        for _ in range(TRIES):
            rig = Rig(cast(trio.SocketStream, await self.dial()), capture_id)
            try:
                await rig.shake_hands()
            except AssertionError as exc:
                # A proxy takes a worker that was slow to answer for gone, for a while.
                if " 502 " not in str(exc):
                    raise
                await trio.sleep(1)
                continue
            await rig.open()
            return rig
        raise AssertionError(f"502 for {TRIES} times")


@asynccontextmanager
async def running_proxy(
    name: str, folder: Path, workers: Sequence[Worker], cap: int = 100, room: int = 1000
) -> AsyncIterator[Proxy]:
    """Run one with its shipped configuration; only addresses and paths are changed.

    Args:
        name: of `PROXIES`.
        folder: for its files.
        workers: what it leads to.
        cap: connections for each address.
        room: connections for the first worker, as far as the proxy can be told.
    """
    binary, port = program(name), free_port()
    if name == "haproxy":
        path, options = _haproxy(folder, port, workers, cap, room), ["-f"]
    else:
        path, options = _nginx(folder, port, workers, cap), ["-e", "stderr", "-c"]
    proxy = Proxy(port)
    process = await trio.lowlevel.open_process(
        [binary, *options, str(path)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        with trio.fail_after(PATIENCE_S):
            await _until_listening(process, port)
        yield proxy
    finally:
        for each in proxy._dialled:
            await trio.aclose_forcefully(each)
        process.kill()
        with trio.move_on_after(PATIENCE_S, shield=True):
            await process.wait()


async def _until_listening(process: trio.Process, port: int) -> None:
    while True:
        assert process.poll() is None, "the proxy ended"
        try:
            await (await trio.open_tcp_stream("127.0.0.1", port)).aclose()
        except OSError:
            await trio.sleep(0.02)
        else:
            return


def _changed(text: str, pattern: str, replacement: str, count: int = 1) -> str:
    """Text with a pattern replaced that must be there so many times."""
    changed, found = re.subn(pattern, replacement, text, flags=re.MULTILINE)
    assert found == count, (pattern, found)
    return changed


def _certificate(folder: Path) -> tuple[Path, Path, Path]:
    """Both in one file, the certificate, and the key."""
    files = issued(folder)
    both = folder / "rigs.pem"
    both.write_bytes(files.cert.read_bytes() + files.key.read_bytes())
    return both, files.cert, files.key


def haproxy_config(folder: Path, port: int, servers: Sequence[str], cap: int = 100) -> Path:
    """The shipped configuration for these `server` lines."""
    text = (FOLDER / "haproxy.cfg").read_text()
    # Descriptors for twice as many may not be had where tests run.
    text = _changed(text, r"maxconn 20000$", "maxconn 1000")
    text = _changed(text, r"bind :443 ", f"bind 127.0.0.1:{port} ")
    text = _changed(text, r"conn_cur gt 100", f"conn_cur gt {cap}")
    text = _changed(text, r"/run/secrets/rigs\.pem", str(_certificate(folder)[0]))
    text = _changed(text, r"^    server-template .*$", "\n".join(servers))
    path = folder / "haproxy.cfg"
    path.write_text(text)
    return path


def _haproxy(folder: Path, port: int, workers: Sequence[Worker], cap: int, room: int) -> Path:
    servers = [
        f"    server w{number} 127.0.0.1:{worker.capture[1]} port {urlsplit(worker.admin).port}"
        for number, worker in enumerate(workers)
    ]
    servers[0] += f" maxconn {room}"
    return haproxy_config(folder, port, servers, cap)


def nginx_config(folder: Path, port: int, servers: Sequence[str], cap: int = 100) -> Path:
    """The shipped configuration for these `server` lines, within all that nginx wants."""
    text = (FOLDER / "nginx.conf").read_text()
    _, cert, key = _certificate(folder)
    text = _changed(text, r"listen 443 ssl", f"listen 127.0.0.1:{port} ssl")
    text = _changed(text, r"^    listen \[::\]:443 ssl;$", "")
    text = _changed(text, r"limit_conn cfw_rigs 100", f"limit_conn cfw_rigs {cap}")
    text = _changed(text, r"/etc/nginx/rigs\.pem", str(cert))
    text = _changed(text, r"/etc/nginx/rigs\.key", str(key))
    given = re.search(r"^    server 10\.0\.0\.11:8765( .*;)$", text, re.MULTILINE)
    assert given is not None
    text = _changed(text, r"^    server 10\.0\.0\.12:8765.*\n", "")
    lines = "\n".join(f"    server {server}{given[1]}" for server in servers)
    text = _changed(text, r"^    server 10\.0\.0\.11:8765.*$", lines)
    (folder / "cfw.conf").write_text(text)
    path = folder / "nginx.conf"
    # Whoever runs the tests may be root, and its files are not for nobody.
    paths = "".join(
        f"{name}_temp_path {folder};\n"
        for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    path.write_text(
        f"daemon off;\nmaster_process off;\npid {folder}/nginx.pid;\n"
        f"error_log {folder}/nginx.log;\nevents {{}}\n"
        f"http {{\naccess_log off;\n{paths}include {folder}/cfw.conf;\n}}\n"
    )
    return path


def _nginx(folder: Path, port: int, workers: Sequence[Worker], cap: int) -> Path:
    servers = [f"127.0.0.1:{worker.capture[1]}" for worker in workers]
    return nginx_config(folder, port, servers, cap)
