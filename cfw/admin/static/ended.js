// The captures that ended last, how often each code came, and a spoken word about new ones.

import { label, meaning, remedies } from "./codes.js";
import { clock, count, instant, plural, seconds, size } from "./format.js";
import { identity } from "./rates.js";
import { rigClock } from "./rig-clock.js";

const FIRST_ROWS = 12;
/** Announced together, so that a screen reader is not flooded. */
const ANNOUNCE_MS = 4_000;

function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

export class Ended {
  #parts;
  #answer = { ended: [], clean: 0, aborted: {} };
  #filter = null;
  #showsAll = false;
  #known = null;
  #news = [];
  #timer = 0;

  /** @param {Record<string, HTMLElement>} parts rows, table, none, counts, more, status */
  constructor(parts) {
    this.#parts = parts;
    parts.more.onclick = () => {
      this.#showsAll = true;
      this.#showRows();
    };
  }

  get list() {
    return this.#answer.ended;
  }

  show(answer) {
    this.#answer = answer;
    this.#announce(answer.ended);
    this.#showCounts();
    this.#showRows();
  }

  #showCounts() {
    const { clean, aborted } = this.#answer;
    const codes = Object.entries(aborted).sort(([, a], [, b]) => b - a);
    const entries = [["clean", clean], ...codes];
    if (!entries.some(([code]) => code === this.#filter)) this.#filter = null;
    const most = Math.max(1, ...entries.map(([, n]) => n));
    const { counts } = this.#parts;
    const focused = counts.contains(document.activeElement) && document.activeElement.name;
    counts.replaceChildren(
      ...entries.map(([code, n]) => {
        const item = element("li");
        const button = element("button", "code-count");
        button.type = "button";
        button.name = code;
        button.dataset.kind = code === "clean" ? "clean" : "aborted";
        button.title = code === "clean" ? "Ended with a receipt" : [meaning(code), ...remedies(code)].join("\n");
        button.setAttribute("aria-pressed", code === this.#filter);
        const bar = element("span", "bar");
        bar.style.setProperty("--share", n / most);
        button.append(element("span", "name", code), element("span", "n", count(n)), bar);
        button.onclick = () => {
          this.#filter = this.#filter === code ? null : code;
          this.#showCounts();
          this.#showRows();
        };
        item.append(button);
        return item;
      }),
    );
    if (focused) counts.querySelector(`[name="${focused}"]`)?.focus();
  }

  #showRows() {
    const wanted = this.#answer.ended.filter(
      ({ error_code }) => this.#filter === null || (error_code ?? "clean") === this.#filter,
    );
    const shown = this.#showsAll ? wanted : wanted.slice(0, FIRST_ROWS);
    const { rows, table, none, more } = this.#parts;
    rows.replaceChildren(...shown.map((capture) => this.#row(capture)));
    table.hidden = shown.length === 0;
    none.hidden = shown.length !== 0;
    none.textContent =
      this.#filter === null
        ? "None yet. How each capture ended, and why, will be listed here."
        : `None of the last ${count(this.#answer.ended.length)} ended that way.`;
    more.hidden = shown.length === wanted.length;
    more.textContent = `Show all ${count(wanted.length)}`;
  }

  #row(capture) {
    const [opened, ended] = [instant(capture.opened), instant(capture.ended)];
    const row = element("tr");
    const cell = (name, label, ...content) => {
      const td = element("td", name);
      td.dataset.label = label;
      td.append(...content);
      row.append(td);
    };
    const time = element("time", "", clock(ended));
    time.dateTime = new Date(ended).toISOString();
    cell("when", "Ended", time);
    const who = element("span", "user", capture.user_id);
    cell("who", "Rig", who, " ", element("span", "session", capture.session_id));
    const { text, advice } = rigClock(capture);
    row.lastElementChild.title = `Its clock: ${text}`;
    if (advice !== null) {
      row.lastElementChild.append(" ", element("span", "off", `clock ${text}: ${advice}`));
    }
    const { error_code: code, detail } = capture;
    const badge = element("span", "badge", code === null ? "clean" : label(code, detail));
    badge.dataset.kind = code === null ? "clean" : "aborted";
    cell("outcome", "Outcome", badge);
    if (code !== null) {
      badge.title = [code, ...remedies(code, detail)].join("\n");
      row.lastElementChild.append(element("span", "why", detail ?? meaning(code)));
    }
    cell("number frames", "Frames", count(capture.frames));
    cell("number", "Data", size(capture.bytes));
    cell("number", "Lasted", seconds(ended - opened));
    cell("id", "Capture", capture.capture_id);
    row.lastElementChild.title = capture.capture_id;
    return row;
  }

  #announce(ended) {
    const ids = new Set(ended.map(identity));
    if (this.#known !== null) {
      this.#news.push(...ended.filter((capture) => !this.#known.has(identity(capture))));
    }
    this.#known = ids;
    if (this.#news.length === 0 || this.#timer) return;
    this.#timer = setTimeout(() => {
      this.#timer = 0;
      const aborted = this.#news.filter(({ error_code }) => error_code !== null);
      const words = [`${plural(this.#news.length, "capture")} ended`];
      for (const { user_id, error_code, detail } of aborted.slice(0, 3)) {
        words.push(`${user_id} was aborted: ${meaning(error_code, detail)}`);
      }
      if (aborted.length === 0) words.push("all cleanly");
      this.#parts.status.textContent = `${words.join("; ")}.`;
      this.#news = [];
    }, ANNOUNCE_MS);
  }
}
