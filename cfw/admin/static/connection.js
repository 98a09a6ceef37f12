// Whether the worker is there, by the feed and by its answers together.

import { clock } from "./format.js";

/** How the feed is closed by a worker that stops. */
const STOPPED = "the worker is shutting down";

/** By state: for the title, for the bar, and to be spoken. */
const WORDS = {
  connecting: ["", "Connecting", ""],
  live: ["", "Connected", "Connected to the worker."],
  draining: ["Draining", "Draining, no new captures", "The worker is shutting down."],
  authority_unreachable: [
    "No session checks",
    "Connected, sessions unchecked",
    "The worker cannot check sessions.",
  ],
  pictureless: ["No pictures", "Connected, no pictures", "The worker sends no pictures."],
  waiting: ["No worker", "Reconnecting", "Connection lost; trying again."],
};

export class Connection {
  #feed = { state: "connecting" };
  #feedAt = 0;
  #answer = null;
  #answeredAt = 0;
  #error = null;
  #retryAt = 0;

  /** What the feed says of its connection. */
  fed(status) {
    // While it tries again it is as lost as before.
    if (status.state === "connecting" && this.#feed.state === "waiting") return;
    if (status.state !== this.#feed.state) this.#feedAt = performance.now();
    this.#feed = status;
    if (status.state === "live") this.#retryAt = 0;
  }

  /** The worker has answered. */
  answered({ status }) {
    this.#answer = status === "ready" ? "live" : status;
    this.#answeredAt = performance.now();
    this.#error = null;
  }

  /** It has not, or will not. */
  failed(error, retryAt) {
    this.#error = error;
    this.#retryAt = retryAt;
  }

  /** One of `WORDS`. */
  get state() {
    if (this.#error !== null) return "waiting";
    if (this.#feed.state === "waiting") {
      return this.#answeredAt > this.#feedAt ? "pictureless" : "waiting";
    }
    return this.#answer === null || this.#feed.state === "connecting" ? "connecting" : this.#answer;
  }

  /** Whether what the page shows is of now. */
  get isThere() {
    return this.state !== "waiting";
  }

  get title() {
    return WORDS[this.state][0];
  }

  get spoken() {
    return WORDS[this.state][2];
  }

  get word() {
    const { state } = this;
    const retryAt = state === "waiting" || state === "pictureless" ? this.#nextTry() : 0;
    const wait = Math.ceil(Math.max(0, retryAt - performance.now()) / 1_000);
    return wait > 0 && state === "waiting" ? `Reconnecting in ${wait} s` : WORDS[state][1];
  }

  /** What is the matter, in a sentence or two; empty while all is well. */
  get notice() {
    const { state } = this;
    const { reason } = this.#feed;
    if (state === "draining") {
      return "The worker is shutting down: it takes no new capture, and those that run may finish.";
    }
    if (state === "authority_unreachable") {
      return "The worker cannot check sessions, and takes no new capture until it can.";
    }
    if (state === "pictureless") {
      return `The worker answers, but its feed does not: ${reason || "the connection broke off"}.`;
    }
    if (state !== "waiting") return "";
    let text = "The worker does not answer.";
    if (reason === STOPPED) text = "The worker has stopped.";
    if (this.#error?.status) {
      text = `The worker refuses this page: ${this.#error.message} (HTTP ${this.#error.status}).`;
    }
    return this.#answeredAt > 0 ? `${text} What is shown is of ${this.#lastSeen()}.` : text;
  }

  #nextTry() {
    return this.#feed.state === "waiting" ? this.#feed.retryAt : this.#retryAt;
  }

  #lastSeen() {
    return clock(Date.now() - (performance.now() - this.#answeredAt));
  }
}
