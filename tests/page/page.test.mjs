// The live page in headless Chromium, against a real server: tests/it/page.rs starts both.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { after, before, test } from "node:test";

import { dump, empty, fold } from "../../src/http/page/fold.js";
import { call, events, launch, network } from "./browser.mjs";

const BASE = process.env.JOBCAST_URL;
/** One that lets in nobody who does not say who it is. */
const CLOSED = process.env.JOBCAST_CLOSED_URL;
const TOKEN = process.env.JOBCAST_TOKEN;
const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const PATIENCE = 60_000;
const WIDE = { width: 1280, height: 900 };
const NARROW = { width: 360, height: 740 };

let browser;
const faults = [];
before(async () => { browser = await launch(); });
after(async () => { await browser.close(); });

async function open(path = "/", { viewport = WIDE, colorScheme = "light", base = BASE } = {}) {
  const context = await browser.newContext({ viewport, colorScheme });
  context.setDefaultTimeout(PATIENCE);
  const page = await context.newPage();
  page.on("pageerror", (error) => faults.push(`${error}`));
  page.on("console", (message) => {
    // What the server refuses, the browser notes by itself.
    if (message.type() === "error" && !/Failed to load resource|ERR_|WebSocket/.test(message.text())) faults.push(message.text());
  });
  await page.goto(new URL(path, base).href);
  return page;
}

const text = (page, selector) => page.locator(selector).first().innerText();
/** Addresses that are signed change with time. */
const unsigned = (value) => JSON.parse(JSON.stringify(value).replace(/\?expires=[^"\\]*/g, ""));
const shown = async (page) => unsigned(await page.evaluate(() => window.jobcast.app.view.dump()));
const until = (page, what, argument) => page.waitForFunction(what, argument, { timeout: PATIENCE });
/** The frame in which everything that is known is painted has passed. */
const painted = (page) => page.evaluate(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))));
const folded = (all, seq = Infinity) => unsigned(dump(all.filter((event) => event.seq <= seq).reduce(fold, empty())));

