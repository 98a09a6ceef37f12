// Keeps the screen of a phone on while it films: a phone that sleeps films nothing.

export class WakeLock {
  #lock = null;
  #isWanted = false;

  constructor() {
    // Whoever leaves the page loses it.
    document.addEventListener("visibilitychange", () => this.#ask());
  }

  /** @returns {Promise<boolean>} whether the screen is kept on. */
  async hold() {
    this.#isWanted = true;
    return this.#ask();
  }

  release() {
    this.#isWanted = false;
    this.#lock?.release();
    this.#lock = null;
  }

  async #ask() {
    if (!this.#isWanted || document.visibilityState !== "visible") return false;
    try {
      const lock = await navigator.wakeLock.request("screen");
      if (this.#isWanted) this.#lock = lock;
      else lock.release();
      return true;
    } catch {
      return false; // no such thing in this browser, or the battery is low
    }
  }
}
