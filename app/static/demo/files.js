/** Files that are chosen, photographed, pasted or dropped. */

import { find } from "./dom.js";

/** Call `one` with a single file, and `many` with several files or with those chosen for the batch. */
export function listenForFiles(one, many) {
  const take = (files) => {
    if (files.length === 1) one(files[0]);
    else if (files.length > 1) many(files);
  };
  listenToChoices(take, many);
  document.addEventListener("paste", (event) => {
    const files = [...event.clipboardData.files];
    if (!files.length) return;
    event.preventDefault();
    take(files);
  });
  listenToDrops(take);
}

function listenToChoices(take, many) {
  for (const id of ["choose", "photograph", "choose-many"]) {
    find(id).addEventListener("change", (event) => {
      const files = [...event.target.files];
      event.target.value = ""; // so that the same file can be chosen again
      if (id === "choose-many" && files.length) many(files);
      else take(files);
    });
  }
}

function listenToDrops(take) {
  const carriesFiles = (event) => event.dataTransfer?.types.includes("Files");
  let depth = 0; // dragenter and dragleave events come for each element under the pointer
  document.addEventListener("dragenter", (event) => {
    if (!carriesFiles(event)) return;
    depth += 1;
    find("dropping").hidden = false;
  });
  document.addEventListener("dragover", (event) => carriesFiles(event) && event.preventDefault());
  document.addEventListener("dragleave", (event) => {
    if (!carriesFiles(event)) return;
    depth -= 1;
    if (depth === 0) find("dropping").hidden = true;
  });
  document.addEventListener("drop", (event) => {
    if (!carriesFiles(event)) return;
    event.preventDefault();
    depth = 0;
    find("dropping").hidden = true;
    take([...event.dataTransfer.files]);
  });
}
