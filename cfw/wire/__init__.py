"""From bytes to messages: the boundary between a transport and the domain.

`accept` answers the handshake and yields a `WebSocket`; what ends it is a `WireError`.
"""

from .connection import Judge, WebSocket, accept, describe_peer
from .decoder import Decoder, PeerClose
from .errors import (
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
from .handshake import HandshakeReject, Headers, close_now, refuse, refuse_now
from .tls import shake_tls

__all__ = [
    "Decoder",
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
    "TlsFailed",
    "WebSocket",
    "WireCrashed",
    "WireError",
    "WireViolation",
    "accept",
    "close_now",
    "describe_peer",
    "refuse",
    "refuse_now",
    "shake_tls",
]
