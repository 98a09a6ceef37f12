// One connection to the feed, made again whenever it breaks; frames come when they are asked for.

import { getJson } from "./settings.js";

const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 15_000;
const PATH = "/feed?mode=live&frames=asked";
/** The worker takes messages of 4096 bytes. */
const MOST_CHARACTERS = 3_500;
/** HTTP status of what only lacks the handshake. */
const NO_WEBSOCKET = 426;

/**
 * @typedef {object} Frame
 * @property {string} captureId
 * @property {number} seq
 * @property {number} delayMs from the rig's time of it to the worker's.
 * @property {Uint8Array} jpeg
 */

/** @returns {Frame[]} what a round holds: how long its JSON is, that, and the pictures. */
function unpack(round) {
  let end = 4 + new DataView(round).getUint32(0);
  const { frames } = JSON.parse(new TextDecoder().decode(new Uint8Array(round, 4, end - 4)));
  return frames.map(({ capture_id, seq, byte_length, delay_s }) => {
    const start = end;
    end += byte_length;
    // A copy: a picture that stays would keep all others of its round.
    const jpeg = new Uint8Array(round.slice(start, end));
    return { captureId: capture_id, seq, delayMs: delay_s * 1_000, jpeg };
  });
}

/**
 * Read the feed until the page goes away.
 *
 * @param {(message: object) => void} tell called for each beginning and end of a capture.
 * @param {(frames: Frame[]) => void} show called for each round of frames.
 * @param {(status: {state: "live" | "connecting" | "waiting", retryAt?: number,
 *   reason?: string}) => void} inform called when the connection changes.
 */
export class Feed {
  #tell;
  #show;
  #inform;
  #socket = null;
  #timer = 0;
  #tries = 0;

  constructor(tell, show, inform) {
    this.#tell = tell;
    this.#show = show;
    this.#inform = inform;
    addEventListener("online", () => this.retry());
    this.#connect();
  }

  /** Try at once instead of waiting on. */
  retry() {
    if (this.#socket === null) this.#connect();
  }

  /**
   * Ask for frames of these captures.
   *
   * @param {string[]} captureIds
   * @param {number} frames how many of each.
   * @param {number} everyS seconds from one round to the next, at least.
   * @returns {boolean} false while nobody can be asked.
   */
  ask(captureIds, frames, everyS) {
    if (this.#socket?.readyState !== WebSocket.OPEN) return false;
    const send = (ids) => {
      this.#socket.send(JSON.stringify({ ask: ids, frames, every_s: everyS }));
    };
    let [ids, length] = [[], 0];
    for (const id of captureIds) {
      if (length + id.length > MOST_CHARACTERS) {
        send(ids);
        [ids, length] = [[], 0];
      }
      ids.push(id);
      length += id.length + 3;
    }
    send(ids);
    return true;
  }

  #connect() {
    clearTimeout(this.#timer);
    this.#inform({ state: "connecting" });
    const url = new URL(PATH, location.href);
    url.protocol = url.protocol.replace("http", "ws");
    const socket = (this.#socket = new WebSocket(url));
    socket.binaryType = "arraybuffer";
    let wasOpened = false;
    socket.onopen = () => {
      this.#tries = 0;
      wasOpened = true;
      this.#inform({ state: "live" });
    };
    socket.onmessage = ({ data }) => {
      if (typeof data === "string") this.#tell(JSON.parse(data));
      else this.#show(unpack(data));
    };
    socket.onclose = ({ reason }) => {
      this.#socket = null;
      // Doubled each time, and spread, so that many pages do not come back in one moment.
      const wait = Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** this.#tries++);
      const spread = wait * (0.75 + Math.random() / 2);
      this.#timer = setTimeout(() => this.#connect(), spread);
      const status = { state: "waiting", retryAt: performance.now() + spread, reason };
      this.#inform(status);
      if (!wasOpened) this.#askWhy(status);
    };
  }

  /** A browser does not say why a handshake was refused; who asks without one is told. */
  async #askWhy(waiting) {
    try {
      await getJson(PATH);
    } catch ({ status, message }) {
      const isRefused = status !== undefined && status !== NO_WEBSOCKET;
      if (isRefused && this.#socket === null) this.#inform({ ...waiting, reason: message });
    }
  }
}
