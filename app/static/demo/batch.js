/** A batch of pictures: each is a request of its own, so that a broken one does not affect others. */

import { ask, retried } from "./api.js";
import { csv, download } from "./csv.js";
import { element, find, sureness } from "./dom.js";

const AT_ONCE = 2;
const MOST_ROWS = 1000; // rows in the page; the CSV has all
const COLUMNS = ["file", "label", "probability", "in_distribution", "model", "version", "error"];

const remarks = ({ in_distribution: familiar, warnings = [] }) =>
  [...(familiar === false ? ["unlike the training data"] : []), ...warnings].join(", ");

export class Batch {
  /** `network()` returns the chosen network. */
  constructor(network) {
    this.network = network;
    this.rows = [];
    this.body = find("results").tBodies[0];
    find("stop").addEventListener("click", () => this.control?.abort());
    find("download").addEventListener("click", () => download(csv([COLUMNS, ...this.rows]), "results.csv"));
  }

  /** Classify `files`. They replace the batch before. */
  async run(files) {
    this.control?.abort();
    const control = (this.control = new AbortController());
    this.rows = [];
    this.#begin(files);
    const waiting = files.entries();
    const work = async () => {
      for (const [place, file] of waiting) {
        if (control.signal.aborted) return;
        await this.#one(file, place, control.signal);
        if (control === this.control) this.#tell(files.length);
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, work));
    if (control === this.control) this.#finish(files.length);
  }

  #begin(files) {
    for (const image of this.body.querySelectorAll("img")) URL.revokeObjectURL(image.src);
    this.body.replaceChildren();
    find("results").hidden = false;
    find("stop").hidden = false;
    find("download").disabled = true;
    find("progress").max = files.length;
    find("progress").value = 0;
    find("batch-said").textContent = `0 of ${files.length}`;
    find("many-title").scrollIntoView({ block: "start" });
  }

  async #one(file, place, signal) {
    const network = this.network();
    let row;
    try {
      const answer = await retried(
        () => ask(network.path, { picture: file, query: { rule: network.rule, top: 1 }, signal }),
        signal,
      );
      const [seen] = answer.predictions;
      row = [file.name, seen.label, seen.probability, String(seen.in_distribution ?? ""), answer.model, answer.version, ""];
      this.#show(file, place, seen.label, sureness(seen.probability), remarks(seen));
    } catch (error) {
      if (error.name === "AbortError") return;
      row = [file.name, "", "", "", network.name, "", error.message];
      this.#show(file, place, "–", "–", error.message, true);
    }
    if (!signal.aborted) this.rows[place] = row;
  }

  #show(file, place, label, probability, remark, bad = false) {
    if (this.body.rows.length >= MOST_ROWS) return;
    const image = element("img", { alt: "", width: 32, height: 32, loading: "lazy" });
    if (!bad) image.src = URL.createObjectURL(file);
    const row = element(
      "tr",
      bad ? { class: "bad" } : {},
      element("td", {}, bad ? "" : image),
      element("td", {}, file.name),
      element("td", {}, label),
      element("td", { class: "number" }, probability),
      element("td", {}, remark),
    );
    row.dataset.place = place;
    // Two requests run at once, and either may be answered first: keep the order of the files.
    const next = [...this.body.rows].reverse().find((other) => Number(other.dataset.place) < place);
    if (next) next.after(row);
    else this.body.prepend(row);
  }

  #tell(count) {
    const done = this.rows.filter(Boolean);
    find("progress").value = done.length;
    find("batch-said").textContent = `${done.length} of ${count}`;
  }

  #finish(count) {
    this.rows = this.rows.filter(Boolean);
    const bad = this.rows.filter((row) => row.at(-1)).length;
    find("stop").hidden = true;
    find("download").disabled = this.rows.length === 0;
    const stopped = this.rows.length < count ? `Stopped after ${this.rows.length} of ${count}` : `${count} pictures`;
    const passed = bad ? `, ${bad} of them could not be read` : "";
    const more = count > MOST_ROWS ? `; the table shows the first ${MOST_ROWS}, the CSV has all` : "";
    find("batch-said").textContent = `${stopped}${passed}${more}.`;
  }
}
