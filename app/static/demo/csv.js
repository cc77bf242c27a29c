/** Tables as CSV (RFC 4180) that a spreadsheet shows and does not run. */

const MARKED = /^['\t\r\n]/; // our mark, and what a spreadsheet may drop before a formula
const FORMULA = /^[=+\-@]/;

/** `rows`: lists of values; text that a spreadsheet would run is given an apostrophe first. */
export function csv(rows) {
  return rows.map((row) => row.map(field).join(",") + "\r\n").join("");
}

function field(value) {
  if (typeof value === "number") return String(value);
  const text = String(value);
  const visible = text.replace(/^[\s\p{C}]+/u, "").normalize("NFKC"); // makes full-width signs plain
  const marked = MARKED.test(text) || FORMULA.test(visible) ? `'${text}` : text;
  return `"${marked.replaceAll('"', '""')}"`; // always, for spreadsheets that also divide at ;
}

/** Have the browser keep `text` as a file. */
export function download(text, name) {
  const url = URL.createObjectURL(new Blob(["\ufeff", text], { type: "text/csv" }));
  const link = Object.assign(document.createElement("a"), { href: url, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
