// What the tests and the measurement share: a headless Chromium, a network that can be cut, and the server's API.
import { execFileSync } from "node:child_process";
import net from "node:net";

import { chromium } from "playwright-core";

const PROGRAMS = ["chromium-headless-shell", "chromium", "chromium-browser", "google-chrome"];

function program() {
  for (const name of PROGRAMS) {
    try {
      return execFileSync("sh", ["-c", `command -v ${name}`], { encoding: "utf8" }).trim();
    } catch {
      // The next one.
    }
  }
  throw new Error("Chromium is not installed; `make test` installs it.");
}

export const launch = (args = []) => chromium.launch({ executablePath: program(), args: ["--no-sandbox", ...args] });

/** A way to the server on which every connection can be cut, while neither end expects it. */
export async function network(target) {
  const { hostname, port } = new URL(target);
  const open = new Set();
  const way = net.createServer((client) => {
    const server = net.connect(Number(port), hostname);
    for (const [one, other] of [[client, server], [server, client]]) {
      open.add(one);
      one.pipe(other);
      one.on("error", () => other.destroy());
      one.on("close", () => { open.delete(one); other.destroy(); });
    }
  });
  await new Promise((done) => way.listen(0, "127.0.0.1", done));
  return { url: `http://127.0.0.1:${way.address().port}`, cut: () => { for (const one of open) one.destroy(); }, close: () => { way.close(); for (const one of open) one.destroy(); } };
}

export async function call(base, path, json, method = json === undefined ? "GET" : "POST", headers = {}) {
  const answer = await fetch(new URL(path, base), { method, headers: { ...headers, ...(json === undefined ? {} : { "Content-Type": "application/json" }) }, body: json === undefined ? undefined : JSON.stringify(json) });
  const body = answer.status === 204 ? null : await answer.json();
  if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${JSON.stringify(body)}`);
  return body;
}

/** All events of a job, as REST tells them. */
export async function events(base, job) {
  const all = [];
  for (let next = 0; ;) {
    const page = await call(base, `/v1/jobs/${job}/events?after=${next}&limit=500`);
    all.push(...page.events);
    if (page.events.length < 500) return all;
    next = page.next;
  }
}
