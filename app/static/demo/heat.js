/** A heat map over its image: orange parts support the class, blue parts oppose it. */

import { page } from "./dom.js";

const { for: FOR, against: AGAINST } = page.colours; // RGB, from app/predict/explain.py
document.documentElement.style.setProperty("--for", `rgb(${FOR})`);
document.documentElement.style.setProperty("--against", `rgb(${AGAINST})`);

/** Return the most bits of evidence that a hidden part removes. */
export const strongest = (heat) => Math.max(0, ...heat.flat());

/** Draw `image` (loaded) and the numbers `heat` (rows of pixels) on `canvas`. */
export function paint(canvas, image, heat) {
  const paper = canvas.getContext("2d");
  paper.imageSmoothingEnabled = false;
  paper.globalAlpha = 1;
  paper.fillStyle = "#000";
  paper.fillRect(0, 0, canvas.width, canvas.height);
  paper.globalAlpha = 0.7;
  paper.drawImage(image, 0, 0, canvas.width, canvas.height);
  paper.globalAlpha = 1;
  paper.imageSmoothingEnabled = true;
  paper.drawImage(glow(heat), 0, 0, canvas.width, canvas.height);
}

function glow(heat) {
  const small = document.createElement("canvas");
  [small.height, small.width] = [heat.length, heat[0].length];
  const pixels = new ImageData(small.width, small.height);
  const most = Math.max(...heat.flat().map(Math.abs)) || 1;
  heat.flat().forEach((value, place) => {
    const opacity = 0.85 * (Math.abs(value) / most) ** 0.7; // as in app/predict/explain.py
    pixels.data.set([...(value > 0 ? FOR : AGAINST), 255 * opacity], 4 * place);
  });
  small.getContext("2d").putImageData(pixels, 0, 0);
  return small;
}
