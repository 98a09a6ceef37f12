// One capture, or one rig that is missing: a tile with its live picture.

import { details, label, meaning } from "./codes.js";
import { decode } from "./decode.js";
import { count, delay, rate, seconds, size } from "./format.js";
import { rigClock } from "./rig-clock.js";

/** What frames per second are measured over. */
const FPS_OVER_MS = 2_500;
const NEARLY_FULL = 0.75;
/** A rig that sends so much less than it announced is in trouble. */
const FEW = 0.7;
const SILENT_MS = 3_000;

export class Tile {
  element;
  captureId;
  opened = null;
  status = null;
  seenAt = performance.now();
  endedAt = null;
  /** What is wrong with it, in words; the worst first. */
  troubles = [];
  /** Whether it can be seen now. */
  isOnScreen = false;
  /** The bytes of the picture that is shown, as they came, and its number. */
  jpeg = null;
  seq = 0;
  #limits;
  #parts = {};
  #samples = [];
  #next = null;
  #surface = null;
  #isUndecodable = false;
  #delayMs = null;
  #peak = 0;
  #frames = 0;
  #called = null;
  #movedAt = performance.now();

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

  /** Whether there is a picture to be drawn. */
  get isFresh() {
    return this.#next !== null && this.isOnScreen;
  }

  get rig() {
    return this.opened ?? this.status;
  }

  /** What it is called, also by who cannot see it. */
  get name() {
    const { user_id = "", session_id = "" } = this.rig ?? {};
    const called = this.#called === null ? "" : `${this.#called}: `;
    return `${called}${user_id}, session ${session_id}`;
  }

  /** What a filter looks through. */
  get words() {
    const { user_id, session_id, source } = { ...this.status, ...this.opened };
    const words = [this.#called ?? "", user_id, session_id, source, this.captureId];
    return words.join(" ").toLowerCase();
  }

  /** What people call its rig; null for one that is not expected. */
  set called(name) {
    this.#called = name;
    this.#parts.called.textContent = name ?? "";
    this.#parts.called.hidden = name === null;
  }

  /** `running`, `ended` or `missing`. */
  get stage() {
    return this.endedAt === null ? "running" : "ended";
  }

  open(message) {
    this.opened = message;
    this.#parts.source.textContent = message.source ?? "";
    this.#parts.shape.textContent = `${message.width} × ${message.height}`;
    this.#parts.target.textContent = ` / ${message.fps_target}`;
    this.#name(message);
  }

  /** There is a newer frame. */
  take({ jpeg, seq, delayMs }) {
    this.#next = { jpeg, seq };
    // Smoothed over about ten frames, so that it can be read.
    this.#delayMs = this.#delayMs === null ? delayMs : this.#delayMs + (delayMs - this.#delayMs) / 10;
  }

  /** Its picture is to be drawn once more. */
  showAgain() {
    if (this.jpeg !== null) this.#next ??= { jpeg: this.jpeg, seq: this.seq };
  }

  update(status, now, isDraining) {
    this.status = status;
    this.#name(status);
    this.#samples.push({ at: now, frames: status.frames });
    while (now - this.#samples[0].at > FPS_OVER_MS) this.#samples.shift();
    const [first, last] = [this.#samples[0], this.#samples.at(-1)];
    const lasted = (last.at - first.at) / 1_000;
    // Over less than a second a single frame would make a difference.
    const fps = lasted > 0.9 ? (last.frames - first.frames) / lasted : null;
    this.#parts.fps.textContent = fps === null ? "–" : rate(fps);
    const isFinishing = isDraining ? "live, worker draining" : "live";
    this.#parts.state.textContent = status.state === "active" ? isFinishing : status.state;
    this.element.dataset.state = status.state;
    // From its own two numbers: the clock of this device may be another than the worker's.
    const lasting = status.fps > 0 ? (status.frames / status.fps) * 1_000 : 0;
    this.#count(status.frames, status.bytes, lasting);
    const share = this.#fill(status);
    this.#parts.delay.textContent = delay(this.#delayMs ?? NaN);
    const isOff = this.#tellClock(status);
    this.#judge(fps, share, isOff, now);
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
    this.#parts.end.hidden = true;
    this.#tellClock(rest);
    this.#trouble(code === null ? [] : [label(code, detail)]);
  }

  /** Nothing is known of it for now. */
  lose() {
    this.element.dataset.state = "lost";
    this.#parts.state.textContent = "no contact with the worker";
    this.#parts.fps.textContent = "–";
    this.#samples = [];
  }

  /** Decode the newest picture; what draws it, without waiting. */
  async decode() {
    const { jpeg, seq } = this.#next;
    this.#next = null;
    const { picture, nothing, save } = this.#parts;
    const shown = picture.parentElement.clientWidth * devicePixelRatio;
    const decoded = await decode(jpeg, this.opened ?? {}, shown);
    return () => {
      picture.hidden = decoded === null;
      nothing.hidden = decoded !== null;
      // The worker reads no more of a picture than where it begins and ends.
      nothing.textContent = "No browser can decode the pictures of this rig";
      this.#isUndecodable = decoded === null;
      [this.jpeg, this.seq] = [jpeg, seq];
      save.disabled = false;
      if (decoded !== null) this.#draw(decoded);
    };
  }

  #draw({ image, width, height, close }) {
    const { picture } = this.#parts;
    if (picture.width !== width || picture.height !== height) {
      [picture.width, picture.height] = [width, height];
    }
    try {
      this.#surface ??= picture.getContext("2d", { alpha: false });
      this.#surface.drawImage(image, 0, 0, width, height);
    } finally {
      close();
    }
  }

  #name({ user_id, session_id }) {
    this.#parts.user.textContent = user_id;
    this.#parts.session.textContent = session_id;
    this.#parts.picture.setAttribute("aria-label", `Live picture of ${this.name}`);
    this.element.setAttribute("aria-label", this.name);
    for (const [part, word] of [["open", "Enlarge"], ["save", "Save the picture of"],
      ["copy", "Copy the ids of"], ["end", "End the capture of"]]) {
      this.#parts[part].setAttribute("aria-label", `${word} ${this.name}`);
    }
  }

  #judge(fps, share, isOff, now) {
    if (this.status.frames !== this.#frames) this.#movedAt = now;
    this.#frames = this.status.frames;
    const silence = now - this.#movedAt;
    const isSilent = silence > SILENT_MS;
    const target = this.opened?.fps_target ?? 0;
    const isSlow = !isSilent && fps !== null && fps < FEW * target;
    this.#trouble([
      ...(this.#isUndecodable ? ["pictures that no browser decodes"] : []),
      ...(share > NEARLY_FULL ? ["its buffer is nearly full: the sink is slow"] : []),
      ...(isSilent ? [`no frame for ${Math.floor(silence / 1_000)} s`] : []),
      ...(isSlow ? [`${rate(fps)} of ${target} frames a second`] : []),
      ...(isOff ? ["its clock is wrong"] : []),
    ]);
  }

  #trouble(words) {
    this.troubles = words;
    this.element.classList.toggle("troubled", words.length > 0);
    this.#parts.trouble.hidden = words.length === 0 || this.endedAt !== null;
    this.#parts.trouble.textContent = words.join("; ");
  }

  #tellClock(told) {
    const { text, advice } = rigClock(told);
    this.#parts.offset.textContent = advice === null ? text : `${text}: ${advice}`;
    this.#parts.clock.classList.toggle("off", advice !== null);
    return advice !== null;
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
    return share;
  }
}
