// From a camera to receipts: one film, and all that is to be told of it.

import { frameSize } from "./camera.js";
import { Film } from "./film.js";
import { Pauses } from "./pauses.js";
import { Pictures } from "./pictures.js";
import { sleep } from "./sleep.js";
import { Thinner } from "./thinner.js";
import { WakeLock } from "./wake-lock.js";

/** One is encoded while the next one waits: more would only be late. */
const MOST_IN_HAND = 2;
/** For those that are in hand when a film ends. */
const ENCODE_MS = 3_000;
const TELL_MS = 200;
const LOOK_AGAIN_MS = 10;

/**
 * What a film came to.
 *
 * @typedef {object} Outcome
 * @property {"time" | "stopped" | "camera" | "failed"} end why it ended: its time was over,
 *   somebody stopped it, the camera went away, a capture failed.
 * @property {Error | null} failure of that capture, or of this page.
 * @property {{captureId: string, framesSent: number}[]} parts its captures.
 * @property {number} framesSent frames given to them, and bytesSent, of those together.
 * @property {{frames: number, bytes: number}} receipt what the worker has confirmed.
 * @property {number} framesUnconfirmed given to captures whose receipt never came.
 * @property {{times: number, ms: number}} lost how often nothing could be sent for a time, and how
 *   long that was together.
 * @property {{code: string, detail: string | null}[]} breaks why captures broke off.
 * @property {Skipped} skipped pictures that the film should have and has not.
 * @property {{cause: string, ms: number}[]} pauses times without pictures.
 * @property {number} fps frames a second that were asked for, and cameraFps, that came.
 * @property {number} filmedMs from the first picture to the last, without pauses.
 *
 * @typedef {object} Skipped
 * @property {number} page came while this page was busy, and were replaced by the next one.
 * @property {number} encoder came while others were being encoded.
 * @property {number} line came while others waited to be sent.
 * @property {number} lost came while nothing could be sent.
 * @property {number} size had too many bytes in any quality.
 */

export class Shoot {
  #video;
  #camera;
  #info;
  #plan;
  #film;
  #encoder;
  #wakeLock = new WakeLock();
  #thinner;
  #pauses = null;
  #skipped = { page: 0, encoder: 0, line: 0, lost: 0, size: 0 };
  // Between two pictures that follow each other, without a pause.
  #intervals = 0;
  #filmedMs = 0;
  #lastAt = null;
  #inHand = 0;
  #grabbing = Promise.resolve();
  #begun = 0;
  #problem = null;
  #finish;
  #isOver;

  /**
   * @param {HTMLVideoElement} video shows the camera.
   * @param {Camera} camera is on.
   * @param {Encoder} encoder makes the JPEGs.
   * @param {object} info what the worker says of itself.
   * @param {object} plan who films and what: options of a capture, `chosen`, and `durationMs`.
   */
  constructor(video, camera, encoder, info, plan) {
    this.#video = video;
    this.#camera = camera;
    this.#encoder = encoder;
    this.#info = info;
    this.#plan = plan;
    const { chosen, durationMs, ...options } = plan;
    this.#film = new Film(info.capture_url, options, info.limits);
    this.#thinner = new Thinner(camera.fps, plan.fps);
    this.#isOver = new Promise((resolve) => (this.#finish = resolve));
  }

  /** End it; what was filmed is kept. */
  stop() {
    this.#finish("stopped");
  }

  /**
   * Film until the time is over, somebody stops it, the camera goes away or a capture fails.
   *
   * @param {(state: object) => void} tell called now and then with how far it is.
   * @returns {Promise<Outcome>}
   */
  async run(tell) {
    const isScreenKept = await this.#wakeLock.hold();
    try {
      await this.#encoder.ready;
      await this.#film.begin(this.#size(this.#video.videoWidth, this.#video.videoHeight));
      await this.#shoot((state) => tell({ ...state, isScreenKept }));
    } catch (error) {
      this.#problem ??= error;
    }
    const end = this.#problem === null ? await this.#isOver : "failed";
    this.#pauses?.stop();
    this.#wakeLock.release();
    tell({ isFinishing: true });
    await this.#encoded();
    const { isLost } = this.#film;
    const { notSent, failure } = await this.#film.finish();
    this.#skipped[isLost ? "lost" : "line"] += notSent;
    return this.#outcome(end, this.#problem ?? failure);
  }

