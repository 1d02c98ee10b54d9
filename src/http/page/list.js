// All jobs, live: what is known of each, and a list of which only the visible rows are in the document.

import { ask } from "./api.js";
import { attribute, h, icon, say, soon, toast } from "./dom.js";
import { runDemo } from "./form.js";
import { ago, group, host, KINDS, plural, statusWord } from "./words.js";

/** Rows that are kept; the oldest go first. */
const MOST = 5000;
const PAGE = 500;
const AT_WORK = ["running", "crawling", "processing-ocr", "matching", "rendering", "paused"];
/** Jobs that are followed event by event, those at work first; the others are asked for now and then. A connection may
 * follow 500, and a job's own view is one of them. */
const FOLLOWED = 450;
const ROUND = 15_000;
/** A row and the event that it was written with may differ by so much, in milliseconds. */
const SAME = 1000;

export class Jobs extends EventTarget {
  constructor(app) {
    super();
    this.app = app;
    this.rows = new Map();
    this.total = 0;
    this.state = "loading";
    this.error = "";
    this.follows = new Map();
    app.live.listeners.add((event, data) => this.#take(event, data));
    app.live.addEventListener("connected", ({ detail }) => {
      // Whoever was not told what happened meanwhile asks.
      if (detail.isReturn && !detail.recovered) this.refresh();
      else this.#follow();
    });
    setInterval(() => {
      if (document.visibilityState === "visible" && (this.isPartly || this.state === "failed")) this.refresh();
    }, ROUND);
  }

  start() {
    for (const end of this.follows.values()) end();
    this.follows.clear();
    this.rows.clear();
    this.behind = 0;
    this.state = "loading";
    this.refresh();
  }

  async refresh() {
    if (this.asking) {
      this.again = true;
      return;
    }
    this.asking = true;
    try {
      const { jobs, total } = await ask(`/v1/jobs?limit=${PAGE}`);
      this.total = total;
      this.behind = Math.max(this.behind ?? 0, jobs.length);
      const newest = new Set(jobs.map((job) => job.id));
      const oldest = jobs.length < PAGE ? 0 : Date.parse(jobs.at(-1).createdAt);
      for (const row of this.rows.values()) {
        if (!newest.has(row.id) && row.created > oldest) this.#drop(row.id);
      }
      for (const job of jobs) this.#put(job);
      this.state = "ready";
      this.#follow();
      this.dispatchEvent(new Event("change"));
      // What is at work is shown however old it is.
      if (total > jobs.length) {
        const older = await Promise.all(AT_WORK.map((status) => ask(`/v1/jobs?limit=100&status=${status}`)));
        for (const { jobs } of older) for (const job of jobs) this.#put(job);
      }
    } catch (error) {
      this.state = "failed";
      this.error = error.message;
    }
    this.asking = false;
    if (this.again) {
      this.again = false;
      this.refresh();
    }
    this.#follow();
    this.dispatchEvent(new Event("change"));
  }

  /** The jobs behind those that are known. */
  async older() {
    const { jobs, total } = await ask(`/v1/jobs?limit=${PAGE}&offset=${this.behind}`);
    this.behind += jobs.length;
    this.total = total;
    for (const job of jobs) this.#put(job);
    this.#follow();
    this.dispatchEvent(new Event("change"));
  }

  #put(job) {
    const updated = Date.parse(job.updatedAt);
    const known = this.rows.get(job.id);
    if (known && known.updated > updated) {
      // Events were faster than this answer.
      Object.assign(known, { owner: job.owner, kind: job.kind ?? "", shop: job.config?.shopUrl ?? "", seq: Math.max(known.seq, job.seq) });
      return;
    }
    // No list tells the last sentence of an event, and the event that does comes again to who follows the job.
    const message = job.error ?? job.waitingFor ?? (known?.seq === job.seq ? known.message : "");
    this.rows.set(job.id, {
      id: job.id, name: job.name, type: job.type, kind: job.kind ?? "", status: job.status, progress: job.progress,
      step: job.step ?? "", message, owner: job.owner, shop: job.config?.shopUrl ?? "",
      created: Date.parse(job.createdAt), ended: job.endedAt ? Date.parse(job.endedAt) : 0, updated, told: Math.max(known?.told ?? 0, updated - SAME), seq: job.seq,
    });
    if (this.rows.size > MOST) this.#drop(this.rows.keys().next().value);
  }

