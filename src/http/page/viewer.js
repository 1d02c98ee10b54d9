// A screenshot from near: the words that were read, what the page says itself, the match and the label.

import { ask } from "./api.js";
import { h, icon, link, say, svg, web } from "./dom.js";
import { FIELDS, share, shown } from "./words.js";

const KEPT = 120;
const AT_ONCE = 4;
/** What is said of a picture alone is named otherwise than what is said of a product. */
const READ_AS = { name: "productName" };

/** What is known of each screenshot, asked for when it is looked at. */
export class Findings {
  constructor(job) {
    this.job = job;
    this.kept = new Map();
    this.running = 0;
    this.waiting = [];
  }

  get(shot, anew = false) {
    const key = `${shot.id} ${shot.phase}`;
    const known = this.kept.get(key);
    if (known && !anew) return known;
    const found = this.#turn().then(() => ask(`/v1/jobs/${this.job}/screenshots/${shot.id}`)).finally(() => {
      this.running -= 1;
      this.waiting.shift()?.();
    });
    found.catch(() => this.kept.delete(key));
    this.kept.set(key, found);
    if (this.kept.size > KEPT) this.kept.delete(this.kept.keys().next().value);
    return found;
  }

  async #turn() {
    if (this.running >= AT_ONCE) await new Promise((go) => this.waiting.push(go));
    this.running += 1;
  }
}

/** Draws all words of a picture as one line. */
export function outline(place, finding) {
  place.setAttribute("viewBox", `0 0 ${finding.width} ${finding.height}`);
  const words = finding.reading?.words ?? [];
  const path = (some) => some.map(({ left, top, width, height }) => `M${+left} ${+top}h${+width}v${+height}h${-width}z`).join("");
  place.replaceChildren(
    svg("path", { d: path(words.filter((word) => !word.field)), class: "word" }),
    svg("path", { d: path(words.filter((word) => word.field)), class: "word field" }));
}

/** Opens the viewer at a screenshot of what the view shows. */
export function openViewer(view, findings, first) {
  const ids = () => [...view.state.shots.keys()];
  let id = first;
  let asked = 0;
  const body = h("div", { class: "viewer-body" });
  const title = h("h2", { id: "viewer-title" });
  const dialog = h("dialog", { class: "viewer", "aria-labelledby": "viewer-title", onclose: () => dialog.remove(), onkeydown: (event) => {
    if (event.key === "ArrowRight" || event.key === "ArrowLeft") {
      move(event.key === "ArrowRight" ? 1 : -1);
      event.preventDefault();
    }
  } });
  const place = h("span", { class: "hint" });
  dialog.append(h("header", {}, title, place, h("span", { class: "gap" }),
    h("button", { class: "quiet", "aria-label": "The screenshot before", onclick: () => move(-1) }, icon("back")),
    h("button", { class: "quiet turned", "aria-label": "The next screenshot", onclick: () => move(1) }, icon("back")),
    h("button", { class: "quiet", "aria-label": "Close", onclick: () => dialog.close() }, icon("cross"))), body);

  function move(by) {
    const all = ids();
    const to = all[all.indexOf(id) + by];
    if (to) {
      id = to;
      show();
    }
  }

  async function show() {
    const shot = view.state.shots.get(id);
    const all = ids();
    say(title, shot.reading?.productName || shot.name || "Screenshot");
    say(place, `${all.indexOf(id) + 1} of ${all.length}`);
    const turn = ++asked;
    body.replaceChildren(h("p", { class: "loading" }, "Loading…"));
    try {
      const finding = await findings.get(shot);
      if (turn === asked) body.replaceChildren(picture(finding, shot), facts(finding, shot, view));
    } catch (error) {
      if (turn === asked) body.replaceChildren(h("p", { class: "error" }, error.message));
    }
  }

  document.body.append(dialog);
  dialog.showModal();
  show();
}

