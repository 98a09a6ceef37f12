"""From bytes to messages: the boundary between a transport and the domain.

`accept` answers the handshake and yields a `WebSocket`; what ends it is a `WireError`.
"""

from .connection import WebSocket, accept
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
    WireCrashed,
    WireError,
    WireViolation,
)
from .handshake import HandshakeReject, close_now, refuse, refuse_now

__all__ = [
    "Decoder",
    "HandshakeReject",
    "HandshakeRejected",
    "InvalidPayload",
    "KeepaliveTimeout",
    "MessageTimeout",
    "MessageTooBig",
    "PeerClose",
    "PeerClosed",
    "PeerGone",
    "ProtocolFault",
    "WebSocket",
    "WireCrashed",
    "WireError",
    "WireViolation",
    "accept",
    "close_now",
    "refuse",
    "refuse_now",
]
