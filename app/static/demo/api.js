/** Requests to the service, and messages for its errors. */

import { find, page } from "./dom.js";

const LONGEST_WAIT = 10; // seconds before a busy service is asked again
const KEY = "metaplastic-key"; // in the storage of this tab

/** An error of the service, with a message for people. */
export class Refusal extends Error {
  constructor(message, { status = 0, retryAfter = null } = {}) {
    super(message);
    this.status = status;
    this.retryAfter = retryAfter; // seconds; null if trying again makes no sense
  }
}

/** POST a picture (a Blob) or the name of a sample, and return JSON. Throws Refusal or AbortError. */
export async function ask(path, { picture, sample, query = {}, signal } = {}) {
  if (picture && picture.size > page.maxBytes) {
    const megabytes = (bytes) => Math.round(bytes / 1024 / 1024);
    throw new Refusal(
      `This file has ${megabytes(picture.size)} MiB; at most ${megabytes(page.maxBytes)} are accepted. Save it smaller.`,
      { status: 413 },
    );
  }
  const url = `${page.root}${path}?${new URLSearchParams(sample ? { ...query, sample } : query)}`;
  const request = { method: "POST", signal, headers: {} };
  if (picture) {
    request.body = picture;
    request.headers["Content-Type"] = "application/octet-stream";
  }
  return read(await reach(url, request));
}

/** POST JSON, and return the answer. Throws Refusal. */
export async function send(path, content) {
  const headers = { "Content-Type": "application/json" };
  return read(await reach(`${page.root}${path}`, { method: "POST", headers, body: JSON.stringify(content) }));
}

/** GET JSON and return it. Throws Refusal. */
export async function get(path, query = {}) {
  return read(await reach(`${page.root}${path}?${new URLSearchParams(query)}`, {}));
}

/** Call `attempt`, and call it again while the service is busy, at most `tries` times. */
export async function retried(attempt, signal, tries = 5) {
  for (let round = 1; ; round += 1) {
    try {
      return await attempt();
    } catch (error) {
      if (!(error instanceof Refusal) || error.retryAfter === null || round === tries) throw error;
      await pause(1000 * Math.min(error.retryAfter, LONGEST_WAIT), signal);
    }
  }
}

/** Call `then` after a key was entered, for services that require one. */
export function onKey(then) {
  find("key-form").addEventListener("submit", (event) => {
    event.preventDefault();
    sessionStorage.setItem(KEY, find("key").value.trim());
    find("key-form").hidden = true;
    then();
  });
}

async function reach(url, request) {
  const key = sessionStorage.getItem(KEY);
  const headers = { ...request.headers, Accept: "application/json", ...(key && { "X-API-Key": key }) };
  try {
    return await fetch(url, { ...request, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refusal(
      navigator.onLine
        ? "The service does not answer. It may be restarting, or the picture may be too large for a proxy. Try again in a moment."
        : "You are offline, and the service is on another machine. Try again when you are online.",
    );
  }
}

async function read(response) {
  let content = null;
  try {
    content = await response.json();
  } catch (error) {
    if (error.name === "AbortError") throw error; // other errors mean no JSON, as from a proxy
  }
  if (response.ok && content) return content;
  if (response.status === 401) find("key-form").hidden = false;
  throw new Refusal(explain(response, content), {
    status: response.status,
    retryAfter: [429, 503].includes(response.status) ? Number(response.headers.get("Retry-After")) || 1 : null,
  });
}

function explain(response, content) {
  const said = content?.message;
  if (response.status === 429 || response.status === 503) {
    return `The service is busy. ${said ?? "Try again in a moment."}`;
  }
  if (response.status === 401) return "The service requires a key. Enter it above.";
  if (response.status === 413) return said ?? "The picture is too large. Save it smaller.";
  return said ?? `The service could not answer (status ${response.status}).`;
}

function pause(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const stop = () => {
      clearTimeout(timer);
      reject(new DOMException("Stopped", "AbortError"));
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", stop);
      resolve();
    }, milliseconds);
    signal?.addEventListener("abort", stop, { once: true });
  });
}
