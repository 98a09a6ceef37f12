// What of the grid is shown, and how large: kept by this browser for the next time.

const KEPT = "view";
const USUAL = { words: "", state: "all", order: "arrival", size: "320" };

const part = (name) => document.querySelector(`#${name}`);

function kept() {
  try {
    return { ...USUAL, ...JSON.parse(localStorage.getItem(KEPT)) };
  } catch {
    return USUAL;
  }
}

export class View {
  #cards;
  #fields = Object.fromEntries(Object.keys(USUAL).map((name) => [name, part(`view-${name}`)]));

  /** @param {import("./cards.js").Cards} cards what is shown by it. */
  constructor(cards) {
    this.#cards = cards;
    for (const [name, value] of Object.entries(kept())) {
      const field = this.#fields[name];
      if (field === undefined) continue;
      field.value = value;
      // A choice that is no more.
      if (field.value === "" && name !== "words") field.value = USUAL[name];
    }
    part("view").addEventListener("input", () => this.#apply());
    part("view").addEventListener("submit", (event) => event.preventDefault());
    part("view-reset").onclick = () => {
      [this.#fields.words.value, this.#fields.state.value] = ["", "all"];
      this.#apply();
      this.#fields.words.focus();
    };
    this.#apply();
  }

  /** Say what is left out, and what is in view. */
  show() {
    const { length, shown, pace } = this.#cards;
    part("view").hidden = length === 0;
    part("view-none").hidden = length === 0 || shown > 0;
    const left = shown < length ? `${shown} of ${length} shown. ` : "";
    const each = pace.each < 10 ? pace.each.toFixed(1) : Math.floor(pace.each);
    part("view-pace").textContent =
      `${left}${pace.inView} in view, at most ${each} pictures a second each.`;
  }

  #apply() {
    const view = {};
    for (const [name, field] of Object.entries(this.#fields)) view[name] = field.value;
    part("cards").style.setProperty("--tile", `${Number(view.size)}px`);
    part("view-size").setAttribute("aria-valuetext", `${view.size} pixels wide`);
    this.#cards.view = view;
    try {
      localStorage.setItem(KEPT, JSON.stringify(view));
    } catch {
      // It may keep nothing; then it is as usual the next time.
    }
    this.show();
  }
}
