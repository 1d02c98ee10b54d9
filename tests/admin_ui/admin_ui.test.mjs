// The official Admin UI against this server: what its page is told, over the stock client, and the page itself.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import http from "node:http";
import { extname, join, normalize } from "node:path";
import test from "node:test";
import { fileURLToPath } from "node:url";

import { chromium } from "playwright-core";
import { io } from "socket.io-client";

const { JOBCAST_JOBS, JOBCAST_FOREIGN, JOBCAST_TOKEN, SHOTS } = process.env;
// The page puts the namespace right behind the address.
const [OPEN, CLOSED] = [process.env.JOBCAST_URL, process.env.JOBCAST_CLOSED_URL].map((url) => url.replace(/\/$/, ""));
const [FIRST, SECOND] = JOBCAST_JOBS.split(",");
const PATIENCE = 60_000;
const GOOD = { username: "operator", password: "open sesame" };
const ALL = ["AGGREGATED_EVENTS", "ALL_EVENTS", "JOIN", "LEAVE", "DISCONNECT", "MJOIN", "MLEAVE", "MDISCONNECT"];

/** Looks again and again for something that others bring about. */
async function until(what, look) {
  const end = Date.now() + PATIENCE;
  for (;;) {
    const found = await look();
    if (found) return found;
    assert.ok(Date.now() < end, `waited in vain for ${what}`);
    await new Promise((done) => setTimeout(done, 50));
  }
}

async function client(options, url = OPEN) {
  const socket = io(url, { forceNew: true, reconnection: false, ...options });
  socket.heard = [];
  socket.onAny((...event) => socket.heard.push(event));
  await once(socket, "connect");
  return socket;
}

/** The answer to a log-in: a refusal, or the page's end with everything that it was told. */
function knock(auth, url = OPEN) {
  const socket = io(new URL("/admin", url).href, { forceNew: true, reconnection: false, transports: ["websocket"], auth });
  socket.told = [];
  socket.onAny((name, ...rest) => socket.told.push([name, ...rest]));
  return new Promise((done) => {
    socket.once("connect", () => done({ socket }));
    socket.once("connect_error", (error) => { socket.disconnect(); done({ refusal: error.message }); });
  });
}

const enter = (url, auth = GOOD) => until("a log-in", async () => (await knock(auth, url)).socket);
const told = (admin, name, fits = () => true) =>
  until(name, () => admin.told.find(([event, ...rest]) => event === name && fits(...rest))?.slice(1));
const answer = async (socket, ...message) => socket.timeout(PATIENCE).emitWithAck(...message);

/** What the page makes of what it is told. */
function view(admin) {
  const sockets = new Map();
  for (const [event, ...rest] of admin.told) {
    if (event === "all_sockets") {
      sockets.clear();
      for (const socket of rest[0]) sockets.set(socket.nsp + socket.id, { ...socket, rooms: [...socket.rooms] });
    }
    if (event === "socket_connected") sockets.set(rest[0].nsp + rest[0].id, { ...rest[0], rooms: [...rest[0].rooms] });
    if (event === "socket_updated") Object.assign(sockets.get(rest[0].nsp + rest[0].id), rest[0]);
    if (event === "socket_disconnected") sockets.delete(rest[0] + rest[1]);
    if (event === "room_joined") sockets.get(rest[0] + rest[2]).rooms.push(rest[1]);
    if (event === "room_left") {
      const { rooms } = sockets.get(rest[0] + rest[2]);
      rooms.splice(rooms.indexOf(rest[1]), 1);
    }
  }
  return [...sockets.values()];
}

const shown = (admin, socket, nsp = "/") => view(admin).find((one) => one.nsp === nsp && one.id === socket.id);

test("wrong passwords are refused and slowed down, the right one is let in, and a pass after that", async () => {
  const guess = { ...GOOD, password: "guess" };
  assert.deepEqual(await knock(guess), { refusal: "invalid credentials" });
  const { refusal } = await until("a pause", async () => {
    const guessed = await knock(guess);
    return guessed.refusal !== "invalid credentials" && guessed;
  });
  assert.match(refusal, /^too many wrong passwords from your address; try again in \d+ s$/);
  const admin = await enter();
  const [pass] = await told(admin, "session");
  assert.deepEqual(await told(admin, "config"), [{ supportedFeatures: ALL }]);
  const back = (await knock({ sessionId: pass })).socket;
  await told(back, "all_sockets");
  assert.equal(back.told.filter(([event]) => event === "session").length, 0);
  for (const auth of [{}, { sessionId: pass + "x" }, { sessionId: null }, { username: 7, password: {} }]) {
    assert.deepEqual(await knock(auth), { refusal: "invalid credentials" });
  }
  admin.disconnect();
  back.disconnect();
});

