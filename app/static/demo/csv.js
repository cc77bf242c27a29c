/** Tables as CSV (RFC 4180) that a spreadsheet shows and does not run. */

const RISKY = /^['=+\-@\t\r]/; // what spreadsheets take for a formula, and what we mark it with

/** `rows`: lists of values; text that a spreadsheet would run is given an apostrophe first. */
export function csv(rows) {
  return rows.map((row) => row.map(field).join(",") + "\r\n").join("");
}

function field(value) {
  if (typeof value === "number") return String(value);
  const text = RISKY.test(value) ? `'${value}` : value;
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

/** Have the browser keep `text` as a file. */
export function download(text, name) {
  const url = URL.createObjectURL(new Blob(["\ufeff", text], { type: "text/csv" }));
  const link = Object.assign(document.createElement("a"), { href: url, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
