/** Thumbs about an answer, the class that would have been right, and what was learned from votes. */

import { get, send } from "./api.js";
import { element, find, percent, say } from "./dom.js";

export class Votes {
  /** `network()` returns the chosen network. */
  constructor(network) {
    this.network = network;
    this.id = null; // of the shown prediction
    this.top = []; // its classes, the most probable first
    this.last = Promise.resolve(); // the last vote: the next one is sent when it is answered
    find("up").addEventListener("click", () => this.#vote("up", { reward: 1 }));
    find("down").addEventListener("click", () => this.#vote("down", { reward: 0 }));
    find("runner-up").addEventListener("click", () => this.#correct(this.top[1].label));
    find("right").addEventListener("change", () => find("right").value && this.#correct(find("right").value));
  }

  /** Take votes about `prediction`, or about nothing. */
  about(prediction) {
    this.id = prediction?.prediction_id ?? null;
    this.top = prediction?.top ?? [];
    for (const name of ["up", "down"]) {
      find(name).disabled = !this.id;
      find(name).setAttribute("aria-pressed", "false");
    }
    find("instead").hidden = true;
    find("vote-said").textContent = "";
    say(find("vote-problem"), "");
  }

  /** Show what the network has learned from votes. */
  async tell() {
    const asked = this.network();
    try {
      const learned = await get(`${asked.path}/learning`, { rule: asked.rule });
      if (asked === this.network()) find("learned").textContent = told(learned, asked.rule);
    } catch {
      find("learned").textContent = ""; // the votes are not needed for an answer
    }
  }

  async #vote(name, vote) {
    if (!(await this.#send(vote))) return;
    for (const other of ["up", "down"]) find(other).setAttribute("aria-pressed", String(other === name));
    find("instead").hidden = name === "up";
    if (name === "down") this.#offer();
  }

  /** Offer the classes that the picture may show instead. */
  #offer() {
    const [said, next] = this.top;
    find("runner-up").hidden = !next;
    if (next) find("runner-up").textContent = `It is ${next.label}`;
    find("right").replaceChildren(
      element("option", { value: "" }, "another…"),
      ...this.network().labels.filter((name) => name !== said.label).map((name) => element("option", { value: name }, name)),
    );
    find("runner-up").focus();
  }

  async #correct(label) {
    if (await this.#send({ label })) {
      find("vote-said").textContent = `Thank you: it is ${label}.`;
      find("right").value = label;
    } else {
      find("right").value = ""; // so that the same class can be chosen again
    }
  }

  /** Send a vote after those before it. Return whether it was counted and is about what is shown. */
  #send(vote) {
    const { id } = this;
    const sent = this.last.then(() => this.#sendNow(id, vote));
    this.last = sent;
    return sent;
  }

  async #sendNow(id, vote) {
    if (id === this.id) say(find("vote-problem"), "");
    try {
      await send("/api/feedback", { prediction_id: id, ...vote });
    } catch (error) {
      if (id === this.id) say(find("vote-problem"), error.message);
      return false;
    }
    if (id !== this.id) return false; // the picture has changed
    find("vote-said").textContent = "Thank you: your vote is counted.";
    this.tell();
    return true;
  }
}

/** Return what was learned as sentences. */
function told({ votes, champion, challenger, by_version: versions, last_challenger: last }, rule) {
  if (!votes) return `Version ${champion} answers. Nobody has voted yet.`;
  const words = [votes === 1 ? "1 vote so far." : `${votes} votes so far.`, `Version ${champion} answers`];
  const live = versions.find((one) => one.version === champion && one.rule === rule);
  words.push(live ? `and ${percent(live.share_up)} of the voters agree with it.` : "and has no votes yet.");
  if (challenger !== undefined) words.push(`Version ${challenger} has learned from votes and is being tested.`);
  else if (last) words.push(`The last lesson was version ${last.version}: ${last.outcome}.`);
  return words.join(" ");
}
