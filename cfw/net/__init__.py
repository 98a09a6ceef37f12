"""What listening needs of the network, whoever is served there."""

from cfw.net.sockets import address_text, bind_sockets, open_listeners

__all__ = ["address_text", "bind_sockets", "open_listeners"]
