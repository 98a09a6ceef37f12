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
 * Read the feed until the page goes away.
 *
 * @param {(message: object, jpeg: Blob | null) => void} tell called for each message; `jpeg`
 *   is there for `capture.frame`.
 * @param {(status: {state: "live" | "connecting" | "waiting", retryAt?: number,
 *   reason?: string}) => void} inform called when the connection changes.
 */
export class Feed {
  #tell;
  #inform;
  #socket = null;
  #timer = 0;
  #tries = 0;

  constructor(tell, inform) {
    this.#tell = tell;
    this.#inform = inform;
    addEventListener("online", () => this.retry());
    this.#connect();
  }

  /** Try at once instead of waiting on. */
  retry() {
    if (this.#socket === null) this.#connect();
  }

  /**
   * Ask for one frame of each of these captures.
   *
   * @returns {boolean} false while nobody can be asked.
   */
  ask(captureIds) {
    if (this.#socket?.readyState !== WebSocket.OPEN) return false;
    let [ids, length] = [[], 0];
    for (const id of captureIds) {
      if (length + id.length > MOST_CHARACTERS) {
        this.#socket.send(JSON.stringify({ ask: ids }));
        [ids, length] = [[], 0];
      }
      ids.push(id);
      length += id.length + 3;
    }
    this.#socket.send(JSON.stringify({ ask: ids }));
    return true;
  }

  #connect() {
    clearTimeout(this.#timer);
    this.#inform({ state: "connecting" });
    const url = new URL(PATH, location.href);
    url.protocol = url.protocol.replace("http", "ws");
    const socket = (this.#socket = new WebSocket(url));
    let frame = null;
    let wasOpened = false;
    socket.onopen = () => {
      this.#tries = 0;
      wasOpened = true;
      this.#inform({ state: "live" });
    };
    socket.onmessage = ({ data }) => {
      if (typeof data !== "string") {
        this.#tell(frame, data);
      } else {
        const message = JSON.parse(data);
        if (message.event === "capture.frame") frame = message;
        else this.#tell(message, null);
      }
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
