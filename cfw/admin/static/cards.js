// The running captures, each a card with its live picture.

import { details, label, meaning } from "./codes.js";
import { count, delay, instant, rate, seconds, size } from "./format.js";
import { rigClock } from "./rig-clock.js";

/** How long the card of an ended capture stays, unless its rig begins another before. */
const LINGER_MS = 8_000;
/** What frames per second are measured over. */
const FPS_OVER_MS = 2_500;
const NEARLY_FULL = 0.75;

class Card {
  element;
  captureId;
  opened = null;
  status = null;
  seenAt = performance.now();
  endedAt = null;
  #limits;
  #parts = {};
  #samples = [];
  #jpeg = null;
  #isDrawing = false;
  #isOnScreen = true;
  #delayMs = null;
  #peak = 0;

  constructor(captureId, limits) {
    this.captureId = captureId;
    this.#limits = limits;
    const template = document.querySelector("#card");
    this.element = template.content.firstElementChild.cloneNode(true);
    for (const part of this.element.querySelectorAll("[data-part]")) {
      this.#parts[part.dataset.part] = part;
    }
    this.#parts.id.textContent = captureId;
    this.element.dataset.captureId = captureId;
    this.#fill({ buffer_frames: 0, buffer_bytes: 0 });
  }

  /** Whether it wants `draw` at the next animation frame. */
  get isFresh() {
    return this.#jpeg !== null && !this.#isDrawing && this.#isOnScreen;
  }

  get rig() {
    return this.opened ?? this.status;
  }

  set isOnScreen(value) {
    this.#isOnScreen = value;
  }

  open(message) {
    this.opened = message;
    this.#parts.source.textContent = message.source ?? "";
    this.#parts.shape.textContent = `${message.width} × ${message.height}`;
    this.#parts.target.textContent = ` / ${message.fps_target}`;
    this.#name(message);
  }

  take(message, jpeg) {
    this.#jpeg = jpeg;
    const late = instant(message.timestamp_ingest) - instant(message.timestamp_frame);
    // Smoothed over about ten frames, so that it can be read.
    this.#delayMs = this.#delayMs === null ? late : this.#delayMs + (late - this.#delayMs) / 10;
  }

  update(status, now, isDraining) {
    this.status = status;
    this.#name(status);
    this.#samples.push({ at: now, frames: status.frames });
    while (now - this.#samples[0].at > FPS_OVER_MS) this.#samples.shift();
    const [first, last] = [this.#samples[0], this.#samples.at(-1)];
    const lasted = (last.at - first.at) / 1_000;
    // Over less than a second a single frame would make a difference.
    const isLong = lasted > 0.9;
    this.#parts.fps.textContent = isLong ? rate((last.frames - first.frames) / lasted) : "–";
    const isFinishing = isDraining ? "live, worker draining" : "live";
    this.#parts.state.textContent = status.state === "active" ? isFinishing : status.state;
    this.element.dataset.state = status.state;
    // From its own two numbers: the clock of this device may be another than the worker's.
    const lasting = status.fps > 0 ? (status.frames / status.fps) * 1_000 : 0;
    this.#count(status.frames, status.bytes, lasting);
    this.#fill(status);
    this.#parts.delay.textContent = delay(this.#delayMs ?? NaN);
    this.#tellClock(status);
  }

  /** It is over; `code` is null when it ended cleanly. */
  end({ error_code: code = null, detail = null, frames, bytes, ...rest }, now) {
    this.endedAt = now;
    this.element.dataset.state = code === null ? "clean" : "aborted";
    this.#parts.state.textContent = code === null ? "ended cleanly" : label(code, detail);
    this.#count(frames, bytes, null);
    this.#fill({ buffer_frames: 0, buffer_bytes: 0 });
    this.#parts.fps.textContent = "–";
    this.#parts.meaning.textContent = code === null ? "" : meaning(code, detail);
    this.#parts.detail.textContent = details(code, detail);
    this.#parts.why.hidden = code === null;
    this.#tellClock(rest);
  }

  /** Nothing is known of it for now. */
  lose() {
    this.element.dataset.state = "lost";
    this.#parts.state.textContent = "no contact with the worker";
    this.#parts.fps.textContent = "–";
    this.#samples = [];
  }

  draw(whenDone) {
    const url = URL.createObjectURL(this.#jpeg);
    this.#jpeg = null;
    this.#isDrawing = true;
    const { picture, nothing } = this.#parts;
    const done = () => {
      URL.revokeObjectURL(url);
      this.#isDrawing = false;
      whenDone();
    };
    const show = (isDecoded) => {
      picture.hidden = !isDecoded;
      nothing.hidden = isDecoded;
      // The worker reads no more of a picture than where it begins and ends.
      nothing.textContent = "No browser can decode the pictures of this rig";
      this.element.dataset.picture = isDecoded ? "decoded" : "undecodable";
      done();
    };
    picture.onload = () => show(true);
    picture.onerror = () => show(false);
    picture.src = url;
  }

  #name({ user_id, session_id }) {
    this.#parts.user.textContent = user_id;
    this.#parts.session.textContent = session_id;
    this.#parts.picture.alt = `Live picture of ${user_id}, session ${session_id}`;
  }

  #tellClock(told) {
    const { text, advice } = rigClock(told);
    this.#parts.offset.textContent = advice === null ? text : `${text}: ${advice}`;
    this.#parts.clock.classList.toggle("off", advice !== null);
  }

  #count(frames, bytes, lasting) {
    this.#parts.frames.textContent = count(frames);
    this.#parts.bytes.textContent = size(bytes);
    if (lasting !== null) this.#parts.lasting.textContent = seconds(lasting);
  }

