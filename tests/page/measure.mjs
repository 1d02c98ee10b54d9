// How quickly the page shows an event, and whether its memory grows: 500 jobs in the list, 50 of them at work.
//
//   JOBCAST_WORKER=$(jobcast token --sub robot --scope work) node tests/page/measure.mjs http://127.0.0.1:3001 --minutes 30
//
// `--view job` or `list` stays at one view; without it a job is looked at for the middle third of the time.
// The time is taken from the arrival of a WebSocket message to the frame behind the one that was painted next (two
// animation frames); the heap is what is used after a garbage collection. Each minute is one line.
import { parseArgs } from "node:util";

import { call, launch } from "./browser.mjs";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { minutes: { type: "string", default: "1" }, jobs: { type: "string", default: "500" }, running: { type: "string", default: "50" }, rate: { type: "string", default: "100" }, view: { type: "string", default: "both" } },
});
const [base = "http://127.0.0.1:3001"] = positionals;
const [minutes, jobs, running, rate] = [values.minutes, values.jobs, values.running, values.rate].map(Number);
const WORKER = { Authorization: `Bearer ${process.env.JOBCAST_WORKER ?? ""}` };
const KIND = "page-load";

await call(base, `/v1/kinds/${KIND}`, { description: "Load for the page", maxWaiting: 100_000, lease: 3600 }, "PUT", WORKER);
let submitted = 0;
const submit = () => call(base, "/v1/work", { kind: KIND, name: `Load ${++submitted}`, input: {} });
for (let made = 0; made < jobs; made += 25) await Promise.all(Array.from({ length: Math.min(25, jobs - made) }, submit));
const atWork = [];
async function claim() {
  const claimed = await call(base, "/v1/work/claim", { kinds: [KIND], worker: `worker ${atWork.length}` }, "POST", WORKER);
  atWork.push({ id: claimed.job.id, fence: claimed.fence, done: 0 });
}
while (atWork.length < running) await claim();

const browser = await launch(["--enable-precise-memory-info"]);
const page = await browser.newPage({ viewport: { width: 1280, height: 900 } });
await page.addInitScript(() => {
  const times = (window.times = []);
  const { get, set } = Object.getOwnPropertyDescriptor(WebSocket.prototype, "onmessage");
  Object.defineProperty(WebSocket.prototype, "onmessage", {
    get,
    set(handler) {
      set.call(this, (message) => {
        const at = performance.now();
        handler.call(this, message);
        if (times.length < 200_000) requestAnimationFrame(() => requestAnimationFrame(() => times.push(performance.now() - at)));
      });
    },
  });
});
const faults = [];
page.on("pageerror", (error) => faults.push(`${error}`));
await page.goto(base);
await page.locator(".job").first().waitFor();
const protocol = await page.context().newCDPSession(page);
await protocol.send("HeapProfiler.enable");

async function heap() {
  for (let round = 0; round < 3; round += 1) await protocol.send("HeapProfiler.collectGarbage");
  const { usedSize } = await protocol.send("Runtime.getHeapUsage");
  const { nodes, jsEventListeners } = await protocol.send("Memory.getDOMCounters");
  return { heap: (usedSize / 1e6).toFixed(2), nodes, listeners: jsEventListeners };
}

const busy = { until: Date.now() + minutes * 60_000, sent: 0, refused: 0 };
async function load() {
  const pause = 1000 / rate;
  const open = new Set();
  for (let next = performance.now(); Date.now() < busy.until; next += pause) {
    const wait = next - performance.now();
    if (wait > 0) await new Promise((done) => setTimeout(done, wait));
    if (open.size > 40) await Promise.race(open);
    // One job has as many events as all others together: it is the one that is looked at.
    const job = busy.sent % 2 ? atWork[0] : atWork[(busy.sent / 2) % atWork.length];
    job.done += 1;
    const n = job.done;
    const event = [
      { type: "progress", progress: Math.min(99, n % 100), step: "reading", message: `Page ${n}` },
      { type: "log", level: "info", message: `Page ${n} was read without any trouble`, source: "reader" },
      { type: "patch", patch: { pages: { [n % 50]: { text: `text ${n}`, sure: n % 100 } } } },
      { type: "progress", progress: Math.min(99, n % 100), message: `Page ${n}, almost` },
    ][n % 4];
    busy.sent += 1;
    const sending = call(base, `/v1/work/${job.id}/events`, { fence: job.fence, events: [event] }, "POST", WORKER).catch(() => { busy.refused += 1; }).finally(() => open.delete(sending));
    open.add(sending);
    // Now and then a job ends and another begins.
    if (busy.sent % (rate * 5) === 0) {
      const [over] = atWork.splice(1 + (busy.sent % (atWork.length - 1)), 1);
      await call(base, `/v1/work/${over.id}/finish`, { fence: over.fence, result: { pages: over.done } }, "POST", WORKER);
      await submit();
      await claim();
    }
  }
  await Promise.all(open);
}

const loading = load();
console.log("minute  view  messages  p50 ms  p99 ms  max ms  heap MB  DOM nodes  listeners");
const first = await heap();
console.log(`     0  list         –       –       –       –  ${first.heap.padStart(7)}  ${String(first.nodes).padStart(9)}  ${String(first.listeners).padStart(9)}`);
for (let minute = 1; minute <= minutes; minute += 1) {
  // The list, then a job from its beginning on, and the list again.
  const isMiddle = minutes > 2 && minute > minutes / 3 && minute <= (minutes * 2) / 3;
  const isJob = values.view === "job" || (values.view === "both" && isMiddle);
  const hash = isJob ? page.url().includes("/jobs/") ? null : `#/jobs/${atWork[0].id}` : "#/";
  if (hash !== null) await page.evaluate((to) => { location.hash = to; }, hash);
  await page.evaluate(() => { window.times.length = 0; });
  await new Promise((done) => setTimeout(done, Math.max(0, busy.until - (minutes - minute) * 60_000 - Date.now())));
  const times = (await page.evaluate(() => window.times)).sort((a, b) => a - b);
  const at = (part) => (times.length ? times[Math.min(times.length - 1, Math.floor(times.length * part))] : 0).toFixed(1).padStart(6);
  const now = await heap();
  console.log(`${String(minute).padStart(6)}  ${isJob ? "job " : "list"}  ${String(times.length).padStart(8)}  ${at(0.5)}  ${at(0.99)}  ${at(1)}  ${now.heap.padStart(7)}  ${String(now.nodes).padStart(9)}  ${String(now.listeners).padStart(9)}`);
}
await loading;
console.log(`${busy.sent} events sent, ${busy.refused} refused; rows in the list: ${await page.evaluate(() => window.jobcast.app.jobs.rows.size)}; the page's own figures: ${JSON.stringify(await page.evaluate(() => window.jobcast.latency()))}`);
if (faults.length) console.log(faults);
await browser.close();
