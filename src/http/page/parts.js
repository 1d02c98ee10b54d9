// The parts of a job's view. Each shows a state that it is given; none keeps anything that events do not tell.

import { ask } from "./api.js";
import { attribute, h, icon, keyed, link, say, smaller, soon, svg, toast, web } from "./dom.js";
import { isEnded } from "./fold.js";
import { Findings, openViewer, outline } from "./viewer.js";
import { bytes, clock, duration, plural, share, stageWord, statusWord } from "./words.js";

/** Cards that a part shows before somebody asks for more. */
const CARDS = 60;
const LINES = 200;
/** What costs much to draw, and changes with every event, is drawn so often, in milliseconds. */
const PAUSE = 250;

function section(name, title, ...tools) {
  const heading = h("h2", {}, title);
  const count = h("span", { class: "count" });
  const body = h("div", { class: "body" });
  const element = h("section", { class: `card part ${name}`, hidden: true }, h("header", {}, heading, count, h("span", { class: "gap" }), tools), body);
  return { element, heading, count, body };
}

/** The last cards of many, and a way to the others. */
class Cards {
  constructor(name) {
    this.limit = CARDS;
    this.grid = h("ul", { class: `cards ${name}` });
    this.more = h("button", { class: "more", hidden: true, onclick: () => this.#more() });
  }

  paint(items, key, make, update) {
    this.again = () => this.paint(items, key, make, update);
    const hidden = Math.max(0, items.length - this.limit);
    keyed(this.grid, hidden ? items.slice(hidden) : items, key, make, update);
    this.more.hidden = hidden === 0;
    say(this.more, `Show ${Math.min(hidden, CARDS)} earlier of ${hidden}`);
  }

  #more() {
    this.limit += CARDS;
    this.again();
  }
}

export class Gallery {
  constructor(view) {
    this.view = view;
    this.findings = new Findings(view.id);
    this.boxes = false;
    this.toggler = h("button", { class: "chip", "aria-pressed": "false", title: "Draw a box around each word that was read (b)", onclick: () => this.toggle() }, icon("box"), "Words");
    Object.assign(this, section("gallery", "Screenshots", this.toggler));
    this.cards = new Cards("shots");
    this.body.append(this.cards.more, this.cards.grid);
    this.watch = new IntersectionObserver((entries) => {
      for (const { target, isIntersecting } of entries) {
        target.isSeen = isIntersecting;
        this.#outline(target);
      }
    }, { rootMargin: "100px" });
  }

  close() {
    this.watch.disconnect();
  }

  toggle() {
    this.boxes = !this.boxes;
    attribute(this.toggler, "aria-pressed", String(this.boxes));
    for (const card of this.cards.grid.children) this.#outline(card);
  }

  paint(state) {
    this.element.hidden = state.shots.size === 0;
    say(this.count, String(state.shots.size));
    this.progress = this.view.at === null ? this.view.fresh.readings : new Map();
    this.cards.paint([...state.shots.values()], (shot) => shot.id, (shot) => this.#make(shot), (card, shot) => this.#update(card, shot));
    for (const card of this.cards.grid.children) if (card.shot.phase === "reading") this.#say(card);
  }

  #make(shot) {
    const picture = h("img", { loading: "lazy", decoding: "async", alt: "", src: web(shot.thumb), onerror: () => this.#renew(picture, shot) });
    const words = svg("svg", { class: "words", "aria-hidden": "true", preserveAspectRatio: "xMinYMin slice" });
    const card = h("li", { class: "shot" }, h("button", { onclick: () => openViewer(this.view, this.findings, card.shot.id) },
      h("span", { class: "frame" }, picture, words), h("span", { class: "name" }), h("span", { class: "tag" })));
    card.words = words;
    this.watch.observe(card);
    return card;
  }

  /** An address that has ended is asked for anew, once. */
  async #renew(picture, shot) {
    if (picture.renewed) return;
    picture.renewed = true;
    const finding = await this.findings.get(shot, true).catch(() => null);
    if (finding) picture.src = web(finding.thumbnailUrl);
  }

  #update(card, shot) {
    const before = card.shot;
    card.shot = shot;
    say(card.querySelector(".name"), shot.reading?.productName || shot.name || "Product");
    this.#say(card);
    if (before?.phase !== shot.phase) this.#outline(card);
  }

