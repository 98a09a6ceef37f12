"""What listening needs of the network, whoever is served there."""

from cfw.net.accepting import RETRY_S, Handler, serve_listeners
from cfw.net.descriptors import RESERVE, descriptor_limit, raise_descriptor_limit
from cfw.net.own import (
    is_everywhere,
    own_address,
    own_addresses,
    own_names,
    reachable_url,
)
from cfw.net.peers import (
    address_of,
    address_text,
    describe_peer,
    group_of,
    local_address,
    socket_of,
)
from cfw.net.sockets import bind_sockets, open_listeners
from cfw.net.throttle import COMPLAIN_EVERY_S, Throttle

__all__ = [
    "COMPLAIN_EVERY_S",
    "RESERVE",
    "RETRY_S",
    "Handler",
    "Throttle",
    "address_of",
    "address_text",
    "bind_sockets",
    "describe_peer",
    "descriptor_limit",
    "group_of",
    "is_everywhere",
    "local_address",
    "open_listeners",
    "own_address",
    "own_addresses",
    "own_names",
    "raise_descriptor_limit",
    "reachable_url",
    "serve_listeners",
    "socket_of",
]
