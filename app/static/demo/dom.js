/** Elements made of text, never of HTML: what people name their files is nothing but words here. */

/** An element with attributes and children; strings become text. */
export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

/** The same in SVG's namespace. */
export function drawing(name, attributes = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

export const find = (id) => document.getElementById(id);

/** What the server wrote into the page for its scripts. */
export const page = JSON.parse(find("page").textContent);

/** Show a text in an element that is hidden when there is none. */
export function say(where, text) {
  where.textContent = text;
  where.hidden = !text;
}

/** How sure an answer is: probabilities come rounded, so that 1 need not be certainty. */
export const sureness = (probability) => (probability > 0.9999 ? `>\u00a0${percent(0.9999)}` : percent(probability));

/** 0.99953 -> "99.95 %"; never "100.00 %" for less than all. */
export function percent(share) {
  const shown = share < 1 ? Math.min(share, 0.9999) : share;
  return `${(100 * shown).toFixed(2)}\u00a0%`;
}