  #say(card) {
    const { shot } = card;
    const tag = card.querySelector(".tag");
    const percent = this.progress.get(shot.id);
    const [how, text] = {
      captured: ["new", "Photographed"], reading: ["now", percent ? `Reading ${percent} %` : "Reading"],
      read: ["read", `Read, ${Math.round(shot.reading?.confidence ?? 0)} % sure`], unread: ["bad", "Not readable"],
      matched: ["good", `${shot.match?.article} · ${share(shot.match?.score ?? 0)}`], unmatched: ["warn", "No match"],
    }[shot.phase] ?? ["new", shot.phase];
    attribute(card, "data-how", how);
    say(tag, text);
  }

  async #outline(card) {
    const { shot, words } = card;
    if (!this.boxes || !card.isSeen || !(shot?.reading)) {
      words.replaceChildren();
      words.of = null;
      return;
    }
    if (words.of === shot.reading.id) return;
    words.of = shot.reading.id;
    const finding = await this.findings.get(shot).catch(() => null);
    if (finding && words.of === shot.reading.id) outline(words, finding);
  }
}

export class Labels {
  constructor(view) {
    this.view = view;
    this.print = h("button", { class: "chip", onclick: () => this.#print() }, icon("print"), "Print sheets");
    Object.assign(this, section("labels", "Labels", this.print));
    this.cards = new Cards("labels");
    this.body.append(this.cards.more, this.cards.grid, this.failed = h("ul", { class: "failures" }));
    /** Addresses of PDFs, which events do not carry. */
    this.pdfs = new Map();
  }

  paint(state) {
    this.state = state;
    this.element.hidden = state.labels.size === 0 && state.labelFailures.length === 0;
    this.print.hidden = state.labels.size === 0;
    say(this.count, String(state.labels.size));
    this.cards.paint([...state.labels.values()], (label) => label.id, (label) => this.#make(label), (card, label) => { card.label = label; });
    for (const card of this.cards.grid.children) this.#pdf(card);
    keyed(this.failed, state.labelFailures.slice(-20), (one) => `${one.at} ${one.article}`, (one) => h("li", {}, `${one.article || "A label"}: ${one.error}`));
    if (state.labels.size > this.pdfs.size && !this.learning) this.learning = setTimeout(() => this.#learn(), 600);
  }

  #make(label) {
    const name = label.article || "Label";
    const picture = link(label.url, "", { class: "picture", "aria-label": `Label ${name}, full size` });
    picture.append(h("img", { loading: "lazy", decoding: "async", alt: "", src: smaller(label.url, 420) }));
    return h("li", { class: "label" }, picture, h("span", { class: "name" }, name), h("span", { class: "links" }, link(label.url, "PNG"), h("span", { class: "pdf" })));
  }

  #pdf(card) {
    const address = this.pdfs.get(card.label.id);
    const place = card.querySelector(".pdf");
    if (address && !place.childElementCount) place.append(link(address, "PDF"));
  }

  async #learn() {
    try {
      // Jobs that run in parallel end their labels in any order: all are asked for, page by page.
      for (let offset = 0; ; offset += 500) {
        const { labels, total } = await ask(`/v1/jobs/${this.view.id}/labels?limit=500&offset=${offset}`);
        for (const label of labels) this.pdfs.set(label.id, label.pdfUrl);
        if (offset + labels.length >= total || !labels.length) break;
      }
    } catch {
      // The pictures are there.
    }
    // Not again at once for labels that the list does not have.
    setTimeout(() => { this.learning = null; if (this.state?.labels.size > this.pdfs.size && !this.view.closed) soon(this.view.paint); }, 2000);
    for (const card of this.cards.grid.children) this.#pdf(card);
  }

  async #print() {
    this.print.disabled = true;
    try {
      const labelIds = [...this.state.labels.keys()];
      const grid = { columns: 2, rows: 6, spacing: 4, margins: { top: 10, right: 10, bottom: 10, left: 10 } };
      const blob = await ask("/api/print/export", { method: "POST", json: { labelIds, format: "A4", outputFormat: "pdf", gridConfig: grid, showCutMarks: true }, as: "blob", timeout: 120_000 });
      const address = URL.createObjectURL(blob);
      h("a", { href: address, download: "labels.pdf" }).click();
      setTimeout(() => URL.revokeObjectURL(address), 10_000);
      toast(`${plural(labelIds.length, "label")} on A4, ${bytes(blob.size)}`, "success");
    } catch (error) {
      toast(error.message, "error");
    }
    this.print.disabled = false;
  }
}