/** What a person sees, without what depends on when it is looked at. */
const seen = (page) => page.evaluate(() => {
  const twin = document.querySelector(".job-view").cloneNode(true);
  for (const node of twin.querySelectorAll("[data-ephemeral]")) node.remove();
  for (const node of twin.querySelectorAll("[data-how]")) if (node.matches(".event")) node.removeAttribute("data-how");
  return twin.outerHTML.replace(/\?expires=[^"]*/g, "");
});

/** A job for workers of a kind of its own, and a worker that has claimed it. */
async function claimed(name, kind = "page-test") {
  await call(BASE, `/v1/kinds/${kind}`, { description: "Of the page's tests" }, "PUT", WORKER);
  const job = await call(BASE, "/v1/work", { kind, name, input: {} });
  const claim = await call(BASE, "/v1/work/claim", { kinds: [kind], worker: "hand-made" }, "POST", WORKER);
  assert.equal(claim.job.id, job.id);
  const report = (list) => call(BASE, `/v1/work/${job.id}/events`, { fence: claim.fence, events: list }, "POST", WORKER);
  return { id: job.id, fence: claim.fence, report };
}
const WORKER = { Authorization: `Bearer ${process.env.JOBCAST_WORKER}` };

async function violations(page) {
  await page.evaluate(AXE);
  const result = await page.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
  return result.violations.map(({ id, nodes }) => `${id}: ${nodes.map((node) => `${node.target.join(" ")} (${node.failureSummary})`).join("; ")}`);
}

/** In both colours, wide and narrow. */
async function isAccessible(page, what) {
  for (const colorScheme of ["light", "dark"]) {
    for (const viewport of [WIDE, NARROW]) {
      await page.emulateMedia({ colorScheme, reducedMotion: "reduce" });
      await page.setViewportSize(viewport);
      await painted(page);
      assert.deepEqual(await violations(page), [], `${what}, ${colorScheme}, ${viewport.width} px`);
      const overflow = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
      assert.ok(overflow <= 0, `${what} is ${overflow} px too wide at ${viewport.width} px`);
    }
  }
  await page.emulateMedia({ colorScheme: "light", reducedMotion: "no-preference" });
  await page.setViewportSize(WIDE);
}

let whole;

test("a whole job on the demo shop is seen alike by a page that was there and one that came later", async () => {
  const first = await open();
  await first.getByRole("heading", { name: "No jobs yet" }).waitFor();
  await isAccessible(first, "the empty list");
  await first.getByRole("link", { name: "New job" }).first().click();
  await isAccessible(first, "the form");
  await first.getByRole("button", { name: "Fill in the form with it" }).click();
  await first.getByText("price-list.xlsx").waitFor();
  await first.getByLabel("Products at the most").fill("5");
  await first.getByLabel("Name", { exact: true }).fill("<img src=x onerror=alert(1)> Labels");
  await first.getByRole("button", { name: "Start the job" }).click();
  await first.waitForURL(/#\/jobs\//);
  whole = first.url().split("/jobs/")[1];
  await until(first, () => window.jobcast.app.view.timeline.head.shots.size >= 2);
  const second = await open(`/#/jobs/${whole}`);
  for (const page of [first, second]) await until(page, () => window.jobcast.app.view.timeline.head.endedAt > 0 && window.jobcast.app.view.record?.endedAt);
  const all = await events(BASE, whole);
  assert.equal(all.at(-1).event, "job:completed");
  for (const page of [first, second]) {
    // Addresses of PDFs come a moment later.
    await until(page, () => document.querySelectorAll(".label .pdf a").length === window.jobcast.app.view.state.labels.size);
    await page.evaluate(() => window.jobcast.app.view.paint());
    await painted(page);
    assert.deepEqual(await shown(page), folded(all));
  }
  const [one, other] = [await seen(second), await seen(first)];
  const at = [...one].findIndex((letter, index) => letter !== other[index]);
  assert.equal(one.slice(Math.max(0, at - 80), at + 80), other.slice(Math.max(0, at - 80), at + 80), "what came later looks alike");
  assert.equal(one.length, other.length);
  assert.equal(await text(first, "h1"), "<img src=x onerror=alert(1)> Labels");
  assert.equal(await first.locator(".shot").count(), 5);
  const hows = await second.evaluate(() => [...new Set(window.jobcast.app.view.timeline.entries.map((entry) => entry.how))]);
  assert.ok(hows.includes("history") && hows.includes("live"), `${hows}`);

  // The words that were read, over the picture; the values beside the page's own.
  await first.locator(".shot button").first().click();
  await first.locator(".viewer .word").first().waitFor();
  const finding = await call(BASE, `/v1/jobs/${whole}/screenshots/${all.find((event) => event.event === "ocr:completed").data.screenshotId}`);
  assert.ok(finding.reading.words.length > 5 && finding.width > 100);
  await first.locator(".viewer .word").first().hover({ force: true });
  assert.match(await text(first, ".viewer .told"), /% sure/);
  assert.match(await text(first, ".viewer table"), /Article number/);
  await isAccessible(first, "the viewer");
  await first.keyboard.press("Escape");
  await first.locator(".viewer").waitFor({ state: "detached" });
  const download = first.waitForEvent("download");
  await first.getByRole("button", { name: "Print sheets" }).click();
  assert.equal((await download).suggestedFilename(), "labels.pdf");
  for (const page of [first, second]) await page.context().close();
});

test("the playhead at a seq shows what so many events make, and a replay comes to the end", async () => {
  const page = await open(`/#/jobs/${whole}`);
  await until(page, () => window.jobcast.app.view.phase === "ready");
  const all = await events(BASE, whole);
  for (const seq of [all.length - 3, 2, 9, 8, Math.floor(all.length / 2)]) {
    await page.locator(".slider").fill(String(seq));
    await painted(page);
    const then = folded(all, seq);
    assert.deepEqual(await shown(page), then, `seq ${seq}`);
    assert.equal(await page.locator(".shot").count(), then.shots.length);
    assert.equal(await page.locator(".label").count(), then.labels.length);
    assert.match(await text(page, ".where"), new RegExp(`As it was at event ${seq} of ${all.length}`));
  }
  await isAccessible(page, "a job in its past");
  await page.getByRole("button", { name: "10×" }).click();
  await page.getByRole("button", { name: "Replay the job" }).click();
  await until(page, () => window.jobcast.app.view.at === null);
  await painted(page);
  assert.deepEqual(await shown(page), folded(all));
  await page.keyboard.press("ArrowLeft");
  await painted(page);
  assert.deepEqual(await shown(page), folded(all, all.length - 1), "one step back by the keyboard");
  await page.keyboard.press("End");
  await painted(page);
  await isAccessible(page, "a job that is done");
  await page.context().close();
});

test("a job is paused, resumed, cancelled and tried again by its buttons; a worker's document and log are shown", async () => {
  const page = await open();
  await until(page, () => window.jobcast.app.jobs.state === "ready" && window.jobcast.app.live.status.phase === "live");
  const work = await claimed("By hand");
  await page.locator(".job", { hasText: "By hand" }).waitFor();
  await work.report([{ type: "progress", progress: 30, step: "reading", message: "Page 3" }]);
  await page.locator(".job", { hasText: "Page 3" }).waitFor();
  await isAccessible(page, "the list");
  await page.keyboard.press("j");
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { name: "By hand" }).waitFor();
  await work.report([
    { type: "log", level: "warning", message: "<b>Odd</b> page", source: "chunk 3" },
    { type: "patch", patch: { chunks: { 3: { state: "odd" } } } },
    { type: "event", name: "page-test:own", data: { some: "thing" } },
  ]);
  await page.getByText("<b>Odd</b> page").first().waitFor();
  await page.locator(".documents pre", { hasText: '"state": "odd"' }).waitFor();
  assert.match(await text(page, ".workers"), /hand-made/);
  await isAccessible(page, "a worker's job");
  await page.getByRole("button", { name: "Pause" }).click();
  await page.locator(".badge", { hasText: "Paused" }).waitFor();
  await page.getByRole("button", { name: "Resume" }).click();
  await page.locator(".badge", { hasText: "Running" }).waitFor();
  await page.getByRole("button", { name: "Cancel" }).click();
  await page.getByRole("button", { name: "Cancel the job" }).click();
  await page.locator(".badge", { hasText: "Cancelled" }).waitFor();
  await page.getByRole("button", { name: "Retry failed" }).click();
  await page.waitForURL((url) => !url.hash.includes(work.id));
  await page.locator(".badge", { hasText: "Waiting" }).waitFor();
  await page.getByText("an earlier job").waitFor();
  await page.getByRole("button", { name: "Cancel" }).click();
  await page.getByRole("button", { name: "Cancel the job" }).click();
  await isAccessible(page, "a job that was cancelled");
  await page.getByRole("button", { name: "Remove" }).click();
  await page.getByRole("button", { name: "Remove the job" }).click();
  await page.waitForURL(/#\/$/);
  await page.context().close();
});

test("a page whose connection is cut comes back in its session and misses nothing", async () => {
  const way = await network(BASE);
  const work = await claimed("Through a tunnel");
  const page = await open(`/#/jobs/${work.id}`, { base: way.url });
  await until(page, () => window.jobcast.app.view.followed);
  const line = (n) => ({ type: "log", level: "info", message: `line ${n}` });
  for (let n = 0; n < 4; n += 1) {
    await work.report([line(n * 3), line(n * 3 + 1)]);
    const returns = await page.evaluate(() => window.jobcast.app.live.status.returns);
    way.cut();
    await work.report([line(n * 3 + 2)]);
    await until(page, (before) => window.jobcast.app.live.status.returns > before, returns);
  }
  await call(BASE, `/v1/work/${work.id}/finish`, { fence: work.fence, result: { pages: 12 } }, "POST", WORKER);
  await until(page, () => window.jobcast.app.view.timeline.head.endedAt > 0);
  const { recovered, replayed } = await page.evaluate(() => window.jobcast.app.live.status);
  assert.equal(recovered, true);
  const all = await events(BASE, work.id);
  assert.deepEqual(await shown(page), folded(all));
  assert.ok(replayed <= all.length, `${replayed} replayed`);
  await page.getByRole("button", { name: "Live" }).first().click();
  assert.match(await text(page, "#connection-details"), /in the same session/);
  await page.context().close();
  way.close();
});

test("who is not known is asked for a token, and is let in with one", async () => {
  const page = await open("/", { base: CLOSED });
  await page.getByRole("heading", { name: "Who are you?" }).waitFor();
  await isAccessible(page, "the gate");
  await page.getByLabel("Token or API key").fill("wrong");
  await page.getByRole("button", { name: "Use it" }).click();
  await page.getByRole("heading", { name: "Who are you?" }).waitFor();
  await page.getByLabel("Token or API key").fill(TOKEN);
  await page.getByRole("button", { name: "Use it" }).click();
  await page.getByRole("heading", { name: "No jobs yet" }).waitFor();
  await until(page, () => window.jobcast.app.live.status.phase === "live");
  await page.reload();
  await page.getByRole("heading", { name: "No jobs yet" }).waitFor();
  await page.goto(new URL("/#/jobs/01890a5d-ac96-774b-bcce-b302099a8057", CLOSED).href);
  await page.getByRole("heading", { name: "There is no such job" }).waitFor();
  await page.context().close();
});

test("nothing failed in any page, and nothing was loaded from elsewhere or against the policy", () => {
  assert.deepEqual(faults, []);
});
