/** Elements made of text and never of HTML, so that the name of a file cannot inject markup. */

/** Return an element with attributes and children; strings become text. */
export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

/** Return an SVG element with attributes and children. */
export function drawing(name, attributes = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

export const find = (id) => document.getElementById(id);

/** The data that the server put into the page for its scripts. */
export const page = JSON.parse(find("page").textContent);

/** Show `text` in an element. The element is hidden if there is none. */
export function say(where, text) {
  where.textContent = text;
  where.hidden = !text;
}

/** Return a probability as text. Probabilities are rounded, so 1 is shown as > 99.99 %. */
export const sureness = (probability) => (probability > 0.9999 ? `>\u00a0${percent(0.9999)}` : percent(probability));

/** Return a share as text: 0.99953 -> "99.95 %"; only 1 becomes "100.00 %". */
export function percent(share) {
  const shown = share < 1 ? Math.min(share, 0.9999) : share;
  return `${(100 * shown).toFixed(2)}\u00a0%`;
}