  #drop(id) {
    this.rows.delete(id);
    this.follows.get(id)?.();
    this.follows.delete(id);
  }

  /** Follows the jobs that have not ended, those at work first, the newest of each first. */
  #follow() {
    const waits = (row) => Number(group(row.status) === "waiting");
    const active = [...this.rows.values()].filter((row) => !row.ended).sort((a, b) => waits(a) - waits(b) || b.created - a.created);
    this.isPartly = active.length > FOLLOWED;
    const wanted = new Set(active.slice(0, FOLLOWED).map((row) => row.id));
    for (const [id, end] of this.follows) {
      if (!wanted.has(id)) {
        end();
        this.follows.delete(id);
      }
    }
    for (const id of wanted) {
      if (!this.follows.has(id)) {
        const answered = (answer) => {
          if (answer?.error?.code === "job_not_found") this.#drop(id);
        };
        this.follows.set(id, this.app.live.follow(id, () => Math.max(0, (this.rows.get(id)?.seq ?? 0) - 1), answered));
      }
    }
  }

  #take(event, data) {
    const id = data?.jobId;
    if (typeof id !== "string") return;
    const at = Date.parse(data.timestamp) || Date.now();
    let row = this.rows.get(id);
    if (!row) {
      if (event !== "job:created") return;
      row = {
        id, name: String(data.name ?? ""), type: String(data.jobType ?? ""), kind: "", status: "pending", progress: 0, step: "", message: "",
        owner: "", shop: "", created: at, ended: 0, updated: at, told: at, seq: 1,
      };
      // The newest stands first.
      this.rows = new Map([[id, row], ...this.rows]);
      this.total += 1;
      clearTimeout(this.learning);
      // The event does not say whose it is, and of which shop.
      this.learning = setTimeout(() => this.refresh(), 250);
    }
    // What is told again is known.
    if (at < row.told || row.ended) return;
    row.told = at;
    row.updated = Math.max(row.updated, at);
    switch (event) {
      case "job:updated":
        row.status = String(data.status ?? row.status);
        row.step = String(data.currentStage ?? row.step);
        row.message = String(data.message ?? "");
        row.progress = Math.max(row.progress, Number(data.progress) || 0);
        break;
      case "job:progress":
        row.progress = Math.max(row.progress, Number(data.progress) || 0);
        row.step = String(data.currentStep ?? row.step);
        row.message = String(data.message ?? "");
        break;
      case "job:log":
        row.message = String(data.message ?? "");
        break;
      case "job:completed":
        Object.assign(row, { status: "completed", progress: 100, message: "", ended: at });
        break;
      case "job:failed":
        Object.assign(row, { status: data.cancelled ? "cancelled" : "failed", message: String(data.error ?? ""), ended: at });
        break;
      default:
    }
    if (row.ended) {
      this.follows.get(id)?.();
      this.follows.delete(id);
    }
    this.dispatchEvent(new Event("change"));
  }
}

const FILTERS = [["all", "All"], ["running", "Running"], ["waiting", "Waiting"], ["paused", "Paused"], ["done", "Done"], ["failed", "Failed"]];
const OVERSCAN = 6;

/** What was looked for stays as it is when somebody comes back from a job. */
const wish = { filter: "all", text: "", scroll: 0, focus: null };