export class Companies {
  constructor(view) {
    this.view = view;
    Object.assign(this, section("companies", "Companies"));
    this.cards = new Cards("companies");
    this.body.append(this.cards.more, this.cards.grid);
  }

  paint(state) {
    this.element.hidden = state.companies.size === 0;
    say(this.count, String(state.companies.size));
    this.cards.paint([...state.companies.values()], (one) => one.domain, () => h("li", { class: "company" }, h("strong", {}), h("span", { class: "hint" }), h("span", { class: "tag" }), h("p", {}), h("dl", {})), (card, one) => this.#update(card, one));
  }

  #update(card, one) {
    const [name, domain, tag, about, list] = card.children;
    const profile = one.profile ?? {};
    const called = texts(profile.company_information?.name)[0] ?? one.domain;
    say(name, called);
    say(domain, called === one.domain ? "" : one.domain);
    attribute(card, "data-how", { running: "now", found: "good", failed: "bad" }[one.phase]);
    say(tag, one.phase === "found" ? plural(one.pages ?? 0, "page") : one.phase === "failed" ? one.reason : "Being looked at");
    say(about, texts(profile.description_industry?.description)[0] ?? "");
    const facts = FACTS.map(([term, find]) => [term, texts(find(profile)).join(" · ")]).filter(([, value]) => value);
    list.replaceChildren(...facts.flatMap(([term, value]) => [h("dt", {}, term), h("dd", {}, value)]));
  }
}

/** What is shown of a company's profile, and where it stands there. */
const FACTS = [
  ["Industry", (of) => of.description_industry?.industry],
  ["Email", (of) => [of.contact_information?.email, of.contact_information?.emails]],
  ["Phone", (of) => [of.contact_information?.phone, of.contact_information?.phones]],
  ["Address", (of) => of.contact_information?.address],
  ["Founded", (of) => of.company_information?.founded],
  ["People", (of) => [of.people_information].flat().map((one) => texts([one?.name, one?.title]).join(", "))],
  ["Products", (of) => of.products],
  ["Services", (of) => of.services],
  ["Certified", (of) => of.certifications],
  ["Elsewhere", (of) => Object.values(of.social_media ?? {})],
];

/** What of values is text that says something, each once and no more than a card has room for. */
function texts(values) {
  const all = [values].flat(2).filter((value) => typeof value === "string" && value.trim());
  return [...new Set(all.map((value) => value.trim().slice(0, 300)))].slice(0, 6);
}

/** What a worker outside shows: its document and files. */
export class Documents {
  constructor(view) {
    this.view = view;
    Object.assign(this, section("documents", "Document and files"));
    this.files = h("ul", { class: "files" });
    this.text = h("pre", { tabIndex: 0, role: "region", "aria-label": "Document" });
    this.body.append(this.files, this.text);
    this.shown = null;
    this.text.hidden = true;
  }

  paint(state) {
    this.element.hidden = !state.document && state.artifacts.size === 0;
    // A large document that changes all the time is shown a few times a second.
    const wait = PAUSE - (performance.now() - (this.since ?? -PAUSE));
    if (this.shown !== state.document && wait > 0 && this.view.at === null && !isEnded(state.status)) {
      this.later ||= setTimeout(() => { this.later = null; soon(this.view.paint); }, wait);
      return;
    }
    if (this.shown !== state.document) this.since = performance.now();
    keyed(this.files, [...state.artifacts.values()], (file) => file.name, () => h("li", {}), (node, file) => {
      node.replaceChildren(link(file.url, file.name), h("span", { class: "hint" }, `${file.contentType}, ${bytes(file.size)}`));
    });
    if (this.shown === state.document) return;
    this.shown = state.document;
    this.text.hidden = !state.document;
    const text = JSON.stringify(state.document, null, 2) ?? "";
    say(this.text, text.length > 30_000 ? `${text.slice(0, 30_000)}\n… ${bytes(text.length)} in all` : text);
  }
}

export class Results {
  constructor(view) {
    this.view = view;
    Object.assign(this, section("results", "Result"));
  }

