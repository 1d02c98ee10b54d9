#!/usr/bin/env node
// A complete Jobcast worker in one file, for Node 18 and later, with nothing else.
//
//     export JOBCAST_URL=http://127.0.0.1:3001 JOBCAST_KEY=<an API key with the scope "work">
//     node examples/worker.mjs
//
// It does jobs of the kind "words": it counts the words of `input.text`, paragraph by paragraph. Copy `Jobcast` and `Job`
// into your own pipeline, and write your own `work(job)`. What they do for it: they keep the lease with heartbeats, tell
// when to stop, send a report again whose answer was lost (under the same id), and wait for a server that is away.

import { randomUUID } from "node:crypto";
import { hostname } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";

/** The server said no; `code` is the word that programs compare. */
export class Refused extends Error {
  constructor(status, error) {
    super(error?.message ?? `HTTP ${status}`);
    this.status = status;
    this.code = error?.code ?? "";
  }
}

/** The job is not to be gone on with: `why` is pause, cancel, lost or shutdown. */
export class Stop extends Error {
  constructor(why) {
    super(why);
    this.why = why;
  }
}

/** The work went wrong; `retry` says whether another attempt may help. */
export class Fail extends Error {
  constructor(error, retry = true) {
    super(error);
    this.retry = retry;
  }
}

/** A connection to the worker API. */
export class Jobcast {
  constructor(url, key, worker = `${hostname()}-${process.pid}`, patience = 300_000) {
    Object.assign(this, { url: url.replace(/\/$/, ""), key, worker, patience, stopping: false });
  }

  /** One request; sent again while the server is away, for `patience` milliseconds at the most. */
  async call(method, path, { body, data, contentType = "application/json", timeout = 40_000, raw = false } = {}) {
    const headers = { "content-type": contentType };
    if (this.key) headers.authorization = `Bearer ${this.key}`;
    const until = Date.now() + this.patience;
    for (let pause = 200; ; pause = Math.min(pause * 2, 10_000)) {
      try {
        const answer = await fetch(this.url + path, {
          method,
          headers,
          body: body === undefined ? data : JSON.stringify(body),
          signal: AbortSignal.timeout(timeout),
        });
        if (answer.ok) {
          if (answer.status === 204) return null;
          const isJson = answer.headers.get("content-type")?.startsWith("application/json");
          return isJson && !raw ? await answer.json() : Buffer.from(await answer.arrayBuffer());
        }
        if (![429, 502, 503, 504].includes(answer.status) || Date.now() > until) {
          const { error } = await answer.json().catch(() => ({}));
          throw new Refused(answer.status, error);
        }
      } catch (error) {
        if (error instanceof Refused || Date.now() > until) throw error;
      }
      // Spread, so that many workers do not come back in the same instant.
      await sleep(pause * (0.5 + Math.random()));
    }
  }

  register(kind, rules = {}) {
    return this.call("PUT", `/v1/kinds/${kind}`, { body: rules });
  }

  /** The next job, or null if there was none for `wait` seconds. */
  async claim(kinds, wait = 10) {
    const claimed = await this.call("POST", "/v1/work/claim", { body: { kinds, worker: this.worker, wait } });
    return claimed && new Job(this, claimed);
  }

  /** Claims jobs and does them with `work(job)`, until told to stop. What `work` returns is the result. */
  async run(kinds, work, { once = false } = {}) {
    while (!this.stopping) {
      const job = await this.claim(kinds);
      if (!job) continue;
      job.keep();
      try {
        await job.finish((await work(job)) ?? {});
      } catch (error) {
        if (error instanceof Stop) {
          if (["pause", "shutdown"].includes(error.why)) await job.release();
        } else if (!["fenced", "job_ended"].includes(error.code)) {
          // Whatever went wrong is the job's error, not the worker's end.
          await job.fail(String(error.message || error), error.retry);
        }
      } finally {
        job.let();
      }
      if (once) return;
    }
  }
}

/** A job that this worker has. */
export class Job {
  constructor(server, claimed) {
    const { job, fence, input, document, attempt, lease, artifacts } = claimed;
    Object.assign(this, { server, id: job.id, name: job.name, fence, input, document, attempt, lease, state: "run" });
    this.artifacts = Object.fromEntries(artifacts.map((artifact) => [artifact.name, artifact]));
  }