export class JobList {
  constructor(app) {
    this.app = app;
    this.title = "Jobs";
    this.shown = [];
    this.nodes = new Map();
    this.paint = () => this.#paint();
    this.changed = () => soon(this.paint);

    this.summary = h("p", { class: "summary" });
    this.search = h("input", {
      id: "search", type: "search", placeholder: "Name, shop, owner or id", value: wish.text, "aria-label": "Search jobs",
      oninput: () => { wish.text = this.search.value; this.scroller.scrollTop = 0; soon(this.paint); },
    });
    this.chips = FILTERS.map(([name, word]) => {
      const count = h("span", { class: "count" });
      const chip = h("button", { class: "chip", "aria-pressed": String(name === wish.filter), "data-group": name, onclick: () => this.#choose(name) }, word, count);
      return { name, chip, count };
    });
    this.rows = h("div", { class: "rows", role: "list", "aria-label": "Jobs, newest first" });
    this.note = h("div", { class: "note" });
    this.scroller = h("div", { class: "scroller", onscroll: () => { wish.scroll = this.scroller.scrollTop; soon(this.paint); }, onkeydown: (event) => this.#move(event) }, this.rows, this.note);
    this.element = h("section", { class: "list", "aria-labelledby": "list-title" },
      h("div", { class: "head" }, h("div", {}, h("h1", { id: "list-title" }, "Jobs"), this.summary),
        h("a", { class: "button primary", href: "#/new" }, icon("plus"), "New job")),
      h("div", { class: "filters" },
        h("div", { class: "search" }, icon("search"), this.search),
        h("div", { class: "chips", role: "group", "aria-label": "Show" }, this.chips.map(({ chip }) => chip))),
      this.scroller);
    app.jobs.addEventListener("change", this.changed);
    addEventListener("resize", this.changed);
  }

  opened() {
    this.#paint();
    this.scroller.scrollTop = wish.scroll;
    this.#paint();
  }

  close() {
    this.app.jobs.removeEventListener("change", this.changed);
    removeEventListener("resize", this.changed);
  }

  tick() {
    for (const { row, node } of this.nodes.values()) this.#age(node, row);
  }

  key(event) {
    if (event.key !== "j" && event.key !== "ArrowDown") return false;
    this.#focus(0);
    return true;
  }

  #choose(name) {
    wish.filter = name;
    for (const one of this.chips) attribute(one.chip, "aria-pressed", String(one.name === name));
    this.scroller.scrollTop = 0;
    soon(this.paint);
  }

  #filter() {
    const text = wish.text.trim().toLowerCase();
    const counts = { all: 0, running: 0, waiting: 0, paused: 0, done: 0, failed: 0 };
    const shown = [];
    for (const row of this.app.jobs.rows.values()) {
      const of = group(row.status);
      counts.all += 1;
      counts[of] += 1;
      if (wish.filter !== "all" && wish.filter !== of) continue;
      if (text && ![row.name, row.shop, row.owner, row.id, row.kind].some((value) => value.toLowerCase().includes(text))) continue;
      shown.push(row);
    }
    return [shown.sort((a, b) => b.created - a.created || (a.id < b.id ? 1 : -1)), counts];
  }

  #paint() {
    const { jobs } = this.app;
    const [shown, counts] = this.#filter();
    this.shown = shown;
    for (const { name, count } of this.chips) say(count, String(counts[name]));
    const at = plural(counts.running, "job is", "jobs are");
    say(this.summary, jobs.state === "loading" ? "Loading…" : `${at} running, ${jobs.total} in all.`);
    const height = this.#rowHeight();
    if (this.height !== shown.length * height) {
      this.height = shown.length * height;
      this.rows.style.height = `${this.height}px`;
    }
    const from = Math.max(0, Math.floor(this.scroller.scrollTop / height) - OVERSCAN);
    const to = Math.min(shown.length, Math.ceil((this.scroller.scrollTop + (this.scroller.clientHeight || 800)) / height) + OVERSCAN);
    const visible = new Set();
    const focused = document.activeElement?.closest?.(".job")?.dataset.id;
    for (let index = 0; index < shown.length; index += 1) {
      // A row that has the focus must not go from under somebody's fingers.
      if ((index >= from && index < to) || shown[index].id === focused) {
        visible.add(shown[index].id);
        this.#place(shown[index], index, height);
      }
    }
    for (const [id, { node }] of this.nodes) {
      if (!visible.has(id)) {
        node.remove();
        this.nodes.delete(id);
      }
    }
    this.#say(shown.length);
  }

  #rowHeight() {
    return matchMedia("(max-width: 720px)").matches ? 104 : 68;
  }

  #place(row, index, height) {
    let entry = this.nodes.get(row.id);
    if (!entry) {
      entry = { node: this.#make(row), row };
      this.nodes.set(row.id, entry);
      // In the order of the list, for whoever tabs or listens.
      const next = [...this.rows.children].find((child) => Number(child.ariaPosInSet) > index + 1);
      this.rows.insertBefore(entry.node, next ?? null);
    }
    entry.row = row;
    const { node } = entry;
    node.style.transform = `translateY(${index * height}px)`;
    attribute(node, "aria-posinset", String(index + 1));
    attribute(node, "aria-setsize", String(this.shown.length));
    const { parts } = node;
    const of = group(row.status);
    attribute(node, "data-group", of);
    say(parts.name, row.name || "Untitled");
    say(parts.about, [row.kind || KINDS[row.type] || row.type, host(row.shop)].filter(Boolean).join(" · "));
    say(parts.status, statusWord(row.status, row.type));
    say(parts.message, row.message || (of === "running" && row.step !== row.status ? row.step : ""));
    const percent = `${row.progress} %`;
    say(parts.percent, of === "done" || of === "failed" ? "" : percent);
    parts.fill.style.transform = `scaleX(${row.progress / 100})`;
    say(parts.owner, row.owner);
    this.#age(node, row);
  }

