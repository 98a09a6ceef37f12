"""From bytes to messages: the boundary between a transport and the domain.

`accept` answers the handshake and yields a `WebSocket`; what ends it is a `WireError`.
"""

from cfw.wire.accept import Elsewhere, Judge, accept
from cfw.wire.connection import WebSocket
from cfw.wire.decoder import Decoder, PeerClose
from cfw.wire.errors import (
    AskedElsewhere,
    HandshakeRejected,
    InvalidPayload,
    KeepaliveTimeout,
    MessageTimeout,
    MessageTooBig,
    PeerClosed,
    PeerGone,
    ProtocolFault,
    TlsFailed,
    WireCrashed,
    WireError,
    WireViolation,
)
from cfw.wire.handshake import (
    MAX_HEAD_BYTES,
    HandshakeReject,
    Headers,
    Request,
    RequestBytes,
    close_now,
    read_head,
    read_request,
    refuse,
    refuse_now,
    see_off,
)
from cfw.wire.patience import hold_after
from cfw.wire.tls import shake_tls

__all__ = [
    "MAX_HEAD_BYTES",
    "AskedElsewhere",
    "Decoder",
    "Elsewhere",
    "HandshakeReject",
    "HandshakeRejected",
    "Headers",
    "InvalidPayload",
    "Judge",
    "KeepaliveTimeout",
    "MessageTimeout",
    "MessageTooBig",
    "PeerClose",
    "PeerClosed",
    "PeerGone",
    "ProtocolFault",
    "Request",
    "RequestBytes",
    "TlsFailed",
    "WebSocket",
    "WireCrashed",
    "WireError",
    "WireViolation",
    "accept",
    "close_now",
    "hold_after",
    "read_head",
    "read_request",
    "refuse",
    "refuse_now",
    "see_off",
    "shake_tls",
]
