/** The page to try networks: it classifies a picture while it is being drawn. */

import { ask, onKey } from "./api.js";
import { Bars } from "./bars.js";
import { Batch } from "./batch.js";
import { Pad } from "./board.js";
import { element, find, page, say, sureness } from "./dom.js";
import { listenForFiles } from "./files.js";
import { paint, strongest } from "./heat.js";
import { Votes } from "./votes.js";

const BETWEEN = 60; // milliseconds between two requests while the pen moves
const QUIET = 700; // milliseconds until a screen reader reads an answer that no longer changes

const bars = new Bars(find("bars"));
const batch = new Batch(() => network());
const pad = find("pad") && new Pad(find("pad"), drawn);
const votes = page.votes ? new Votes(() => network()) : null;

let source = null; // the current picture: {file: File}, {sample: name}, or {} for the drawing
let label = null; // its class
const network = () => page.networks[Number(find("network").value)];

/* ------------------------------------------------------------------ requests; a new one cancels the last */

let control = null; // aborts the running request
let timer = null;
let asked = 0; // when the last request was sent, by performance.now()
let reading = null;

function drawn(ended) {
  forgetPicture();
  find("undo").disabled = find("clear").disabled = pad.empty;
  find("pad-hint").hidden = !pad.empty;
  if (pad.empty) {
    source = null;
    rest();
    return;
  }
  source = {};
  outdate();
  performance.clearMarks("stroke");
  performance.mark("stroke");
  clearTimeout(timer);
  if (ended) {
    classify();
  } else {
    // While the pen moves, one request at a time. The end of a stroke is sent at once.
    const wait = control ? BETWEEN : Math.max(0, asked + BETWEEN - performance.now());
    timer = setTimeout(classifyWhenFree, wait);
  }
}

function classifyWhenFree() {
  if (control) timer = setTimeout(classifyWhenFree, 10);
  else classify();
}

/** Classify the current picture. An older request is cancelled. */
async function classify() {
  clearTimeout(timer);
  control?.abort();
  const mine = (control = new AbortController());
  const { path, rule, labels } = network();
  find("answer").setAttribute("aria-busy", "true");
  asked = performance.now();
  try {
    const stroke = performance.getEntriesByName("stroke", "mark").at(-1);
    const sent = pad && !pad.empty && !source.sample && !source.file ? { picture: await pad.picture() } : source;
    if (mine.signal.aborted) return;
    const query = { rule, top: labels.length, prepared: true };
    const answer = await ask(path, { picture: sent.picture ?? sent.file, sample: sent.sample, query, signal: mine.signal });
    if (mine.signal.aborted) return;
    show(answer.predictions[0]);
    painted(stroke);
  } catch (error) {
    if (error.name === "AbortError" || mine.signal.aborted) return;
    if (pad?.drawing && error.status === 422) return; // the digit has just begun
    fail(error.message);
  } finally {
    if (control === mine) {
      control = null;
      find("answer").setAttribute("aria-busy", "false");
    }
  }
}

/** Measure the time from the last part of the stroke to the frame that shows its bars. */
function painted(stroke) {
  const began = asked;
  requestAnimationFrame(() =>
    setTimeout(() => {
      const now = performance.now();
      if (stroke) performance.measure("stroke-to-bars", { start: stroke.startTime, end: now });
      find("timing").textContent = stroke
        ? `${Math.round(now - stroke.startTime)} ms from stroke to bars`
        : `answered in ${Math.round(now - began)} ms`;
    }),
  );
}

/* ------------------------------------------------------------------ showing */

function show(prediction) {
  label = prediction.label;
  find("answer").classList.remove("waiting");
  say(find("problem"), "");
  setVerdict(label, `${sureness(prediction.probability)} sure`);
  bars.show(prediction.top);
  votes?.about(prediction);
  find("unlike").hidden = prediction.in_distribution;
  say(find("warnings"), warned(prediction));
  find("steps").replaceChildren(...prediction.preprocessing.map((step) => element("li", {}, step)));
  draw(find("seen"), prediction.prepared);
  clearTimeout(reading);
  reading = setTimeout(() => {
    const doubts = [prediction.in_distribution ? "" : find("unlike").textContent.trim(), warned(prediction)];
    const doubt = doubts.filter(Boolean).map((text) => ` ${text}`).join("");
    find("said").textContent = `${label}, ${sureness(prediction.probability)} sure.${doubt}`;
  }, QUIET);
}

/** Return the service's warnings as a sentence, or "". */
function warned({ warnings = [] }) {
  return warnings.length ? `The picture holds ${warnings.join(", ")}. One digit was expected.` : "";
}

function fail(message) {
  rest();
  say(find("problem"), message);
}

/** Reset the page to its first state. */
function rest() {
  control?.abort();
  clearTimeout(timer);
  clearTimeout(reading);
  label = null;
  setVerdict("?", "Nothing to read yet");
  bars.clear();
  votes?.about(null);
  say(find("problem"), "");
  find("unlike").hidden = true;
  say(find("warnings"), "");
  find("said").textContent = "";
  find("timing").textContent = "\u00a0";
  find("steps").replaceChildren(element("li", { class: "none" }, "Nothing yet"));
  const seen = find("seen");
  seen.getContext("2d").clearRect(0, 0, seen.width, seen.height);
  outdate();
}

function setVerdict(word, sure) {
  find("label").textContent = word;
  find("label").classList.toggle("word", word.length > 2);
  find("sure").textContent = sure;
  find("badge").textContent = word === "?" ? "" : word;
  find("answer").classList.toggle("waiting", word === "?");
}

