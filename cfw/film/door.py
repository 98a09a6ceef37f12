"""HTTP at the port for rigs, for who asks there for something else than a capture.

The connection is one like any other of that port: counted, shed, aborted and closed by the
router. What is added here is a bound on how long it may talk HTTP.
"""

from __future__ import annotations

from typing import Final

import trio

from cfw.http.http1 import Http1
from cfw.http.messages import Handler
from cfw.net import local_address
from cfw.wire import RequestBytes

#: For all that one connection asks for: a page and its files are some 100 kB, and who has more
#: to ask comes again. So nobody holds a place of a rig by asking now and then.
TALK_S: Final = 30.0
#: For the next request, and for one answer to be taken.
REQUEST_S: Final = 5.0
SEND_S: Final = 10.0


class Door:
    """Answers requests on connections that were accepted for rigs.

    Args:
        app: answers them; has no WebSocket to give.
    """

    def __init__(self, app: Handler) -> None:
        self._app = app
        self._turns = trio.Lock()

    async def serve(self, stream: trio.abc.Stream, begun: RequestBytes) -> None:
        """Answer one request after the other, for `TALK_S` at most.

        Args:
            stream: closed by whoever called.
            begun: what was read of it already.

        Cancellation: the connection is of no use afterwards.
        """
        address = local_address(stream)
        http = Http1(
            stream,
            0 if address is None else address[1],
            turns=self._turns,
            request_s=REQUEST_S,
            send_stall_s=SEND_S,
            begun=begun.head + begun.rest,
        )
        with trio.move_on_after(TALK_S):
            await http.converse(self._app)
