// The REST API, with the caller's token if there is one.

const TOKEN = "jobcast-token";
const TIMEOUT = 20_000;

let token = null;
try {
  token = sessionStorage.getItem(TOKEN);
} catch {
  // Then it lives as long as the page.
}

export const credentials = {
  get: () => token,
  set(next) {
    token = next || null;
    try {
      if (token) sessionStorage.setItem(TOKEN, token);
      else sessionStorage.removeItem(TOKEN);
    } catch {
      // Then it lives as long as the page.
    }
  },
};

/** A refusal, in the server's own words. */
export class Refused extends Error {
  constructor(status, code, message) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

/** Asks the server; the answer is read as JSON, or as whatever `as` says. */
export async function ask(path, { method = "GET", json, body, headers = {}, as = "json", signal, timeout = TIMEOUT } = {}) {
  const sent = new Headers(headers);
  if (token) sent.set("Authorization", `Bearer ${token}`);
  if (json !== undefined) sent.set("Content-Type", "application/json");
  const limit = AbortSignal.timeout(timeout);
  let answer;
  try {
    answer = await fetch(path, {
      method, headers: sent, body: json === undefined ? body : JSON.stringify(json),
      signal: signal ? AbortSignal.any([signal, limit]) : limit,
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    const late = error.name === "TimeoutError";
    throw new Refused(0, "unreachable", late ? "The server takes too long to answer; try again." : "The server cannot be reached; is it running, are you online?");
  }
  if (!answer.ok) throw await refusal(answer);
  if (answer.status === 204) return null;
  return as === "json" ? answer.json() : answer.blob();
}

async function refusal(answer) {
  const said = await answer.json().catch(() => ({}));
  // Each family of routes words a refusal in its own way.
  const error = said.error ?? said.detail ?? said.message;
  const message = typeof error === "string" ? [error, said.message].filter((part, i, all) => part && all.indexOf(part) === i).join(": ") : error?.message;
  const refused = new Refused(answer.status, error?.code ?? "", message || `The server answers ${answer.status}.`);
  if (answer.status === 401) window.dispatchEvent(new CustomEvent("jobcast:unauthenticated", { detail: refused }));
  return refused;
}

/** All events of a job behind a seq, page by page. */
export async function* history(job, after, signal) {
  for (let next = after; ;) {
    const page = await ask(`/v1/jobs/${encodeURIComponent(job)}/events?after=${next}&limit=500`, { signal });
    yield page;
    if (page.events.length < 500) return;
    next = page.next;
  }
}
