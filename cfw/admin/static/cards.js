// The grid of tiles: which there are, in what order, which are shown, and what they are sent.

import { MissingTile } from "./missing.js";
import { Pace } from "./pace.js";
import { Tile } from "./tile.js";

/** How long the tile of an ended capture stays, unless its rig begins another before. */
const LINGER_MS = 8_000;
/** How often tiles that could show a frame are looked for. */
const ASK_MS = 33;

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
  #isWaiting = false;
  #pace = new Pace();
  #only = null;
  #view = { words: "", state: "all", order: "arrival" };
  #watch = new IntersectionObserver(
    (entries) => {
      for (const { target, isIntersecting } of entries) {
        const card = this.#cards.get(target.dataset.captureId);
        if (card?.element === target) card.isOnScreen = isIntersecting;
      }
      this.#schedule();
    },
    { rootMargin: "50px" },
  );

  /** The worker's limits; set before anything else. */
  limits = null;

  /**
   * @param {HTMLElement} grid where tiles stand.
   * @param {(captureIds: string[]) => void} ask asks the worker for a frame of each.
   */
  constructor(grid, ask) {
    this.#grid = grid;
    this.#ask = ask;
    setInterval(() => this.#askForFrames(), ASK_MS);
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
  }

  /** @param {{words: string, state: string, order: string}} view which are shown, and how. */
  set view(view) {
    this.#view = view;
    this.#arrange();
  }

  /** A feed that was just opened owes nothing. */
  forgetAsked() {
    for (const card of this.#cards.values()) card.isAsked = false;
  }

  /** Take one message of the feed. */
  tell(message, jpeg) {
    const id = message.capture_id;
    if (message.event === "capture.opened") {
      this.#card(id, message).open(message);
    } else if (message.event === "capture.frame") {
      this.#card(id, message).take(message, jpeg);
      this.#schedule();
    } else {
      this.#end(id, { ...message, frames: message.frames_accepted, bytes: message.bytes_accepted });
    }
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

  /** Ask for one frame of each tile that can show another by now. */
  #askForFrames() {
    if (document.hidden) return;
    const now = performance.now();
    const cards = [...this.#cards.values()].filter((card) => this.#isLookedAt(card));
    const interval = this.#pace.interval(cards.length);
    const ready = cards.filter((card) => card.isIdle && now - card.askedAt >= interval - ASK_MS / 2);
    if (ready.length === 0 || !this.#ask(ready.map(({ captureId }) => captureId))) return;
    for (const card of ready) [card.isAsked, card.askedAt] = [true, now];
  }

  #schedule() {
    if (this.#isWaiting || ![...this.#cards.values()].some(({ isFresh }) => isFresh)) return;
    this.#isWaiting = true;
    requestAnimationFrame(() => {
      this.#isWaiting = false;
      for (const card of this.#cards.values()) {
        if (card.isFresh) card.draw(() => this.#schedule());
      }
    });
  }
}
