// Times in which a camera gave no picture, and why, as far as a page can know.

/** Without a reason, only what is as long is a pause; what is shorter makes a slow camera. */
const STILL_MS = 300;
const STILL_PICTURES = 4;
/** It is told while it lasts when it lasts so long. */
const STILL_NOW_MS = 1_000;
/** A page that did not run for so long, though it was seen, stood still. */
const STALLED_MS = 3_000;
/** Its device slept when the clock on the wall went on by so much more than the page's own. */
const ASLEEP_MS = 1_000;
const LOOK_MS = 250;

/** What explains more stands further behind. */
const CAUSES = ["still", "muted", "stalled", "asleep", "hidden"];

export class Pauses {
  /** Those that are over: why, and how long. */
  list = [];
  #track;
  #react;
  #period;
  #lastPicture;
  #current = null;
  #isHidden = false;
  #lookedAt = Date.now();
  #ranAt = performance.now();
  #controls = new AbortController();
  #timer;

  /**
   * @param {MediaStreamTrack} track of the camera.
   * @param {number} period of its pictures, in ms, as far as they are asked for.
   * @param {{away: () => void, back: () => void, ended: () => void}} react called at once: when
   *   the page is hidden, frozen or left; when it is seen again; when the camera is gone.
   */
  constructor(track, period, react) {
    this.#track = track;
    this.#react = react;
    this.#period = period;
    this.#lastPicture = performance.now();
    this.#timer = setInterval(() => this.look(), LOOK_MS);
    this.#listen(track, { mute: () => this.#begin("muted"), ended: () => react.ended() });
    const [gone, seen] = [() => this.#hide(), () => this.#see()];
    this.#listen(document, { freeze: gone, resume: seen, visibilitychange: seen });
    this.#listen(window, { pagehide: gone, pageshow: seen });
    if (track.muted) this.#begin("muted");
    this.#see();
  }

  /** Why there is no picture now, one of `CAUSES`; null while there are some. */
  get cause() {
    return this.#current?.cause ?? null;
  }

  /**
   * A new picture came.
   *
   * @param {number} at when it was taken, by `performance.now()`.
   * @param {boolean} areMissed whether others were shown before it that the page did not see.
   * @returns {boolean} whether the camera was at work, so that those count as missed.
   */
  picture(at, areMissed) {
    const last = this.#lastPicture;
    this.#lastPicture = Math.max(at, last);
    const isLong = at - last > Math.max(STILL_MS, STILL_PICTURES * this.#period);
    const pause = this.#current ?? (isLong ? { cause: "still", since: last } : null);
    if (pause === null || at < pause.since) return true; // taken before, and only came now
    this.#current = null;
    // It was the page that stood still.
    if (pause.cause === "still" && areMissed) return true;
    this.#note(pause, at);
    return false;
  }

  /** Nothing more is filmed: a pause that is under way ends here. */
  stop() {
    this.look();
    if (this.#current) this.#note(this.#current, performance.now());
    this.#current = null;
    clearInterval(this.#timer);
    this.#controls.abort();
  }

  /** See what no event tells: pictures that do not come, and a device that slept. */
  look() {
    const [wall, now] = [Date.now(), performance.now()];
    const unseen = wall - this.#lookedAt - LOOK_MS;
    // Where the page's clock goes on in a sleep, nobody can tell that from a busy page.
    const isAsleep = unseen - (now - this.#ranAt - LOOK_MS) > ASLEEP_MS;
    [this.#lookedAt, this.#ranAt] = [wall, now];
    if (unseen > STALLED_MS && !this.#isHidden) {
      this.#begin(isAsleep ? "asleep" : "stalled", now - unseen);
      this.#react.away();
      this.#react.back();
    }
    // A page that is late itself has to see first what came meanwhile.
    if (unseen > LOOK_MS) return;
    const silent = now - this.#lastPicture;
    if (silent > Math.max(STILL_NOW_MS, STILL_PICTURES * this.#period)) this.#begin("still", this.#lastPicture);
  }

  #begin(cause, since = performance.now()) {
    const current = this.#current;
    if (current === null) {
      this.#current = { cause, since };
    } else {
      if (CAUSES.indexOf(cause) > CAUSES.indexOf(current.cause)) current.cause = cause;
      current.since = Math.min(current.since, since);
    }
  }

  #note({ cause, since }, until) {
    const ms = until - since;
    // Muted for less than a picture or two is nothing that is missed.
    if (cause === "hidden" || ms > 2 * this.#period) this.list.push({ cause, ms });
  }

  #see() {
    if (document.visibilityState === "hidden") this.#hide();
    else this.#show();
  }

  #hide() {
    this.#begin("hidden");
    if (this.#isHidden) return;
    this.#isHidden = true;
    this.#react.away();
  }

  #show() {
    if (!this.#isHidden) return;
    this.#isHidden = false;
    // Timers of a page that is hidden are late.
    [this.#lookedAt, this.#ranAt] = [Date.now(), performance.now()];
    this.#react.back();
  }

  #listen(target, handlers) {
    for (const [name, handler] of Object.entries(handlers)) {
      target.addEventListener(name, handler, { signal: this.#controls.signal });
    }
  }
}
