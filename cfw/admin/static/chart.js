// A line over the last minutes, as inline SVG: a value a second, newest at the right.

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 300;
const HEIGHT = 60;

/** Values further apart are not joined: nobody knows what was between them. */
const GAP_MS = 5_000;

/** The next number that reads well on a scale. */
function roundUp(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 3, 4, 5, 6, 8, 10].find((step) => step * power >= value) * power;
}

export class Chart {
  #samples = [];
  #figure;
  #options;
  #line;
  #area;

  /**
   * @param {HTMLElement} figure has elements with data-svg, data-now and data-top.
   * @param {{name: string, format: (value: number) => string, least: number,
   *   spanMs: number}} options `least` is the smallest height of the scale.
   */
  constructor(figure, options) {
    this.#figure = figure;
    this.#options = options;
    const svg = figure.querySelector("[data-svg]");
    svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
    svg.setAttribute("preserveAspectRatio", "none");
    for (const share of [0, 0.5, 1]) {
      const y = share * HEIGHT;
      svg.append(this.#path("grid", `M0 ${y}H${WIDTH}`));
    }
    this.#area = this.#path("area", "");
    this.#line = this.#path("line", "");
    svg.append(this.#area, this.#line);
    this.#draw(performance.now());
  }

  add(value, now) {
    this.#samples.push({ at: now, value });
    // One sample beyond the left edge, so that the line begins at it.
    while (this.#samples.length > 2 && now - this.#samples[1].at > this.#options.spanMs) {
      this.#samples.shift();
    }
    this.#draw(now);
  }

  /** Nothing is known of now. */
  lose() {
    const { name } = this.#options;
    this.#figure.querySelector("[data-now]").textContent = "–";
    const label = `${name}: unknown now, the worker does not answer`;
    this.#figure.querySelector("[data-svg]").setAttribute("aria-label", label);
  }

  #draw(now) {
    const { name, format, least, spanMs } = this.#options;
    const values = this.#samples.map(({ value }) => value);
    const highest = Math.max(0, ...values);
    const top = roundUp(Math.max(least, highest * 1.05));
    let [line, area, before] = ["", "", null];
    for (const { at, value } of this.#samples) {
      const x = (WIDTH * (1 - (now - at) / spanMs)).toFixed(1);
      const y = (HEIGHT * (1 - value / top)).toFixed(1);
      if (before !== null && at - before.at < GAP_MS) {
        line += `M${before.x} ${before.y}L${x} ${y}`;
        area += `M${before.x} ${HEIGHT}V${before.y}L${x} ${y}V${HEIGHT}Z`;
      }
      before = { at, x, y };
    }
    this.#line.setAttribute("d", line);
    this.#area.setAttribute("d", area);
    const latest = format(values.at(-1) ?? 0);
    this.#figure.querySelector("[data-now]").textContent = latest;
    this.#figure.querySelector("[data-top]").textContent = String(Number(format(top)));
    const label = `${name}: now ${latest}, at most ${format(highest)} in this time`;
    this.#figure.querySelector("[data-svg]").setAttribute("aria-label", label);
  }

  #path(kind, d) {
    const path = document.createElementNS(SVG, "path");
    path.setAttribute("class", kind);
    path.setAttribute("d", d);
    path.setAttribute("vector-effect", "non-scaling-stroke");
    return path;
  }
}
