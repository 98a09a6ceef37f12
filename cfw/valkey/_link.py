"""One client of the server or cluster, with deadlines, and one error for all that fails."""

from __future__ import annotations

import contextlib
import math
import ssl
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import attrs
import trio

try:
    import coredis
    from coredis.connection import ClusterConnection, TCPConnection, TCPLocation
    from coredis.exceptions import (
        AskError,
        ClusterDownError,
        ReadOnlyError,
        RedisError,
        ResponseError,
        StreamConsumerGroupError,
        TryAgainError,
        WrongTypeError,
    )
    from coredis.exceptions import ConnectionError as ConnectionLost
    from coredis.pool import ClusterConnectionPool, ConnectionPool
    from coredis.retry import NoRetryPolicy
except ImportError as exc:
    raise ImportError(f"valkey:// needs the extra camera-feed-worker[valkey] ({exc})") from exc

from cfw.plugins import OutOfReach
from cfw.tasks.nurseries import open_plain_nursery
from cfw.valkey._address import Address
from cfw.valkey._nodes import Nodes, keepalive
from cfw.valkey._pipeline import Argument, Head, packed

_T = TypeVar("_T")
#: Connections there may be beside those of scripts. Commands share one; a question that the
#: server holds back, as those of consumers are, needs one of its own.
_PLACES = 1000


@attrs.define(slots=False, eq=False)
class ValkeyFailed(OutOfReach):
    """The server is out of reach, did not answer in time, or refused a command.

    Args:
        detail: which server and why, for the operator's log; holds no secret.
    """

    detail: str

    def __str__(self) -> str:
        return f"valkey: {self.detail}"


class ValkeyRefused(ValkeyFailed):
    """The server answered, and the answer is no; asked again it would be the same."""


class WrongKind(ValkeyRefused):
    """A key holds another type than the command is for."""


class GroupLost(ValkeyRefused):
    """The group of consumers is not there, nor perhaps the stream that it was on."""


#: Answers of a server or cluster that is changing; another one may come soon.
_PASSING = (AskError, ClusterDownError, ReadOnlyError, TryAgainError)


def _failed(exc: Exception) -> type[ValkeyFailed]:
    match exc:
        case WrongTypeError():
            return WrongKind
        case StreamConsumerGroupError():
            return GroupLost
        case ResponseError() if not isinstance(exc, _PASSING):
            return ValkeyRefused
        case _:
            return ValkeyFailed


