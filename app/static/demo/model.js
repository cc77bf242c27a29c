/** The page of a model: charts, an interactive confusion matrix, and commands to copy. */

import { get, onKey } from "./api.js";
import { Chart } from "./chart.js";
import { element, find, page, percent } from "./dom.js";

/* Draw the charts from the history, or show curves.png if there is no history. */
async function curves() {
  const place = find("curves");
  if (!place) return show(); // an imported model has no training
  try {
    const { epochs } = await get(`${page.path}/history`, page.query);
    for (const box of place.querySelectorAll(".chart")) new Chart(box, epochs, page.best);
  } catch (error) {
    if (error.status === 401) return; // called again after a key was entered
    const picture = place.dataset.picture;
    place.replaceChildren(
      picture
        ? element("img", { src: picture, alt: "Loss and accuracy of training and validation by epoch" })
        : element("p", {}, "No history was recorded."),
    );
  }
  show();
}

const show = () => (document.documentElement.dataset.ready = "true");

/* Make the confusion matrix a grid: one cell in the tab order, arrow keys between cells. */
function matrix(table) {
  const cells = [...table.querySelectorAll("button")];
  const side = page.labels.length;
  const choose = (cell, focus) => {
    for (const other of cells) {
      other.tabIndex = other === cell ? 0 : -1;
      other.setAttribute("aria-pressed", other === cell);
    }
    if (focus) cell.focus();
    find("cell").textContent = sentence(Number(cell.dataset.true), Number(cell.dataset.predicted));
  };
  table.addEventListener("click", (event) => {
    const cell = event.target.closest("button");
    if (cell) choose(cell);
  });
  table.addEventListener("keydown", (event) => {
    const at = cells.indexOf(event.target);
    const column = at % side;
    const to = {
      ArrowLeft: column > 0 ? at - 1 : at,
      ArrowRight: column < side - 1 ? at + 1 : at,
      ArrowUp: at - side,
      ArrowDown: at + side,
      Home: at - column,
      End: at - column + side - 1,
    }[event.key];
    if (at < 0 || to === undefined) return;
    event.preventDefault();
    if (cells[to]) choose(cells[to], true);
  });
}

function sentence(is, says) {
  const row = page.confusion[is];
  const all = row.reduce((sum, count) => sum + count, 0);
  const share = all ? percent(row[says] / all) : "none";
  if (is === says) {
    const called = page.confusion.reduce((sum, other) => sum + other[says], 0);
    const right = called ? `; of ${called} predictions of it, ${percent(row[says] / called)} are right` : "";
    return `Of ${all} that are ${page.labels[is]}, ${row[says]} are recognised (${share})${right}.`;
  }
  return `Of ${all} that are ${page.labels[is]}, ${row[says]} are taken for ${page.labels[says]} (${share}); the reverse happens ${page.confusion[says][is]} times.`;
}

for (const button of document.querySelectorAll("[data-copy]")) {
  button.addEventListener("click", async () => {
    const code = button.parentElement.querySelector("code");
    try {
      await navigator.clipboard.writeText(code.textContent);
      find("copied").textContent = button.textContent = "Copied";
      setTimeout(() => (button.textContent = "Copy"), 2000);
    } catch {
      getSelection().selectAllChildren(code); // the browser does not allow it, so select the text
      find("copied").textContent = "Selected: copy it with your keyboard.";
    }
  });
}

if (find("matrix")) matrix(find("matrix"));
onKey(curves);
curves();
