"""The shutdown tree: sink and authority contain connections, which contain the listeners."""

from __future__ import annotations

import errno
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from functools import partial

import attrs
import structlog
import trio

from cfw.admin import create_app, loopback_only, serve_admin, token_only
from cfw.api.access import Access, Reload, open_access
from cfw.api.config import AdminConfig, Config, ServerConfig
from cfw.api.film import film_url, make_invitations, open_desk, open_pages
from cfw.api.routes.camera_feed_worker_routes import Router
from cfw.http.messages import Handler as HttpHandler
from cfw.identity import Inviting, TlsFiles, is_loopback
from cfw.limits import Times
from cfw.metrics import Metrics, watch_stalls
from cfw.net import Handler, address_text, open_listeners, serve_listeners
from cfw.routes.refusals import Refusals
from cfw.routes.registry import Registry
from cfw.routes.rigs import Rigs
from cfw.sessions import SessionAuthority, open_authority
from cfw.settings import about
from cfw.sinks import CountingSink, Sink, open_sink
from cfw.sinks.hub import Hub

_log: structlog.stdlib.BoundLogger = structlog.get_logger("cfw.server")


#: For the admin listener to end what is still open there.
ADMIN_GRACE_S = 2.0


@attrs.frozen
class Addresses:
    """Where a running worker is reached.

    Args:
        capture: URL of the capture listener.
        admin: URL of the admin listener; None when it is off.
        public: URL that rigs use, if it is another (`server.public_url`).
        film: URL of the page for who is invited; None where nobody is.
        fingerprint: SHA-256 of the certificate of the capture listener; None without TLS.
    """

    capture: str
    admin: str | None
    public: str | None = None
    film: str | None = None
    fingerprint: str | None = None


class ListenError(OSError):
    """An address cannot be listened on; `strerror` says which and why."""


class Shutdown:
    """Asks a running worker to stop: first gently, then at once."""

    def __init__(self) -> None:
        self._drain = trio.Event()
        self._now = trio.Event()

    def request(self) -> None:
        """Stop taking connections and let captures finish; a second call ends them."""
        if self._drain.is_set():
            self._now.set()
        self._drain.set()

    async def wait_requested(self) -> None:
        """Wait for the first request."""
        await self._drain.wait()

    async def wait_urgent(self) -> None:
        """Wait for the second request."""
        await self._now.wait()


def longest_stop_s(times: Times, *, drain: bool = True) -> float:
    """Seconds within which a worker ends that is asked to, whatever anybody beside it does.

    Args:
        times: of its configuration.
        drain: captures may finish; otherwise they are aborted at once.
    """
    captures_s = times.drain_s if drain else 0.0
    # The terminal, the rig, the admin listener, then sink and authority.
    closing_s = times.close_flush_s + times.linger_s + ADMIN_GRACE_S + times.close_flush_s
    return captures_s + closing_s


