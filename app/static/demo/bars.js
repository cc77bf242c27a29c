/** A bar for each class in a fixed order, or the most probable classes if there are many. */

import { element, sureness } from "./dom.js";

const MOST = 10; // bars

export class Bars {
  constructor(list) {
    this.list = list;
    this.rows = [];
  }

  /** Make empty bars for the classes `labels`. */
  reset(labels) {
    this.labels = labels;
    const longest = Math.max(...labels.map((label) => label.length));
    this.list.style.setProperty("--names", `${Math.min(Math.max(1.2, 0.58 * longest), 9)}rem`);
    this.rows = labels.slice(0, MOST).map((label) => {
      const row = {
        name: element("span", { class: "name" }, label),
        fill: element("span", { class: "fill" }),
        value: element("span", { class: "value" }, "–"),
      };
      row.item = element("li", {}, row.name, element("span", { class: "track" }, row.fill), row.value);
      return row;
    });
    this.list.replaceChildren(...this.rows.map((row) => row.item));
  }

  /** Show `top`: all classes of an answer, the most probable first. */
  show(top) {
    const shown = this.labels.length > MOST ? top.slice(0, MOST) : [...top].sort((a, b) => a.index - b.index);
    shown.forEach((candidate, place) => {
      const row = this.rows[place];
      row.name.textContent = candidate.label;
      row.value.textContent = sureness(candidate.probability);
      row.fill.style.setProperty("--share", candidate.probability);
      row.item.classList.toggle("best", candidate.index === top[0].index);
    });
  }

  clear() {
    for (const row of this.rows) {
      row.value.textContent = "–";
      row.fill.style.setProperty("--share", 0);
      row.item.classList.remove("best");
    }
  }
}
