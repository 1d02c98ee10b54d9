// The reducer and the timeline, without a browser: run by `node --test tests/page`.
import assert from "node:assert/strict";
import { test } from "node:test";

import { copy, counts, dump, empty, fold, LOG_LINES, merge } from "../../src/http/page/fold.js";
import { Timeline } from "../../src/http/page/timeline.js";

const START = Date.parse("2026-01-02T03:04:05.000Z");

/** Events of a job as the server tells them, one second apart. */
function told(...events) {
  return events.map(([event, data = {}], index) => ({
    seq: index + 1, position: String(100 + index * 3), event, data: { ...data, jobId: "j", timestamp: new Date(START + index * 1000).toISOString() },
  }));
}

function folded(events) {
  return events.reduce(fold, empty());
}

/** A whole job on a shop with so many products. */
function whole(products) {
  const each = (make) => Array.from({ length: products }, (_, index) => make(index)).flat();
  return told(
    ["job:created", { name: "Labels", jobType: "automation" }],
    ["job:updated", { status: "crawling", progress: 25, currentStage: "crawling" }],
    ...each((n) => [
      ["screenshot:captured", { screenshotId: `s${n}`, url: `http://x/${n}.png`, productUrl: `http://shop/${n}`, productName: `Product ${n}` }],
      ["screenshot:uploaded", { screenshotId: `s${n}`, imageUrl: `http://x/${n}.png` }],
    ]),
    ["job:updated", { status: "processing-ocr", progress: 50 }],
    ...each((n) => [
      ["ocr:started", { screenshotId: `s${n}` }],
      n % 7 === 3
        ? ["ocr:failed", { screenshotId: `s${n}`, error: "It is blank." }]
        : ["ocr:completed", { screenshotId: `s${n}`, ocrResultId: `r${n}`, data: { articleNumber: `A${n}`, confidence: 90 } }],
    ]),
    ["job:updated", { status: "matching", progress: 75 }],
    ...each((n) => (n % 7 === 3 ? [] : [n % 5 === 2
      ? ["match:failed", { ocrResultId: `r${n}`, reason: "Not listed." }]
      : ["match:found", { ocrResultId: `r${n}`, matchId: `m${n}`, matchType: "exact", confidence: 1, articleNumber: `A${n}` }]])),
    ["job:updated", { status: "rendering", progress: 90 }],
    ...each((n) => (n % 7 === 3 || n % 5 === 2 ? [] : [["label:generated", { labelId: `l${n}`, imageUrl: `http://x/l${n}.png`, articleNumber: `A${n}` }]])),
    ["job:completed", { results: { summary: { labelsGenerated: 1 } }, duration: 1234 }],
  );
}

test("a whole job is what its events say", () => {
  const events = whole(20);
  const state = folded(events);
  assert.deepEqual(counts(state), { shots: 20, read: 17, unread: 3, matched: 14, unmatched: 3, labels: 14, failed: 6 });
  assert.equal(state.status, "completed");
  assert.equal(state.progress, 100);
  assert.equal(state.seq, events.length);
  assert.equal(state.shots.get("s0").match.article, "A0");
  assert.deepEqual(state.spans.map((span) => span.status), ["pending", "crawling", "processing-ocr", "matching", "rendering"]);
  assert.ok(state.spans.every((span) => span.to > span.from || span.status === "pending"));
  assert.equal(state.endedAt, START + (events.length - 1) * 1000);
});

test("the playhead at any seq shows what a fresh fold of so many events shows", () => {
  const events = whole(150);
  const timeline = new Timeline();
  for (const event of events) timeline.push(event);
  assert.ok(timeline.copies.length > 2, "there are copies to begin from");
  const last = events.length;
  // Forth and back, near and far, as somebody drags.
  const order = [last, 1, 2, 3, 249, 250, 251, 252, 500, 499, 17, last - 1, last, 600, 601, 602, 100];
  for (let seq = last; seq > 0; seq -= 37) order.push(seq);
  for (const seq of order) assert.deepEqual(dump(timeline.at(seq)), dump(folded(events.slice(0, seq))), `seq ${seq}`);
  assert.deepEqual(dump(timeline.head), dump(folded(events)), "looking back changes nothing");
});

test("what is told twice counts once, and live events go on counting", () => {
  const events = whole(10);
  const timeline = new Timeline();
  for (const event of events.slice(0, 20)) assert.ok(timeline.push(event));
  for (const { seq, ...live } of events.slice(10)) timeline.push({ ...live, how: "live" });
  assert.deepEqual(dump(timeline.head), dump(folded(events)));
  assert.deepEqual(timeline.entries.map((entry) => entry.seq), events.map((event) => event.seq));
  assert.equal(timeline.push(events.at(-1)), false, "the last event is told to everybody who asks");
});