function picture(finding, shot) {
  const words = shot.reading ? finding.reading?.words ?? [] : [];
  const told = h("p", { class: "told hint" }, words.length ? "Point at a word to see how sure its reading is." : "");
  const overlay = svg("svg", { viewBox: `0 0 ${finding.width} ${finding.height}`, class: "words", "aria-hidden": "true" });
  for (const word of words) {
    const box = svg("rect", { x: +word.left, y: +word.top, width: +word.width, height: +word.height, rx: 3, class: word.field ? "word field" : "word" });
    box.word = word;
    if (word.confidence < 60) box.classList.add("unsure");
    overlay.append(box);
  }
  overlay.addEventListener("pointerover", ({ target }) => {
    if (!target.word) return;
    const { text, confidence, field } = target.word;
    say(told, `“${text}” · ${Math.round(confidence)} % sure${field ? ` · taken as ${(FIELDS[field] ?? field).toLowerCase()}` : ""}`);
  });
  const toggle = h("button", { class: "chip", "aria-pressed": "true", onclick: () => {
    const on = toggle.getAttribute("aria-pressed") !== "true";
    toggle.setAttribute("aria-pressed", String(on));
    overlay.style.display = on ? "" : "none";
  } }, icon("box"), "Words");
  const image = h("img", { src: web(finding.url), alt: `Screenshot of ${finding.productName || finding.pageTitle || "a product page"}`, width: finding.width, height: finding.height });
  return h("div", { class: "view-picture" },
    h("div", { class: "row" }, words.length ? toggle : null, told),
    h("div", { class: "canvas" }, image, overlay),
    words.length ? h("details", {}, h("summary", {}, `The ${words.length} words as text`), h("p", { class: "text" }, words.map((word) => word.text).join(" "))) : null);
}

function facts(finding, shot, view) {
  const { page = {}, reading, match, label } = finding;
  const parts = [h("p", { class: "source" }, link(finding.productUrl, finding.productUrl))];
  if (!finding.complete) parts.push(h("p", { class: "remark" }, icon("warn"), "The page had not finished loading when it was photographed."));
  if (shot.error) parts.push(h("p", { class: "remark" }, icon("warn"), shot.error));
  const isRead = Boolean(shot.reading && reading);
  const differs = new Set((isRead ? reading.disagreements : []).map((one) => (one.field === "productName" ? "name" : one.field)));
  const currency = page.currency ?? reading?.result?.currency ?? "EUR";
  const rows = Object.entries(FIELDS).map(([field, name]) => {
    const read = isRead ? reading.values?.[READ_AS[field] ?? field] : undefined;
    const cells = [page[field], read, isRead ? reading.result?.[field] : undefined].map((value) => shown(field, value, currency));
    if (cells.every((cell) => cell === "")) return null;
    return h("tr", { "data-differs": differs.has(field) ? "" : null }, h("th", { scope: "row" }, name, differs.has(field) && h("span", { class: "flag" }, "differs")), cells.map((cell) => h("td", {}, cell.length > 200 ? `${cell.slice(0, 200)}…` : cell || "–")));
  });
  parts.push(h("div", { class: "table", tabIndex: 0, role: "region", "aria-label": "Values" }, h("table", {}, h("thead", {}, h("tr", {}, h("td", {}), ["The page says", "The picture says", "Taken"].map((word) => h("th", { scope: "col" }, word)))), h("tbody", {}, rows.filter(Boolean)))));
  if (isRead) parts.push(h("p", { class: "hint" }, `All in all ${Math.round(reading.confidence)} % sure.`));
  if (shot.match && match) {
    const listed = match.listed ?? {};
    parts.push(h("h3", {}, "Match"), match.success
      ? h("div", { class: "matched" }, h("div", { class: "score" }, scoreBar(match.score), h("span", {}, `${share(match.score)} ${match.matchType === "exact" ? "exact" : "likely"}, by ${({ articleNumber: "article number", ean: "EAN", productName: "name", fuzzy: "likeness" })[match.matchedBy] ?? match.matchedBy ?? "number"}`)),
          h("p", {}, h("strong", {}, listed.articleNumber ?? ""), ` ${listed.name ?? ""} · ${shown("price", listed.price, listed.currency ?? currency)}`))
      : h("p", { class: "remark" }, icon("warn"), match.reason ?? "No known product fits."));
    for (const warning of Array.isArray(match.warnings) ? match.warnings : []) parts.push(h("p", { class: "hint" }, typeof warning === "string" ? warning : warning?.message ?? JSON.stringify(warning)));
  }
  if (label && view.state.labels.has(label.id)) {
    parts.push(h("h3", {}, "Label"), h("div", { class: "label-preview" }, h("img", { src: web(label.imageUrl), alt: `Label ${label.articleNumber}` }),
      h("p", { class: "links" }, link(label.imageUrl, "PNG"), label.pdfUrl && link(label.pdfUrl, "PDF"))));
  }
  return h("div", { class: "view-facts" }, parts);
}

function scoreBar(score) {
  const fill = h("span", { class: "fill" });
  fill.style.transform = `scaleX(${Math.min(1, Math.max(0, score))})`;
  return h("span", { class: "track", "aria-hidden": "true" }, fill);
}
