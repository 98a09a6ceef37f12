// The grid of tiles: which there are, in what order, which are shown, and what they are sent.

import { MissingTile } from "./missing.js";
import { Pace } from "./pace.js";
import { Tile } from "./tile.js";

/** How long the tile of an ended capture stays, unless its rig begins another before. */
const LINGER_MS = 8_000;
/** Frames are asked for that will do for so long, */
const AHEAD_MS = 1_500;
/** in rounds that are no further apart than the worker lets one ask, */
const LONGEST_MS = 60_000;
/** and again in this time, so that there is no gap. */
const ASK_MS = 500;

const byText = (word) => (a, b) => word(a).localeCompare(word(b), undefined, { numeric: true });
const user = byText((tile) => tile.rig?.user_id ?? "");
const session = byText((tile) => tile.rig?.session_id ?? "");

/** In which order tiles stand; tiles that are equal keep theirs. */
const ORDERS = {
  arrival: () => 0,
  user: (a, b) => user(a, b) || session(a, b),
  session: (a, b) => session(a, b) || user(a, b),
  trouble: (a, b) => b.troubles.length - a.troubles.length || user(a, b),
};

/** Which tiles are shown. */
const STATES = {
  all: () => true,
  running: (tile) => tile.stage === "running",
  trouble: (tile) => tile.troubles.length > 0,
  ended: (tile) => tile.stage === "ended",
  missing: (tile) => tile.stage === "missing",
};

/** What people call the rig of a capture; null for one that is not expected. */
function nameOf({ user_id, session_id }, rigs) {
  const isIts = (rig) =>
    rig.user_id === user_id && (rig.session_id === null || rig.session_id === session_id);
  return rigs.find(isIts)?.name ?? null;
}

