/**
 * A rig in a browser: one capture over one WebSocket. Stands alone; import it anywhere.
 *
 *     const capture = await openCapture(url, {
 *       userId: "ada", sessionId: "s1", width: 640, height: 480, fps: 15,
 *     });
 *     await capture.sendFrame(jpeg);            // a Blob; again and again
 *     const { frames, bytes } = await capture.close();
 *
 * Whatever goes wrong is a `CaptureError` with the worker's own words. `crypto.randomUUID`
 * makes it want a secure context: https, or localhost.
 */

const SCHEMA_VERSION = "1.0.0";
/** Offered beside a token, which a browser cannot send as a header. */
const SUBPROTOCOL = "cfw.v1";
/** Two frames of the largest size by default: enough to keep a line busy, and no queue. */
const MAX_WAITING_BYTES = 600_000;
/** The worker gives its sink 5 s to take what is left, and a slow line needs some too. */
const RECEIPT_MS = 15_000;
/** A browser itself would wait for minutes. */
const CONNECT_MS = 15_000;
const LOOK_AGAIN_MS = 5;
const NO_CLOSE_FRAME = [1005, 1006];

/** How a capture failed. */
export class CaptureError extends Error {
  /**
   * @param {string} code an error code of the protocol; `unreachable` when there was never a
   *   connection, `connection_lost` when it went away without a word.
   * @param {{detail?: string, seq?: number, observed?: number, limit?: number}} diagnostics
   */
  constructor(code, { detail = null, seq = null, observed = null, limit = null } = {}) {
    super(detail ? `${code}: ${detail}` : code);
    this.name = "CaptureError";
    Object.assign(this, { code, detail, seq, observed, limit });
  }
}

/** Milliseconds since 1970 as ISO 8601 text to the microsecond. */
function toText(ms) {
  const micros = Math.floor(ms * 1_000);
  const digits = String(micros % 1_000).padStart(3, "0");
  return `${new Date(Math.floor(micros / 1_000)).toISOString().slice(0, -1)}${digits}Z`;
}

/**
 * The clock of a rig. It never goes back, unlike the one on the wall; but it stands still while a
 * computer sleeps, so it is set by that once, at the beginning.
 */
export class Clock {
  #offset = performance.timeOrigin;

  constructor() {
    const behind = this.#behind();
    if (Math.abs(behind) > 100) this.#offset += behind;
  }

  /** The event time of a moment of `performance.now()`, as text; of this one if left out. */
  at(moment) {
    return toText(this.ms(moment));
  }

  /** The same in milliseconds since 1970. */
  ms(moment = performance.now()) {
    return this.#offset + moment;
  }

  /** Go on to where the clock on the wall is, after a sleep; between two captures, not in one. */
  catchUp() {
    const behind = this.#behind();
    if (behind > 1_000) this.#offset += behind;
  }

  #behind() {
    return Date.now() - (this.#offset + performance.now());
  }
}

class Capture {
  /** Frames and bytes given to `sendFrame`. */
  framesSent = 0;
  bytesSent = 0;
  /** Resolves with the receipt, rejects with a CaptureError; whatever ends the capture. */
  ended;
  #socket;
  #clock;
  #fixed;
  #lastTime = "";
  #maxWaitingBytes;
  #failure = null;
  #abort = null;
  #isClosing = false;
  #fail;