  #fill({ buffer_frames, buffer_bytes }) {
    const most = this.#limits.max_forward_buffer_frames;
    const share = Math.max(
      buffer_frames / most,
      buffer_bytes / this.#limits.max_forward_buffer_bytes,
    );
    this.#peak = Math.max(this.#peak, share);
    const { meter, level, peak, waiting } = this.#parts;
    level.style.setProperty("inline-size", `${share * 100}%`);
    peak.style.setProperty("inset-inline-start", `${this.#peak * 100}%`);
    peak.hidden = this.#peak === 0;
    meter.classList.toggle("nearly-full", share > NEARLY_FULL);
    meter.setAttribute("aria-valuenow", Math.round(share * 100));
    const text = `${buffer_frames} of ${most} frames, ${size(buffer_bytes)}`;
    meter.setAttribute("aria-valuetext", text);
    waiting.textContent = `${buffer_frames} / ${most}`;
  }
}

export class Cards {
  #grid;
  #cards = new Map();
  #isWaiting = false;
  // A picture that nobody sees is not decoded.
  #watch = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      const card = this.#cards.get(target.dataset.captureId);
      if (card?.element === target) card.isOnScreen = isIntersecting;
    }
    this.#schedule();
  });

  /** The worker's limits; set before anything else. */
  limits = null;

  constructor(grid) {
    this.#grid = grid;
  }

  get length() {
    return this.#cards.size;
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

  /** Take the worker's word on what runs and what has ended. */
  update(running, ended, now, isDraining) {
    for (const status of running) {
      this.#card(status.capture_id, status).update(status, now, isDraining);
    }
    const ids = new Set(running.map(({ capture_id }) => capture_id));
    for (const [id, card] of this.#cards) {
      if (ids.has(id)) {
        card.seenAt = now;
      } else if (card.endedAt === null) {
        const opened = card.status?.opened;
        const end = ended.find((one) => one.capture_id === id && one.opened === opened);
        if (end !== undefined) this.#end(id, end);
      }
      // Not heard of either when the worker was started anew meanwhile.
      if (now - (card.endedAt ?? card.seenAt) > LINGER_MS) this.#remove(id);
    }
  }

  /** The worker cannot be asked. */
  lose() {
    for (const card of this.#cards.values()) if (card.endedAt === null) card.lose();
  }

  #end(id, told) {
    const card = this.#cards.get(id);
    if (card?.endedAt === null) card.end(told, performance.now());
  }

  #card(id, rig) {
    const known = this.#cards.get(id);
    if (known !== undefined && known.endedAt === null) return known;
    const card = new Card(id, this.limits);
    // A rig's next capture takes the place of its last, so that the page keeps still.
    const before = known ?? this.#predecessor(rig);
    if (before === undefined) {
      this.#grid.append(card.element);
    } else {
      before.element.replaceWith(card.element);
      this.#watch.unobserve(before.element);
      this.#cards.delete(before.captureId);
    }
    this.#cards.set(id, card);
    this.#watch.observe(card.element);
    return card;
  }

  #predecessor({ user_id, session_id, source }) {
    const ended = [...this.#cards.values()].filter(
      ({ endedAt, rig }) =>
        endedAt !== null && rig?.user_id === user_id && rig?.session_id === session_id,
    );
    return ended.find(({ opened }) => opened?.source === source) ?? ended[0];
  }

  #remove(id) {
    const { element } = this.#cards.get(id);
    this.#watch.unobserve(element);
    element.remove();
    this.#cards.delete(id);
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