test("a timeline keeps so many events and no more, and the playhead begins where they begin", () => {
  const lines = told(["job:created", {}], ...Array.from({ length: 9999 }, (_, n) => ["job:log", { level: "info", message: `line ${n}` }]));
  const timeline = new Timeline(2000);
  for (const event of lines) timeline.push(event);
  assert.ok(timeline.entries.length <= 2000 && timeline.copies.length <= 9, `${timeline.entries.length} events, ${timeline.copies.length} copies`);
  assert.equal(timeline.last, 10_000);
  assert.ok(timeline.first > 7000);
  for (const seq of [timeline.first, timeline.first + 1, 9000, 9999]) {
    assert.deepEqual(dump(timeline.at(seq)), dump(folded(lines.slice(0, seq))), `seq ${seq}`);
  }
  assert.equal(timeline.at(5).seq, timeline.first);
  assert.equal(timeline.head.log.length, LOG_LINES);
});

test("a document is what its merge patches make of nothing", () => {
  const state = folded(told(
    ["job:patched", { patch: { chunks: { 1: { text: "a" }, 2: { text: "b" } }, done: 0 } }],
    ["job:patched", { patch: { chunks: { 1: null, 2: { text: "c" } }, done: 1, list: [1, null] } }],
  ));
  assert.deepEqual(state.document, { chunks: { 2: { text: "c" } }, done: 1, list: [1, null] });
  // The example table of RFC 7396.
  const cases = [
    [{ a: "b" }, { a: "c" }, { a: "c" }], [{ a: "b" }, { b: "c" }, { a: "b", b: "c" }], [{ a: "b" }, { a: null }, {}],
    [{ a: "b", b: "c" }, { a: null }, { b: "c" }], [{ a: ["b"] }, { a: "c" }, { a: "c" }], [{ a: "c" }, { a: ["b"] }, { a: ["b"] }],
    [{ a: { b: "c" } }, { a: { b: "d", c: null } }, { a: { b: "d" } }], [["a", "b"], ["c", "d"], ["c", "d"]], [{ a: "b" }, ["c"], ["c"]],
    [{ e: null }, { a: 1 }, { e: null, a: 1 }], [{}, { a: { bb: { ccc: null } } }, { a: { bb: {} } }],
  ];
  for (const [target, patch, result] of cases) assert.deepEqual(merge(target, patch), result);
  const hostile = merge({}, JSON.parse('{"__proto__": {"polluted": true}}'));
  assert.equal({}.polluted, undefined);
  assert.ok(Object.hasOwn(hostile, "__proto__"));
});

test("a copy is not changed by what comes later, and shares what has not changed", () => {
  const events = whole(10);
  const early = folded(events.slice(0, 15));
  const twin = copy(early);
  const before = dump(twin);
  events.slice(15).forEach((event) => fold(early, event));
  assert.deepEqual(dump(twin), before);
  assert.equal(twin.shots.get("s0").id, early.shots.get("s0").id);
});

test("an event that is not as it should be is passed over", () => {
  const odd = [null, undefined, 7, "text", [], { screenshotId: {} }, { progress: "x", status: 5 }, { data: 3 }, { patch: 4 }, { timestamp: "never" }];
  const names = ["job:created", "job:updated", "job:log", "job:patched", "screenshot:captured", "ocr:completed", "match:found", "label:generated", "company:found", "artifact:stored", "novel:own", "toString"];
  const state = empty();
  let seq = 0;
  for (const event of names) for (const data of odd) fold(state, { seq: ++seq, event, data });
  assert.equal(state.seq, names.length * odd.length);
  assert.ok(state.progress >= 0 && state.progress <= 100);
  JSON.stringify(dump(state));
});

test("why nothing was found of a company is one line of the log", () => {
  const job = folded(told(
    ["job:created", { name: "2 companies", jobType: "companies" }],
    ["company:started", { domain: "a.example", worker: 1 }],
    ["company:failed", { domain: "a.example", reason: "It does not answer." }],
    ["job:updated", { status: "crawling", progress: 50, message: "a.example: It does not answer." }],
    ["job:updated", { status: "crawling", progress: 99, message: "Looking up companies: 2/2" }],
  ));
  assert.deepEqual(job.log.map(({ source, message }) => [source, message]), [["a.example", "It does not answer."], ["", "Looking up companies: 2/2"]]);
});

test("a job that is cancelled is cancelled, and a worker's job runs without a plan", () => {
  const state = folded(told(["job:created", { jobType: "work" }], ["job:updated", { status: "running", currentStage: "reading", progress: 40 }], ["job:failed", { error: "Job cancelled by user", cancelled: true }]));
  assert.equal(state.status, "cancelled");
  assert.equal(state.startedAt, START + 1000);
  assert.equal(state.log.at(-1).level, "warning");
});
