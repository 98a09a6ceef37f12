// How many pictures a second this browser can show, found by how late its timers come.

const LOOK_MS = 100;
const LOOKS = 10;
/** Mean lateness in ms: above the first there are too many, below the second more may come. */
const LATE = 25;
const EARLY = 8;
const [LEAST, FIRST, MOST] = [20, 240, 450];
/** For one tile: no camera at a usual rate is held back. */
const MOST_EACH = 30;

export class Pace {
  /** Pictures a second, of all tiles together. */
  budget = FIRST;
  #due = performance.now() + LOOK_MS;
  #late = [];

  constructor() {
    setInterval(() => this.#look(), LOOK_MS);
  }

  /** Milliseconds between two pictures of one of so many tiles. */
  interval(tiles) {
    return 1_000 / this.each(tiles);
  }

  /** Pictures a second for each of so many tiles. */
  each(tiles) {
    return Math.min(MOST_EACH, this.budget / Math.max(1, tiles));
  }

  #look() {
    const now = performance.now();
    // Hidden pages have slow timers, and show nothing.
    if (!document.hidden) this.#late.push(Math.max(0, now - this.#due));
    this.#due = now + LOOK_MS;
    if (this.#late.length < LOOKS) return;
    const mean = this.#late.reduce((sum, each) => sum + each, 0) / this.#late.length;
    if (mean > LATE) this.budget = Math.max(LEAST, this.budget * 0.7);
    else if (mean < EARLY) this.budget = Math.min(MOST, this.budget * 1.15);
    this.#late = [];
  }
}
