// The page: which view is shown, who looks, and how the connection stands.

import { ask, credentials } from "./api.js";
import { h, icon, latency, say, soon, toast } from "./dom.js";
import { Form } from "./form.js";
import { JobView } from "./job.js";
import { JobList, Jobs } from "./list.js";
import { Live } from "./live.js";
import { ago, clock, plural } from "./words.js";

const main = document.getElementById("main");
const app = { about: null, live: new Live(), jobs: null, view: null, start };
app.jobs = new Jobs(app);

const VIEWS = [
  [/^#\/new$/, "new", () => new Form(app)],
  [/^#\/jobs\/([0-9a-f-]{36})(?:\?at=(\d+))?$/i, "job", (found) => new JobView(app, found[1].toLowerCase(), Number(found[2]) || null)],
  [/^/, "list", () => new JobList(app)],
];

function show() {
  const [pattern, name, make] = VIEWS.find(([pattern]) => pattern.test(location.hash));
  app.view?.close();
  app.view = make(location.hash.match(pattern));
  main.replaceChildren(app.view.element);
  main.className = `view-${name}`;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.dataset.route === name) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  app.view.opened?.();
  document.title = `${app.view.title ?? "Jobs"} · Jobcast`;
  const heading = main.querySelector("h1");
  // Where the view changed, whoever listens or tabs is taken along.
  if (show.before !== undefined && heading && !main.contains(document.activeElement)) {
    heading.tabIndex = -1;
    heading.focus({ preventScroll: true });
    scrollTo(0, 0);
  }
  show.before = name;
}

async function start() {
  try {
    app.about = await ask("/v1/about");
  } catch (error) {
    gate(error);
    return;
  }
  who();
  app.live.reopen();
  app.jobs.start();
  show();
}

/** What stands in place of the page when the server lets nobody in, or is not there. */
function gate(error) {
  app.view?.close();
  app.view = null;
  const isUnknown = error.status === 401;
  const title = isUnknown ? "Who are you?" : error.status === 403 ? "Not allowed" : "Not reachable";
  const why = error.code === "unauthenticated" ? "This server lets in only those who say who they are. Paste a token or an API key." : error.message;
  const box = h("section", { class: "gate card" }, h("h1", {}, title), h("p", {}, why));
  if (isUnknown) app.live.leave();
  if (isUnknown || error.status === 403) box.append(tokenForm());
  else box.append(h("button", { class: "primary", onclick: () => start() }, icon("retry"), "Try again"));
  main.replaceChildren(box);
  main.className = "view-gate";
  document.title = `${title} · Jobcast`;
  who();
}

function tokenForm(done = () => {}) {
  const field = h("input", {
    type: "password", id: "token", autocomplete: "off", required: true, value: credentials.get() ?? "",
  });
  const submit = (event) => {
    event.preventDefault();
    credentials.set(field.value.trim().replace(/^Bearer\s+/i, ""));
    done();
    start();
  };
  const forget = () => {
    credentials.set(null);
    done();
    start();
  };
  return h("form", { class: "token", onsubmit: submit },
    h("label", { for: "token" }, "Token or API key"), field,
    h("p", { class: "hint" }, "It stays in this tab and is gone when you close it. ",
      h("code", {}, "jobcast token --sub you"), " or ", h("code", {}, "jobcast key create"), " makes one."),
    h("div", { class: "row" }, h("button", { class: "primary", type: "submit" }, "Use it"),
      credentials.get() && h("button", { type: "button", onclick: forget }, "Forget it")));
}

// The tools in the header: connection, who, colours.

const light = h("span", { class: "light", "aria-hidden": "true" });
const standing = h("span", { class: "standing" });
const connection = h("button", { class: "pill", id: "connection", popovertarget: "connection-details" }, light, standing);
const details = h("div", { id: "connection-details", popover: "auto", class: "popover" });
const person = h("button", { class: "quiet", id: "person", onclick: openToken });
const colours = h("button", { class: "quiet", id: "colours", onclick: turnColours });
document.getElementById("tools").append(connection, details, person, colours);

const PHASES = {
  connecting: "Connecting", live: "Live", reconnecting: "Reconnecting", offline: "Offline", denied: "Not let in",
};

function connectionChanged() {
  const { phase, recovered, replayed, returns, transport, since } = app.live.status;
  connection.dataset.phase = phase;
  say(standing, PHASES[phase]);
  connection.title = returns && phase === "live" ? (recovered ? "Back in its session; nothing was missed" : "Back in a new session; what was missed was asked for again") : "How the connection stands";
  const paint = latency();
  const row = (term, value) => [h("dt", {}, term), h("dd", {}, value)];
  details.replaceChildren(h("h2", {}, "Connection"), h("dl", {},
    row("State", `${PHASES[phase]} for ${ago(since)}`),
    row("Over", transport || "–"),
    row("Came back", returns ? `${plural(returns, "time")}, the last time ${recovered ? "in the same session" : "in a new session"}` : "not needed so far"),
    row("Replayed", replayed ? plural(replayed, "event") : "none"),
    row("Event to paint", paint.count ? `p50 ${paint.p50.toFixed(0)} ms, p99 ${paint.p99.toFixed(0)} ms of ${plural(paint.count, "event")}` : "no event yet"),
    row("Server", app.about ? `Jobcast ${app.about.version}` : "–"),
  ), h("p", {}, h("a", { href: "/docs" }, "The API as a page")),
  h("p", { class: "hint" }, "Keys: / search, n new job, j and k along the list; in a job space replays, ← and → go by an event, End goes back to now, b draws the words."));
}

const banner = document.getElementById("banner");

/** While nothing comes in, the page says of when it is. */
function warn() {
  const { phase, since } = app.live.status;
  const isLost = (phase === "reconnecting" || phase === "offline") && Date.now() - since > 1500;
  banner.hidden = !isLost;
  say(banner, isLost ? `${phase === "offline" ? "You are offline" : "The connection is lost"}: what you see is as it was at ${clock(since)}. It comes back by itself, and nothing is missed.` : "");
}

app.live.addEventListener("status", () => soon(connectionChanged));
app.live.addEventListener("status", warn);
details.addEventListener("toggle", connectionChanged);
app.live.addEventListener("denied", () => {
  // The answer of a request says it in a sentence.
  ask("/v1/about").catch(gate);
});
app.live.listeners.add((event, data) => {
  if (event === "system:notification" && data?.message !== "pong") toast(String(data?.message ?? ""), data?.type);
});

function who() {
  const you = app.about?.you;
  const name = !you || you.anonymous ? "Anonymous" : you.subject;
  person.replaceChildren(icon("user"), h("span", { class: "wide" }, name));
  person.setAttribute("aria-label", `You are ${name}; change who you are`);
}

function openToken() {
  const dialog = h("dialog", { class: "small", "aria-labelledby": "token-title", onclose: () => dialog.remove() });
  dialog.append(h("h2", { id: "token-title" }, "Who you are"), tokenForm(() => dialog.close()),
    h("button", { class: "close quiet", "aria-label": "Close", onclick: () => dialog.close() }, icon("cross")));
  document.body.append(dialog);
  dialog.showModal();
}

function turnColours() {
  const order = { auto: "light", light: "dark", dark: "auto" };
  const next = order[document.documentElement.dataset.theme ?? "auto"];
  if (next === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = next;
  try {
    localStorage.setItem("jobcast-theme", next);
  } catch {
    // Then it lasts as long as the page.
  }
  coloursChanged();
}

function coloursChanged() {
  const theme = document.documentElement.dataset.theme ?? "auto";
  colours.replaceChildren(icon({ auto: "auto", light: "sun", dark: "moon" }[theme]));
  colours.setAttribute("aria-label", `Colours: ${theme === "auto" ? "as the system" : theme}`);
  colours.title = colours.getAttribute("aria-label");
}

document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});
addEventListener("hashchange", () => app.about && show());
addEventListener("keydown", (event) => {
  if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest?.("input, textarea, select, dialog, [contenteditable]")) return;
  if (event.key === "n") location.hash = "#/new";
  else if (event.key === "/" && document.getElementById("search")) document.getElementById("search").focus();
  else if (!app.view?.key?.(event)) return;
  event.preventDefault();
});
addEventListener("jobcast:unauthenticated", (event) => app.about && gate(event.detail));
setInterval(() => {
  if (document.visibilityState !== "visible") return;
  warn();
  app.view?.tick?.();
  if (details.matches(":popover-open")) connectionChanged();
}, 1000);

/** For measurements and tests; the page itself does not read it. */
window.jobcast = { app, latency };

coloursChanged();
connectionChanged();
start();