  constructor(socket, options) {
    const { userId, sessionId, captureId, maxWaitingBytes = MAX_WAITING_BYTES } = options;
    this.#clock = options.clock ?? new Clock();
    /** The name of the capture at the worker. */
    this.captureId = captureId ?? crypto.randomUUID();
    this.#socket = socket;
    this.#maxWaitingBytes = maxWaitingBytes;
    this.#fixed = {
      schema_version: SCHEMA_VERSION,
      user_id: userId,
      session_id: sessionId,
      capture_id: this.captureId,
    };
    this.ended = new Promise((resolve, reject) => {
      this.#fail = (failure) => {
        this.#failure ??= failure;
        reject(this.#failure);
      };
      socket.onmessage = ({ data }) => this.#hear(data);
      socket.onclose = (event) => {
        const outcome = this.#outcome(event);
        if (outcome instanceof CaptureError) this.#fail(outcome);
        else resolve(outcome);
      };
    });
    this.ended.catch(() => {}); // sendFrame and close tell it too; nobody has to look here
    this.#open(options);
  }

  /** False once nothing more can be sent. */
  get isOpen() {
    return !this.#isClosing && this.#failure === null && this.#socket.readyState === WebSocket.OPEN;
  }

  /** The event time of this moment. */
  now() {
    return this.#clock.at();
  }

  /**
   * Send one frame, then wait until the line has room for another.
   *
   * Who awaits it never queues more than one frame beyond `maxWaitingBytes`; a camera skips
   * the frames that come meanwhile.
   *
   * @param {Blob} jpeg one JPEG image.
   * @param {{timestamp?: string, stallMs?: number}} options when it was taken, as ISO 8601; now if
   *   left out. A network that takes nothing at all for `stallMs` ends the capture as
   *   `connection_lost`: a browser notices only after minutes that it is gone.
   */
  async sendFrame(jpeg, { timestamp = this.now(), stallMs = Infinity } = {}) {
    if (this.#isOver) await this.ended;
    this.#check();
    this.framesSent += 1;
    this.bytesSent += jpeg.size;
    this.#lastTime = timestamp;
    this.#say("capture.frame_meta", {
      seq: this.framesSent,
      timestamp_frame: timestamp,
      byte_length: jpeg.size,
    });
    this.#socket.send(jpeg);
    // A WebSocket has no event for this.
    let [waiting, since] = [Infinity, performance.now()];
    while (this.isOpen && this.#socket.bufferedAmount > this.#maxWaitingBytes) {
      const { bufferedAmount } = this.#socket;
      if (bufferedAmount < waiting) [waiting, since] = [bufferedAmount, performance.now()];
      else if (performance.now() - since > stallMs) this.#giveUp();
      await new Promise((resolve) => setTimeout(resolve, LOOK_AGAIN_MS));
    }
    if (this.#failure) throw this.#failure;
  }

  /**
   * End the capture.
   *
   * @param {{isFrameLast?: boolean}} options whether it ends with its last frame, by event time,
   *   rather than now.
   * @returns {Promise<{frames: number, bytes: number}>} the receipt: what the worker has
   *   taken, and its consumer after it.
   */
  async close({ isFrameLast = false } = {}) {
    if (this.#isOver) await this.ended;
    if (!this.#isClosing) {
      this.#check();
      const now = this.now();
      const isAtFrame = this.#lastTime > now || (isFrameLast && this.#lastTime);
      this.#say("capture.close", { timestamp_end: isAtFrame ? this.#lastTime : now });
      this.#isClosing = true;
    }
    const timer = setTimeout(() => this.#socket.close(), RECEIPT_MS);
    try {
      return await this.ended;
    } finally {
      clearTimeout(timer);
    }
  }

  #giveUp() {
    this.#fail(new CaptureError("connection_lost", { detail: "the network took nothing" }));
    this.#socket.close();
  }

  #open({ width, height, fps, modality, source, performerId, annotation, timestampStart }) {
    const [timestamp_start, performer_id] = [timestampStart ?? this.now(), performerId];
    this.#say("capture.open", {
      ...{ timestamp_start, fps_target: fps, width, height, encoding: "jpeg" },
      ...{ modality, source, performer_id, annotation },
    });
  }

  #say(event, fields) {
    const header = { event, record_id: crypto.randomUUID(), timestamp: this.now() };
    this.#socket.send(JSON.stringify({ ...header, ...this.#fixed, ...fields }));
  }

  #check() {
    if (this.#failure) throw this.#failure;
    if (this.#isClosing) throw new DOMException("the capture was closed", "InvalidStateError");
  }

  /** The browser knows that it was ended, and says how in a moment. */
  get #isOver() {
    return !this.#isClosing && this.#socket.readyState !== WebSocket.OPEN;
  }

  #hear(data) {
    const message = typeof data === "string" ? JSON.parse(data) : {};
    if (message.event === "capture.abort") this.#abort = message;
  }

  #outcome({ code, reason }) {
    if (this.#abort) return new CaptureError(this.#abort.error_code, this.#abort);
    if (code === 1000 && this.#isClosing) {
      try {
        const { frames, bytes } = JSON.parse(reason);
        return { frames, bytes };
      } catch {
        return new CaptureError("connection_lost", { detail: `no receipt: ${reason}` });
      }
    }
    const told = /^([a-z]+(?:_[a-z]+)+)(?:: (.*))?$/s.exec(reason);
    if (told) return new CaptureError(told[1], { detail: told[2] });
    const detail = NO_CLOSE_FRAME.includes(code) ? null : `closed with ${code} ${reason}`.trim();
    return new CaptureError("connection_lost", { detail });
  }
}

/**
 * Connect and open a capture.
 *
 * The worker says nothing to an opening it takes, so the first frame may follow at once; one
 * that it refuses shows at the next `sendFrame` or `close`, and in `ended`.
 *
 * @param {string} url the worker's, with its path.
 * @param {{userId: string, sessionId: string, width: number, height: number, fps: number,
 *   token?: string, captureId?: string, modality?: string, source?: string, performerId?: string,
 *   annotation?: {intent: string}, timestampStart?: string, clock?: Clock,
 *   maxWaitingBytes?: number}} options who films, and what. `clock` is for captures that share
 *   one; `timestampStart` is now if left out.
 * @returns {Promise<Capture>}
 */
export async function openCapture(url, options) {
  const { token } = options;
  const socket = token
    ? new WebSocket(url, [SUBPROTOCOL, `cfw.bearer.${token}`])
    : new WebSocket(url);
  const timer = setTimeout(() => socket.close(), CONNECT_MS);
  await new Promise((resolve, reject) => {
    socket.onopen = resolve;
    // A browser does not tell a page why.
    const hint = token ? ", or the token is not one of its own" : "";
    socket.onclose = () => reject(new CaptureError("unreachable", { detail: `at ${url}${hint}` }));
  });
  clearTimeout(timer);
  return new Capture(socket, options);
}