async def serve(
    config: Config,
    *,
    shutdown: Shutdown | None = None,
    reload: Reload | None = None,
    metrics: Metrics | None = None,
    inviting: Inviting | None = None,
    task_status: trio.TaskStatus[Addresses] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run a worker until it is asked to stop, and then until its captures have ended.

    Args:
        config: what it listens on, whom it trusts, where frames go, and its limits.
        shutdown: how to stop it; None when only cancellation does.
        reload: has its files of tokens and certificates read again; None never does.
        metrics: where it counts; None for metrics of its own.
        inviting: keeps invitations to film, where `invitations.enabled` lets people be
            invited; None keeps them in this process.
        task_status: `nursery.start` gets the addresses once connections are taken.

    Raises:
        ConfigError: a file of tokens or certificates cannot be used, or not be read in time.
        ListenError: an address cannot be listened on.

    Cancellation: every capture is aborted with `server_shutdown`; its terminal, abort
    message and close frame are still sent, under their deadlines.
    """
    shutdown = shutdown or Shutdown()
    metrics = metrics or Metrics()
    if not config.invitations.enabled:
        inviting = None
    elif inviting is None:
        inviting = make_invitations(config)
    rigs = Rigs(config.rigs.missing_after_s)
    access = await open_access(config, reload or Reload(), rigs, inviting)
    # A sink or an authority that hangs while it is closed must not keep the process.
    with trio.CancelScope() as closing:
        async with (
            open_authority(config.sessions.url, sessions=config.sessions.static) as authority,
            open_sink(config.sink.url) as sink,
        ):
            try:
                await _serve_connections(
                    config, access, rigs, shutdown, sink, authority, metrics, task_status
                )
            finally:
                closing.deadline = trio.current_time() + config.times.close_flush_s
    if closing.cancelled_caught:
        _log.error("server.closing_timed_out", close_flush_s=config.times.close_flush_s)
    _log.info("server.stopped")


async def _serve_connections(
    config: Config,
    access: Access,
    rigs: Rigs,
    shutdown: Shutdown,
    sink: Sink,
    authority: SessionAuthority,
    metrics: Metrics,
    task_status: trio.TaskStatus[Addresses],
) -> None:
    path = config.server.path
    with naming(config.server):
        listeners = await open_listeners(
            config.server.host, config.server.port, share=config.server.share_port
        )
    with ExitStack() as opened:
        for listener in listeners:  # also where what follows does not come about
            opened.callback(listener.socket.close)
        tls = access.server.tls
        scheme = "ws" if tls is None else "wss"
        capture_url = f"{scheme}://{address_text(listeners[0].socket.getsockname())}{path}"
        public_url = _with_path(config.server.public_url, path) or None
        url = public_url or capture_url
        registry = Registry(config.limits, rigs.note_end)
        refusals = Refusals(metrics)
        if isinstance(sink, CountingSink):
            metrics.unreadable = lambda: sink.unreadable
        router = Router(
            limits=config.limits,
            times=config.times,
            sink=sink,
            authority=authority,
            registry=registry,
            metrics=metrics,
            refusals=refusals,
            gate=access.gate,
            path=path,
            pages=open_pages(config, access, url, refusals),
        )
        async with (
            _admin(config, access, rigs, router, sink, url) as admin,
            trio.open_nursery() as connections,
        ):
            async with trio.open_nursery() as listening:
                take = partial(
                    serve_listeners, connections=connections, shed=_over(tls, router.shed)
                )
                listening.start_soon(access.keep)
                listening.start_soon(watch_stalls, metrics)
                listening.start_soon(rigs.watch, registry)
                listening.start_soon(router.services.sessions.watch)
                await listening.start(take, _over(tls, router.handle), listeners)
                fingerprint = None if tls is None else tls.fingerprint
                film = None if access.gate.inviting is None else film_url(url)
                task_status.started(
                    Addresses(capture_url, admin, public_url, film, fingerprint)
                )
                await shutdown.wait_requested()
                listening.cancel_scope.cancel()
            await _drain(router, shutdown, config.times.drain_s)


def _over(tls: TlsFiles | None, serve: Handler) -> Handler:
    """Serve connections over TLS, if there is any; its handshake is left to whoever serves."""
    return serve if tls is None else lambda stream: serve(tls.wrap(stream))


async def _drain(router: Router, shutdown: Shutdown, drain_s: float) -> None:
    _log.info("server.draining", captures=len(router.services.registry), drain_s=drain_s)
    router.drain()
    async with trio.open_nursery() as nursery:

        async def give_up() -> None:
            with trio.move_on_after(drain_s):
                await shutdown.wait_urgent()
            router.abort_all()

        nursery.start_soon(give_up)
        await router.wait_gone()
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def _admin(
    config: Config,
    access: Access,
    rigs: Rigs,
    router: Router,
    sink: Sink,
    capture_url: str,
) -> AsyncIterator[str | None]:
    """Serve the admin listener around a block, with its URL; None when it is off."""
    if config.admin.port == "off":
        yield None
        return
    hub = sink if isinstance(sink, Hub) else None
    app = create_app(
        registry=router.services.registry,
        hub=hub,
        is_ready=lambda: not router.is_draining,
        metrics=router.services.metrics,
        refusals=router.services.refusals,
        rigs=rigs,
        capture_url=capture_url,
        limits=config.limits,
        times=config.times,
        needs_token=access.server.tokens is not None,
        desk=open_desk(config, access, router.services.sessions, capture_url),
    )
    host, port = config.admin.host, config.admin.port
    tls, tokens = access.admin.tls, access.admin.tokens
    scheme = "http" if tls is None else "https"
    guarded: HttpHandler = app
    if tokens is not None:
        guarded = token_only(guarded, tokens, access.gate.origins.add_signed_in)
    if is_loopback(host):
        guarded = loopback_only(guarded)
    async with trio.open_nursery() as nursery:
        serve = partial(
            serve_admin,
            grace_s=ADMIN_GRACE_S,
            max_connections=config.admin.max_connections,
            tls=tls,
            handshake_s=config.times.handshake_s,
        )
        with naming(config.admin):
            server = await nursery.start(serve, guarded, host, port)
        access.gate.origins.add_page(scheme, host, server.port)
        yield f"{scheme}://{address_text(server.addresses[0])}"
        if hub is not None:
            hub.close()  # the feeds end with their last message, not with a cut
        server.stop()


@contextmanager
def naming(section: ServerConfig | AdminConfig) -> Iterator[None]:
    """Say which address it was that cannot be listened on, and how another is chosen.

    Raises:
        ListenError: instead of an `OSError` within.
    """
    try:
        yield
    except OSError as exc:
        problem = f"cannot listen on {section.host}:{section.port}: {exc.strerror or exc}"
        if exc.errno == errno.EADDRINUSE:
            fields = attrs.fields(type(section))
            problem += (
                f"; {about(fields.port).option} chooses another port (0: any free one), "
                f"{about(fields.host).option} another address"
            )
        raise ListenError(exc.errno, problem) from exc


def _with_path(url: str, path: str) -> str:
    """A URL with this path, if it has none; an empty one stays empty."""
    bare = url.removesuffix("/")
    return f"{bare}{path}" if bare.count("/") == 2 else url
