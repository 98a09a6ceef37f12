// A film: any number of frames, in as many captures as a worker's limits need.
//
// A frame is given to one capture and never to another, so none is doubled. One that no capture
// has taken waits for the next one, so none is lost between two. A capture that is lost on the way
// is followed by another. The rules are those of `cfw send --split --retry`.

import { Clock, openCapture } from "./capture-client.js";
import { Backoff, isRefused, passes } from "./retry.js";
import { sleep } from "./sleep.js";

/** What is kept of a limit in seconds for the way to the worker: a part of it, within bounds. */
const MARGIN = 0.1;
const LEAST_MARGIN_S = 1;
const MOST_MARGIN_S = 5;
/** What may wait for the next capture to be open. */
const MOST_HELD_BYTES = 4_000_000;
/** For what is held when a film ends. */
const FLUSH_MS = 5_000;
/** A worker that refuses a capture says so soon. */
const SETTLE_MS = 250;

const marginOf = (seconds) => {
  const least = Math.min(LEAST_MARGIN_S, seconds / 2);
  return Math.min(Math.max(MARGIN * seconds, least), MOST_MARGIN_S);
};

/** So long a capture is open at most, in seconds, to have time for its end. */
export const longestCapture = (limits) => limits.max_duration_s - marginOf(limits.max_duration_s);

/** One capture of a film. */
class Part {
  receipt = null;
  failure = null;
  isClosing = false;
  /** Whether it was closed because the page may be stopped, which can cost its receipt. */
  isLeft = false;
  /** Resolves when there is a receipt, or will be none. */
  over;
  #capture;
  #limits;
  #fixed;
  #openedAt;
  #timer = 0;