test("sockets, rooms, transports and counts are told as they are, and no secret", async () => {
  const polling = await client({ transports: ["polling"] });
  const websocket = await client({ transports: ["websocket"], auth: { token: JOBCAST_TOKEN }, query: { access: "s3cret" } });
  assert.equal((await answer(polling, "job:subscribe", FIRST)).ok, true);
  const admin = await enter();
  await told(admin, "all_sockets");
  await until("the polling client", () => shown(admin, polling)?.rooms.length === 1);
  const one = shown(admin, polling);
  assert.deepEqual([one.transport, one.rooms, one.data.subject], ["polling", [`job:${FIRST}`], null]);
  assert.equal(one.handshake.address, "127.0.0.1");
  const other = shown(admin, websocket);
  assert.deepEqual([other.transport, other.rooms, other.data.subject], ["websocket", [], "ann"]);
  assert.deepEqual([other.handshake.query.EIO, other.handshake.query.access], ["4", "(hidden)"]);
  assert.ok(new Date(other.handshake.issued).getTime() > 0);
  assert.equal(shown(admin, admin, "/admin").nsp, "/admin");

  // What comes, changes and goes while somebody looks on.
  const upgrading = await client({ transports: ["polling", "websocket"] });
  await until("the upgrade", () => shown(admin, upgrading)?.transport === "websocket");
  await answer(upgrading, "automation:subscribe", FIRST);
  await until("the room", () => shown(admin, upgrading).rooms.includes(`automation:${FIRST}`));
  const [, , args] = await told(admin, "event_received", (nsp, id) => nsp === "/" && id === upgrading.id);
  assert.deepEqual(args, ["automation:subscribe", FIRST]);
  await answer(upgrading, "automation:unsubscribe", FIRST);
  await until("no room", () => shown(admin, upgrading).rooms.length === 0);
  const { id } = upgrading;
  upgrading.disconnect();
  const [, , reason] = await told(admin, "socket_disconnected", (_, gone) => gone === id);
  assert.equal(reason, "client namespace disconnect");

  const stats = await until("the counts", () => {
    const last = admin.told.findLast(([event]) => event === "server_stats")?.[1];
    return last?.clientsCount === 3 && last.pollingClientsCount === 1 && last;
  });
  assert.deepEqual(stats.namespaces, [{ name: "/", socketsCount: 2 }, { name: "/api/v1", socketsCount: 0 }, { name: "/admin", socketsCount: 1 }]);
  assert.ok(stats.uptime > 0 && stats.pid > 0 && stats.hostname && stats.serverId.startsWith(stats.hostname));
  const counted = (type) => admin.told.some(([event, stats]) => event === "server_stats" && stats.aggregatedEvents.some((one) => one.type === type && one.count > 0));
  for (const type of ["rawConnection", "rawDisconnection", "bytesIn", "bytesOut"]) await until(type, () => counted(type));

  // A crowd is told as one list, or one by one, and the view is right in the end.
  const crowd = await Promise.all(Array.from({ length: 300 }, () => client({ transports: ["websocket"] })));
  await until("the crowd", () => {
    const ids = new Set(view(admin).map((socket) => socket.id));
    return crowd.every((socket) => ids.has(socket.id));
  });
  for (const socket of crowd) socket.disconnect();
  await until("the crowd's end", () => view(admin).filter((one) => one.nsp === "/").length === 2);

  const everything = JSON.stringify(admin.told);
  assert.ok(!everything.includes(JOBCAST_TOKEN) && !everything.includes("s3cret"));
  for (const socket of [polling, websocket]) assert.ok(!everything.includes(socket.io.engine.id), "a session's name is a credential");
  for (const socket of [polling, websocket, admin]) socket.disconnect();
});

