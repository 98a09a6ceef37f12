// How many pictures a second this browser can show, found by how late its timers come, and by how
// many rounds come before the last one is drawn.

const LOOK_MS = 100;
const LOOKS = 10;
/** Mean lateness in ms: above the first there are too many, below the second more may come. */
const LATE = 25;
const EARLY = 8;
/** The same, of overtaken rounds in all. */
const [OFTEN, SELDOM] = [0.3, 0.1];
const [LEAST, FIRST, MOST] = [20, 400, 900];
/** For one tile: no camera at a usual rate is held back. */
const MOST_EACH = 30;

export class Pace {
  /** Pictures a second, of all tiles together. */
  budget = FIRST;
  #due = performance.now() + LOOK_MS;
  #late = [];
  #rounds = 0;
  #overtaken = 0;

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

  /** A round has come; whether the one before is not drawn yet. */
  count(isBehind) {
    this.#rounds++;
    if (isBehind) this.#overtaken++;
  }

  #look() {
    const now = performance.now();
    // Hidden pages have slow timers, and show nothing.
    if (!document.hidden) this.#late.push(Math.max(0, now - this.#due));
    this.#due = now + LOOK_MS;
    if (this.#late.length < LOOKS) return;
    const mean = this.#late.reduce((sum, each) => sum + each, 0) / this.#late.length;
    const behind = this.#overtaken / Math.max(1, this.#rounds);
    if (mean > LATE || behind > OFTEN) this.budget = Math.max(LEAST, this.budget * 0.7);
    else if (mean < EARLY && behind < SELDOM) this.budget = Math.min(MOST, this.budget * 1.15);
    [this.#late, this.#rounds, this.#overtaken] = [[], 0, 0];
  }
}