  async #shoot(tell) {
    const { durationMs, fps } = this.#plan;
    this.#begun = performance.now();
    const pictures = new Pictures(this.#video, (picture) => this.#take(picture));
    this.#pauses = new Pauses(this.#camera.track, 1_000 / fps, {
      away: () => this.#film.pause(),
      back: () => this.#film.resume(),
      ended: () => this.#finish("camera"),
    });
    if (!this.#camera.isOn) this.#finish("camera");
    this.#film.failed.then(() => this.#finish("failed"));
    const over = setTimeout(() => this.#finish("time"), durationMs);
    const telling = setInterval(() => tell(this.#state()), TELL_MS);
    tell(this.#state());
    await this.#isOver;
    clearTimeout(over);
    clearInterval(telling);
    pictures.stop();
  }

  #take({ at, missed, grab }) {
    if (at < this.#begun) return; // from before the film
    // What was not shown in a pause is told with the pause.
    if (this.#pauses.picture(at, missed.length > 0)) {
      this.#skipped.page += missed.filter((time) => this.#wants(time)).length;
    } else {
      this.#lastAt = null;
    }
    if (!this.#wants(at)) return;
    if (this.#film.isCongested) this.#skipped[this.#film.isLost ? "lost" : "line"] += 1;
    else if (this.#inHand >= MOST_IN_HAND) this.#skipped.encoder += 1;
    else this.#encode(at, grab);
  }

  #wants(at) {
    if (at < this.#begun || !this.#thinner.takes(at)) return false;
    if (this.#lastAt !== null) {
      this.#intervals += 1;
      this.#filmedMs += at - this.#lastAt;
    }
    this.#lastAt = at;
    return true;
  }

  async #encode(at, grab) {
    this.#inHand += 1;
    try {
      const image = await this.#inTurn(grab());
      if (image === null) {
        this.#skipped.page += 1;
        return;
      }
      const size = this.#size(
        image.displayWidth ?? image.width,
        image.displayHeight ?? image.height,
      );
      const maxBytes = this.#info.limits.max_frame_bytes;
      const jpeg = await this.#encoder.encode(image, { ...size, maxBytes });
      if (jpeg === null) this.#skipped.size += 1;
      else this.#film.offer({ jpeg, at, ...size });
    } catch (error) {
      this.#problem ??= error;
      this.#finish("failed");
    } finally {
      this.#inHand -= 1;
    }
  }

  /** Some browsers take their time for a picture; no one overtakes another. */
  #inTurn(grabbed) {
    const image = this.#grabbing.then(() => grabbed);
    this.#grabbing = image.then(
      () => {}, // keeps no picture
      () => {},
    );
    return image;
  }

  #size(width, height) {
    return frameSize({ width, height }, this.#info.limits, this.#plan.chosen);
  }

  /** Wait for what is in hand; what is not done in time is none. */
  async #encoded() {
    const until = performance.now() + ENCODE_MS;
    while (this.#inHand > 0 && performance.now() < until) {
      await sleep(LOOK_AGAIN_MS);
    }
    if (this.#inHand > 0) this.#encoder.restart();
    this.#skipped.encoder += this.#inHand;
  }

  #state() {
    return {
      lastedMs: performance.now() - this.#begun,
      framesSent: this.#film.framesSent,
      bytesSent: this.#film.bytesSent,
      captures: this.#film.parts.length,
      skipped: Object.values(this.#skipped).reduce((sum, n) => sum + n, 0),
      cause: this.#film.isLost ? "lost" : this.#pauses.cause,
    };
  }

  #outcome(end, failure) {
    return {
      end,
      failure,
      parts: this.#film.parts.map(({ captureId, framesSent }) => ({ captureId, framesSent })),
      framesSent: this.#film.framesSent,
      bytesSent: this.#film.bytesSent,
      receipt: this.#film.receipt,
      framesUnconfirmed: this.#film.framesUnconfirmed,
      lost: this.#film.lost,
      breaks: this.#film.breaks,
      skipped: this.#skipped,
      pauses: this.#pauses?.list ?? [],
      fps: this.#plan.fps,
      cameraFps: this.#filmedMs > 0 ? (this.#intervals * 1_000) / this.#filmedMs : 0,
      filmedMs: this.#filmedMs,
    };
  }
}