  /** Keeps its lease from now on. */
  keep() {
    this.beat = setInterval(async () => {
      try {
        this.state = (await this.post("heartbeat", {})).state;
      } catch (error) {
        if (["fenced", "job_not_found"].includes(error.code)) this.state = "lost";
      }
    }, (this.lease * 1000) / 3);
  }

  let() {
    clearInterval(this.beat);
  }

  post(what, body) {
    return this.server.call("POST", `/v1/work/${this.id}/${what}`, { body: { fence: this.fence, ...body } });
  }

  /** Throws Stop if the job was paused, cancelled or lost, or this worker is to end. Call it between steps. */
  check() {
    if (this.server.stopping) throw new Stop("shutdown");
    if (this.state !== "run") throw new Stop(this.state);
  }

  /** Tells several things in one transaction. */
  async report(...events) {
    const { state } = await this.post("events", { requestId: randomUUID(), events });
    if (this.state === "run") this.state = state;
  }

  progress(progress, step, message) {
    return this.report({ type: "progress", progress, step, message });
  }

  log(message, level = "info") {
    return this.report({ type: "log", level, message });
  }

  /** Changes the job's document: a merge patch, as in RFC 7396. */
  patch(patch) {
    return this.report({ type: "patch", patch });
  }

  event(name, data) {
    return this.report({ type: "event", name, data });
  }

  upload(name, data, contentType = "application/octet-stream") {
    const path = `/v1/work/${this.id}/artifacts/${encodeURIComponent(name)}?fence=${this.fence}`;
    return this.server.call("PUT", path, { data, contentType, timeout: 300_000 });
  }

  download(name) {
    return this.server.call("GET", `/v1/work/${this.id}/artifacts/${encodeURIComponent(name)}`, { timeout: 300_000, raw: true });
  }

  finish(result) {
    return this.post("finish", { requestId: randomUUID(), result });
  }

  fail(error, retry = true) {
    return this.settle("fail", { error: error.slice(0, 2000) || "failed", retry });
  }

  release() {
    return this.settle("release", {});
  }

  async settle(what, body) {
    try {
      return await this.post(what, { requestId: randomUUID(), ...body });
    } catch (error) {
      // Then there is nothing left to settle.
      if (!["fenced", "job_ended"].includes(error.code)) throw error;
    }
  }
}

/** Counts the words of a text. What is in the document already was done before a pause or by another worker. */
async function work(job) {
  const paragraphs = (job.input.text ?? "").split("\n\n").filter((text) => text.trim());
  if (!paragraphs.length) {
    throw new Fail("input.text holds no words", false);
  }
  await job.progress(1, "counting", `attempt ${job.attempt}`);
  const counted = { ...job.document.paragraphs };
  for (const [index, text] of paragraphs.entries()) {
    const number = index + 1;
    if (counted[number]) continue;
    job.check();
    await sleep(1000 * (job.input.secondsPerParagraph ?? 0));
    counted[number] = { words: text.trim().split(/\s+/).length };
    await job.report(
      { type: "patch", patch: { paragraphs: { [number]: counted[number] } } },
      { type: "event", name: "words:counted", data: { paragraph: number, ...counted[number] } },
      { type: "progress", progress: 5 + Math.floor((85 * number) / paragraphs.length), message: `paragraph ${number}` },
    );
  }
  job.check();
  const words = Object.values(counted).reduce((sum, paragraph) => sum + paragraph.words, 0);
  const report = paragraphs.map((_, index) => `paragraph ${index + 1}: ${counted[index + 1].words} words\n`).join("");
  await job.progress(95, "storing");
  const stored = await job.upload("report.txt", report, "text/plain; charset=utf-8");
  return { words, paragraphs: paragraphs.length, report: stored.url };
}

if (process.argv[1] === new URL(import.meta.url).pathname) {
  const { JOBCAST_URL = "http://127.0.0.1:3001", JOBCAST_KEY, JOBCAST_KIND = "words", JOBCAST_LEASE = "30" } = process.env;
  const server = new Jobcast(JOBCAST_URL, JOBCAST_KEY, process.env.JOBCAST_WORKER);
  for (const signal of ["SIGTERM", "SIGINT"]) process.on(signal, () => (server.stopping = true));
  try {
    await server.register(JOBCAST_KIND, { prefix: "words", lease: Number(JOBCAST_LEASE) });
    console.log(`${server.worker} waits for jobs of the kind ${JOBCAST_KIND}`);
    await server.run([JOBCAST_KIND], work, { once: process.argv.includes("--once") });
  } catch (error) {
    console.error(`refused: ${error.message}`);
    process.exit(1);
  }
}