  #make(row) {
    const part = (name) => h("span", { class: name });
    const parts = {};
    for (const name of ["name", "about", "status", "message", "percent", "owner", "age"]) parts[name] = part(name);
    parts.fill = part("fill");
    const node = h("div", { class: "job", role: "listitem", "data-id": row.id },
      h("a", { href: `#/jobs/${row.id}` },
        h("span", { class: "dot", "aria-hidden": "true" }),
        h("span", { class: "what" }, parts.name, parts.about),
        h("span", { class: "how" }, h("span", { class: "line" }, parts.status, parts.percent), h("span", { class: "track", "aria-hidden": "true" }, parts.fill), parts.message),
        parts.owner, parts.age));
    node.parts = parts;
    return node;
  }

  #age(node, row) {
    const took = row.ended ? `${ago(row.ended)} ago` : ago(row.created);
    say(node.parts.age, took);
  }

  #say(count) {
    const { jobs } = this.app;
    const { state } = jobs;
    const what = state === "failed" ? "failed" : state === "loading" ? "loading" : count === 0 ? (jobs.rows.size ? "none" : "empty") : jobs.total > jobs.rows.size ? `more${jobs.rows.size}` : "all";
    if (this.note.dataset.what === what) return;
    this.note.dataset.what = what;
    this.note.replaceChildren();
    if (state === "loading") {
      this.note.append(...[1, 2, 3, 4].map(() => h("div", { class: "skeleton", "aria-hidden": "true" })));
    } else if (state === "failed") {
      this.note.append(h("div", { class: "blank" }, icon("warn"), h("p", {}, jobs.error), h("button", { onclick: () => jobs.refresh() }, icon("retry"), "Try again")));
    } else if (what === "empty") {
      const demo = this.app.about?.demoShop && h("button", { class: "primary", onclick: (event) => runDemo(this.app, event.currentTarget) }, icon("play"), "Run the demo shop");
      this.note.append(h("div", { class: "blank" }, icon("camera"), h("h2", {}, "No jobs yet"),
        h("p", {}, "A job visits a shop, photographs its products, reads the pictures, finds the products in your price list and makes their labels. You watch it happen here."),
        h("div", { class: "row" }, demo, h("a", { class: "button", href: "#/new" }, "New job"))));
    } else if (what === "none") {
      this.note.append(h("div", { class: "blank" }, icon("search"), h("p", {}, "No job is like that."), h("button", { onclick: () => this.#clear() }, "Show all jobs")));
    } else if (what !== "all") {
      this.note.append(h("button", { class: "more", onclick: (event) => this.#older(event.currentTarget) }, "Load older jobs"));
    }
  }

  #clear() {
    wish.text = "";
    this.search.value = "";
    this.#choose("all");
  }

  async #older(button) {
    button.disabled = true;
    try {
      await this.app.jobs.older();
    } catch (error) {
      toast(error.message, "error");
    }
    button.disabled = false;
  }

  #move(event) {
    const at = this.shown.findIndex((row) => row.id === event.target.closest(".job")?.dataset.id);
    const page = Math.max(1, Math.floor(this.scroller.clientHeight / this.#rowHeight()) - 1);
    const to = {
      ArrowDown: at + 1, j: at + 1, ArrowUp: at - 1, k: at - 1, Home: 0, End: this.shown.length - 1, PageDown: at + page, PageUp: at - page,
    }[event.key];
    if (to === undefined || at < 0) return;
    event.preventDefault();
    this.#focus(Math.min(Math.max(to, 0), this.shown.length - 1));
  }

  #focus(index) {
    if (!this.shown[index]) return;
    const height = this.#rowHeight();
    const { scroller } = this;
    if (index * height < scroller.scrollTop) scroller.scrollTop = index * height;
    else if ((index + 1) * height > scroller.scrollTop + scroller.clientHeight) scroller.scrollTop = (index + 1) * height - scroller.clientHeight;
    this.#paint();
    this.nodes.get(this.shown[index].id)?.node.firstElementChild.focus({ preventScroll: true });
  }
}