  /**
   * @param {Capture} capture is open.
   * @param {object} limits those of the worker.
   * @param {{width: number, height: number, start: number, isFirst: boolean}} fixed how it was
   *   opened; `start` in ms, as the times of frames.
   * @param {number} openedAt before the worker can have counted any time of it.
   */
  constructor(capture, limits, fixed, openedAt) {
    this.#capture = capture;
    this.#limits = limits;
    this.#fixed = fixed;
    this.#openedAt = openedAt;
    this.over = capture.ended.then(
      (receipt) => (this.receipt = receipt),
      (failure) => (this.failure = failure),
    );
    this.over.then(() => clearTimeout(this.#timer));
    this.#keepTime();
  }

  get captureId() {
    return this.#capture.captureId;
  }

  /** Whether it runs for so long that what was wrong before it is over. */
  get isWell() {
    return this.#capture.isOpen && performance.now() - this.#openedAt >= SETTLE_MS;
  }

  /** Whether it was ended, and it is not known yet how. */
  get isEnding() {
    return !this.isClosing && !this.#capture.isOpen && !this.receipt && !this.failure;
  }

  get framesSent() {
    return this.#capture.framesSent;
  }

  get bytesSent() {
    return this.#capture.bytesSent;
  }

  /** Whether a frame keeps within the limits, and has the size that was declared. */
  hasRoom({ jpeg, ms, width, height }) {
    const limits = this.#limits;
    if (this.isClosing || !this.#capture.isOpen) return false;
    if (width !== this.#fixed.width || height !== this.#fixed.height) return false;
    if (ms - this.#fixed.start > limits.max_duration_s * 1_000) return false;
    return (
      this.framesSent < limits.max_frames && this.bytesSent + jpeg.size <= limits.max_total_bytes
    );
  }

  /** Resolves once the line has room for another, or rejects. */
  send(jpeg, timestamp) {
    // A worker that gets nothing for so long ends the capture, whether that is heard or not.
    const stallMs = this.#limits.idle_s * 1_000;
    const sent = this.#capture.sendFrame(jpeg, { timestamp, stallMs });
    this.#keepTime();
    return sent;
  }

  close() {
    if (this.isClosing) return;
    this.isClosing = true;
    clearTimeout(this.#timer);
    // One that begins with a frame ends with one too: the frame may have waited to be sent.
    this.#capture.close({ isFrameLast: !this.#fixed.isFirst }).catch(() => {}); // see `over`
  }

  /** See that it is closed in time, counted from a frame or from its beginning. */
  #keepTime() {
    const { max_duration_s: longest, idle_s: idle } = this.#limits;
    const now = performance.now();
    const least = Math.min(
      this.#openedAt + (longest - marginOf(longest)) * 1_000 - now,
      (idle - marginOf(idle)) * 1_000,
    );
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.close(), least);
  }
}

export class Film {
  /** The name of its first capture, and the beginning of those of the others. */
  filmId = crypto.randomUUID();
  /** The captures so far, in order. */
  parts = [];
  /** Resolves with a CaptureError when one fails for good; the film is over then. */
  failed;
  /** How often nothing could be sent for a time, and for how long together, in ms. */
  lost = { times: 0, ms: 0 };
  /** Why captures broke off, each a CaptureError; those of a page that was stopped are not. */
  breaks = [];
  #url;
  #options;
  #limits;
  #clock = new Clock();
  #held = [];
  #failure = null;
  #fail;
  #backoff = new Backoff();
  // When the last connection was lost, and why; null while there is one.
  #lostAt = null;
  #loss = null;
  #names = 0;
  #isPaused = false;
  #isSending = false;
  #isBlocked = false;
  #pumping = Promise.resolve();

  /**
   * @param {string} url the worker's, with its path.
   * @param {object} options as of `openCapture`, without what a frame says.
   * @param {object} limits those of the worker, with `idle_s`.
   */
  constructor(url, options, limits) {
    this.#url = url;
    this.#options = options;
    this.#limits = limits;
    this.failed = new Promise((resolve) => (this.#fail = resolve));
  }

  get framesSent() {
    return this.parts.reduce((sum, part) => sum + part.framesSent, 0);
  }

  get bytesSent() {
    return this.parts.reduce((sum, part) => sum + part.bytesSent, 0);
  }

  /** What the worker has confirmed so far: the receipts of all captures, added up. */
  get receipt() {
    const receipts = this.parts.map(({ receipt }) => receipt).filter((receipt) => receipt);
    return {
      frames: receipts.reduce((sum, { frames }) => sum + frames, 0),
      bytes: receipts.reduce((sum, { bytes }) => sum + bytes, 0),
    };
  }

  /** Frames of captures that ended without a receipt; the worker may have them or not. */
  get framesUnconfirmed() {
    const lost = this.parts.filter(({ failure }) => failure !== null);
    return lost.reduce((sum, part) => sum + part.framesSent, 0);
  }

  /** Whether there is no connection, and another one is tried. */
  get isLost() {
    return this.#lostAt !== null && this.#failure === null;
  }

  /** Whether a frame more would only wait: the line is slower than the camera. */
  get isCongested() {
    return this.#isBlocked || this.#heldBytes() > MOST_HELD_BYTES;
  }

  /**
   * Open the first capture.
   *
   * @param {{width: number, height: number}} size of the frames to come.
   */
  async begin(size) {
    await this.#open({ ...size, ms: this.#clock.ms() });
  }

  /**
   * Take a frame; it is sent in the order of the calls.
   *
   * @param {{jpeg: Blob, at: number, width: number, height: number}} frame `at` is when it was
   *   taken, by `performance.now()`.
   */
  offer(frame) {
    const [ms, time] = [this.#clock.ms(frame.at), this.#clock.at(frame.at)];
    this.#held.push({ ...frame, ms, time });
    this.#pump();
  }

  /**
   * Close the capture that is open, at once: a page that is not seen may be stopped at any
   * moment, and what was sent shall be whole. Frames that still come wait for `resume`.
   */
  pause() {
    this.#isPaused = true;
    this.#countLost();
    this.#leave();
  }

  /** Go on in the next capture, with the next frame. */
  resume() {
    if (!this.#isPaused) return;
    this.#isPaused = false;
    // The pause itself is told as that.
    if (this.#lostAt !== null) this.#lostAt = performance.now();
    this.#clock.catchUp();
    this.#pump();
  }

  /**
   * Send what is held, close the last capture, and wait for every receipt.
   *
   * @returns {Promise<{notSent: number, failure: CaptureError | null}>} frames that the line did
   *   not take in time, and why the film failed.
   */
  async finish() {
    this.resume();
    await Promise.race([this.#pumping, sleep(FLUSH_MS)]);
    const notSent = this.#held.splice(0).length;
    this.#current?.close();
    if (!this.isLost) await this.#pumping; // else one that is being tried, for nothing any more
    this.#current?.close(); // was being opened
    await Promise.all(this.parts.map(({ over }) => over));
    return { notSent, failure: this.#failure ?? (this.isLost ? this.#loss : null) };
  }

  get #current() {
    const last = this.parts.at(-1);
    return last && !last.isClosing ? last : null;
  }

  #heldBytes() {
    return this.#held.reduce((sum, { jpeg }) => sum + jpeg.size, 0);
  }

  #pump() {
    if (!this.#isSending) this.#pumping = this.#sendHeld();
  }

  async #sendHeld() {
    this.#isSending = true;
    try {
      while (this.#held.length && !this.#isPaused && this.#failure === null) {
        await this.#sendOne(this.#held[0]);
      }
    } catch (error) {
      this.#end(error);
    }
    // Within the turn that has found nothing more, so that no frame comes in between.
    this.#isSending = this.#isBlocked = false;
    if (this.#isPaused) this.#leave();
  }

  #leave() {
    const current = this.#current;
    if (current === null) return;
    current.isLeft = true;
    current.close();
  }

  async #sendOne(frame) {
    const part = await this.#partFor(frame);
    if (part === null || this.#failure !== null || this.#held[0] !== frame) return;
    const before = part.framesSent;
    const sending = part.send(frame.jpeg, frame.time);
    if (part.framesSent > before) this.#held.shift(); // on its way, whatever comes of it
    this.#isBlocked = true;
    try {
      await sending;
    } catch (error) {
      await part.over;
      if (part.failure === null) throw error;
    }
    this.#isBlocked = false;
  }

  async #partFor(frame) {
    const current = this.#current;
    if (current?.hasRoom(frame)) return current;
    if (current?.isEnding) {
      await current.over; // how it has ended says whether there is a next one
      return null;
    }
    if (current?.isWell) this.#backoff.succeeded();
    current?.close();
    // One may wait for its receipt while the next one runs, so that a camera does not wait.
    const [before] = this.parts.filter((part) => !part.receipt && !part.failure).slice(0, -1);
    await before?.over;
    await this.#backoff.pause();
    if (this.#held[0] !== frame) return null; // the film is over
    const since = performance.now();
    let part;
    try {
      part = await this.#open(frame);
    } catch (error) {
      const isOver = this.#held[0] !== frame;
      if (!isOver && (!passes(error) || (await isRefused(this.#url, since)))) throw error;
      this.#lose(error);
      return null;
    }
    // What waits is not for a capture that is refused as soon as it is open.
    if (this.#lostAt !== null) await Promise.race([part.over, sleep(SETTLE_MS)]);
    if (part.failure !== null) return null;
    if (this.#held[0] === frame) this.#regain();
    else part.close();
    return part;
  }

  async #open({ width, height, ms, time }) {
    const isFirst = this.#names === 0;
    const openedAt = performance.now();
    const number = this.#names + 1;
    const capture = await openCapture(this.#url, {
      ...this.#options,
      ...{ width, height, clock: this.#clock },
      captureId: isFirst ? this.filmId : `${this.filmId}.${number}`,
      timestampStart: time,
    });
    this.#names = number;
    const fixed = { width, height, start: ms, isFirst };
    const part = new Part(capture, this.#limits, fixed, openedAt);
    this.parts.push(part);
    part.over.then(() => {
      // Browsers cut the connections of a page that they stop: the capture was whole by then.
      const isCut = part.isLeft && part.failure?.code === "connection_lost";
      if (part.failure === null) this.#backoff.succeeded();
      else if (!passes(part.failure)) this.#end(part.failure);
      else if (!isCut) this.#lose(part.failure, part, performance.now() - openedAt);
      if (part.failure !== null && !isCut) this.breaks.push(part.failure);
    });
    return part;
  }

  /** A capture was lost, or none could be opened; the next frame opens another. */
  #lose(failure, part = null, lastedMs = 0) {
    this.#backoff.failed(lastedMs);
    const isLast = part === null || part === this.parts.at(-1);
    // One that no frame was given to is none.
    if (part?.framesSent === 0) this.parts.splice(this.parts.indexOf(part), 1);
    if (!isLast) return; // another one is open
    this.#lostAt ??= performance.now();
    this.#loss = failure;
  }

  #regain() {
    if (this.#lostAt === null) return;
    this.#countLost();
    this.lost.times += 1;
    this.#lostAt = null;
  }

  #countLost() {
    if (this.#lostAt === null) return;
    const now = performance.now();
    this.lost.ms += now - this.#lostAt;
    this.#lostAt = now;
  }

  #end(failure) {
    if (this.#failure !== null) return;
    this.#failure = failure;
    this.#fail(failure);
    this.#current?.close();
  }
}
