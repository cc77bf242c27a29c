/** A chart of a quantity by epoch, for training and validation, to be read by pointer or arrow keys. */

import { drawing, element, percent } from "./dom.js";

const [WIDTH, HEIGHT] = [480, 250];
const MARGIN = { top: 34, right: 12, bottom: 28, left: 48 };
const SERIES = [
  { name: "training", prefix: "" },
  { name: "validation", prefix: "val_" },
];

export class Chart {
  /** Draw into `box`, whose data-quantity is a column of `epochs`. `best` is the epoch that was kept. */
  constructor(box, epochs, best) {
    this.quantity = box.dataset.quantity;
    this.epochs = epochs;
    this.series = SERIES.filter(({ prefix }) => epochs.some((row) => prefix + this.quantity in row));
    const values = this.series.flatMap(({ prefix }) => epochs.map((row) => row[prefix + this.quantity]));
    const known = values.filter(Number.isFinite).sort((a, b) => a - b);
    if (!known.length) {
      box.append(element("p", { class: "fine" }, `No ${this.quantity} was recorded.`));
      return;
    }
    // The scale leaves out the outliers of the first epochs, which would flatten the rest.
    const at = (share) => known[Math.round(share * (known.length - 1))];
    this.ticks = ticks(
      this.quantity === "accuracy" ? at(0.06) : 0,
      this.quantity === "accuracy" ? at(1) : at(0.94),
    );
    this.at = Math.max(0, epochs.findIndex((row) => row.epoch === best));
    this.reading = element("p", { class: "reading", role: "status" });
    box.append(this.#draw(best), this.reading);
    this.#read(this.at, true);
  }

  #x(place) {
    const last = Math.max(1, this.epochs.length - 1);
    return MARGIN.left + (place / last) * (WIDTH - MARGIN.left - MARGIN.right);
  }

  #y(value) {
    const [low, high] = [this.ticks[0], this.ticks.at(-1)];
    return HEIGHT - MARGIN.bottom - ((value - low) / (high - low)) * (HEIGHT - MARGIN.top - MARGIN.bottom);
  }

  #draw(best) {
    const from = this.#text(this.epochs.length - 1);
    const svg = drawing("svg", {
      viewBox: `0 0 ${WIDTH} ${HEIGHT}`,
      role: "application",
      "aria-roledescription": "chart",
      "aria-label": `${this.quantity} by epoch; at the end: ${from}. Arrow keys step through the epochs.`,
      tabindex: 0,
    });
    svg.append(drawing("text", { x: 0, y: 14, class: "title" }, capital(this.quantity)));
    this.series.forEach(({ name }, place) => {
      const x = WIDTH - MARGIN.right - 84 * (this.series.length - place) + 14;
      svg.append(
        drawing("line", { x1: x - 18, x2: x - 5, y1: 10, y2: 10, class: `line ${name}` }),
        drawing("text", { x, y: 14 }, name),
      );
    });
    for (const tick of this.ticks) {
      const y = this.#y(tick);
      svg.append(
        drawing("line", { x1: MARGIN.left, x2: WIDTH - MARGIN.right, y1: y, y2: y, class: "grid" }),
        drawing("text", { x: MARGIN.left - 8, y: y + 4, "text-anchor": "end" }, this.#short(tick)),
      );
    }
    for (const place of spread(this.epochs.length)) {
      const anchor = { x: this.#x(place), y: HEIGHT - 8, "text-anchor": "middle" };
      svg.append(drawing("text", anchor, String(this.epochs[place].epoch)));
    }
    const kept = this.epochs.findIndex((row) => row.epoch === best);
    if (kept >= 0) {
      const x = this.#x(kept);
      svg.append(drawing("line", { x1: x, x2: x, y1: MARGIN.top, y2: HEIGHT - MARGIN.bottom, class: "best" }));
    }
    const inside = `plot-${this.quantity}`; // outliers are clipped and not drawn along the edge
    const plot = { x: MARGIN.left, y: MARGIN.top - 2, width: WIDTH - MARGIN.left, height: HEIGHT - MARGIN.top - MARGIN.bottom + 4 };
    svg.append(drawing("clipPath", { id: inside }, drawing("rect", plot)));
    for (const { name, prefix } of this.series) {
      const points = this.epochs
        .map((row, place) => [place, row[prefix + this.quantity]])
        .filter(([, value]) => Number.isFinite(value))
        .map(([place, value]) => `${this.#x(place).toFixed(1)},${this.#y(value).toFixed(1)}`);
      svg.append(drawing("polyline", { points: points.join(" "), class: `line ${name}`, "clip-path": `url(#${inside})` }));
    }
    this.dots = this.series.map(({ name }) => svg.appendChild(drawing("circle", { r: 4, class: `dot ${name}` })));
    svg.addEventListener("pointermove", (event) => {
      const box = svg.getBoundingClientRect();
      const x = ((event.clientX - box.left) / box.width) * WIDTH;
      const share = (x - MARGIN.left) / (WIDTH - MARGIN.left - MARGIN.right);
      this.#read(Math.round(share * (this.epochs.length - 1)));
    });
    svg.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity }[event.key];
      if (step === undefined) return;
      event.preventDefault();
      this.#read(this.at + step);
    });
    return svg;
  }

  #read(place) {
    this.at = Math.min(this.epochs.length - 1, Math.max(0, place));
    this.series.forEach(({ prefix }, index) => {
      const value = this.epochs[this.at][prefix + this.quantity];
      const shown = value >= this.ticks[0] && value <= this.ticks.at(-1);
      this.dots[index].setAttribute("visibility", shown ? "visible" : "hidden");
      if (!shown) return;
      this.dots[index].setAttribute("cx", this.#x(this.at));
      this.dots[index].setAttribute("cy", this.#y(value));
    });
    this.reading.textContent = this.#text(this.at);
  }

  #text(place) {
    const row = this.epochs[place];
    const parts = this.series.map(({ name, prefix }) => {
      const value = row[prefix + this.quantity];
      return `${name} ${Number.isFinite(value) ? this.#long(value) : "unknown"}`;
    });
    return `Epoch ${row.epoch}: ${parts.join(", ")}`;
  }

  #short(value) {
    return this.quantity === "accuracy" ? `${Number((100 * value).toPrecision(4))} %` : String(Number(value.toPrecision(3)));
  }

  #long(value) {
    return this.quantity === "accuracy" ? percent(value) : value.toFixed(4);
  }
}

const capital = (text) => text[0].toUpperCase() + text.slice(1);

/** Return about five round numbers that cover `low` to `high`. */
function ticks(low, high) {
  const rough = Math.max(high - low, 1e-6) / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((times) => times * power).find((size) => size >= rough);
  const found = [];
  for (let place = Math.floor(low / step + 1e-9); ; place += 1) {
    found.push(place * step);
    if (place * step >= high - 1e-9 && found.length > 1) return found;
  }
}

/** Return about six of `count` places, with the first and the last. */
function spread(count) {
  const step = Math.max(1, Math.ceil((count - 1) / 6));
  const places = [];
  for (let place = 0; place < count - 1; place += step) places.push(place);
  if (count - 1 - places.at(-1) < step / 2) places.pop();
  return [...places, count - 1];
}
