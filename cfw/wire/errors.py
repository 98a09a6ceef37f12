"""What can end a connection, below the domain.

::

    WireError
    +-- WireViolation        the peer broke RFC 6455 or a limit; answer with close_code
    |   +-- ProtocolFault        1002
    |   +-- InvalidPayload       1007
    |   +-- MessageTooBig        1009
    +-- PeerClosed           the peer sent a close frame: an end, not a failure
    +-- PeerGone             the world did it: EOF or reset without a close frame
    +-- KeepaliveTimeout     the world did it: no pong in time
    +-- MessageTimeout       the peer began a message and did not end it in time
    +-- HandshakeRejected    no WebSocket came to be; the HTTP answer is already sent
    |   +-- TlsFailed            not even TLS
    +-- AskedElsewhere       no WebSocket was asked for; who serves other paths has served it
    +-- WireCrashed          we did it: a bug below; only this connection is lost

Calling a method of a connection one has closed oneself raises
`trio.ClosedResourceError`, as everywhere in Trio.
"""

from typing import ClassVar, Literal

import attrs


@attrs.define(eq=False)
class WireError(Exception):
    """Anything that ends a connection at the level of bytes and frames."""

    detail: str

    def __str__(self) -> str:
        return self.detail


@attrs.define(eq=False)
class WireViolation(WireError):
    """The peer sent bytes that a server must refuse."""

    close_code: ClassVar[int] = 1002


@attrs.define(eq=False)
class ProtocolFault(WireViolation):
    """A frame that RFC 6455 forbids."""

    close_code: ClassVar[int] = 1002


@attrs.define(eq=False)
class InvalidPayload(WireViolation):
    """Text, or a close reason, that is not UTF-8."""

    close_code: ClassVar[int] = 1007


@attrs.define(eq=False)
class MessageTooBig(WireViolation):
    """A message over its limit, refused at the frame header that goes over it.

    Args:
        kind: which limit was passed.
        observed: bytes of the message received or announced so far.
        limit: bytes allowed.
    """

    close_code: ClassVar[int] = 1009

    detail: str = attrs.field(init=False)
    kind: Literal["text", "binary"]
    observed: int
    limit: int

    def __attrs_post_init__(self) -> None:
        self.detail = (
            f"a {self.kind} message of {self.observed} bytes is over the limit of {self.limit}"
        )


@attrs.define(eq=False)
class PeerClosed(WireError):
    """The peer sent its close frame; `WebSocket.close` sends ours and ends the handshake.

    Args:
        code: close code; None when the frame carried none.
        reason: the peer's words, at most 123 bytes; empty when it gave none.
    """

    detail: str = attrs.field(init=False)
    code: int | None
    reason: str

    def __attrs_post_init__(self) -> None:
        self.detail = f"the peer closed with {self.code or 'no code'}"


@attrs.define(eq=False)
class PeerGone(WireError):
    """The transport ended, or was reset, without a close frame."""


@attrs.define(eq=False)
class KeepaliveTimeout(WireError):
    """A ping found no pong within `keepalive_timeout_s`."""

    # The code that the websockets library uses for the same event.
    close_code: ClassVar[int] = 1011


@attrs.define(eq=False)
class MessageTimeout(WireError):
    """A message was not whole within `message_s` of its first byte."""

    close_code: ClassVar[int] = 1008


@attrs.define(eq=False)
class HandshakeRejected(WireError):
    """The opening handshake was refused.

    Args:
        detail: why, as the peer was told.
        status: HTTP status sent, or tried: the peer may have left before; None for TLS, which
            has answers of its own.
    """

    status: int | None


@attrs.define(eq=False)
class TlsFailed(HandshakeRejected):
    """The TLS handshake failed: the peer was told, where TLS has a word for it."""

    status: None = None


@attrs.define(eq=False)
class AskedElsewhere(WireError):
    """The peer asked for another path, and whoever serves the others has served it."""


@attrs.define(eq=False)
class WireCrashed(WireError):
    """The library under this connection failed; the cause is chained."""

    close_code: ClassVar[int] = 1011