test("join, leave and disconnect do what they say, within what a client may know", async () => {
  const admin = await enter();
  const one = await client({ transports: ["websocket"] });
  const two = await client({ transports: ["polling"] });
  await until("both", () => shown(admin, one) && shown(admin, two));
  const done = { ok: true, sockets: 1, refused: 0 };

  assert.deepEqual(await answer(admin, "join", "/", `job:${FIRST}`, one.id), done);
  await until("the room", () => shown(admin, one).rooms.includes(`job:${FIRST}`));
  assert.deepEqual(shown(admin, two).rooms, []);
  // Its session knows: it is in the room when it is back.
  await fetch(new URL(`/v1/jobs/${FIRST}/pause`, OPEN), { method: "POST" });
  await until("an event", () => one.heard.some(([name]) => name === "job:updated"));
  const [, , args] = await told(admin, "event_sent", (_, id, args) => id === one.id && args[0] === "job:updated");
  assert.equal(args[1].jobId, FIRST);
  const before = one.id;
  const cut = once(one, "disconnect");
  one.io.engine.close();
  await cut;
  one.connect();
  await once(one, "connect");
  assert.equal(one.recovered, true);
  await until("the room again", () => shown(admin, one)?.rooms.includes(`job:${FIRST}`));
  assert.ok(one.id !== before && !view(admin).some((socket) => socket.id === before));

  // Not of a job of somebody else's, nor of one that is none.
  const refused = await answer(admin, "join", "/", `job:${JOBCAST_FOREIGN}`, one.id);
  assert.deepEqual([refused.ok, refused.error.code], [false, "job_not_found"]);
  admin.emit("join", "/", "lobby", one.id);
  const [, , why] = await told(admin, "event_sent", (nsp, _, args) => nsp === "/admin" && args[0] === "refused");
  assert.match(why[1].message, /job:<id>/);
  // Nobody is told what is not in the journal.
  admin.emit("emit", "/", null, "hello");

  assert.deepEqual(await answer(admin, "leave", "/", `job:${FIRST}`, one.id), done);
  await until("no room", () => shown(admin, one).rooms.length === 0);
  assert.deepEqual(await answer(admin, "join", "/", `job:${SECOND}`), { ...done, sockets: 2 });
  await until("both in", () => [one, two].every((socket) => shown(admin, socket).rooms.length === 1));
  assert.deepEqual(await answer(admin, "leave", "/", `job:${SECOND}`), { ...done, sockets: 2 });
  await until("both out", () => [one, two].every((socket) => shown(admin, socket).rooms.length === 0));

  assert.ok(![one, two].some((socket) => socket.heard.some(([name]) => name === "hello")));

  const away = once(one, "disconnect");
  const { id } = one;
  assert.deepEqual(await answer(admin, "_disconnect", "/", false, one.id), done);
  assert.equal((await away)[0], "io server disconnect");
  const [, , reason] = await told(admin, "socket_disconnected", (_, gone) => gone === id);
  assert.equal(reason, "server namespace disconnect");
  const closed = once(two, "disconnect");
  assert.deepEqual(await answer(admin, "_disconnect", "/", true, two.id), done);
  assert.equal((await closed)[0], "io server disconnect");
  await until("nobody", () => !view(admin).some((socket) => socket.nsp === "/"));
  admin.disconnect();
});

test("in production and read-only, counts are told and nothing is done", async () => {
  const page = await client({}, CLOSED);
  const admin = await enter(CLOSED);
  assert.deepEqual(await told(admin, "config"), [{ supportedFeatures: ["AGGREGATED_EVENTS"] }]);
  admin.emit("_disconnect", "/", true);
  const stats = () => admin.told.filter(([event]) => event === "server_stats").map(([, stats]) => stats);
  const so_far = stats().length;
  await until("counts", () => stats().length > so_far + 1);
  assert.equal(stats().at(-1).clientsCount, 2);
  assert.equal((await answer(page, "job:unsubscribe", FIRST)).ok, true);
  const names = new Set(admin.told.map(([event]) => event));
  assert.deepEqual([...names].sort(), ["config", "server_stats", "session"]);
  admin.disconnect();
  page.disconnect();
});