class _Bounded:
    """A connection that is made within `connect_timeout`, its handshake included."""

    async def run(self, *, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        connection: Any = super()
        with trio.CancelScope() as making:
            making.deadline = trio.current_time() + (self._connect_timeout or math.inf)  # type: ignore[attr-defined]

            class Started:
                @staticmethod
                def started(value: Any = None) -> None:
                    if making.cancel_called:
                        return  # in the pass in which its time was over: it is cancelled next
                    making.deadline = math.inf
                    task_status.started(value)

            await connection.run(task_status=Started)
        if making.cancel_called:
            raise ConnectionLost("Unable to establish a connection") from TimeoutError()


class _Single(_Bounded, TCPConnection):
    def __init__(self, location: TCPLocation, **options: Any) -> None:
        silence = keepalive(options.get("connect_timeout") or 1)
        super().__init__(
            location, socket_keepalive=True, socket_keepalive_options=silence, **options
        )


class _Node(_Bounded, ClusterConnection):
    def __init__(self, location: TCPLocation, **options: Any) -> None:
        super().__init__(location, **options)
        self._socket_keepalive = True
        self._socket_keepalive_options = keepalive(options.get("connect_timeout") or 1)


class _WholePool(ABC):
    """A pool that gets back the place of every connection, however that has ended.

    A question that is cancelled while it connects would keep its place for ever, and so would a
    connection that breaks while it is in use.
    """

    async def get_connection(self, *args: Any, **options: Any) -> Any:
        pool: Any = super()
        # Beyond the pool's own time, so that it is the pool that gives up and keeps count.
        limit_s = 2 * self.timeout  # type: ignore[attr-defined]
        with trio.CancelScope(shield=True) as asking:
            asking.deadline = trio.current_time() + limit_s
            return await pool.get_connection(*args, **options)
        await trio.lowlevel.checkpoint_if_cancelled()
        raise ConnectionLost(f"no connection within {limit_s:g} s") from TimeoutError()

    def release(self, connection: Any) -> None:
        pool: Any = super()
        pool.release(connection)
        if not connection.usable:
            self._places_of(connection).append_nowait(None)

    @abstractmethod
    def _places_of(self, connection: Any) -> Any:
        """Where the pool keeps the places of such connections."""


class _SinglePool(_WholePool, ConnectionPool[_Single]):
    def _places_of(self, connection: Any) -> Any:
        return self._available_connections


class _NodePool(_WholePool, ClusterConnectionPool):
    def _places_of(self, connection: Any) -> Any:
        return self._node_pool(connection.location)


class Link:
    """Runs scripts and commands on the server; `open_link` makes it.

    Args:
        client: a coredis client that is open, for all that is no script.
        nodes: where scripts go.
        address: for its deadline and its name.
    """

    def __init__(
        self, client: coredis.client.Client[bytes], nodes: Nodes, address: Address
    ) -> None:
        self.client = client
        self.address = address
        self._nodes = nodes

    async def script(
        self,
        script: str,
        keys: Sequence[str],
        args: Sequence[Argument],
        *,
        may_wait: bool = False,
    ) -> Any:
        """Run a Lua script that may be run twice; asked again once when the connection broke.

        With `wait` it has been replicated when this returns.

        Args:
            script: its source.
            keys: at least one, all of one slot.
            args: what else it is given.
            may_wait: see `run`.

        Raises:
            ValkeyFailed: out of reach, late, or refused.

        Cancellation: it may have been run, or will be.
        """
        command = packed(args, eval_of(script, keys))
        return await self.run(keys[0], command, may_wait=may_wait)

    async def run(self, key: str, command: Sequence[bytes], *, may_wait: bool = False) -> Any:
        """The same for a script that is packed already.

        Args:
            key: one of those it touches.
            command: as `packed` gives it, behind `eval_of`.
            may_wait: for up to `GATHER_S`, to go along with others.
        """
        try:
            return await self._run(key, command, may_wait)
        except ValkeyFailed as exc:
            if not isinstance(exc.__cause__, ConnectionLost):
                raise
        return await self._run(key, command, may_wait)

    async def _run(self, key: str, command: Sequence[bytes], may_wait: bool) -> Any:
        try:
            return await self._nodes.run(key, command, may_wait=may_wait)
        except Exception as exc:
            raise self._failure(exc, self.address.timeout_s) from _reason(exc)

    async def ask_again(
        self, command: Callable[[], Awaitable[_T]], *, extra_s: float = 0
    ) -> _T:
        """As `ask`, for what may be run twice: once more when the connection broke."""
        try:
            return await self.ask(command, extra_s=extra_s)
        except ValkeyFailed as exc:
            if not isinstance(exc.__cause__, ConnectionLost):
                raise
        return await self.ask(command, extra_s=extra_s)

    async def ask(self, command: Callable[[], Awaitable[_T]], *, extra_s: float = 0) -> _T:
        """Run a command, within `timeout_s` and no longer than `extra_s` on top.

        Raises:
            ValkeyFailed: out of reach, late, or refused; in the last case `ValkeyRefused`.
        """
        timeout_s = self.address.timeout_s + extra_s
        try:
            with trio.fail_after(timeout_s):
                return await command()
        except Exception as exc:
            raise self._failure(exc, timeout_s) from _reason(exc)

    def _failure(self, exc: Exception, timeout_s: float) -> ValkeyFailed:
        # Whatever it is: the client raises its own errors, and what an answer that it did not
        # expect makes of its parsers.
        if isinstance(exc, trio.TooSlowError):
            return ValkeyFailed(f"{self.address.name} gave no answer within {timeout_s:g} s")
        return _failed(exc)(f"{self.address.name}: {_words(exc)}")


def eval_of(script: str, keys: Sequence[str], *first: Argument) -> Head:
    """How a script begins: its source, its keys, and the first of what it is given."""
    # The source and not its hash: no server has to be told it beforehand.
    return Head.of("EVAL", script, len(keys), *keys, *first)


def _reason(exc: Exception) -> Exception | None:
    return None if isinstance(exc, trio.TooSlowError) else exc


def _words(exc: BaseException) -> str:
    cause = exc.__cause__
    if not isinstance(cause, OSError):
        return str(exc) or type(exc).__name__
    # A deadline has no words of its own; one side alone with TLS ends at it as well.
    why = str(cause) or "no answer in time; see that both sides use TLS, or neither"
    return f"{exc} ({why})"


@asynccontextmanager
async def open_link(address: Address) -> AsyncIterator[Link]:
    """Connect to the server, or to the cluster by the nodes that the address names.

    Raises:
        ValkeyFailed: it is out of reach or lets nobody in, or a file of certificates cannot
            be used.

    Cancellation: closing waits for nobody.
    """
    tls = _tls(address) if address.is_tls else None
    options: dict[str, Any] = {
        "username": address.username,
        "password": address.password,
        # Sooner than the deadline of a command, so that the pool itself notices.
        "connect_timeout": address.timeout_s / 2,
        "max_connections": _PLACES,
        "timeout": address.timeout_s,
        "ssl_context": tls,
    }
    client: coredis.Redis[bytes] | coredis.RedisCluster[bytes]
    layout = None
    locations = [TCPLocation(host, port) for host, port in address.hosts]
    if address.cluster:
        nodes = _NodePool(
            locations,
            connection_class=_Node,
            max_connections_per_node=True,
            skip_full_coverage_check=True,
            **options,
        )
        client = coredis.RedisCluster(connection_pool=nodes, retry_policy=NoRetryPolicy())
        layout = nodes.cluster_layout
    else:
        pool = _SinglePool(
            connection_class=_Single, location=locations[0], db=address.db, **options
        )
        client = coredis.Redis(connection_pool=pool, retry_policy=NoRetryPolicy())
    failure: BaseException | None = None
    async with contextlib.AsyncExitStack() as stack:
        try:
            await stack.enter_async_context(client)
        except (RedisError, OSError) as exc:
            raise ValkeyFailed(f"{address.name}: {_words(exc)}") from exc
        try:
            async with open_plain_nursery() as nursery:
                link = Link(client, Nodes(layout, address, tls, nursery), address)
                if not address.cluster:  # a cluster has just told its layout
                    await link.ask(lambda: client.ping())
                yield link
        except BaseException as exc:  # raised below, without the group of the client's tasks
            failure = exc
    if failure is not None:
        raise failure


def _tls(address: Address) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=address.ca)
        if address.cert:
            context.load_cert_chain(address.cert, address.key)
    except OSError as exc:
        raise ValkeyFailed(f"a file of ca, cert and key cannot be used: {exc}") from None
    return context