  paint(state) {
    const { results } = state;
    this.element.hidden = !results || Object.keys(results).length === 0;
    if (this.shown === results) return;
    this.shown = results;
    if (!results) return;
    const summary = typeof results.summary === "object" && results.summary ? results.summary : results;
    const plain = Object.entries(summary).filter(([, value]) => ["number", "string", "boolean"].includes(typeof value)).slice(0, 12);
    const words = (key) => key.replace(/([a-z])([A-Z])/g, "$1 $2").replaceAll("_", " ").replace(/[A-Z][a-z]/g, (start) => start.toLowerCase());
    const isTime = (key) => /time|duration/i.test(key);
    this.body.replaceChildren(plain.length
      ? h("dl", { class: "tiles" }, plain.map(([key, value]) => h("div", {}, h("dd", {}, typeof value === "number" && isTime(key) ? duration(value) : typeof value === "number" ? String(Math.round(value * 100) / 100) : String(value).slice(0, 200)), h("dt", {}, words(key)))))
      : h("pre", { tabIndex: 0, role: "region", "aria-label": "Result" }, JSON.stringify(results, null, 2).slice(0, 20_000)));
  }
}

/** Who is at work on what at the moment. */
export class Workers {
  constructor(view) {
    this.view = view;
    Object.assign(this, section("workers", "At work"));
    this.grid = h("ul", { class: "workers" });
    this.body.append(this.grid);
    this.element.dataset.ephemeral = "";
  }

  paint(state) {
    const { fresh, record, at } = this.view;
    const cards = [];
    if (!isEnded(state.status)) {
      for (const shot of state.shots.values()) {
        if (shot.phase === "reading") cards.push({ id: shot.id, who: "Reader", what: shot.name || shot.page, percent: at === null ? fresh.readings.get(shot.id) : undefined });
      }
      for (const one of state.companies.values()) {
        if (one.phase !== "running") continue;
        const told = at === null ? fresh.companies.get(one.domain) : undefined;
        cards.push({ id: one.domain, who: `Worker ${one.worker ?? ""}`, what: one.domain, more: told?.page, percent: told?.progress });
      }
      if (record?.kind && record.worker && at === null) {
        cards.push({ id: "worker", who: record.worker, what: fresh.step || state.stage || record.kind, more: record.attempt > 1 ? `attempt ${record.attempt} of ${record.maxAttempts}` : "", percent: Math.max(state.progress, fresh.progress) });
      }
      if (!cards.length && state.status === "crawling") {
        const last = [...state.shots.values()].at(-1);
        cards.push({ id: "crawler", who: "Crawler", what: last?.page || "Looks for product pages" });
      }
    }
    this.element.hidden = cards.length === 0;
    say(this.count, String(cards.length));
    keyed(this.grid, cards.slice(0, 12), (card) => card.id, () => h("li", {}, h("strong", {}), h("span", { class: "what" }), h("span", { class: "more" }), h("span", { class: "track", "aria-hidden": "true" }, h("span", { class: "fill" }))), (node, card) => {
      const [who, what, more, track] = node.children;
      say(who, card.who);
      say(what, card.what);
      say(more, [card.more, card.percent === undefined ? "" : `${card.percent} %`].filter(Boolean).join(" · "));
      track.hidden = card.percent === undefined;
      track.firstElementChild.style.transform = `scaleX(${(card.percent ?? 0) / 100})`;
    });
  }
}

/** How long each stage took, one bar behind the other. */
export class Timings {
  constructor(view) {
    this.view = view;
    Object.assign(this, section("timings", "Time"));
    this.list = h("ol", {});
    this.note = h("p", { class: "hint" });
    this.body.append(this.list, this.note);
  }

