// A job as its events tell it: one pure function folds an event into the state, for the live view and for the playhead
// alike. Items are never changed in place, only replaced, so that a copy of the state shares them.

/** Log lines that are kept. */
export const LOG_LINES = 500;
/** The stages of a job on a shop, in the words of `job:updated`. */
export const STAGES = ["crawling", "processing-ocr", "matching", "rendering"];
const ENDED = ["completed", "failed", "cancelled"];

/** A job of which nothing is known yet. */
export function empty() {
  return {
    seq: 0, at: 0, name: "", type: "", status: "pending", stage: "", progress: 0, message: "", error: "", failedStage: "",
    results: null, duration: null, createdAt: 0, startedAt: 0, endedAt: 0, document: null,
    spans: [], log: [], shots: new Map(), readings: new Map(), labels: new Map(), labelFailures: [],
    companies: new Map(), artifacts: new Map(), kinds: new Map(),
  };
}

/** A copy that further events do not change. */
export function copy(state) {
  const twin = { ...state };
  for (const [key, value] of Object.entries(state)) {
    if (value instanceof Map) twin[key] = new Map(value);
    else if (Array.isArray(value)) twin[key] = value.slice();
  }
  return twin;
}

export const isEnded = (status) => ENDED.includes(status);

/** Takes the next event in. Whatever an event carries that is not what it should be is passed over. */
export function fold(state, { seq, event, data }) {
  const told = data && typeof data === "object" ? data : {};
  const at = Date.parse(told.timestamp) || state.at;
  state.seq = seq;
  state.at = at;
  state.kinds.set(event, (state.kinds.get(event) ?? 0) + 1);
  const handler = HANDLERS[event];
  if (handler) handler(state, told, at, seq);
  return state;
}

const HANDLERS = {
  __proto__: null,
  "job:created"(state, told, at) {
    state.name = text(told.name);
    state.type = text(told.jobType);
    state.createdAt = at;
    turn(state, "pending", at);
  },
  "job:updated"(state, told, at, seq) {
    state.progress = Math.max(state.progress, percent(told.progress));
    state.stage = text(told.currentStage) || state.stage;
    state.message = text(told.message);
    if (told.status) turn(state, text(told.status), at);
    if (STAGES.includes(state.status) || state.status === "running") state.startedAt ||= at;
    // What failed was told by its own event, too.
    const last = state.log.at(-1);
    const isKnown = last && state.message === `${last.source}: ${last.message}`;
    if (state.message && !isKnown) line(state, seq, at, "info", state.message, "");
  },
  "job:completed"(state, told, at) {
    state.results = told.results ?? null;
    state.duration = Number(told.duration) || 0;
    state.progress = 100;
    end(state, "completed", at);
  },
  "job:failed"(state, told, at, seq) {
    state.error = text(told.error);
    state.failedStage = text(told.stage);
    line(state, seq, at, told.cancelled ? "warning" : "error", state.error, "");
    end(state, told.cancelled ? "cancelled" : "failed", at);
  },
  "job:log"(state, told, at, seq) {
    state.message = text(told.message);
    line(state, seq, at, text(told.level) || "info", state.message, text(told.source));
  },
  "job:patched"(state, told) {
    state.document = merge(state.document, told.patch);
  },
  "artifact:stored"(state, told, at) {
    const { name, url, contentType, size } = told;
    put(state.artifacts, text(name), { name: text(name), url: text(url), contentType: text(contentType), size: Number(size) || 0, at });
  },
  "screenshot:captured"(state, told, at) {
    put(state.shots, text(told.screenshotId), {
      id: text(told.screenshotId), url: text(told.url), thumb: text(told.thumbnailUrl) || text(told.url),
      page: text(told.productUrl), name: text(told.productName), at, phase: "captured",
    });
  },
  "screenshot:uploaded"(state, told) {
    change(state, told.screenshotId, { stored: true });
  },
  "ocr:started"(state, told, at) {
    change(state, told.screenshotId, { phase: "reading", readingSince: at });
  },
  "ocr:completed"(state, told, at) {
    const data = told.data && typeof told.data === "object" ? told.data : {};
    state.readings.set(text(told.ocrResultId), text(told.screenshotId));
    change(state, told.screenshotId, { phase: "read", reading: { id: text(told.ocrResultId), ...data }, readAt: at });
  },
  "ocr:failed"(state, told, at, seq) {
    line(state, seq, at, "warning", text(told.error), "reading");
    change(state, told.screenshotId, { phase: "unread", error: text(told.error), readAt: at });
  },
  "match:found"(state, told) {
    const match = {
      found: true, type: text(told.matchType), score: Number(told.confidence) || 0, article: text(told.articleNumber),
    };
    change(state, state.readings.get(text(told.ocrResultId)), { phase: "matched", match });
  },
  "match:failed"(state, told, at, seq) {
    line(state, seq, at, "warning", text(told.reason), "matching");
    const match = { found: false, reason: text(told.reason), article: text(told.articleNumber), score: 0 };
    change(state, state.readings.get(text(told.ocrResultId)), { phase: "unmatched", match });
  },
  "label:generated"(state, told, at) {
    const id = text(told.labelId);
    put(state.labels, id, { id, url: text(told.imageUrl), article: text(told.articleNumber), at });
  },
  "label:failed"(state, told, at, seq) {
    line(state, seq, at, "warning", text(told.error), "rendering");
    keep(state.labelFailures, { article: text(told.articleNumber), error: text(told.error), at }, LOG_LINES);
  },
  "company:started"(state, told, at) {
    const domain = text(told.domain);
    put(state.companies, domain, { domain, worker: told.worker, phase: "running", since: at });
  },
  "company:found"(state, told, at) {
    const domain = text(told.domain);
    const known = state.companies.get(domain) ?? { domain };
    put(state.companies, domain, { ...known, phase: "found", pages: told.pages, profile: told.profile ?? {}, endedAt: at });
  },
  "company:failed"(state, told, at, seq) {
    const domain = text(told.domain);
    line(state, seq, at, "warning", text(told.reason), domain);
    const known = state.companies.get(domain) ?? { domain };
    put(state.companies, domain, { ...known, phase: "failed", reason: text(told.reason), endedAt: at });
  },
};

