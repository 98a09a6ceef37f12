// Frames and bytes a second of the whole worker, from the counts of its captures.

const FORGET_MS = 30_000;
/** After a longer silence nobody knows when what was counted came. */
const SILENCE_MS = 5_000;

/** A capture_id may come again; with its beginning it is unique. */
export const identity = (capture) => `${capture.capture_id} ${capture.opened}`;

export class Rates {
  #seen = new Map();
  #sum = { frames: 0, bytes: 0 };
  #since = null;

  /**
   * Take a look at the captures that run and those that ended last.
   *
   * @returns {{frames: number, bytes: number} | null} rates over the time since they were
   *   last told, at least a second; null before it is over,
   *   and after a silence.
   */
  look(captures, now) {
    // What was there before the first look came in no second of ours.
    const isFirst = this.#since === null;
    for (const capture of captures) {
      const before = this.#seen.get(identity(capture)) ?? { frames: 0, bytes: 0 };
      if (!isFirst) {
        this.#sum.frames += capture.frames - before.frames;
        this.#sum.bytes += capture.bytes - before.bytes;
      }
      const { frames, bytes } = capture;
      this.#seen.set(identity(capture), { frames, bytes, at: now });
    }
    // Between its two lists a capture may be in none for a moment.
    for (const [id, { at }] of this.#seen) if (now - at > FORGET_MS) this.#seen.delete(id);
    this.#since ??= now;
    const lasted = (now - this.#since) / 1_000;
    if (lasted < 1) return null;
    const rates = { frames: this.#sum.frames / lasted, bytes: this.#sum.bytes / lasted };
    this.#sum = { frames: 0, bytes: 0 };
    this.#since = now;
    return lasted * 1_000 > SILENCE_MS ? null : rates;
  }
}
