// What can be done to a tile: enlarge it, save its picture, copy its ids, end its capture.

import { copyText } from "./copy.js";
import { ask } from "./settings.js";

const part = (name) => document.querySelector(`#${name}`);

const STEPS = { ArrowLeft: -1, ArrowRight: 1 };

export class Acts {
  #cards;
  #grid = part("cards");
  #viewer = part("viewer");
  #sure = part("sure");
  #place = document.createComment("the tile that is enlarged");
  #shown = null;
  #doomed = null;

  constructor(cards) {
    this.#cards = cards;
    for (const area of [this.#grid, this.#viewer]) {
      area.addEventListener("click", (event) => this.#press(event));
    }
    this.#grid.addEventListener("keydown", (event) => this.#walk(event));
    this.#viewer.addEventListener("keydown", (event) => this.#turn(event));
    this.#viewer.addEventListener("close", () => this.#putBack());
    part("viewer-close").onclick = () => this.#viewer.close();
    part("viewer-before").onclick = () => this.#step(-1);
    part("viewer-next").onclick = () => this.#step(1);
    part("viewer-fill").onclick = () => this.#fill();
    part("sure-keep").onclick = () => this.#sure.close();
    part("sure-end").onclick = () => this.#end();
  }

  #press({ target }) {
    const button = target.closest("[data-act]");
    const card = this.#cards.of(target);
    if (card === undefined) return;
    if (button === null) {
      // The picture is the largest button there is; with keys it is the one in the corner.
      if (target.closest(".screen") && this.#shown === null) this.#enlarge(card);
      return;
    }
    const acts = {
      open: () => this.#enlarge(card),
      save: () => this.#save(card),
      copy: () => this.#copy(card),
      end: () => this.#askTwice(card),
    };
    acts[button.dataset.act]();
  }

  // --- one tile, as large as the window ----------------------------------------------------

  #enlarge(card) {
    if (this.#shown !== null) return;
    this.#take(card);
    this.#viewer.showModal();
    part("viewer-close").focus();
  }

  #take(card) {
    this.#shown = card;
    this.#cards.only = card;
    card.element.replaceWith(this.#place);
    part("viewer-tile").replaceChildren(card.element);
    part("viewer-title").textContent = card.name;
  }

  /** The tile goes back to where it was, or to the end where that is no more. */
  #putBack() {
    if (document.fullscreenElement) document.exitFullscreen();
    const element = part("viewer-tile").firstElementChild;
    if (element !== null) this.#place.replaceWith(element);
    this.#place.remove();
    this.#shown = null;
    this.#cards.only = null;
    element?.querySelector("[data-act=open]").focus();
  }

  #step(by) {
    const nodes = [...this.#grid.childNodes];
    const tiles = nodes.filter(
      (node) => node === this.#place || !(node.hidden || node.classList.contains("missing")),
    );
    const place = tiles.indexOf(this.#place);
    const next = this.#cards.of(tiles[(place + by + tiles.length) % tiles.length]);
    if (next === undefined) return;
    this.#place.replaceWith(part("viewer-tile").firstElementChild);
    this.#take(next);
  }

  #turn(event) {
    const by = STEPS[event.key];
    if (by !== undefined && !this.#sure.open) this.#step(by);
  }

  #fill() {
    if (document.fullscreenElement) document.exitFullscreen();
    else this.#viewer.requestFullscreen().catch(() => {});
  }

  // --- keys --------------------------------------------------------------------------------

  /** With the arrows from tile to tile, as they stand. */
  #walk(event) {
    const tiles = [...this.#grid.querySelectorAll(".card:not([hidden], .missing)")];
    const here = tiles.findIndex((tile) => tile.contains(event.target));
    if (here < 0 || event.ctrlKey || event.altKey || event.metaKey) return;
    const top = tiles[0].offsetTop;
    const columns = Math.max(1, tiles.filter((tile) => tile.offsetTop === top).length);
    const steps = { ...STEPS, ArrowUp: -columns, ArrowDown: columns };
    const to = { Home: 0, End: tiles.length - 1 }[event.key] ?? here + (steps[event.key] ?? NaN);
    if (!(to >= 0 && to < tiles.length)) return;
    event.preventDefault();
    tiles[to].querySelector("[data-act=open]").focus();
  }

  // --- what is done ------------------------------------------------------------------------

  #save({ jpeg, rig, captureId, seq }) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([jpeg], { type: "image/jpeg" }));
    const parts = [rig.user_id, rig.session_id ?? "", captureId, seq];
    link.download = `${parts.join("_").replace(/[^\p{L}\p{N}._-]+/gu, "-")}.jpg`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
    this.#say("The picture is saved.");
  }

  async #copy({ status, opened, captureId }) {
    const { user_id, session_id } = { ...status, ...opened };
    const text = `user_id ${user_id}\nsession_id ${session_id}\ncapture_id ${captureId}`;
    this.#say((await copyText(text)) ? "The ids are copied." : "This browser lets nothing be copied.");
  }

  #askTwice(card) {
    this.#doomed = card;
    part("sure-who").textContent = card.name;
    part("sure-problem").textContent = "";
    part("sure-end").disabled = false;
    this.#sure.showModal();
    part("sure-keep").focus();
  }

  async #end() {
    part("sure-end").disabled = true;
    const { captureId, name } = this.#doomed;
    try {
      const told = await ask("DELETE", `/captures/${encodeURIComponent(captureId)}`);
      this.#sure.close();
      // It is told to end at once, but its sink has time to take what is left.
      this.#say(`The capture of ${name} ${told === null ? "has ended" : "is ending"}.`);
    } catch ({ name: kind, message }) {
      part("sure-end").disabled = false;
      part("sure-problem").textContent =
        kind === "TimeoutError"
          ? "The worker was asked to end it, and has not said that it has."
          : `It was not ended: ${message}.`;
    }
  }

  /** To who sees it and to who hears it. */
  #say(text) {
    for (const place of document.querySelectorAll(".said")) place.textContent = text;
    clearTimeout(this.saying);
    this.saying = setTimeout(() => {
      for (const place of document.querySelectorAll(".said")) place.textContent = "";
    }, 4_000);
  }
}