/** A merge patch (RFC 7396); what it does not touch is shared with what was before. */
export function merge(target, patch) {
  if (!isObject(patch)) return patch ?? null;
  const merged = isObject(target) ? { ...target } : {};
  for (const [key, value] of Object.entries(patch)) {
    // A name such as __proto__ is a name like any other.
    if (value === null) delete merged[key];
    else define(merged, key, merge(Object.hasOwn(merged, key) ? merged[key] : undefined, value));
  }
  return merged;
}

/** How many items each part of the job has. */
export function counts(state) {
  const tally = { shots: state.shots.size, read: 0, unread: 0, matched: 0, unmatched: 0, labels: state.labels.size };
  for (const { reading, error, match } of state.shots.values()) {
    if (reading) tally.read += 1;
    else if (error) tally.unread += 1;
    if (match?.found) tally.matched += 1;
    else if (match) tally.unmatched += 1;
  }
  return { ...tally, failed: tally.unread + tally.unmatched + state.labelFailures.length };
}

/** The state as plain data, to compare two of them. */
export function dump(state) {
  return JSON.parse(JSON.stringify(state, (_, value) => (value instanceof Map ? [...value] : value)));
}

function turn(state, status, at) {
  if (status === state.status && state.spans.length) return;
  close(state, at);
  state.status = status;
  state.spans.push({ status, from: at, to: 0, seq: state.seq });
}

function end(state, status, at) {
  close(state, at);
  state.status = status;
  state.endedAt = at;
  if (status === "completed") state.message = "";
}

function close(state, at) {
  const last = state.spans.at(-1);
  if (last && !last.to) state.spans[state.spans.length - 1] = { ...last, to: at };
  // A job that is paused and resumed again and again must not fill the page.
  if (state.spans.length > LOG_LINES) state.spans.splice(1, 1);
}

function change(state, id, fields) {
  const shot = state.shots.get(text(id));
  if (shot) state.shots.set(shot.id, { ...shot, ...fields });
}

function line(state, seq, at, level, message, source) {
  keep(state.log, { seq, at, level, message, source }, LOG_LINES);
}

function keep(list, item, most) {
  list.push(item);
  if (list.length > most) list.splice(0, list.length - most);
}

function put(map, key, item) {
  if (key) map.set(key, item);
}

function define(object, key, value) {
  Object.defineProperty(object, key, { value, writable: true, enumerable: true, configurable: true });
}

const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);
const text = (value) => (typeof value === "string" ? value : value == null ? "" : String(value));
const percent = (value) => Math.min(100, Math.max(0, Number(value) || 0));
