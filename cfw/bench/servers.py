"""Servers under measurement: each in its own process on one core, watched from outside."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from cfw.bench.cores import pin
from cfw.bench.peers import PEERS
from cfw.bench.peers.checks import PATIENT, RAISED
from cfw.bench.rig import BenchError
from cfw.bench.tls import Certificate
from cfw.plugins import redact_url

#: The worker with a sink that takes no frame.
STALLED = "cfw stalled:"


def shown(name: str) -> str:
    """A server's name as people may see it: the URL of a sink can hold a password."""
    _, is_worker, url = name.partition("cfw ")
    return f"cfw {redact_url(url)}" if is_worker else name


class Server:
    """A server in a process of its own.

    Args:
        name: `cfw SINK`, or the name of a peer.
        core: the only core it runs on.
        is_stamped: let it measure the delay of stamped frames.
        buffer_bytes: the forward buffer of `STALLED`; None for any other server.
        certificate: that it shows over TLS; None for none.

    Attributes:
        name: as above.
        port: where rigs connect, on loopback.
        trust: whom they trust over TLS; None for none.
        admin: URL of its admin listener; None when it has none.
    """

    def __init__(
        self,
        name: str,
        core: int,
        *,
        is_stamped: bool,
        buffer_bytes: int | None,
        certificate: Certificate | None,
    ) -> None:
        self.name = name
        self.trust = None if certificate is None else certificate.trust
        self.port = 0
        self.admin: str | None = None
        self._core = core
        self._last_words: deque[str] = deque(maxlen=5)
        self._process = subprocess.Popen(
            [sys.executable, *_arguments(name, is_stamped, buffer_bytes, certificate)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def wait_ready(self) -> None:
        """Wait until it takes connections, and put it on its core.

        Raises:
            BenchError: it has ended instead.
        """
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._listener.join(5)
            said = " ".join(" ".join(self._last_words).split())
            raise BenchError(f"it did not start: {said[-300:]}")
        ready = json.loads(line)
        self.admin = ready.get("admin")
        self.port = int(ready["port"]) if "port" in ready else _port(ready["capture"])
        pin(self._process.pid, self._core)

    def stop(self) -> None:
        """End it at once."""
        self._process.kill()
        with self._process:  # closes the pipes and waits
            self._listener.join(5)

    def cpu_s(self) -> float | None:
        """CPU seconds it has used so far, the kernel's work for it included.

        None where the system does not tell.
        """
        if sys.platform != "linux":
            return None
        # clock_getcpuclockid(3): the clock of a process is made from its number.
        return time.clock_gettime(~self._process.pid << 3 | 2)

    def cpu_since(self, before: float | None) -> float | None:
        """CPU seconds since a call of `cpu_s`, which gave `before`."""
        now = self.cpu_s()
        return None if before is None or now is None else now - before

    def split_s(self) -> tuple[float, float] | None:
        """What of `cpu_s` was its own work, and what the kernel's for it.

        The kernel tells the parts in hundredths of a second; the sum is exact.
        """
        total = self.cpu_s()
        if total is None:
            return None
        behind_name = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2]
        user, system = map(int, behind_name.split()[11:13])
        own = total * user / max(user + system, 1)
        return own, total - own

    def resident_bytes(self) -> int | None:
        """Memory it has in use now; None where the system does not tell."""
        return self._status("VmRSS")

    def peak_bytes(self) -> int | None:
        """The most it has had since `reset_peak`; None where the system does not tell."""
        return self._status("VmHWM")

    def reset_peak(self) -> None:
        """Begin to watch its peak anew."""
        with contextlib.suppress(OSError):
            Path(f"/proc/{self._process.pid}/clear_refs").write_text("5")

    def delays_ns(self) -> list[int]:
        """The delays of stamped frames since the last call."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("delays\n")
        self._process.stdin.flush()
        delays: list[int] = json.loads(self._process.stdout.readline())["delays_ns"]
        return delays

    def wait_quiet(self, within_s: float = 20.0) -> None:
        """Wait until it has nothing more to do."""
        until = time.monotonic() + within_s
        before = self.cpu_s()
        while before is not None and time.monotonic() < until:
            time.sleep(0.2)
            now = self.cpu_s()
            if now is None or now - before < 0.01:
                return
            before = now
        if before is None:
            time.sleep(1)

    def _status(self, key: str) -> int | None:
        try:
            lines = Path(f"/proc/{self._process.pid}/status").read_text().splitlines()
        except OSError:
            return None
        sizes = [line.split()[1] for line in lines if line.startswith(f"{key}:")]
        return int(sizes[0]) * 1024 if sizes else None

    def _listen(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self._last_words.append(line.strip())


def _port(url: str) -> int:
    return int(url.split("/")[2].rpartition(":")[2])


def _arguments(
    name: str, is_stamped: bool, buffer_bytes: int | None, certificate: Certificate | None
) -> list[str]:
    file = None if certificate is None else str(certificate.file)
    if not name.startswith("cfw ") or is_stamped or buffer_bytes is not None:
        arguments = ["-m", "cfw.bench.peers", name, *(["--stamped"] if is_stamped else [])]
        arguments += [] if buffer_bytes is None else ["--buffer-bytes", str(buffer_bytes)]
        return arguments + ([] if file is None else ["--tls", file])
    arguments = ["-m", "cfw.cli", "serve", "--port", "0", "--admin-port", "0"]
    arguments += ["--sessions", "allow:", "--sink", name.removeprefix("cfw ")]
    arguments += ["--log-format", "json", "--log-level", "error"]
    arguments += [] if file is None else ["--cert-file", file, "--key-file", file]
    for section, values in (("limits", RAISED), ("times", PATIENT)):
        for key, value in values.items():
            arguments += ["--set", f"{section}.{key}={value}"]
    return arguments


def _missing(name: str, certificate: Certificate | None) -> str | None:
    """Why a server cannot be run; None when it can."""
    peer = PEERS.get(name)
    if peer is None:
        return None
    if certificate is not None and not peer.has_tls:
        return "left out: it reads from the socket itself, so it has no TLS"
    if missing := ", ".join(peer.missing()):
        return f"not installed: {missing} (pip install 'camera-feed-worker[bench]')"
    return None


@contextmanager
def running(
    names: Sequence[str],
    core: int,
    *,
    is_stamped: bool = False,
    buffer_bytes: int | None = None,
    certificate: Certificate | None = None,
) -> Iterator[tuple[list[Server], dict[str, str]]]:
    """Run servers: yields those that run, and why the others do not.

    Args:
        names: `cfw SINK`, or names of peers.
        core: the only core they run on.
        is_stamped: let them measure the delay of stamped frames.
        buffer_bytes: the forward buffer of `STALLED`; None for any other server.
        certificate: that they show over TLS; None for none.
    """
    problems: dict[str, str] = {}
    started: list[Server] = []
    servers: list[Server] = []
    try:
        for name in names:
            if why := _missing(name, certificate):
                problems[name] = why
                continue
            started.append(
                Server(
                    name,
                    core,
                    is_stamped=is_stamped,
                    buffer_bytes=buffer_bytes,
                    certificate=certificate,
                )
            )
        for server in started:
            try:
                server.wait_ready()
            except BenchError as exc:
                problems[server.name] = str(exc)
            else:
                servers.append(server)
        yield servers, problems
    finally:
        for server in started:
            server.stop()
