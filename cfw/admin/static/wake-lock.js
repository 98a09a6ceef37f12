// Keeps the screen of a phone on while it films: a phone that sleeps films nothing.

export class WakeLock {
  #lock = null;
  #isWanted = false;
  // Whoever leaves the page loses it.
  #again = () => this.#ask();

  /** @returns {Promise<boolean>} whether the screen is kept on. */
  async hold() {
    this.#isWanted = true;
    document.addEventListener("visibilitychange", this.#again);
    return this.#ask();
  }

  release() {
    this.#isWanted = false;
    document.removeEventListener("visibilitychange", this.#again);
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
