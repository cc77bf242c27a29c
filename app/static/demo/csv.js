/** CSV (RFC 4180) whose cells a spreadsheet does not run as formulas. */

const MARKED = /^['\t\r\n]/; // the added apostrophe, and what a spreadsheet may drop before a formula
const FORMULA = /^[=+\-@]/;

/** Return `rows`, lists of values, as CSV. Text that looks like a formula gets an apostrophe. */
export function csv(rows) {
  return rows.map((row) => row.map(field).join(",") + "\r\n").join("");
}

function field(value) {
  if (typeof value === "number") return String(value);
  const text = String(value);
  const visible = text.replace(/^[\s\p{C}]+/u, "").normalize("NFKC"); // also full-width signs
  const marked = MARKED.test(text) || FORMULA.test(visible) ? `'${text}` : text;
  return `"${marked.replaceAll('"', '""')}"`; // always quoted, for spreadsheets that also split at ;
}

/** Save `text` as a file. */
export function download(text, name) {
  const url = URL.createObjectURL(new Blob(["\ufeff", text], { type: "text/csv" }));
  const link = Object.assign(document.createElement("a"), { href: url, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