const TYPES = { ".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".png": "image/png" };

/** The package's own page, from an origin of its own. */
async function serve() {
  const folder = fileURLToPath(new URL("./node_modules/@socket.io/admin-ui/ui/dist/", import.meta.url));
  const server = http.createServer(async (request, response) => {
    const path = normalize(new URL(request.url, "http://x").pathname);
    try {
      const file = await readFile(join(folder, path === "/" ? "index.html" : path));
      response.writeHead(200, { "Content-Type": TYPES[extname(path)] ?? "text/html" }).end(file);
    } catch {
      response.writeHead(404).end();
    }
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return { server, url: `http://127.0.0.1:${server.address().port}/` };
}

function program() {
  const names = ["chromium-headless-shell", "chromium", "chromium-browser", "google-chrome"];
  return execFileSync("sh", ["-c", names.map((name) => `command -v ${name}`).join(" || ")], { encoding: "utf8" }).trim();
}

test("the official page logs in, shows what is there, and acts", async () => {
  const clients = [await client({ transports: ["polling"] }), await client({ transports: ["websocket"] })];
  const [gone, stays] = clients.map((socket) => socket.id);
  const { server, url } = await serve();
  const browser = await chromium.launch({ executablePath: program(), args: ["--no-sandbox"] });
  try {
    const page = await (await browser.newContext({ viewport: { width: 1400, height: 900 } })).newPage();
    page.setDefaultTimeout(PATIENCE);
    let shots = 0;
    const shot = async () => SHOTS && page.screenshot({ path: join(SHOTS, `admin-${++shots}.png`) });
    const goto = (path) => page.evaluate((path) => { location.hash = path; }, path);
    // A new page each time, and no polling: the page never closes what was refused, which would be counted, too.
    const knock = async (password) => {
      await page.goto(url);
      await page.getByLabel("Server URL").fill(OPEN);
      await page.getByLabel("Username").fill(GOOD.username);
      await page.getByLabel("Password").fill(password);
      await page.getByText("Advanced options").click();
      await page.getByText("WebSocket only?").click();
      await page.getByRole("button", { name: "Connect", exact: true }).click();
    };
    await knock("guess");
    await page.getByText("Invalid credentials").waitFor();
    await shot();
    const connected = page.getByText("connected", { exact: true }).first();
    await until("the log-in", async () => {
      await knock(GOOD.password);
      await connected.or(page.getByText("try again in")).waitFor();
      return connected.isVisible();
    });

    // The dashboard's counts: both clients, and the page itself.
    await page.getByRole("row", { name: "/ 2", exact: true }).waitFor();
    await page.getByRole("row", { name: "/admin 1", exact: true }).waitFor();
    await page.getByRole("row", { name: /HTTP long-polling 1/ }).waitFor();
    await page.getByRole("row", { name: /WebSocket 2/ }).waitFor();
    await shot();

    await goto("/sockets/");
    const row = (id) => page.getByRole("row", { name: id });
    await row(gone).getByText("HTTP long-polling").waitFor();
    await row(stays).getByText("WebSocket").waitFor();
    assert.equal(await page.locator("tbody tr:has(i.mdi-logout)").count(), 2);
    await shot();

    await row(stays).click();
    const room = `job:${SECOND}`;
    await page.getByLabel("Join a room").fill(room);
    await page.locator("button[type=submit]:has(i.mdi-tag-plus-outline)").click();
    const joined = page.getByRole("row", { name: room });
    await joined.waitFor();
    await shot();
    await goto("/rooms/");
    await page.getByRole("row", { name: `${room} Public 1` }).waitFor();
    await shot();
    await page.goBack();
    await joined.locator("button").click();
    await goto("/rooms/");
    await page.getByRole("row", { name: room }).waitFor({ state: "detached" });

    // A reload comes back by its pass.
    await page.reload();
    await connected.waitFor();
    await goto("/sockets/");
    const away = once(clients[0], "disconnect");
    await row(gone).locator("button").click();
    assert.equal((await away)[0], "io server disconnect");
    // The page's button opens the row, too.
    await goto("/sockets/");
    await row(gone).waitFor({ state: "detached" });
    await row(stays).waitFor();
    await goto("/events/");
    await page.getByText("Disconnection").first().waitFor();
    await shot();
    await goto("/servers/");
    await page.getByText("Healthy").first().waitFor();
    await shot();
  } finally {
    await browser.close();
    server.closeAllConnections();
    server.close();
    for (const socket of clients) socket.disconnect();
  }
});
