// Which pictures of a camera are frames of a film, when it takes more than the film has room for.

/** A rate is held to be another when it is further off: what is seen is less certain. */
const ABOUT_TOLD = 1.01;
const ABOUT_SEEN = 1.15;
const SEEN_MS = 2_000;
const MOST_SEEN = 240;

export class Thinner {
  #toldFps;
  #fps;
  #seen = [];
  #firstMs = null;
  #lastSlot = -1;

  /**
   * @param {number | undefined} toldFps pictures a second, as the camera says; it may not know.
   * @param {number} fps frames a second of the film.
   */
  constructor(toldFps, fps) {
    this.#toldFps = toldFps || 0;
    this.#fps = fps;
  }

  /** Whether the picture of this time, in ms, is one of the film. */
  takes(at) {
    this.#firstMs ??= at;
    const cameraFps = this.#cameraFps(at);
    if (cameraFps === null) return true;
    // A quarter of a picture early is in time: cameras jitter.
    const since = at - this.#firstMs + 1_000 / cameraFps / 4;
    const slot = Math.floor((since * this.#fps) / 1_000);
    if (slot <= this.#lastSlot) return false;
    this.#lastSlot = slot;
    return true;
  }

  /** Pictures a second if they are too many, as told or as seen; null while they are not. */
  #cameraFps(at) {
    this.#seen.push(at);
    if (this.#seen.length > MOST_SEEN) this.#seen.shift();
    const span = at - this.#seen[0];
    const seenFps = span >= SEEN_MS ? ((this.#seen.length - 1) * 1_000) / span : 0;
    if (seenFps > this.#fps * ABOUT_SEEN) return seenFps;
    return this.#toldFps > this.#fps * ABOUT_TOLD ? this.#toldFps : null;
  }
}
