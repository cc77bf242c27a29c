/** Asking the service, and what to tell people when it does not answer as hoped. */

import { find, page } from "./dom.js";

const PATIENCE = 10; // seconds that a busy service may ask us to wait
const KEY = "metaplastic-key"; // of the tab's own storage

/** An answer that is none: its message is for people. */
export class Refusal extends Error {
  constructor(message, { status = 0, retryAfter = null } = {}) {
    super(message);
    this.status = status;
    this.retryAfter = retryAfter; // seconds, where trying again makes sense
  }
}

/** POST a picture (a Blob) or name a sample, and get JSON. Throws Refusal, or AbortError if told to. */
export async function ask(path, { picture, sample, query = {}, signal } = {}) {
  if (picture && picture.size > page.maxBytes) {
    const megabytes = (bytes) => Math.round(bytes / 1024 / 1024);
    throw new Refusal(
      `This file has ${megabytes(picture.size)} MiB; at most ${megabytes(page.maxBytes)} are read. Save it smaller.`,
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

/** GET JSON. Throws Refusal. */
export async function get(path, query = {}) {
  return read(await reach(`${page.root}${path}?${new URLSearchParams(query)}`, {}));
}

/** Call `attempt` again for as long as the service says that it is only busy. */
export async function patiently(attempt, signal, tries = 5) {
  for (let round = 1; ; round += 1) {
    try {
      return await attempt();
    } catch (error) {
      if (!(error instanceof Refusal) || error.retryAfter === null || round === tries) throw error;
      await pause(1000 * Math.min(error.retryAfter, PATIENCE), signal);
    }
  }
}

/** Ask for a key where the service wants one, and call `then` once there is one to try. */
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
        ? "The service does not answer. It may be restarting, or the picture may be too large for what stands before it: try again in a moment."
        : "You are offline, and the service is not on this machine. Try again once you are connected.",
    );
  }
}

async function read(response) {
  let content = null;
  try {
    content = await response.json();
  } catch (error) {
    if (error.name === "AbortError") throw error; // otherwise not JSON: a proxy's page, perhaps
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
  if (response.status === 401) return "The service asks for a key: enter it above.";
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