export class Cards {
  #grid;
  #ask;
  #cards = new Map();
  #arrivals = 0;
  #isAsking = false;
  #isDrawing = false;
  #pace = new Pace();
  #only = null;
  #view = { words: "", state: "all", order: "arrival" };
  #watch = new IntersectionObserver(
    (entries) => {
      for (const { target, isIntersecting } of entries) {
        const card = this.#cards.get(target.dataset.captureId);
        if (card?.element === target) card.isOnScreen = isIntersecting;
      }
      this.#askSoon();
      this.#draw();
    },
    { rootMargin: "50px" },
  );

  /** The worker's limits; set before anything else. */
  limits = null;

  /**
   * @param {HTMLElement} grid where tiles stand.
   * @param {(captureIds: string[], frames: number, everyS: number) => boolean} ask asks the
   *   worker for so many frames of each; false while it cannot be asked.
   */
  constructor(grid, ask) {
    this.#grid = grid;
    this.#ask = ask;
    setInterval(() => this.askForFrames(), ASK_MS);
    document.addEventListener("visibilitychange", () => this.askForFrames());
  }

  get length() {
    return this.#cards.size;
  }

  /** How many are shown with this filter. */
  get shown() {
    return [...this.#cards.values()].filter(({ element }) => !element.hidden).length;
  }

  /** How many are in view, and how many pictures a second each of them may have. */
  get pace() {
    const inView = [...this.#cards.values()].filter((card) => this.#isLookedAt(card)).length;
    return { inView, each: this.#pace.each(inView) };
  }

  /** The one whose element holds this node. */
  of(node) {
    const element = node?.closest?.(".card");
    const card = this.#cards.get(element?.dataset.captureId);
    return card?.element === element ? card : undefined;
  }

  /** Of all tiles only this one is looked at; null for those in view. */
  set only(card) {
    this.#only = card;
    this.#askSoon();
    // Once more, in the size that it will have.
    requestAnimationFrame(() => {
      card?.showAgain?.();
      this.#draw();
    });
  }

  /** @param {{words: string, state: string, order: string}} view which are shown, and how. */
  set view(view) {
    this.#view = view;
    this.#arrange();
  }

  /** Ask for frames of what is looked at, as many as can be shown. */
  askForFrames() {
    if (document.hidden) return;
    const cards = [...this.#cards.values()].filter(
      (card) => card.stage === "running" && this.#isLookedAt(card),
    );
    if (cards.length === 0) return;
    // No more often than the fastest camera has a new one.
    const fps = Math.max(...cards.map(({ opened }) => opened?.fps_target ?? 1));
    const least = Math.max(this.#pace.interval(cards.length), 1_000 / fps);
    const interval = Math.min(least, LONGEST_MS);
    const frames = Math.ceil(AHEAD_MS / interval);
    this.#ask(cards.map(({ captureId }) => captureId), frames, interval / 1_000);
  }

  /** Take one message of the feed. */
  tell(message) {
    const id = message.capture_id;
    if (message.event === "capture.opened") {
      this.#card(id, message).open(message);
    } else {
      this.#end(id, { ...message, frames: message.frames_accepted, bytes: message.bytes_accepted });
    }
  }

  /** Take a round of frames of the feed. */
  show(frames) {
    this.#pace.count(this.#isDrawing);
    for (const frame of frames) this.#cards.get(frame.captureId)?.take(frame);
    this.#draw();
  }

  /** Take the worker's word on what runs, what has ended, and which rigs are expected. */
  update({ captures: running, rigs, status: state }, ended, now) {
    for (const status of running) {
      const card = this.#card(status.capture_id, status);
      card.update(status, now, state === "draining");
      card.called = nameOf(status, rigs);
    }
    this.#miss(rigs.filter(({ missing_s }) => missing_s !== null));
    const ids = new Set(running.map(({ capture_id }) => capture_id));
    for (const [id, card] of this.#cards) {
      if (card.stage === "missing") continue;
      if (ids.has(id)) {
        card.seenAt = now;
      } else if (card.endedAt === null) {
        const opened = card.status?.opened;
        const end = ended.find((one) => one.capture_id === id && one.opened === opened);
        if (end !== undefined) this.#end(id, end);
      }
      // Not heard of either when the worker was started anew meanwhile.
      const isOver = now - (card.endedAt ?? card.seenAt) > LINGER_MS;
      if (isOver && card !== this.#only) this.#remove(id);
    }
    this.#arrange();
  }

  /** The worker cannot be asked. */
  lose() {
    for (const card of this.#cards.values()) if (card.stage === "running") card.lose();
  }

  /** Show a tile for each rig that is missing, and for no other. */
  #miss(rigs) {
    const missing = new Map(rigs.map((rig) => [`rig:/${rig.name}`, rig]));
    for (const [key, card] of this.#cards) {
      if (card.stage === "missing" && !missing.has(key)) this.#remove(key);
    }
    for (const [key, rig] of missing) {
      if (!this.#cards.has(key)) {
        const card = new MissingTile(key, rig);
        card.arrival = this.#arrivals++;
        this.#cards.set(key, card);
        this.#grid.append(card.element);
      }
      this.#cards.get(key).tell(rig);
    }
  }

  #end(id, told) {
    const card = this.#cards.get(id);
    if (card?.endedAt === null) card.end(told, performance.now());
  }

  #card(id, rig) {
    const known = this.#cards.get(id);
    if (known !== undefined && known.endedAt === null) return known;
    const card = new Tile(id, this.limits);
    card.arrival = this.#arrivals++;
    // A rig's next capture takes the place of its last, so that the page keeps still.
    const before = known ?? this.#predecessor(rig);
    if (before === undefined) {
      this.#grid.append(card.element);
    } else {
      const hadFocus = before.element.contains(document.activeElement);
      before.element.replaceWith(card.element);
      if (hadFocus) card.element.querySelector("[data-part=open]").focus();
      this.#watch.unobserve(before.element);
      this.#cards.delete(before.captureId);
      card.arrival = before.arrival;
      if (this.#only === before) this.#only = card;
    }
    this.#cards.set(id, card);
    this.#watch.observe(card.element);
    return card;
  }

  #predecessor({ user_id, session_id, source }) {
    const ended = [...this.#cards.values()].filter(
      ({ endedAt, rig }) =>
        endedAt != null && rig?.user_id === user_id && rig?.session_id === session_id,
    );
    return ended.find(({ opened }) => opened?.source === source) ?? ended[0];
  }

  #remove(id) {
    const { element } = this.#cards.get(id);
    this.#watch.unobserve(element);
    element.remove();
    this.#cards.delete(id);
  }

  /** Show those that the view wants, in its order. */
  #arrange() {
    const { words, state, order } = this.#view;
    const wanted = words.toLowerCase().split(/\s+/).filter(Boolean);
    const cards = [...this.#cards.values()];
    for (const card of cards) {
      const isMatch = wanted.every((word) => card.words.includes(word));
      card.element.hidden = !(isMatch && STATES[state](card));
    }
    // Nothing moves away from under a finger or a reader.
    if (this.#only !== null || this.#grid.contains(document.activeElement)) return;
    cards.sort((a, b) => ORDERS[order](a, b) || a.arrival - b.arrival);
    let place = this.#grid.firstElementChild;
    for (const { element } of cards) {
      if (element === place) place = place.nextElementSibling;
      else this.#grid.insertBefore(element, place);
    }
  }

  #isLookedAt(card) {
    return this.#only === null ? card.isOnScreen : card === this.#only;
  }

  /** Something else may be looked at now. */
  #askSoon() {
    if (this.#isAsking) return;
    this.#isAsking = true;
    requestAnimationFrame(() => {
      this.#isAsking = false;
      this.askForFrames();
    });
  }

  /** Draw what has come, all of it in one frame of the screen. */
  async #draw() {
    const fresh = [...this.#cards.values()].filter(({ isFresh }) => isFresh);
    if (this.#isDrawing || fresh.length === 0) return;
    this.#isDrawing = true;
    // One that fails, for want of memory for example, keeps no other from being drawn.
    const draws = await Promise.allSettled(fresh.map((card) => card.decode()));
    requestAnimationFrame(() => {
      for (const { value: draw } of draws) {
        try {
          draw?.();
        } catch (error) {
          console.warn(error);
        }
      }
      this.#isDrawing = false;
      // What has come meanwhile.
      this.#draw();
    });
  }
}
