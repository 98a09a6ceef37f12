"""What each error code and HTTP status means, why it comes and what to do, in words.

The command `cfw explain` and the pages of the admin listener show these texts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from cfw.errors import INVITATION_ENDED, OPERATOR_ENDED, SESSION_ENDED, SESSION_UNCHECKED
from cfw.limits import Limits, Times
from schemas import ErrorCode


@attrs.frozen
class Case:
    """What a code means where its detail says more than the code does.

    Args:
        label: what to call it, in a word or two.
        meaning: one sentence.
        rig: what the rig's programmer can do.
        operator: what whoever runs the worker can do.
    """

    label: str
    meaning: str
    rig: str
    operator: str


@attrs.frozen
class Explanation:
    """What is known of one error code or HTTP status.

    Args:
        meaning: one sentence.
        causes: the usual ones, most frequent first.
        rig: what the rig's programmer can do.
        operator: what whoever runs the worker can do.
        keys: the settings it depends on, as `limits.max_fps`; empty when there is none.
        cases: detail -> what it means with exactly that detail.
    """

    meaning: str
    causes: tuple[str, ...]
    rig: str
    operator: str
    keys: tuple[str, ...] = ()
    cases: Mapping[str, Case] = attrs.Factory(dict)

    @property
    def defaults(self) -> dict[str, float]:
        """The settings and their defaults."""
        sections: dict[str, Any] = {"limits": Limits(), "times": Times()}
        return {
            f"{section}.{key}": getattr(sections[section], key)
            for section, key in (name.split(".") for name in self.keys)
        }


EXPLANATIONS: dict[ErrorCode | int, Explanation] = {
    ErrorCode.PROTOCOL_VIOLATION: Explanation(
        "The rig broke the protocol: order, shape, ids, times, or a timeout.",
        (
            "No capture.open, no frame, or no bytes behind a frame_meta in the time for it.",
            "The clock of the rig is wrong, or event times go back.",
            "The bytes are no complete JPEG, or not as many as byte_length said.",
            "seq does not count 1, 2, 3, ...; a record_id is used twice; an id changes.",
            "The capture_id is active on another connection, perhaps of the same rig before "
            "it lost its network.",
            "A field is missing or of the wrong type, or the text is too long (close code "
            "1009); frames that break RFC 6455 keep its codes, 1002 and 1007.",
        ),
        "Try again; if it comes every time, the program that films breaks the protocol, and "
        "the detail names the rule and the frame. Make each frame_meta and its bytes one step "
        "that nothing interrupts, take a new capture_id for each capture, set the clock "
        "(NTP), and close the capture when no more frames come. `cfw schema` prints every "
        "message; cfw.client does all of it.",
        "Nothing, if one rig is affected. For slow cameras or networks raise the times; for "
        "recordings sent later raise limits.max_clock_skew_s.",
        (
            "times.open_s",
            "times.message_s",
            "times.idle_s",
            "times.meta_to_bytes_s",
            "limits.max_clock_skew_s",
            "limits.max_control_bytes",
        ),
    ),
    ErrorCode.LIMIT_DURATION_EXCEEDED: Explanation(
        "The capture took too long, by the worker's clock or by its own event times.",
        (
            "The rig streams without end, or forgot capture.close.",
            "timestamp_start is that of the program and not of the capture.",
            "The network is slow, so that a capture of the right length arrives late.",
        ),
        "Film for a shorter time: close the capture before the limit and open the next one; "
        "leave a second for the network. The sum of captures may be as long as you like.",
        "Start it with --for video or --for hd, or raise limits.max_duration_s, and "
        "limits.max_frames and limits.max_total_bytes along with it.",
        ("limits.max_duration_s", "limits.max_frames", "limits.max_total_bytes"),
    ),
    ErrorCode.LIMIT_FRAME_COUNT_EXCEEDED: Explanation(
        "The capture has one frame too many.",
        (
            "The camera gives more frames a second than fps_target said.",
            "Buffered frames are sent faster than they were taken.",
        ),
        "Film for a shorter time or at fewer frames a second: count what you send "
        "(capture.frames_sent) and close at the limit; leave out frames "
        "that come faster than the rate you declared.",
        "Raise limits.max_frames: limits.max_fps times limits.max_duration_s is what a "
        "capture of full length needs.",
        ("limits.max_frames", "limits.max_fps", "limits.max_duration_s"),
    ),
    ErrorCode.LIMIT_RESOLUTION_EXCEEDED: Explanation(
        "The picture is larger than the worker allows, or than capture.open declared.",
        (
            "The camera did not take the size that was asked of it and gives its own.",
            "Width and height are swapped, as in a picture turned upright.",
            "capture.open declares more pixels than the worker allows.",
        ),
        "Choose a smaller picture: read the size back from the camera, scale the picture "
        "down, and declare what the JPEG really has. Smaller than declared is allowed.",
        "Start it with --for video or --for hd, or raise limits.max_width, limits.max_height "
        "and limits.max_pixels; larger pictures need a larger limits.max_frame_bytes too.",
        (
            "limits.max_width",
            "limits.max_height",
            "limits.max_pixels",
            "limits.max_frame_bytes",
        ),
    ),
    ErrorCode.LIMIT_FPS_EXCEEDED: Explanation(
        "capture.open asks for more frames a second than the worker takes.",
        ("fps_target is the rate of the camera and not the one that is needed.",),
        "Choose fewer frames a second: declare at most the limit, and send every second or "
        "third frame of a faster camera.",
        "Start it with --for video or --for hd, or raise limits.max_fps, and "
        "limits.max_frames along with it.",
        ("limits.max_fps", "limits.max_frames"),
    ),
    ErrorCode.LIMIT_FRAME_BYTES_EXCEEDED: Explanation(
        "One frame has too many bytes.",
        (
            "The JPEG quality is too high for what the camera sees; noise in the dark does it.",
            "A message is not a single frame, but a file or several of them.",
        ),
        "Choose a smaller picture or a lower JPEG quality (75 to 85 is plenty for VGA).",
        "Raise limits.max_frame_bytes; limits.max_forward_buffer_bytes must be at least as "
        "much.",
        ("limits.max_frame_bytes", "limits.max_forward_buffer_bytes"),
    ),
    ErrorCode.LIMIT_TOTAL_BYTES_EXCEEDED: Explanation(
        "The frames of the capture together have too many bytes.",
        ("Many frames near the limit of one frame.", "limits.max_frames was raised alone."),
        "Film for a shorter time or a smaller picture, lower the JPEG quality, or end the "
        "capture (capture.bytes_sent) and open another.",
        "Raise limits.max_total_bytes.",
        ("limits.max_total_bytes", "limits.max_frames", "limits.max_frame_bytes"),
    ),
    ErrorCode.LIMIT_FORWARD_BUFFER_EXCEEDED: Explanation(
        "The forward buffer is full: the sink is slower than the rig.",
        (
            "A lossless subscriber of the feed reads too slowly, or was stopped.",
            "The sink waits for something: a disk, a network, a model.",
            "The rig sends a backlog faster than its fps_target.",
        ),
        "It is not the rig's fault unless it sends faster than it declared; open a new "
        "capture.",
        "Find the slow side in GET /captures on the admin listener: buffer_frames grows. Let "
        "viewers subscribe with mode=live, make the sink faster, or raise the buffer for "
        "short bursts.",
        ("limits.max_forward_buffer_frames", "limits.max_forward_buffer_bytes"),
    ),
    ErrorCode.FORWARD_FAILED: Explanation(
        "The sink raised an exception, or did not take what was left in time.",
        (
            "A bug in the sink, or what it writes to is gone.",
            "At the end of the capture the sink needed longer than it may.",
        ),
        "The frames accepted so far may not have arrived; open a new capture and send again "
        "what matters.",
        "The log has the sink's traceback, on the line with the connection's number. Raise "
        "times.close_flush_s if it is only slow.",
        ("times.close_flush_s",),
    ),
    ErrorCode.SESSION_INVALID: Explanation(
        "The session is unknown, another user's, or could not be checked at open.",
        (
            "user_id or session_id is misspelt, or they do not belong together.",
            "The worker was started without --session, so that nobody may send.",
            "The session authority was out of reach, or slower than times.session_check_s.",
            "The token or certificate of the connection is bound to another user.",
        ),
        "Check user and session for typing errors, or ask whoever runs the study for the right "
        "ones. If the detail says that it could not be checked, try again later.",
        "`cfw config` shows the authority; the log line session.unreachable or "
        "session.unanswered says why there was no answer. For a list: "
        "cfw serve --session USER:SESSION.",
        ("times.session_check_s",),
        {
            SESSION_UNCHECKED: Case(
                "session unchecked",
                "The session could not be checked.",
                "Try again later, with the same user and session.",
                "The session authority does not answer: the log line session.unreachable or "
                "session.unanswered says why.",
            )
        },
    ),
    ErrorCode.SESSION_CLOSED: Explanation(
        "The session has ended, or could not be checked again for too long.",
        (
            "The experiment was ended while the rig was still sending.",
            "The session authority went away in the middle of a capture and stayed away.",
        ),
        "Stop sending; ask for a new session before the next capture.",
        "If sessions should be open, look for session.unreachable and session.unanswered "
        "in the log; raise times.session_grace_s to bridge longer outages.",
        ("times.session_recheck_s", "times.session_check_s", "times.session_grace_s"),
        {
            OPERATOR_ENDED: Case(
                "ended by operator",
                "An operator ended this capture.",
                "Ask whoever runs the worker before you film again; the session itself is "
                "still open.",
                "Somebody ended it on the live page, or with DELETE /captures/CAPTURE_ID; the "
                "log line capture.revoked names the address.",
            ),
            INVITATION_ENDED: Case(
                "invitation ended",
                "The invitation has ended, or was taken back.",
                "Ask for another code, and scan it.",
                "Somebody took it back, as the log line invitation.taken_back says, or "
                "invitations.film_s was over; the session is not ended by that. Invite again "
                "with cfw invite USER SESSION, or on the live page.",
            ),
            SESSION_ENDED: Case(
                "session ended",
                "The session has ended.",
                "Stop sending; ask for a new session before the next capture.",
                "Whoever runs the study has ended it; nothing is wrong with the worker.",
            ),
        },
    ),
    ErrorCode.SERVER_SHUTDOWN: Explanation(
        "The worker stops, and could not wait any longer for the capture to end.",
        ("A restart or a new version.", "A second SIGTERM or Ctrl-C, which waits for nothing."),
        "Open the capture again after some seconds, at the same or at another worker.",
        "times.drain_s should be longer than limits.max_duration_s, and the time that the "
        "service manager waits before it kills longer than both.",
        ("times.drain_s", "limits.max_duration_s"),
    ),
    ErrorCode.SERVER_AT_CAPACITY: Explanation(
        "The worker has no memory left to reserve for this capture.",
        (
            "More captures run at a time than the memory is meant for.",
            "limits.max_forward_buffer_bytes was raised, which every capture reserves.",
        ),
        "Try again later, with a pause that grows.",
        "Raise limits.max_memory_bytes if the machine has it, lower "
        "limits.max_forward_buffer_bytes, or run another worker.",
        (
            "limits.max_memory_bytes",
            "limits.max_forward_buffer_bytes",
            "limits.max_frame_bytes",
            "limits.max_control_bytes",
        ),
    ),
    ErrorCode.CLIENT_DISCONNECTED: Explanation(
        "The rig went away in mid-capture; consumers and the log are told, the rig cannot be.",
        (
            "The rig's program ended, raised an exception, or was interrupted.",
            "The network was lost, or a proxy in between cut an idle connection.",
            "The rig answered no ping in time: its event loop was blocked.",
        ),
        "End a capture with capture.close and wait for close code 1000, which is the receipt. "
        "Keep long work out of the task or thread that serves the WebSocket.",
        "Look at the detail in the log. For networks with gaps raise "
        "times.keepalive_timeout_s; for proxies lower times.keepalive_s.",
        ("times.keepalive_s", "times.keepalive_timeout_s"),
    ),
    ErrorCode.WORKER_LOST: Explanation(
        "The worker of the capture fell silent; another worker of the fleet tells consumers.",
        (
            "The machine or process of the worker died, or was killed without notice.",
            "The worker was cut off from the Valkey server for longer than the lease lasts.",
            "The worker was stopped or swapped out for so long; it then aborts the capture "
            "with forward_failed.",
        ),
        "Film again under a new capture_id: the connection broke without a receipt. Consumers "
        "keep the frames before the terminal; there may have been more that no worker can "
        "tell of.",
        "Look for what ended the worker. The option lease_s of the valkey:// URL says how long "
        "a worker may be silent; cfw/sinks/VALKEY.md tells how leases work.",
    ),
    ErrorCode.INTERNAL_ERROR: Explanation(
        "A bug in the worker, of which no more is told outside.",
        ("A case that nobody has thought of.",),
        "Note the time and the capture_id for the operator, and open a new capture.",
        "The log has the traceback at level error, with the connection's number and the "
        "capture_id; please report it.",
    ),
    400: Explanation(
        "The request cannot be read as HTTP/1.1.",
        (
            "Something else than a WebSocket client.",
            "wss:// at a worker that speaks no TLS, or ws:// at one that does.",
            "A program that writes the request by hand.",
        ),
        "The answer says which line or header it is. Use a WebSocket library, and ws:// or "
        "wss:// as the ready line of the worker says.",
        "The log line connection.refused says what was wrong; port scanners cause it too.",
    ),
    401: Explanation(
        "The worker needs a token, and none of its own came with the request.",
        (
            "The rig sends no token, or one that was replaced.",
            "The worker has not read its file again since the token was added.",
        ),
        "Send the header Authorization: Bearer TOKEN; a page offers the subprotocols cfw.v1 "
        "and cfw.bearer.TOKEN.",
        "server.token_file names the tokens; `cfw token` makes one, and kill -HUP has the file "
        "read again.",
    ),
    403: Explanation(
        "The request names an Origin, as web pages do, and may not connect.",
        (
            "A page that is not the worker's own, or under another name or port than listed.",
            "A program whose library sends one: of its URL, file://, or a text of its own.",
            "A name for the worker that is no address and no loopback name, without tokens.",
        ),
        "Have the library send no Origin, if it can (websocket-client: suppress_origin=True), "
        "or ask for it to be listed. Connected to by its address, or on its own machine as "
        "localhost, the worker takes the origin of the URL.",
        "The log line connection.refused names the Origin; if it is a page or program of "
        "yours, list it in server.origins just as it came. With server.token_file the origin "
        "of the URL is enough.",
    ),
    404: Explanation(
        "The path of the URL is not that of the worker.",
        (
            "A spelling mistake, or a proxy that changes the path.",
            "The port of the admin listener instead of the one for rigs, or the reverse.",
        ),
        "Use the URL that `cfw serve` prints when it is ready; the answer names the path. "
        "cfw.client adds the default one to a URL without a path, and needs any other in it.",
        "Let the proxy keep the path; for rigs that have one of their own, set server.path.",
    ),
    408: Explanation(
        "The handshake was not done in time.",
        ("A connection that was opened and not used.", "A very slow network."),
        "Send the request as soon as the connection is open.",
        "Raise times.handshake_s for slow networks.",
        ("times.handshake_s",),
    ),
    426: Explanation(
        "The request is no WebSocket handshake, or one of an old version.",
        (
            "A browser or curl was pointed at the worker.",
            "A proxy that does not pass the Upgrade header on.",
        ),
        "Use a WebSocket client (RFC 6455, version 13).",
        "Let the proxy pass Upgrade and Connection on.",
    ),
    431: Explanation(
        "The head of the request is too long.",
        ("Cookies of a browser, or a long token in a header.",),
        "Send fewer headers; serve the page from a host name without cookies.",
        "Have the proxy drop cookies; the bound is fixed.",
    ),
    503: Explanation(
        "The worker takes no connection: it has too many, or is shutting down.",
        (
            "limits.max_connections are open; rigs may have left connections unused.",
            "limits.max_connections_per_address are open from one address, such as a proxy.",
            "The process has nearly used up its file descriptors.",
            "The worker got SIGTERM and lets running captures finish.",
        ),
        "Try again later, with a pause that grows; close connections that are done.",
        "Raise limits.max_connections, limits.max_connections_per_address and "
        "limits.max_memory_bytes to go with it; give the process more descriptors (ulimit -n, "
        "LimitNOFILE of systemd).",
        (
            "limits.max_connections",
            "limits.max_connections_per_address",
            "limits.max_memory_bytes",
            "times.open_s",
        ),
    ),
}


def explained_codes() -> dict[str, dict[str, object]]:
    """error_code -> what it means and what to do, for pages; HTTP statuses are no page's."""
    return {
        code.value: attrs.asdict(entry, filter=attrs.filters.exclude("keys"))
        for code, entry in EXPLANATIONS.items()
        if isinstance(code, ErrorCode)
    }
