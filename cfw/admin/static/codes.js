// Every way a capture can fail: what it means in plain words, and what to do about it.

export const CODES = {
  protocol_violation: [
    "The worker could not follow what it was sent",
    "Try again. If it happens every time, the program that films breaks the protocol; the detail says where.",
  ],
  limit_duration_exceeded: [
    "The capture was longer than this worker allows",
    "Film for a shorter time, or raise limits.max_duration_s.",
  ],
  limit_frame_count_exceeded: [
    "The capture had more frames than this worker allows",
    "Film for a shorter time or at fewer frames a second, or raise limits.max_frames.",
  ],
  limit_resolution_exceeded: [
    "The picture is larger than allowed, or larger than announced",
    "Choose a smaller picture, or raise limits.max_width, max_height and max_pixels.",
  ],
  limit_fps_exceeded: [
    "More frames a second were announced than allowed",
    "Choose fewer frames a second, or raise limits.max_fps.",
  ],
  limit_frame_bytes_exceeded: [
    "One frame was larger than allowed",
    "Choose a smaller picture or stronger compression, or raise limits.max_frame_bytes.",
  ],
  limit_total_bytes_exceeded: [
    "The frames together were larger than allowed",
    "Film for a shorter time or a smaller picture, or raise limits.max_total_bytes.",
  ],
  limit_forward_buffer_exceeded: [
    "Whoever reads the frames behind the worker is too slow",
    "Look at the consumer of the feed: it must read faster, or use mode live.",
  ],
  forward_failed: [
    "The frames could not be passed on",
    "The fault is behind the worker; its log names it. Try again once that is mended.",
  ],
  session_invalid: [
    "The worker does not know this user with this session",
    "Check user and session for typing errors, or ask whoever runs the study for the right ones.",
  ],
  session_closed: [
    "The session has ended",
    "Start a new session, then film again.",
  ],
  server_shutdown: [
    "The worker is being stopped",
    "Wait until it is back, then film again.",
  ],
  server_at_capacity: [
    "The worker has no room for another capture",
    "Wait until another capture has ended, then try again.",
  ],
  internal_error: [
    "The worker made a mistake",
    "It is not your fault. The worker's log has the cause; please report it.",
  ],
  client_disconnected: [
    "The rig went away before it closed the capture",
    "Look at the rig: its network, its power, its program.",
  ],
  // The codes below never leave a browser: what it sees when the worker says nothing.
  unreachable: [
    "No connection to the worker",
    "Check that the worker runs and can be reached at its capture address from this device.",
  ],
  connection_lost: [
    "The connection broke off",
    "Check the network, then film again. What arrived before is listed on the live page.",
  ],
};

export const meaning = (code) => CODES[code]?.[0] ?? code;

export const remedy = (code) => CODES[code]?.[1] ?? "Look the code up in the worker's manual.";
