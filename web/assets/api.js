// The public API, as any program may use it: see /api/.

import { kept } from "./key.js";

const ROOT = "/api/v2";
export const ANONYMOUS = "0000000000";

/** A no of the server, with what is wrong by field. */
export class Refused extends Error {
  constructor(status, body) {
    super(body.message || `The server answers ${status}`);
    this.status = status;
    this.fields = body.errors || {};
    this.code = body.rc;
  }
}

/** One call. Answers the body, `null` if there is none. */
export async function call(method, path, body, { wait, signal } = {}) {
  const headers = { apikey: kept() || ANONYMOUS, "Client-Agent": "ordu-web:1:page" };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (wait) headers.Prefer = `wait=${wait}`;
  const answer = await fetch(ROOT + path, {
    method, headers, signal, cache: "no-store",
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  const text = await answer.text();
  let read = null;
  try { read = text ? JSON.parse(text) : null; } catch { /* a proxy's page */ }
  if (!answer.ok) throw new Refused(answer.status, read || {});
  return read;
}

export const get = (path, options) => call("GET", path, undefined, options);

export const sleep = (seconds) => new Promise((done) => { setTimeout(done, seconds * 1000); });

/** The same again while the server cannot be reached or is starting; `lost` is told each time. */
export async function patient(work, lost = () => {}) {
  for (let pause = 1; ; pause = Math.min(pause * 2, 15)) {
    try {
      return await work();
    } catch (error) {
      const passes = !(error instanceof Refused) || error.status >= 502 || error.status === 429;
      if (!passes || error.name === "AbortError") throw error;
      lost(error);
      await sleep(pause);
    }
  }
}

const EVENTS = ["queued", "assigned", "progress", "token", "generation", "done", "faulted"];

/**
 * Follows a request for pictures or texts until it ends: `heard(name, data)` for each event, `lost()`
 * when the line is down. It is taken up where it broke, also over a restart of the server. Returns what
 * ends it.
 */
export function follow(id, heard, lost = () => {}) {
  let source = null;
  let ended = false;
  const end = () => { ended = true; source?.close(); };
  const open = () => {
    if (ended) return;
    source = new EventSource(`${ROOT}/generate/events/${id}`);
    for (const name of EVENTS) {
      source.addEventListener(name, (event) => {
        if (name === "done" || name === "faulted") end();
        heard(name, JSON.parse(event.data));
      });
    }
    source.onerror = async () => {
      if (ended) return;
      lost();
      // A line that broke comes back by itself; one that was refused does not.
      if (source.readyState !== EventSource.CLOSED) return;
      await sleep(2);
      try {
        await patient(() => get(`/generate/check/${id}`), lost);
        open();
      } catch (error) {
        end();
        heard("gone", { message: error.message });
      }
    };
  };
  open();
  return end;
}