  paint(state) {
    const spans = state.spans.filter((span) => !isEnded(span.status));
    this.element.hidden = spans.length === 0;
    if (!spans.length) return;
    const isNow = this.view.at === null && !isEnded(state.status);
    // Each second it is drawn anyway.
    if (isNow && this.spans === state.spans.length && performance.now() - this.drawn < PAUSE) return;
    this.spans = state.spans.length;
    this.drawn = performance.now();
    const now = isNow ? Math.max(state.at, Date.now()) : state.at;
    const from = spans[0].from;
    const whole = Math.max(1, (state.endedAt || now) - from);
    const rows = new Map();
    for (const span of spans) {
      const row = rows.get(span.status) ?? { status: span.status, took: 0, bars: [] };
      const to = span.to || state.endedAt || now;
      row.took += to - span.from;
      if (row.bars.length < 40) row.bars.push([(span.from - from) / whole, (to - span.from) / whole]);
      rows.set(span.status, row);
    }
    const shown = [...rows.values()];
    keyed(this.list, shown, (row) => row.status, (row) => h("li", {}, h("span", { class: "name" }, row.status === "pending" ? "Waiting" : stageWord(row.status, state.type)), svg("svg", { viewBox: "0 0 1000 10", preserveAspectRatio: "none", "aria-hidden": "true" }), h("span", { class: "took" })), (node, row) => {
      say(node.lastElementChild, duration(row.took));
      node.children[1].replaceChildren(...row.bars.map(([x, width]) => svg("rect", { x: x * 1000, y: 0, width: Math.max(3, width * 1000), height: 10, rx: 3, class: `band ${row.status}` })));
    });
    if (this.counted !== state.seq && (!isNow || performance.now() - (this.since ?? 0) > 1000)) {
      this.counted = state.seq;
      this.since = performance.now();
      const took = [...state.shots.values()].filter((shot) => shot.readAt && shot.readingSince).map((shot) => shot.readAt - shot.readingSince).sort((a, b) => a - b);
      say(this.note, took.length ? `A picture takes ${duration(took[took.length >> 1])} to be read, in the median.` : "");
    }
  }
}

export class Log {
  constructor(view) {
    this.view = view;
    Object.assign(this, section("log", "Log"));
    this.list = h("ol", { class: "lines" });
    this.scroller = h("div", { class: "lines-scroller", tabIndex: 0, role: "region", "aria-label": "Log lines" }, this.list);
    this.body.append(this.scroller);
  }

  paint(state) {
    this.element.hidden = state.log.length === 0;
    if (this.shown === state.log.at(-1) && this.length === state.log.length) return;
    this.shown = state.log.at(-1);
    this.length = state.log.length;
    // It stays at its end by itself: its style turns it around.
    keyed(this.list, state.log.slice(-LINES), (line) => line, (line) => h("li", { "data-level": line.level },
      h("time", {}, clock(line.at)), line.source && h("b", {}, line.source), h("span", {}, line.message)));
  }
}

const ROW = 28;

/** The event stream; of many only those are in the document that can be seen. */
export class Events {
  constructor(view) {
    this.view = view;
    Object.assign(this, section("events", "Events"));
    this.rows = h("div", { class: "event-rows", role: "listbox", "aria-label": "Events by seq", tabIndex: 0, onkeydown: (event) => this.#key(event), onclick: (event) => this.#click(event) });
    this.scroller = h("div", { class: "event-scroller", onscroll: () => this.#scrolled() }, this.rows);
    // Known rather than asked for: each look at the layout while it changes would cost a layout.
    this.top = 0;
    this.tall = 320;
    this.isAtEnd = true;
    this.detail = h("div", { class: "detail", hidden: true });
    this.body.append(this.scroller, this.detail);
    this.nodes = new Map();
    this.selected = null;
    this.again = () => this.#window();
  }

  paint(state) {
    const { entries } = this.view.timeline;
    this.element.hidden = entries.length === 0;
    say(this.count, String(this.view.timeline.last));
    const grew = this.length !== entries.length;
    this.length = entries.length;
    this.seq = state.seq;
    this.type = state.type;
    if (grew) this.rows.style.height = `${entries.length * ROW}px`;
    if (grew && this.isAtEnd && this.view.at === null) this.#scroll(entries.length * ROW - this.tall);
    else if (this.view.at !== null && this.followed !== this.view.at) this.#show(this.view.timeline.index(state.seq));
    this.followed = this.view.at;
    this.#window();
  }

  #show(index) {
    if (index * ROW < this.top) this.#scroll(index * ROW);
    else if ((index + 1) * ROW > this.top + this.tall) this.#scroll((index + 1) * ROW - this.tall);
  }

  #scroll(top) {
    this.top = Math.max(0, top);
    this.scroller.scrollTop = this.top;
  }

  #scrolled() {
    const { scroller } = this;
    this.top = scroller.scrollTop;
    this.tall = scroller.clientHeight || this.tall;
    this.isAtEnd = this.length * ROW - this.top - this.tall < ROW * 2;
    soon(this.again);
  }

  #window() {
    const { entries } = this.view.timeline;
    const from = Math.max(0, Math.floor(this.top / ROW) - 5);
    const to = Math.min(entries.length, from + Math.ceil(this.tall / ROW) + 10);
    const offset = entries.length ? entries[0].seq : 0;
    const shown = entries.slice(from, to);
    keyed(this.rows, shown, (entry) => entry.seq, (entry) => h("div", { class: "event", role: "option", id: `event-${entry.seq}`, "data-how": entry.how, "aria-selected": "false" },
      h("span", { class: "seq" }, String(entry.seq)), h("span", { class: "at" }, clock(Date.parse(entry.data?.timestamp))), h("span", { class: "event-name" }, entry.event), h("span", { class: "gist" }, gist(entry, this.type))));
    for (const node of this.rows.children) {
      const seq = Number(node.id.slice(6));
      node.style.transform = `translateY(${(seq - offset) * ROW}px)`;
      attribute(node, "data-future", seq > this.seq ? "" : null);
      attribute(node, "data-now", seq === this.seq && this.view.at !== null ? "" : null);
      attribute(node, "aria-selected", String(seq === this.selected));
      attribute(node, "aria-setsize", String(this.view.timeline.last));
      attribute(node, "aria-posinset", String(seq));
    }
    attribute(this.rows, "aria-activedescendant", this.selected !== null && this.nodes && this.rows.querySelector(`#event-${this.selected}`) ? `event-${this.selected}` : null);
  }