async function load(base64) {
  const image = new Image();
  image.src = `data:image/png;base64,${base64}`;
  await image.decode();
  return image;
}

async function draw(canvas, base64) {
  const image = await load(base64);
  [canvas.width, canvas.height] = [image.width, image.height];
  canvas.getContext("2d").drawImage(image, 0, 0);
}

/* ------------------------------------------------------------------ pictures of other kinds */

function forgetPicture() {
  const preview = find("preview");
  if (!preview.hidden) URL.revokeObjectURL(preview.src);
  preview.hidden = true;
  preview.removeAttribute("src");
}

/** Put a file or a sample on the board and classify it. */
function put(chosen, url) {
  if (pad && !pad.empty) {
    pad.clear();
  }
  forgetPicture();
  source = chosen;
  const preview = find("preview");
  preview.src = url;
  preview.hidden = false;
  preview.onerror = () => (preview.hidden = true); // the browser cannot show this format, the service may read it
  find("pad-hint").hidden = true;
  if (pad) find("clear").disabled = false;
  performance.clearMarks("stroke");
  outdate();
  classify();
}

listenForFiles(
  (file) => put({ file }, URL.createObjectURL(file)),
  (files) => batch.run(files),
);

for (const button of document.querySelectorAll("[data-sample]")) {
  button.addEventListener("click", () => put({ sample: button.dataset.sample }, button.querySelector("img").src));
}

find("undo")?.addEventListener("click", () => pad.undo());
find("clear")?.addEventListener("click", () => {
  forgetPicture();
  source = null;
  pad.clear();
});

/* ------------------------------------------------------------------ why, and compare */

/** Return the current picture as `ask` takes it; null if there is none. */
async function current() {
  if (source?.sample) return { sample: source.sample };
  if (source?.file) return { picture: source.file };
  return pad && !pad.empty ? { picture: await pad.picture() } : null;
}

let turn = 0; // counts changes of the picture and of the network

/** Dim the heat map and the comparison, which are about an earlier picture or network. */
function outdate() {
  turn += 1;
  for (const id of ["heat", "comparison"]) find(id).classList.add("stale");
}

/** Run `work` with the current picture when `button` is pressed, and show errors in `problem`.
 *
 * `work` returns the element that it filled. The element stays dimmed if the picture has changed. */
function onDemand(button, problem, work) {
  button.addEventListener("click", async () => {
    say(problem, "");
    const picture = await current();
    if (!picture) {
      say(problem, pad ? "Draw a digit or choose a picture first." : "Choose a picture first.");
      return;
    }
    button.disabled = true;
    const asked = turn;
    try {
      const shown = await work(picture);
      if (asked === turn) shown.classList.remove("stale");
    } catch (error) {
      say(problem, error.message);
    } finally {
      button.disabled = false;
      if (document.activeElement === document.body) button.focus();
    }
  });
}

onDemand(find("explain"), find("why-problem"), async (picture) => {
  const { path, rule } = network();
  find("why-said").textContent = "Hiding patches…";
  try {
    const wanted = find("explained").value;
    const answer = await ask(`${path}/explain`, { ...picture, query: { rule, ...(wanted && { label: wanted }) } });
    const image = await load(answer.prepared);
    const canvas = find("heat");
    canvas.height = Math.round((canvas.width * image.height) / image.width);
    paint(canvas, image, answer.heat);
    const most = strongest(answer.heat).toFixed(1);
    canvas.setAttribute("aria-label", `Heat map of the evidence for ${answer.label}: at most ${most} bits`);
    find("why-said").textContent =
      `The evidence for ${answer.label}, ${sureness(answer.probability)} sure: hiding the most orange part removes ` +
      `${most} bits of it. The network was run ${answer.evaluations} times.`;
    return canvas;
  } catch (error) {
    find("why-said").textContent = "\u00a0";
    throw error;
  }
});

onDemand(find("compare"), find("compare-problem"), async (picture) => {
  const answer = await ask(`/api/${page.dataset}/compare`, { ...picture, query: { rule: "all", top: 1 } });
  const rows = new Map([...document.querySelectorAll("#comparison [data-model]")].map((row) => [row.dataset.model, row]));
  const counts = new Map();
  for (const { prediction } of answer.results) counts.set(prediction.label, (counts.get(prediction.label) ?? 0) + 1);
  const [most, votes] = [...counts].sort((a, b) => b[1] - a[1])[0];
  for (const result of answer.results) {
    const row = rows.get(result.model);
    if (!row) continue; // this model was published after the page was loaded
    const { label: said, probability } = result.prediction;
    row.querySelector(".said").textContent = said;
    row.querySelector(".share").textContent = sureness(probability);
    row.querySelector(".fill").setAttribute("width", 100 * probability);
    row.querySelector(".time").textContent = `${result.milliseconds.toFixed(2)} ms`;
    row.classList.toggle("agrees", said === most);
  }
  const count = answer.results.length;
  find("compare-said").textContent =
    count === 1 ? `It says ${most}.` : answer.agree ? `All ${count} say ${most}.` : `${votes} of ${count} say ${most}.`;
  return find("comparison");
});

/* ------------------------------------------------------------------ the choice of a network */

function adopt() {
  const { labels } = network();
  bars.reset(labels);
  find("explained").replaceChildren(
    element("option", { value: "" }, "the answer"),
    ...labels.map((name) => element("option", { value: name }, name)),
  );
  votes?.tell();
  outdate();
  if (source) {
    performance.clearMarks("stroke");
    classify();
  }
}

find("network").addEventListener("change", adopt);
onKey(adopt);
adopt();
document.documentElement.dataset.ready = "true"; // the scripts listen
if (!pad) document.querySelector("[data-sample]")?.click();