  #click(event) {
    const row = event.target.closest(".event");
    if (row) this.#select(Number(row.id.slice(6)));
  }

  #key(event) {
    const { first, last } = this.view.timeline;
    const at = this.selected ?? this.seq;
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: first + 1, End: last, PageDown: at + 10, PageUp: at - 10 }[event.key];
    if (event.key === "Enter" && this.selected !== null) this.view.go(this.selected);
    else if (to === undefined) return;
    else this.#select(Math.min(Math.max(to, first + 1), last));
    event.preventDefault();
    event.stopPropagation();
  }

  #select(seq) {
    this.selected = seq;
    const index = this.view.timeline.index(seq);
    const entry = this.view.timeline.entries[index];
    this.#show(index);
    this.#window();
    if (!entry) return;
    this.detail.hidden = false;
    const json = JSON.stringify(entry.data, null, 2);
    this.detail.replaceChildren(h("div", { class: "row" }, h("strong", {}, `${entry.seq} · ${entry.event}`),
      h("button", { class: "chip", onclick: () => this.view.go(seq) }, "Show the job here"),
      h("button", { class: "quiet", "aria-label": "Close the event", onclick: () => { this.detail.hidden = true; this.selected = null; this.#window(); this.rows.focus(); } }, icon("cross"))),
      h("pre", { tabIndex: 0, role: "region", "aria-label": "The event's data" }, json.length > 20_000 ? `${json.slice(0, 20_000)}…` : json));
  }
}

/** What an event says, in a few words. */
function gist({ event, data }, type) {
  const told = data ?? {};
  const words = {
    "job:updated": () => [told.status && statusWord(told.status, type), told.progress === undefined ? "" : `${told.progress} %`, told.message],
    "job:completed": () => [duration(told.duration)], "job:failed": () => [told.error],
    "job:log": () => [told.message], "job:created": () => [told.name], "screenshot:captured": () => [told.productName ?? told.productUrl],
    "ocr:completed": () => [told.data?.articleNumber, told.data?.productName], "ocr:failed": () => [told.error],
    "match:found": () => [told.articleNumber, told.matchType, share(Number(told.confidence) || 0)], "match:failed": () => [told.reason],
    "label:generated": () => [told.articleNumber], "label:failed": () => [told.error], "artifact:stored": () => [told.name],
    "job:patched": () => [Object.keys(told.patch ?? {}).join(", ")],
    "company:started": () => [told.domain], "company:found": () => [told.domain], "company:failed": () => [told.domain, told.reason],
  }[event];
  return (words ? words() : []).filter(Boolean).map(String).join(" · ").slice(0, 160);
}
